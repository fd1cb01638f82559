//! Generation, many prompts at once, with a cache of keys and values.
//!
//! Formula: greedy takes the largest logit (the first of equals); with a temperature t a token is drawn from
//! softmax(logits / t) by inverting its distribution function in f64. Source: the definitions. Deviation: none; a prompt's draws
//! come from its own stream, so that they do not depend on its company. Cost: one pass over the prompts, then two operations a
//! weight and token; memory: 2 x layers x `kv_width` numbers a token.

use super::forward::Pass;
use super::{Layer, Model};
use crate::{Batch, Sequence};
use curate_core::kernels::nn::{self, Rotation, Step};
use curate_core::{Ctx, Result, Rng};

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

/// A sequence on its way.
struct Running {
    prompt: usize,
    cache: Cache,
    rng: Rng,
    length: usize,
    answer: Vec<u32>,
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
        let mut answers = vec![Vec::new(); prompts.len()];
        let mut start = 0;
        while start < prompts.len() && max_new > 0 {
            let mut used = 0;
            let fits = |prompt: &&Vec<u32>| {
                used += prompt.len() + max_new;
                used <= self.batch_tokens
            };
            let count = prompts[start..].iter().take_while(fits).count().max(1);
            let group: Vec<usize> = (start..start + count).filter(|i| !prompts[*i].is_empty()).collect();
            self.group(prompts, &group, (max_new, stop), &mut answers, ctx)?;
            start += count;
        }
        Ok(answers)
    }

    fn group(
        &self,
        prompts: &[Vec<u32>],
        group: &[usize],
        (max_new, stop): (usize, &[u32]),
        answers: &mut [Vec<u32>],
        ctx: &Ctx,
    ) -> Result<()> {
        let (mut running, mut logits) = self.prefill(prompts, group, ctx)?;
        let vocabulary = self.model.config.vocab_size;
        let longest = running.iter().map(|r| r.length).max().unwrap_or(0) + max_new;
        let tables = self.model.config.rope.tables(longest);
        for _ in 0..max_new {
            ctx.tick(0)?;
            let mut next = Vec::new();
            let mut still = Vec::new();
            for (mut each, logits) in running.into_iter().zip(logits.chunks_exact(vocabulary)) {
                let token = self.choose(logits, &mut each.rng);
                if stop.contains(&token) {
                    answers[each.prompt] = each.answer;
                    continue;
                }
                each.answer.push(token);
                if each.answer.len() == max_new {
                    answers[each.prompt] = each.answer;
                } else {
                    next.push(token);
                    still.push(each);
                }
            }
            running = still;
            if running.is_empty() {
                break;
            }
            self.model.arena.give([std::mem::take(&mut logits)]);
            logits = self.step(&mut running, &next, (&tables.0, &tables.1));
        }
        self.model.arena.give([logits]);
        Ok(())
    }

    /// Run the prompts and keep their keys and values; the logits of each last token.
    fn prefill(&self, prompts: &[Vec<u32>], group: &[usize], ctx: &Ctx) -> Result<(Vec<Running>, Vec<f32>)> {
        let (model, width) = (self.model, self.model.config.hidden_size);
        let sequences: Vec<Sequence> = group
            .iter()
            .map(|i| Sequence {
                row: *i as u64,
                labels: vec![crate::IGNORE; prompts[*i].len()],
                tokens: prompts[*i].clone(),
            })
            .collect();
        let batch = Batch::of(&sequences);
        let pass = Pass::new(model, &batch)?;
        let fresh = |i: &usize| Running {
            prompt: *i,
            cache: Vec::new(),
            rng: ctx.rng("sample", *i as u64),
            length: prompts[*i].len(),
            answer: Vec::new(),
        };
        let mut running: Vec<Running> = group.iter().map(fresh).collect();
        let kv = model.config.kv_width();
        let x = pass.blocks(ctx, |_, saved| {
            for (each, segment) in running.iter_mut().zip(&batch.segments) {
                let place = segment.start * kv..segment.end * kv;
                each.cache.push((saved.k[place.clone()].to_vec(), saved.v[place].to_vec()));
            }
            saved.free(model);
        })?;
        let last: Vec<u32> = batch.segments.iter().map(|segment| segment.end as u32 - 1).collect();
        let mut picked = model.arena.take(last.len() * width);
        nn::copy_rows(&x, width, &last, &mut picked);
        let logits = self.head(&picked);
        model.arena.give([x, picked]);
        Ok((running, logits))
    }

    fn head(&self, x: &[f32]) -> Vec<f32> {
        let mut inverse = Vec::new();
        let normed = self.model.norm(self.model.final_norm, x, &mut inverse);
        let logits = self.model.apply(&self.model.head, &normed);
        self.model.arena.give([normed, inverse]);
        logits
    }

    /// One more token of each sequence: its logits.
    fn step(&self, running: &mut [Running], tokens: &[u32], (cos, sin): (&[f32], &[f32])) -> Vec<f32> {
        let (model, width) = (self.model, self.model.config.hidden_size);
        let positions: Vec<u32> = running.iter().map(|r| r.length as u32).collect();
        let turn = Rotation { cos, sin, positions: &positions, head_dim: model.config.head_dim };
        let mut x = model.arena.take(tokens.len() * width);
        nn::copy_rows(model.data(model.embed), width, tokens, &mut x);
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

    fn choose(&self, logits: &[f32], rng: &mut Rng) -> u32 {
        let mut best = 0;
        for (i, logit) in logits.iter().enumerate() {
            if *logit > logits[best] {
                best = i;
            }
        }
        let Some(temperature) = self.temperature else { return best as u32 };
        let weight = |logit: f32| (f64::from(logit - logits[best]) / f64::from(temperature)).exp();
        let mut left = rng.uniform() * logits.iter().map(|logit| weight(*logit)).sum::<f64>();
        let drawn = logits.iter().position(|logit| {
            left -= weight(*logit);
            left <= 0.0
        });
        drawn.unwrap_or(best) as u32
    }
}
