//! The recommender: `SASRec`, two blocks of causal self-attention and a position-wise network, small enough to be written out.
//!
//! `x_t = sqrt(d) E[item_t] + P_t`; in each block `q = norm(x)`, `r = q + attention(q, x, x) W_o`, `y = norm(r)`,
//! `x' = y + relu(y W_1 + b_1) W_2 + b_2`; `h = norm(x)`, and the logit of an item is `h . E[item]`. Positions are counted from the end.

#![allow(clippy::many_single_char_names)] // reason: as in the papers

use super::layers::{Attention, Normed, add_outer, add_scaled, times, times_back};
use super::params::{B_1, B_2, BIAS, BIAS_2, BLOCKS, GAIN, GAIN_2, Grads, KEY, OUT, Params, QUERY, VALUE, W_1, W_2};
use crate::linear::{dot, usize_f64};

/// What a block computed on the way forward.
struct Block {
    x: Vec<f64>,
    norm: Normed,
    q: Vec<f64>,
    attention: Attention,
    norm_2: Normed,
    y: Vec<f64>,
    /// `y W_1 + b_1`, negative numbers included.
    hidden: Vec<f64>,
}

/// What the model computed for a sequence.
pub(super) struct Forward<'a> {
    params: &'a Params,
    blocks: Vec<Block>,
    norm: Normed,
    /// The state at each position.
    pub(super) state: Vec<f64>,
}

fn rectified(hidden: &[f64]) -> Vec<f64> {
    hidden.iter().map(|&v| v.max(0.0)).collect()
}

fn plus_rows(mut x: Vec<f64>, row: &[f64]) -> Vec<f64> {
    x.chunks_exact_mut(row.len()).for_each(|to| add_scaled(to, 1.0, row));
    x
}

fn plus(mut x: Vec<f64>, other: &[f64]) -> Vec<f64> {
    add_scaled(&mut x, 1.0, other);
    x
}

impl<'a> Forward<'a> {
    /// Run the model over the items a user had.
    pub(super) fn of(params: &'a Params, inputs: &[usize]) -> Self {
        let (shape, scale) = (params.shape, usize_f64(params.shape.width).sqrt());
        let mut x = Vec::with_capacity(inputs.len() * shape.width);
        for (at, &item) in inputs.iter().enumerate() {
            let position = &params.dense[shape.position(inputs.len() - 1 - at)];
            x.extend(params.item(item).iter().zip(position).map(|(e, p)| scale * e + p));
        }
        let mut blocks = Vec::with_capacity(BLOCKS);
        for b in 0..BLOCKS {
            let (block, next) = Self::block(params, b, x);
            blocks.push(block);
            x = next;
        }
        let norm = Normed::of(&x, shape.width);
        let state = norm.scaled(params.last(0), params.last(1));
        Self { params, blocks, norm, state }
    }

    fn block(params: &Params, b: usize, x: Vec<f64>) -> (Block, Vec<f64>) {
        let width = params.shape.width;
        let norm = Normed::of(&x, width);
        let q = norm.scaled(params.vector(b, GAIN), params.vector(b, BIAS));
        let project = |x: &[f64], which| times(x, params.matrix(b, which), width);
        let attention = Attention::of(project(&q, QUERY), project(&x, KEY), project(&x, VALUE), width);
        let r = plus(project(&attention.context, OUT), &q);
        let norm_2 = Normed::of(&r, width);
        let y = norm_2.scaled(params.vector(b, GAIN_2), params.vector(b, BIAS_2));
        let hidden = plus_rows(project(&y, W_1), params.vector(b, B_1));
        let next = plus(plus_rows(project(&rectified(&hidden), W_2), params.vector(b, B_2)), &y);
        (Block { x, norm, q, attention, norm_2, y, hidden }, next)
    }

    /// What the last block's attention gathers at each position: the input of the matrix that influence is taken of.
    pub(super) fn context(&self) -> &[f64] {
        &self.blocks[BLOCKS - 1].attention.context
    }

