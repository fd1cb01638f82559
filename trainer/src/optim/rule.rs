//! The arithmetic of one update. Scalars are computed in f64, entries in f32.

use super::{Allora, AlloraOn, OptimConfig, Rule, Slot};
use crate::Tensor;
use crate::mask::Mask;
use rayon::prelude::*;

/// Entries a thread takes at once; the arithmetic is per entry, so the size does not show in the result.
const BLOCK: usize = 16 * 1024;

/// The scalars of one step for one tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Update {
    rule: Rule,
    /// Learning rate over the bias correction of the first moment.
    rate: f32,
    /// Learning rate times weight decay.
    decay: f32,
    clip: f32,
    beta1: f32,
    one_less_beta1: f32,
    beta2: f32,
    one_less_beta2: f32,
    /// Over the root of the bias correction of the second moment.
    root: f32,
    epsilon: f32,
}

impl Update {
    /// `now` is the clip factor and the number of this step, counted from 1.
    #[expect(clippy::cast_possible_truncation, reason = "computed in f64, used in f32")]
    pub(super) fn new(config: &OptimConfig, lr: f64, decays: bool, now: (f64, u64)) -> Self {
        let (clip, step) = now;
        let power = |beta: f64| 1.0 - beta.powf(precise(step));
        let adam = config.rule == Rule::Adamw;
        let beta1 = if adam { config.beta1 } else { config.momentum };
        Self {
            rule: config.rule,
            rate: (if adam { lr / power(config.beta1) } else { lr }) as f32,
            decay: if decays { (lr * config.weight_decay) as f32 } else { 0.0 },
            clip: clip as f32,
            beta1: beta1 as f32,
            one_less_beta1: (1.0 - beta1) as f32,
            beta2: config.beta2 as f32,
            one_less_beta2: (1.0 - config.beta2) as f32,
            root: (1.0 / power(config.beta2).sqrt()) as f32,
            epsilon: config.epsilon as f32,
        }
    }

    /// The step of one entry of Adam, without decay.
    #[inline]
    fn adam(&self, gradient: f32, first: &mut f32, second: &mut f32) -> f32 {
        let g = gradient * self.clip;
        *first = self.beta1 * *first + self.one_less_beta1 * g;
        *second = self.beta2 * *second + self.one_less_beta2 * (g * g);
        self.rate * *first / (second.sqrt() * self.root + self.epsilon)
    }

    /// The step of one entry of gradient descent, without decay.
    #[inline]
    fn descent(&self, gradient: f32, momentum: Option<&mut f32>) -> f32 {
        let g = gradient * self.clip;
        let Some(momentum) = momentum else { return self.rate * g };
        *momentum = self.beta1 * *momentum + g;
        self.rate * *momentum
    }

    /// Update consecutive entries; `factors` are those on gradient and on step.
    fn run(&self, weights: &mut [f32], grad: &[f32], moments: Moments<'_>, factors: (f32, f32)) {
        let (on_grad, on_step) = factors;
        let move_by = |p: &mut f32, step: f32| *p -= self.decay * *p + step * on_step;
        match (self.rule, moments.first.is_empty()) {
            (Rule::Adamw, _) => {
                let moments = moments.first.iter_mut().zip(moments.second);
                for ((p, g), (m, v)) in weights.iter_mut().zip(grad).zip(moments) {
                    move_by(p, self.adam(*g * on_grad, m, v));
                }
            }
            (Rule::Sgd, true) => {
                for (p, g) in weights.iter_mut().zip(grad) {
                    move_by(p, self.descent(*g * on_grad, None));
                }
            }
            (Rule::Sgd, false) => {
                for ((p, g), m) in weights.iter_mut().zip(grad).zip(moments.first) {
                    move_by(p, self.descent(*g * on_grad, Some(m)));
                }
            }
        }
    }

    /// Update rows, each with its own factor.
    fn run_rows(&self, weights: &mut [f32], grad: &[f32], moments: Moments<'_>, rows: (usize, Allora)) {
        let (width, allora) = rows;
        let mut moments = moments;
        for (row, grad) in weights.chunks_mut(width).zip(grad.chunks(width)) {
            let factor = allora.factor(row);
            let factors = match allora.allora_on {
                AlloraOn::Update => (1.0, factor),
                AlloraOn::Gradient => (factor, 1.0),
            };
            let (now, later) = moments.split(row.len());
            self.run(row, grad, now, factors);
            moments = later;
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "step counts are far below 2^53")]
const fn precise(step: u64) -> f64 {
    step as f64
}

/// Moments of consecutive entries; a slice is empty where the rule keeps none.
struct Moments<'a> {
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl<'a> Moments<'a> {
    /// The moments of the next `n` entries, and the rest.
    fn split(self, n: usize) -> (Self, Self) {
        let at = |moments: &'a mut [f32]| moments.split_at_mut(n.min(moments.len()));
        let (first, first_rest) = at(self.first);
        let (second, second_rest) = at(self.second);
        (Self { first, second }, Self { first: first_rest, second: second_rest })
    }
}

impl Slot {
    /// One update of a tensor.
    pub(super) fn apply(&mut self, update: &Update, tensor: &mut Tensor, grad: &[f32], config: &OptimConfig) {
        if self.mask.is_some() {
            return self.apply_masked(update, &mut tensor.data, grad);
        }
        let rows = config.allora.filter(|_| tensor.name.ends_with(".lora_B.weight")).zip(tensor.shape.last().copied());
        let rows = rows.map(|(allora, width)| (width.max(1), allora));
        let block = rows.map_or(BLOCK, |(width, _)| width * (BLOCK / width).max(1));
        let mut parts = Vec::new();
        let mut moments = Moments { first: &mut self.first, second: &mut self.second };
        for (weights, grad) in tensor.data.chunks_mut(block).zip(grad.chunks(block)) {
            let (now, later) = moments.split(weights.len());
            parts.push((weights, grad, now));
            moments = later;
        }
        parts.into_par_iter().for_each(|(weights, grad, moments)| match rows {
            Some(rows) => update.run_rows(weights, grad, moments, rows),
            None => update.run(weights, grad, moments, (1.0, 1.0)),
        });
    }

    fn apply_masked(&mut self, update: &Update, weights: &mut [f32], grad: &[f32]) {
        let indices = self.mask.as_ref().map_or(&[][..], Mask::indices);
        let gather = |from: &[f32]| indices.iter().map(|i| from[*i as usize]).collect::<Vec<f32>>();
        let (mut values, grad) = (gather(weights), gather(grad));
        update.run(&mut values, &grad, Moments { first: &mut self.first, second: &mut self.second }, (1.0, 1.0));
        for (i, value) in indices.iter().zip(values) {
            weights[*i as usize] = value;
        }
    }

    /// Allow only the entries of `mask` from now on.
    pub(super) fn take_mask(&mut self, mask: Mask, config: &OptimConfig) {
        let old = self.mask.take();
        let carry = |moments: &[f32], kept: bool| -> Vec<f32> {
            if !kept {
                return Vec::new();
            }
            let place = |i: u32| match &old {
                Some(old) => old.indices().binary_search(&i).ok(),
                None => Some(i as usize),
            };
            mask.indices().iter().map(|i| place(*i).map_or(0.0, |at| moments[at])).collect()
        };
        (self.first, self.second) =
            (carry(&self.first, config.keeps_first()), carry(&self.second, config.keeps_second()));
        self.mask = Some(mask);
    }
}
