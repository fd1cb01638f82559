//! A model small enough for closed forms: token vectors, residual linear maps, a gain, a head. It runs in f64.

use curate_core::{Ctx, Error, Result};
use curate_trainer::lora::{Adaptable, fill_normal};
use curate_trainer::model::{LoraRef, Losses, StepOptions};
use curate_trainer::sft::Differentiable;
use curate_trainer::{Batch, Grads, IGNORE, ParamId, Params, Sequence, Tensor};

pub(super) const VOCAB: usize = 11;
pub(super) const WIDTH: usize = 6;

#[derive(Clone, Debug)]
pub(super) struct Toy {
    pub(super) params: Params,
    pub(super) maps: Vec<(ParamId, Option<LoraRef>)>,
    /// Ask to stop when this row is seen.
    pub(super) stop_at: std::cell::Cell<Option<(u64, u32)>>,
    /// Give a loss that is no number for this row.
    pub(super) poison: Option<u64>,
}

const EMBED: ParamId = ParamId(0);

impl Toy {
    pub(super) fn new(layers: usize, seed: u64) -> Self {
        let ctx = Ctx::new(seed);
        let mut params = Params::default();
        let mut push = |name: &str, shape: &[usize], std: f64| {
            let mut data = vec![0.0; shape.iter().product()];
            fill_normal(&mut ctx.rng(name, 0), &mut data, std);
            if shape.len() == 1 {
                data.fill(1.0);
            }
            params.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), data, trained: true })
        };
        push("model.embed_tokens.weight", &[VOCAB, WIDTH], 0.5);
        let map = |l: usize| format!("model.layers.{l}.mlp.up_proj.weight");
        let maps = (0..layers).map(|l| (push(&map(l), &[WIDTH, WIDTH], 0.3), None)).collect();
        push("model.norm.weight", &[WIDTH], 0.0);
        push("lm_head.weight", &[VOCAB, WIDTH], 0.5);
        Self { params, maps, stop_at: std::cell::Cell::new(None), poison: None }
    }

    fn named(&self, name: &str) -> ParamId {
        self.params.find(name).unwrap()
    }

    fn data(&self, id: ParamId) -> &[f32] {
        &self.params.get(id).data
    }

    /// Inputs of every map, and the output of the last.
    fn forward(&self, token: u32) -> Vec<Vec<f64>> {
        let row = token as usize * WIDTH;
        let mut xs = vec![wide(&self.data(EMBED)[row..row + WIDTH])];
        for (weight, lora) in &self.maps {
            let x = xs.last().unwrap();
            let mut y = plus(x, &times(self.data(*weight), x));
            if let Some(lora) = lora {
                let up = times(self.data(lora.b), &times(self.data(lora.a), x));
                y = plus(&y, &up.iter().map(|v| v * f64::from(lora.scale)).collect::<Vec<_>>());
            }
            xs.push(y);
        }
        xs
    }

    pub(super) fn logits(&self, token: u32) -> Vec<f64> {
        let xs = self.forward(token);
        let gain = wide(self.data(self.named("model.norm.weight")));
        let y: Vec<f64> = xs.last().unwrap().iter().zip(gain).map(|(x, g)| x * g).collect();
        times(self.data(self.named("lm_head.weight")), &y)
    }

    fn backward(&self, token: u32, dlogits: &[f64], grads: &mut Grads) {
        let xs = self.forward(token);
        let (norm, head) = (self.named("model.norm.weight"), self.named("lm_head.weight"));
        let (top, gain) = (xs.last().unwrap(), wide(self.data(norm)));
        let y: Vec<f64> = top.iter().zip(&gain).map(|(x, g)| x * g).collect();
        outer(grads, head, dlogits, &y);
        let dy = times_transposed(self.data(head), dlogits, WIDTH);
        if let Some(grad) = grads.get_mut(norm) {
            grad.iter_mut().zip(dy.iter().zip(top)).for_each(|(g, (d, x))| *g += (d * x) as f32);
        }
        let mut dx: Vec<f64> = dy.iter().zip(&gain).map(|(d, g)| d * g).collect();
        for ((weight, lora), x) in self.maps.iter().zip(&xs).rev() {
            outer(grads, *weight, &dx, x);
            let mut below = plus(&dx, &times_transposed(self.data(*weight), &dx, WIDTH));
            if let Some(lora) = lora {
                let scaled: Vec<f64> = dx.iter().map(|d| d * f64::from(lora.scale)).collect();
                let rank = self.params.get(lora.a).shape[0];
                outer(grads, lora.b, &scaled, &times(self.data(lora.a), x));
                let middle = times_transposed(self.data(lora.b), &scaled, rank);
                outer(grads, lora.a, &middle, x);
                below = plus(&below, &times_transposed(self.data(lora.a), &middle, WIDTH));
            }
            dx = below;
        }
        if let Some(grad) = grads.get_mut(EMBED) {
            let row = &mut grad[token as usize * WIDTH..][..WIDTH];
            row.iter_mut().zip(dx).for_each(|(g, d)| *g += d as f32);
        }
    }

    fn pass(&self, batch: &Batch, mut grads: Option<(f64, &mut Grads)>, ctx: &Ctx) -> Result<Losses> {
        let mut losses = Losses {
            token_nll: vec![0.0; batch.tokens.len()],
            token_hit: vec![false; batch.tokens.len()],
            ..Losses::default()
        };
        for ((segment, row), weight) in batch.segments.iter().zip(&batch.rows).zip(&batch.weights) {
            if let Some((stop, times)) = self.stop_at.get().filter(|(stop, _)| stop == row) {
                self.stop_at.set((times > 1).then_some((stop, times - 1)));
                if times == 1 {
                    ctx.cancel().cancel();
                    return Err(Error::cancelled());
                }
            }
            let (mut nll, mut labelled) = (0.0, 0);
            for at in segment.clone().skip(1).filter(|at| batch.labels[*at] != IGNORE) {
                let (token, label) = (batch.tokens[at - 1], batch.labels[at] as usize);
                let logits = self.logits(token);
                let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = logits.iter().map(|x| (x - top).exp()).sum();
                let loss = top + sum.ln() - logits[label];
                let d: Vec<f64> = logits
                    .iter()
                    .enumerate()
                    .map(|(i, x)| (x - top).exp() / sum - f64::from(u8::from(i == label)))
                    .collect();
                if let Some((scale, grads)) = &mut grads {
                    let scaled: Vec<f64> = d.iter().map(|x| x * *scale * f64::from(*weight)).collect();
                    self.backward(token, &scaled, grads);
                }
                losses.token_nll[at] = loss as f32;
                losses.token_hit[at] = logits[label] >= top;
                nll += loss;
                labelled += 1;
            }
            losses.nll.push(if self.poison == Some(*row) { f64::NAN } else { nll });
            losses.labelled.push(labelled);
        }
        Ok(losses)
    }
}

