//! Generation, many prompts at once, with a cache of keys and values.
//!
//! Formula: greedy takes the largest logit (the first of equals); with a temperature t a token is drawn from
//! softmax(logits / t) by inverting its distribution function in f64. Source: the definitions. Deviation: none; a draw
//! comes from a stream of its own, so that it does not depend on its company, though a small product of another size may round the
//! last bit of a probability otherwise; several draws from one prompt share one pass over it. Cost: one pass over the prompts, then two operations a weight and token; memory: 2 x layers x `kv_width` numbers a token.

use super::forward::Pass;
use super::{Layer, Model};
use crate::{Batch, Sequence};
use curate_core::kernels::nn::{self, Rotation, Step};
use curate_core::{Ctx, Result, Rng};
use rayon::prelude::*;

/// How a model goes on from prompts.
#[derive(Clone, Copy, Debug)]
pub struct Generator<'a> {
    model: &'a Model,
    temperature: Option<f32>,
    /// Tokens a batch of prompts may hold.
    batch_tokens: usize,
}

/// Keys and values of one sequence, one pair a layer.
type Cache = Vec<(Vec<f32>, Vec<f32>)>;

/// What is drawn from every prompt.
pub struct Draws<'a> {
    /// Ways to go on from a prompt.
    pub copies: usize,
    /// Longest way, tokens.
    pub max_new: usize,
    /// Tokens that end one.
    pub stop: &'a [u32],
    /// The random stream of a prompt's place and a copy.
    pub rng: &'a dyn Fn(usize, usize) -> Rng,
}

/// One way a model went on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its tokens; the last one ends it if it is `finished`.
    pub tokens: Vec<u32>,
    /// Logarithm of the probability with which each token was drawn, at the temperature; 0 when greedy.
    pub log_probs: Vec<f32>,
    /// Whether a token of `stop` was drawn before the longest length was reached.
    pub finished: bool,
}

impl Sample {
    /// The tokens without the one that ends them.
    #[must_use]
    pub fn answer(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - usize::from(self.finished)]
    }

    fn into_answer(mut self) -> Vec<u32> {
        self.tokens.truncate(self.answer().len());
        self.tokens
    }
}

/// A sequence on its way.
struct Running {
    place: usize,
    cache: Cache,
    rng: Rng,
    length: usize,
    sample: Sample,
}

impl Running {
    fn new(prompt: usize, copy: usize, (length, cache): (usize, &Cache), draws: &Draws) -> Self {
        let (place, rng) = (prompt * draws.copies + copy, (draws.rng)(prompt, copy));
        Self { place, cache: cache.clone(), rng, length, sample: Sample::default() }
    }

    fn stopped(&self, draws: &Draws) -> bool {
        self.sample.tokens.last().is_some_and(|token| draws.stop.contains(token))
    }

    fn goes_on(&self, draws: &Draws) -> bool {
        self.sample.tokens.len() < draws.max_new && !self.stopped(draws)
    }

    fn end(self, draws: &Draws) -> Sample {
        Sample { finished: self.stopped(draws), ..self.sample }
    }
}

impl<'a> Generator<'a> {
    /// Greedy generation.
    #[must_use]
    pub const fn new(model: &'a Model) -> Self {
        Self { model, temperature: None, batch_tokens: 8192 }
    }

