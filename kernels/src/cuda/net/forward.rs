//! The way up through a decoder's blocks.
//!
//! Formula: x += O attention(rope(Q norm(x)), rope(K norm(x)), V norm(x)); x += D (silu(G norm(x)) U norm(x)). Deviation: the
//! stream is changed in place unless a way back follows; in bf16 every activation between two products is rounded once.
//! Memory comes from the device's pool, which keeps what was given back. Cost: two operations a weight and token, and attention.

use super::attention::{Seen, Tiles};
use super::decoder::{ask, heads};
use super::numbers::Numbers;
use super::ops::{Cut, Ops, Rows, Turn};
use super::plan::{Adapter, Block, Map, Plan, width};
use super::product::Product;
use super::weights::Weights;
use crate::KernelError;
use crate::cuda::Buffer;

/// A batch on its way.
pub(super) struct Run<'a> {
    pub(super) ops: Ops<'a>,
    pub(super) plan: &'a Plan,
    pub(super) weights: &'a Weights,
    pub(super) tokens: usize,
    pub(super) ids: Buffer<u32>,
    pub(super) turn: Turn,
    pub(super) tiles: Tiles,
}

/// Normed and turned queries and keys side by side, with the factors of both norms.
pub(super) type NormedHeads = (Numbers, [Buffer<f32>; 2]);

/// What a block keeps for its way back.
pub(super) struct Saved {
    pub(super) x: Numbers,
    pub(super) x_inverse: Buffer<f32>,
    /// Queries, keys and values side by side; turned where their heads are not normed.
    pub(super) qkv: Numbers,
    pub(super) normed: Option<NormedHeads>,
    pub(super) out: Numbers,
    pub(super) lse: Buffer<f32>,
    pub(super) mid: Numbers,
    pub(super) mid_inverse: Buffer<f32>,
    pub(super) gate_up: Numbers,
}