impl Differentiable for Toy {
    fn params(&self) -> &Params {
        &self.params
    }

    fn params_mut(&mut self) -> &mut Params {
        &mut self.params
    }

    fn vocab_size(&self) -> usize {
        VOCAB
    }

    fn losses(&self, batch: &Batch, ctx: &Ctx) -> Result<Losses> {
        self.pass(batch, None, ctx)
    }

    fn gradients(&self, batch: &Batch, scale: f32, _: StepOptions, grads: &mut Grads, ctx: &Ctx) -> Result<Losses> {
        self.pass(batch, Some((f64::from(scale), grads)), ctx)
    }
}

impl Adaptable for Toy {
    fn linears(&self) -> Vec<(ParamId, Option<LoraRef>)> {
        self.maps.clone()
    }

    fn set_adapter(&mut self, weight: ParamId, adapter: Option<LoraRef>) {
        self.maps.iter_mut().filter(|(id, _)| *id == weight).for_each(|map| map.1 = adapter);
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

fn plus(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

fn times(w: &[f32], x: &[f64]) -> Vec<f64> {
    w.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
}

fn times_transposed(w: &[f32], d: &[f64], columns: usize) -> Vec<f64> {
    let mut out = vec![0.0; columns];
    for (row, d) in w.chunks(columns).zip(d) {
        out.iter_mut().zip(row).for_each(|(o, w)| *o += f64::from(*w) * d);
    }
    out
}

fn outer(grads: &mut Grads, id: ParamId, d: &[f64], x: &[f64]) {
    let Some(grad) = grads.get_mut(id) else { return };
    for (row, d) in grad.chunks_mut(x.len()).zip(d) {
        row.iter_mut().zip(x).for_each(|(g, x)| *g += (d * x) as f32);
    }
}

/// Rows that a model can learn: each token is followed by its double, modulo the vocabulary, with some rows longer.
pub(super) fn rows(n: u64) -> Vec<Sequence> {
    (0..n)
        .map(|row| {
            let length = 3 + (row % 4) as usize;
            let mut tokens = vec![(1 + row % (VOCAB as u64 - 1)) as u32];
            while tokens.len() < length {
                tokens.push(tokens.last().unwrap() * 2 % VOCAB as u32);
            }
            let labels = tokens.iter().enumerate().map(|(i, t)| if i == 0 { IGNORE } else { *t }).collect();
            Sequence { row, tokens, labels, weight: 1.0 }
        })
        .collect()
}