    /// Gradient of the last `context W_o`, from that of the state; it is of each position alone.
    pub(super) fn to_out(&self, dh: &[f64]) -> Vec<f64> {
        let dx = self.norm.back(self.params.last(0), dh);
        let dy = self.to_network(BLOCKS - 1, &dx).0;
        self.blocks[BLOCKS - 1].norm_2.back(self.params.vector(BLOCKS - 1, GAIN_2), &dy)
    }

    /// Gradients of `y` and of the hidden numbers, from that of a block's output.
    fn to_network(&self, b: usize, dx: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (block, width) = (&self.blocks[b], self.params.shape.width);
        let mut hidden = times_back(dx, self.params.matrix(b, W_2), width);
        hidden.iter_mut().zip(&block.hidden).for_each(|(d, &v)| *d *= f64::from(u8::from(v > 0.0)));
        let dy = plus(times_back(&hidden, self.params.matrix(b, W_1), width), dx);
        (dy, hidden)
    }

    /// Add the gradients of all parameters, from that of the state.
    pub(super) fn back(&self, inputs: &[usize], dh: &[f64], grads: &mut Grads) {
        let (shape, scale) = (self.params.shape, usize_f64(self.params.shape.width).sqrt());
        let (gain, bias) = grads.two(shape.last(0), shape.last(1));
        self.norm.add_back(gain, bias, dh);
        let mut dx = self.norm.back(self.params.last(0), dh);
        for b in (0..BLOCKS).rev() {
            dx = self.block_back(b, &dx, grads);
        }
        for (at, (&item, d)) in inputs.iter().zip(dx.chunks_exact(shape.width)).enumerate() {
            add_scaled(&mut grads.dense[shape.position(inputs.len() - 1 - at)], 1.0, d);
            grads.add_item(item, scale, d);
        }
    }

    fn block_back(&self, b: usize, dx: &[f64], grads: &mut Grads) -> Vec<f64> {
        let (shape, block, width) = (self.params.shape, &self.blocks[b], self.params.shape.width);
        let (dy, hidden) = self.to_network(b, dx);
        let outer =
            |to: &mut Grads, which, x: &[f64], d: &[f64]| add_outer(&mut to.dense[shape.matrix(b, which)], x, d, width);
        outer(grads, W_2, &rectified(&block.hidden), dx);
        outer(grads, W_1, &block.y, &hidden);
        for (which, d) in [(B_2, dx), (B_1, hidden.as_slice())] {
            d.chunks_exact(width).for_each(|row| add_scaled(&mut grads.dense[shape.vector(b, which)], 1.0, row));
        }
        let (gain, bias) = grads.two(shape.vector(b, GAIN_2), shape.vector(b, BIAS_2));
        block.norm_2.add_back(gain, bias, &dy);
        let dr = block.norm_2.back(self.params.vector(b, GAIN_2), &dy);
        outer(grads, OUT, &block.attention.context, &dr);
        let [dq, dk, dv] = block.attention.back(&times_back(&dr, self.params.matrix(b, OUT), width));
        outer(grads, QUERY, &block.q, &dq);
        outer(grads, KEY, &block.x, &dk);
        outer(grads, VALUE, &block.x, &dv);
        let dq = plus(times_back(&dq, self.params.matrix(b, QUERY), width), &dr);
        let (gain, bias) = grads.two(shape.vector(b, GAIN), shape.vector(b, BIAS));
        block.norm.add_back(gain, bias, &dq);
        let below = plus(
            times_back(&dk, self.params.matrix(b, KEY), width),
            &block.norm.back(self.params.vector(b, GAIN), &dq),
        );
        plus(below, &times_back(&dv, self.params.matrix(b, VALUE), width))
    }
}

/// A user's items with, for each next item, another one that was not had.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    /// What was had, all but the last.
    pub(super) inputs: Vec<usize>,
    /// What came next at each position.
    pub(super) next: Vec<usize>,
}