impl Run<'_> {
    /// The residual stream after all blocks.
    pub(super) fn stream(&self, stop: &dyn Fn() -> bool) -> Result<Numbers, KernelError> {
        let x = self.embed()?;
        for block in &self.plan.blocks {
            ask(stop)?;
            self.block(block, &x, false)?;
        }
        Ok(x)
    }

    pub(super) fn embed(&self) -> Result<Numbers, KernelError> {
        self.ops.copy_rows(self.weights.whole(self.plan.embed)?, &self.ids, self.plan.hidden)
    }

    /// Norm of `rows` rows of the stream; gives the factors.
    pub(super) fn norm_into(
        &self,
        gain: usize,
        (x, y): (&Numbers, &Numbers),
        rows: usize,
    ) -> Result<Buffer<f32>, KernelError> {
        let (width, inverse) = (self.plan.hidden, self.ops.device.alloc(rows)?);
        let gain = (self.weights.vector(gain)?, self.plan.eps);
        let cut = Cut { rows, group: 1, width };
        self.ops.rms_norm((Rows::of(x, width), Rows::of(y, width)), gain, cut, &inverse)?;
        Ok(inverse)
    }

    /// The same into new activations.
    pub(super) fn norm(&self, gain: usize, x: &Numbers, rows: usize) -> Result<(Numbers, Buffer<f32>), KernelError> {
        let y = self.ops.fresh(rows * self.plan.hidden)?;
        let inverse = self.norm_into(gain, (x, &y), rows)?;
        Ok((y, inverse))
    }

    /// `y = x W^T + bias + scale (x A^T) B^T` for maps side by side, or that added to y.
    pub(super) fn linear(
        &self,
        maps: &[Map],
        x: Rows,
        y: &Numbers,
        (rows, add): (usize, bool),
    ) -> Result<(), KernelError> {
        let (first, inner, out) = (maps[0].weight, x.stride, width(maps));
        let whole = Product::forward(rows, out, inner);
        let weight = Rows::of(self.weights.weight(first)?, inner);
        self.ops.product(if add { whole.added() } else { whole }, x, weight, Rows::of(y, out))?;
        if let Some(bias) = self.weights.bias(first) {
            self.ops.bias(y, bias, rows, 0)?;
        }
        let mut at = 0;
        for map in maps {
            if let Some(adapter) = map.adapter {
                let (low, b) = (self.low_rank(adapter, x, rows)?, self.weights.whole(adapter.b)?);
                let of = Product::forward(rows, map.out, adapter.rank).scaled(adapter.scale).added();
                let to = Rows { numbers: y, at, stride: out };
                self.ops.product(of, Rows::of(&low, adapter.rank), Rows::of(b, adapter.rank), to)?;
            }
            at += map.out;
        }
        Ok(())
    }

    /// `x A^T` of an adapter.
    pub(super) fn low_rank(&self, adapter: Adapter, x: Rows, rows: usize) -> Result<Numbers, KernelError> {
        let low = self.ops.fresh(rows * adapter.rank)?;
        let a = Rows::of(self.weights.whole(adapter.a)?, x.stride);
        self.ops.product(Product::forward(rows, adapter.rank, x.stride), x, a, Rows::of(&low, adapter.rank))?;
        Ok(low)
    }

    fn apply(&self, maps: &[Map], x: Rows) -> Result<Numbers, KernelError> {
        let y = self.ops.fresh(self.tokens * width(maps))?;
        self.linear(maps, x, &y, (self.tokens, false))?;
        Ok(y)
    }

    /// One block, in place; what its way back needs, if one follows.
    pub(super) fn block(&self, block: &Block, x: &Numbers, keep: bool) -> Result<Option<Saved>, KernelError> {
        let (plan, n) = (self.plan, self.tokens);
        let copy = || if keep { self.ops.copy(x, n * plan.hidden).map(Some) } else { Ok(None) };
        let input = copy()?;
        let (normed, x_inverse) = self.norm(block.input_norm, x, n)?;
        let qkv = self.apply(&block.qkv, Rows::of(&normed, plan.hidden))?;
        drop(normed);
        let heads_normed = self.turn_heads(block, &qkv)?;
        let seen = self.seen(&qkv, heads_normed.as_ref().map(|(normed, _)| normed));
        let (out, lse) = self.ops.attend(heads(plan), seen, (&self.tiles, block.window), None, n)?;
        self.linear(std::slice::from_ref(&block.o), Rows::of(&out, plan.q_width()), x, (n, true))?;
        let mid = copy()?;
        let (normed, mid_inverse) = self.norm(block.post_norm, x, n)?;
        let gate_up = self.apply(&block.gate_up, Rows::of(&normed, plan.hidden))?;
        drop(normed);
        let active = self.ops.swiglu(&gate_up, n, plan.intermediate)?;
        self.linear(std::slice::from_ref(&block.down), Rows::of(&active, plan.intermediate), x, (n, true))?;
        let saved = |(x, mid)| Saved { x, x_inverse, qkv, normed: heads_normed, out, lse, mid, mid_inverse, gate_up };
        Ok(input.zip(mid).map(saved))
    }

    /// Where queries, keys and values lie.
    pub(super) fn seen<'b>(&self, qkv: &'b Numbers, normed: Option<&'b Numbers>) -> Seen<'b> {
        let (q, kv) = (self.plan.q_width(), self.plan.kv_width());
        let rows = |at: usize| Rows { numbers: qkv, at, stride: q + 2 * kv };
        let (head, key) = match normed {
            Some(numbers) => (Rows::of(numbers, q + kv), Rows { numbers, at: q, stride: q + kv }),
            None => (rows(0), rows(q)),
        };
        Seen { q: head, k: key, v: rows(q + kv) }
    }

    /// Turn queries and keys; where their heads are normed, in new activations.
    fn turn_heads(&self, block: &Block, qkv: &Numbers) -> Result<Option<NormedHeads>, KernelError> {
        let (plan, n) = (self.plan, self.tokens);
        let raw = self.seen(qkv, None);
        let Some([q_gain, k_gain]) = block.qk_norm else {
            self.ops.rotate(raw.q, &self.turn, plan.heads + plan.kv_heads, false)?;
            return Ok(None);
        };
        let normed = self.ops.fresh(n * (plan.q_width() + plan.kv_width()))?;
        let to = self.seen(qkv, Some(&normed));
        let one = |(from, to): (Rows, Rows), gain: usize, group: usize| {
            let cut = Cut { rows: n * group, group, width: plan.head_dim };
            let inverse = self.ops.device.alloc(cut.rows)?;
            self.ops.rms_norm((from, to), (self.weights.vector(gain)?, plan.eps), cut, &inverse)?;
            Ok::<_, KernelError>(inverse)
        };
        let inverses = [one((raw.q, to.q), q_gain, plan.heads)?, one((raw.k, to.k), k_gain, plan.kv_heads)?];
        self.ops.rotate(to.q, &self.turn, plan.heads + plan.kv_heads, false)?;
        Ok(Some((normed, inverses)))
    }
}