    /// Draw from the model's distribution at this temperature; 0 is greedy.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = (temperature > 0.0).then_some(temperature);
        self
    }

    /// Answers of at most `max_new` tokens, one a prompt, ending before the first token of `stop`. An empty prompt has an
    /// empty answer.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or asked to stop.
    pub fn generate(&self, prompts: &[Vec<u32>], max_new: usize, stop: &[u32], ctx: &Ctx) -> Result<Vec<Vec<u32>>> {
        let stream = ctx.stream("sample");
        let draws = Draws { copies: 1, max_new, stop, rng: &|prompt, _| stream(prompt as u64) };
        Ok(self.sample(prompts, &draws, ctx)?.into_iter().map(Sample::into_answer).collect())
    }

    /// Several ways to go on from every prompt, those of one prompt side by side. An empty prompt has empty ones.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or asked to stop.
    pub fn sample(&self, prompts: &[Vec<u32>], draws: &Draws, ctx: &Ctx) -> Result<Vec<Sample>> {
        let mut samples = vec![Sample::default(); prompts.len() * draws.copies];
        let mut start = 0;
        while start < prompts.len() && draws.max_new > 0 && draws.copies > 0 {
            let mut used = 0;
            let fits = |prompt: &&Vec<u32>| {
                used += (prompt.len() + draws.max_new) * draws.copies;
                used <= self.batch_tokens
            };
            let count = prompts[start..].iter().take_while(fits).count().max(1);
            let group: Vec<usize> = (start..start + count).filter(|i| !prompts[*i].is_empty()).collect();
            self.group(prompts, &group, draws, &mut samples, ctx)?;
            start += count;
        }
        Ok(samples)
    }

    fn group(
        &self,
        prompts: &[Vec<u32>],
        group: &[usize],
        draws: &Draws,
        samples: &mut [Sample],
        ctx: &Ctx,
    ) -> Result<()> {
        let (mut running, mut logits) = self.prefill(prompts, group, draws, ctx)?;
        let longest = running.iter().map(|r| r.length).max().unwrap_or(0) + draws.max_new;
        let tables = self.model.config.rope.tables(longest);
        while !running.is_empty() {
            ctx.tick(0)?;
            self.choose_all(&mut running, &logits);
            let (still, over): (Vec<_>, Vec<_>) = running.into_iter().partition(|each| each.goes_on(draws));
            running = still;
            for each in over {
                let place = each.place;
                samples[place] = each.end(draws);
            }
            if running.is_empty() {
                break;
            }
            self.model.arena.give([std::mem::take(&mut logits)]);
            logits = self.step(&mut running, (&tables.0, &tables.1));
        }
        self.model.arena.give([logits]);
        Ok(())
    }

    /// Run the prompts and keep their keys and values; the logits of each last token, once for every draw.
    fn prefill(
        &self,
        prompts: &[Vec<u32>],
        group: &[usize],
        draws: &Draws,
        ctx: &Ctx,
    ) -> Result<(Vec<Running>, Vec<f32>)> {
        let (model, width) = (self.model, self.model.config.hidden_size);
        let sequence = |i: &usize| {
            let tokens = prompts[*i].clone();
            Sequence { row: *i as u64, labels: vec![crate::IGNORE; tokens.len()], tokens, weight: 1.0 }
        };
        let batch = Batch::of(&group.iter().map(sequence).collect::<Vec<_>>());
        let pass = Pass::new(model, &batch)?;
        let kv = model.config.kv_width();
        let mut caches: Vec<Cache> = vec![Vec::new(); group.len()];
        let x = pass.blocks(ctx, |_, saved| {
            for (cache, segment) in caches.iter_mut().zip(&batch.segments) {
                let place = segment.start * kv..segment.end * kv;
                cache.push((saved.k[place.clone()].to_vec(), saved.v[place].to_vec()));
            }
            saved.free(model);
        })?;
        let last: Vec<u32> = batch.segments.iter().map(|segment| segment.end as u32 - 1).collect();
        let mut picked = model.arena.take(last.len() * width);
        nn::copy_rows(&x, width, &last, &mut picked);
        let logits = self.head(&picked);
        let each = logits.chunks_exact(model.config.vocab_size).flat_map(|row| vec![row; draws.copies]);
        let all = each.flatten().copied().collect();
        model.arena.give([x, picked, logits]);
        let running = group.iter().zip(&caches).flat_map(|(prompt, cache)| {
            (0..draws.copies).map(move |copy| Running::new(*prompt, copy, (prompts[*prompt].len(), cache), draws))
        });
        Ok((running.collect(), all))
    }

    fn head(&self, x: &[f32]) -> Vec<f32> {
        let mut inverse = Vec::new();
        let normed = self.model.norm(self.model.final_norm, x, &mut inverse);
        let logits = self.model.apply(&self.model.head, &normed);
        self.model.arena.give([normed, inverse]);
        logits
    }

    /// The logits after the last token of each sequence.
    fn step(&self, running: &mut [Running], (cos, sin): (&[f32], &[f32])) -> Vec<f32> {
        let (model, width) = (self.model, self.model.config.hidden_size);
        let tokens: Vec<u32> = running.iter().filter_map(|r| r.sample.tokens.last().copied()).collect();
        let positions: Vec<u32> = running.iter().map(|r| r.length as u32).collect();
        let turn = Rotation { cos, sin, positions: &positions, head_dim: model.config.head_dim };
        let mut x = model.arena.take(tokens.len() * width);
        nn::copy_rows(model.data(model.embed), width, &tokens, &mut x);
        for (index, layer) in model.layers.iter().enumerate() {
            self.attend(layer, index, running, (&mut x, turn));
            self.feed_forward(layer, &mut x);
        }
        for each in running.iter_mut() {
            each.length += 1;
        }
        let logits = self.head(&x);
        model.arena.give([x]);
        logits
    }

    fn attend(&self, layer: &Layer, index: usize, running: &mut [Running], (x, turn): (&mut [f32], Rotation)) {
        let (model, config) = (self.model, &self.model.config);
        let mut inverse = [Vec::new(), Vec::new(), Vec::new()];
        let normed = model.norm(layer.input_norm, x, &mut inverse[0]);
        let [mut q, mut k, v] = [&layer.q, &layer.k, &layer.v].map(|linear| model.apply(linear, &normed));
        if let Some((q_gain, k_gain)) = layer.qk_norm {
            q = model.norm(q_gain, &q, &mut inverse[1]);
            k = model.norm(k_gain, &k, &mut inverse[2]);
        }
        nn::rotate(&mut q, config.q_width(), turn, false);
        nn::rotate(&mut k, config.kv_width(), turn, false);
        let new = k.chunks_exact(config.kv_width()).zip(v.chunks_exact(config.kv_width()));
        for (each, (k, v)) in running.iter_mut().zip(new) {
            each.cache[index].0.extend_from_slice(k);
            each.cache[index].1.extend_from_slice(v);
        }
        let caches: Vec<(&[f32], &[f32])> =
            running.iter().map(|r| (r.cache[index].0.as_slice(), r.cache[index].1.as_slice())).collect();
        let (heads, kv_heads, head_dim, window) = (config.heads, config.kv_heads, config.head_dim, layer.window);
        let mut out = model.arena.take(q.len());
        nn::attend(Step { heads, kv_heads, head_dim, window }, &q, &caches, &mut out);
        model.linear(&layer.o, &out, x, 1.0);
        model.arena.give([normed, q, k, v, out].into_iter().chain(inverse));
    }

    fn feed_forward(&self, layer: &Layer, x: &mut [f32]) {
        let model = self.model;
        let mut inverse = Vec::new();
        let normed = model.norm(layer.post_norm, x, &mut inverse);
        let (gate, up) = (model.apply(&layer.gate, &normed), model.apply(&layer.up, &normed));
        let mut active = model.arena.take(gate.len());
        nn::swiglu(&gate, &up, &mut active);
        model.linear(&layer.down, &active, x, 1.0);
        model.arena.give([normed, gate, up, active, inverse]);
    }

    /// Draw a token for every sequence.
    fn choose_all(&self, running: &mut [Running], logits: &[f32]) {
        let rows = logits.par_chunks_exact(self.model.config.vocab_size);
        running.par_iter_mut().zip(rows).for_each(|(each, logits)| {
            let (token, log_prob) = self.choose(logits, &mut each.rng);
            each.sample.tokens.push(token);
            each.sample.log_probs.push(log_prob);
        });
    }

    /// A token and the logarithm of its probability.
    fn choose(&self, logits: &[f32], rng: &mut Rng) -> (u32, f32) {
        let mut best = 0;
        for (i, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = i;
            }
        }
        let Some(temperature) = self.temperature else { return (best as u32, 0.0) };
        let exponent = |logit: f32| f64::from(logit - logits[best]) / f64::from(temperature);
        let weights: Vec<f64> = logits.iter().map(|logit| exponent(*logit).exp()).collect();
        let sum = weights.iter().sum::<f64>();
        let mut left = rng.uniform() * sum;
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left <= 0.0
        });
        let token = drawn.unwrap_or(best);
        (token as u32, (exponent(logits[token]) - sum.ln()) as f32)
    }
}