/// Logits at each position: of the item that came next, and of the other.
pub(super) fn logits(forward: &Forward<'_>, sequence: &Sequence, others: &[usize]) -> Vec<[f64; 2]> {
    let (params, width) = (forward.params, forward.params.shape.width);
    let pair =
        |((h, &next), &other): ((&[f64], &usize), &usize)| [dot(h, params.item(next)), dot(h, params.item(other))];
    forward.state.chunks_exact(width).zip(&sequence.next).zip(others).map(pair).collect()
}

/// `1 / (1 + exp(-x))`.
pub(super) fn sigmoid(x: f64) -> f64 {
    (1.0 + (-x).exp()).recip()
}

/// `log(1 + exp(x))`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Mean over the positions of the loss of telling the next item from another, and its gradients added, `weight` times.
pub(super) fn learn(params: &Params, sequence: &Sequence, others: &[usize], (weight, grads): (f64, &mut Grads)) -> f64 {
    let (forward, width) = (Forward::of(params, &sequence.inputs), params.shape.width);
    let (logits, share) = (logits(&forward, sequence, others), weight / usize_f64(others.len()));
    let mut dh = vec![0.0; forward.state.len()];
    for (at, [next, other]) in logits.iter().enumerate() {
        let row = at * width..(at + 1) * width;
        for (slope, item) in [(sigmoid(*next) - 1.0, sequence.next[at]), (sigmoid(*other), others[at])] {
            add_scaled(&mut dh[row.clone()], share * slope, params.item(item));
            grads.add_item(item, share * slope, &forward.state[row.clone()]);
        }
    }
    forward.back(&sequence.inputs, &dh, grads);
    logits.iter().map(|[next, other]| softplus(-next) + softplus(*other)).sum::<f64>() / usize_f64(others.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::params::Shape;
    use super::*;
    use curate_core::Ctx;

    /// A tiny model and a sequence with an item that comes twice.
    pub(crate) fn tiny() -> (Params, Sequence, Vec<usize>) {
        let shape = Shape { width: 3, items: 6, length: 5 };
        let mut params = Params::drawn(shape, &Ctx::new(4));
        params.items.iter_mut().for_each(|v| *v *= 12.0);
        let sequence = Sequence { inputs: vec![1, 4, 1, 0], next: vec![4, 1, 0, 5] };
        (params, sequence, vec![2, 3, 2, 3])
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (params, sequence, others) = tiny();
        let loss = |params: &Params| learn(params, &sequence, &others, (1.0, &mut Grads::zero(params.shape)));
        let mut grads = Grads::zero(params.shape);
        learn(&params, &sequence, &others, (1.0, &mut grads));
        let slope = |of: &dyn Fn(&mut Params) -> &mut f64| {
            let at = |step: f64| {
                let mut moved = params.clone();
                *of(&mut moved) += step;
                loss(&moved)
            };
            (at(1e-5) - at(-1e-5)) / 2e-5
        };
        for i in 0..params.dense.len() {
            let expected = slope(&|p| &mut p.dense[i]);
            assert!((grads.dense[i] - expected).abs() < 1e-7, "parameter {i}: {} is not {expected}", grads.dense[i]);
        }
        for i in 0..params.items.len() {
            let expected = slope(&|p| &mut p.items[i]);
            let found = grads.items.get(&(i / 3)).map_or(0.0, |grad| grad[i % 3]);
            assert!((found - expected).abs() < 1e-7, "item {}: {found} is not {expected}", i / 3);
        }
        assert!(grads.dense.iter().filter(|g| g.abs() > 1e-9).count() > params.dense.len() * 2 / 3);
    }

    #[test]
    fn later_items_do_not_reach_back() {
        let (params, sequence, _) = tiny();
        let whole = Forward::of(&params, &sequence.inputs);
        let mut changed = sequence.inputs;
        changed[3] = 5;
        let other = Forward::of(&params, &changed);
        assert_eq!(whole.state[..9], other.state[..9]);
        assert_ne!(whole.state[9..], other.state[9..]);
    }
}
