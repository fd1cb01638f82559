//! The way back through a decoder, down to the lowest block that holds a trained tensor.
//!
//! Formula: with y = x W^T + b + s (x A^T) B^T and g the gradient of y: dx = g W + s (g B) A, dW = g^T x, db = column sums of g,
//! dA = s (g B)^T x, dB = s g^T (x A^T); norms, rotation, attention and activation as their kernels say. Deviation: in bf16
//! gradients of activations are rounded to bf16 between products, those of the stream and of weights are f32. Cost: two
//! operations a weight and token for the stream, two more for each trained weight.

use super::decoder::{Found, Input, Labels, ask, heads};
use super::forward::{Run, Saved};
use super::grads::Grads;
use super::numbers::Numbers;
use super::ops::{Cut, Rows};
use super::plan::{Block, Map, width};
use super::product::Product;
use crate::KernelError;
use crate::cuda::Buffer;

/// What a block leaves on the way up.
enum Kept {
    All(Box<Saved>),
    Input(Numbers),
}

impl Run<'_> {
    /// Up and back.
    pub(super) fn learn(
        &self,
        (input, labels): (Input<'_>, Labels<'_>),
        grads: &Grads,
        again: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<Found, KernelError> {
        let (plan, len) = (self.plan, self.tokens * self.plan.hidden);
        let table = grads.arg(plan.embed);
        let lowest = if table.is_some() { 0 } else { self.lowest(grads) };
        let x = self.embed()?;
        let mut kept = Vec::new();
        for (index, block) in plan.blocks.iter().enumerate() {
            ask(stop)?;
            let input = if again && index >= lowest { Some(self.ops.copy(&x, len)?) } else { None };
            let saved = self.block(block, &x, index >= lowest && !again)?;
            kept.extend(saved.map(|saved| Kept::All(Box::new(saved))));
            kept.extend(input.map(Kept::Input));
        }
        let below = lowest < plan.blocks.len() || table.is_some();
        let (found, gx) = self.head(&x, labels, Some((grads, below)))?;
        drop(x);
        let Some(gx) = gx else { return Ok(found) };
        for (index, block) in plan.blocks.iter().enumerate().skip(lowest).rev() {
            ask(stop)?;
            let saved = match kept.pop() {
                Some(Kept::All(saved)) => Some(*saved),
                Some(Kept::Input(x)) => self.block(block, &x, true)?,
                None => None,
            };
            let Some(saved) = saved else { continue };
            self.block_back(block, &saved, &gx, (index > lowest || table.is_some(), grads))?;
        }
        if let Some(table) = table {
            self.ops.scatter_add(&gx, input.tokens, plan.hidden, table)?;
        }
        Ok(found)
    }

    /// The lowest block with a trained tensor.
    fn lowest(&self, grads: &Grads) -> usize {
        let trained = |block: &Block| {
            let maps =
                [&block.qkv[..], std::slice::from_ref(&block.o), &block.gate_up, std::slice::from_ref(&block.down)];
            let norms = [block.input_norm, block.post_norm].into_iter().chain(block.qk_norm.into_iter().flatten());
            grads.any(&maps.concat(), &norms.collect::<Vec<_>>())
        };
        self.plan.blocks.iter().position(trained).unwrap_or(self.plan.blocks.len())
    }

    /// Turn the gradient of a block's output into that of its input, in place; `below` tells whether anyone wants that.
    fn block_back(
        &self,
        block: &Block,
        saved: &Saved,
        gx: &Numbers,
        (below, grads): (bool, &Grads),
    ) -> Result<(), KernelError> {
        self.feed_forward_back(block, saved, gx, grads)?;
        let (plan, n) = (self.plan, self.tokens);
        let (g, gout) = (self.narrow(gx)?, self.ops.fresh(n * plan.q_width())?);
        let (out, to) = (Rows::of(&saved.out, plan.q_width()), Rows::of(&gout, plan.q_width()));
        self.linear_back(std::slice::from_ref(&block.o), (Some(out), &g), Some(to), (n, grads))?;
        drop(g);
        let seen = self.seen(&saved.qkv, saved.normed.as_ref().map(|(normed, _)| normed));
        let gqkv =
            self.ops.attend_back(heads(plan), seen, (&self.tiles, block.window), (&saved.out, &saved.lse, &gout))?;
        drop(gout);
        let slopes = self.seen(&gqkv, None);
        self.ops.rotate(slopes.q, &self.turn, plan.heads + plan.kv_heads, true)?;
        self.head_norms_back(block, saved, &gqkv, grads)?;
        let gnormed = self.inputs_back((&block.qkv, block.input_norm), &saved.x, &gqkv, grads)?;
        self.norm_back(block.input_norm, (&saved.x, &saved.x_inverse), &gnormed, below.then_some(gx), (n, grads))
    }

    fn feed_forward_back(&self, block: &Block, saved: &Saved, gx: &Numbers, grads: &Grads) -> Result<(), KernelError> {
        let (n, ff) = (self.tokens, self.plan.intermediate);
        let active = if grads.of_map(&block.down) { Some(self.ops.swiglu(&saved.gate_up, n, ff)?) } else { None };
        let (g, gactive) = (self.narrow(gx)?, self.ops.fresh(n * ff)?);
        let (down, from) = (std::slice::from_ref(&block.down), active.as_ref().map(|active| Rows::of(active, ff)));
        self.linear_back(down, (from, &g), Some(Rows::of(&gactive, ff)), (n, grads))?;
        drop((g, active));
        self.ops.swiglu_back(&gactive, &saved.gate_up, n, ff)?;
        drop(gactive);
        let gnormed = self.inputs_back((&block.gate_up, block.post_norm), &saved.mid, &saved.gate_up, grads)?;
        self.norm_back(block.post_norm, (&saved.mid, &saved.mid_inverse), &gnormed, Some(gx), (n, grads))
    }

    /// The stream's gradient as products read it.
    fn narrow(&self, gx: &Numbers) -> Result<Numbers, KernelError> {
        let g = self.ops.fresh(self.tokens * self.plan.hidden)?;
        self.ops.cast(gx, &g, self.tokens * self.plan.hidden)?;
        Ok(g)
    }

    /// Maps of a normed input: their gradients and that of the normed input, which is computed again where it is needed.
    fn inputs_back(
        &self,
        (maps, gain): (&[Map], usize),
        x: &Numbers,
        gy: &Numbers,
        grads: &Grads,
    ) -> Result<Numbers, KernelError> {
        let (n, width) = (self.tokens, self.plan.hidden);
        let wanted = maps.iter().any(|map| grads.of_map(map));
        let normed = if wanted { Some(self.norm(gain, x, n)?.0) } else { None };
        let gnormed = self.ops.fresh(n * width)?;
        let from = normed.as_ref().map(|normed| Rows::of(normed, width));
        self.linear_back(maps, (from, gy), Some(Rows::of(&gnormed, width)), (n, grads))?;
        Ok(gnormed)
    }

    /// Queries and keys through the norms of their heads, in place.
    fn head_norms_back(&self, block: &Block, saved: &Saved, gqkv: &Numbers, grads: &Grads) -> Result<(), KernelError> {
        let (Some(gains), Some((_, inverses))) = (block.qk_norm, &saved.normed) else { return Ok(()) };
        let (raw, slopes) = (self.seen(&saved.qkv, None), self.seen(gqkv, None));
        let both = [(raw.q, slopes.q, self.plan.heads), (raw.k, slopes.k, self.plan.kv_heads)];
        for ((gain, inverse), (x, g, group)) in gains.into_iter().zip(inverses).zip(both) {
            let cut = Cut { rows: self.tokens * group, group, width: self.plan.head_dim };
            if let Some(sum) = grads.arg(gain) {
                self.ops.column_sums(g, Some((x, inverse)), cut, sum)?;
            }
            self.ops.rms_back((x, g, g), (self.weights.vector(gain)?, inverse), cut, false)?;
        }
        Ok(())
    }

    /// A norm of the stream: its gain, and the gradient of its input added to `gx`, where anyone wants it.
    pub(super) fn norm_back(
        &self,
        gain: usize,
        (x, inverse): (&Numbers, &Buffer<f32>),
        gy: &Numbers,
        gx: Option<&Numbers>,
        (rows, grads): (usize, &Grads),
    ) -> Result<(), KernelError> {
        let width = self.plan.hidden;
        let (cut, row) = (Cut { rows, group: 1, width }, |numbers| Rows::of(numbers, width));
        if let Some(sum) = grads.arg(gain) {
            self.ops.column_sums(row(gy), Some((row(x), inverse)), cut, sum)?;
        }
        let Some(gx) = gx else { return Ok(()) };
        self.ops.rms_back((row(x), row(gy), row(gx)), (self.weights.vector(gain)?, inverse), cut, true)
    }

    /// Maps of one input, whose gradients lie side by side in `gy`: gradients of what is trained, and of the input, put in
    /// `gx`. `x` may be missing where no weight is trained.
    pub(super) fn linear_back(
        &self,
        maps: &[Map],
        (x, gy): (Option<Rows>, &Numbers),
        gx: Option<Rows>,
        (rows, grads): (usize, &Grads),
    ) -> Result<(), KernelError> {
        let out = width(maps);
        if let Some(gx) = gx {
            let weight = Rows::of(self.weights.weight(maps[0].weight)?, gx.stride);
            self.ops.product(Product::back(rows, out, gx.stride), Rows::of(gy, out), weight, gx)?;
        }
        let mut at = 0;
        for map in maps {
            self.map_back(map, (x, Rows { numbers: gy, at, stride: out }), gx, (rows, grads))?;
            at += map.out;
        }
        Ok(())
    }

    /// Weight, bias and adapter of one map.
    fn map_back(
        &self,
        map: &Map,
        (x, g): (Option<Rows>, Rows),
        gx: Option<Rows>,
        (rows, grads): (usize, &Grads),
    ) -> Result<(), KernelError> {
        if let Some(sum) = map.bias.and_then(|bias| grads.arg(bias)) {
            self.ops.column_sums(g, None, Cut { rows, group: 1, width: map.out }, sum)?;
        }
        if let Some((sum, x)) = x.and_then(|x| Some((grads.rows(map.weight, x.stride)?, x))) {
            self.ops.product(Product::weight(rows, map.out, x.stride), g, x, sum)?;
        }
        let Some(adapter) = map.adapter else { return Ok(()) };
        let (rank, scale) = (adapter.rank, adapter.scale);
        let (a, b) = (self.weights.whole(adapter.a)?, self.weights.whole(adapter.b)?);
        let low = self.ops.fresh(rows * rank)?;
        let of = Product::back(rows, map.out, rank).scaled(scale);
        self.ops.product(of, g, Rows::of(b, rank), Rows::of(&low, rank))?;
        if let Some(gx) = gx {
            let of = Product::back(rows, rank, gx.stride).added();
            self.ops.product(of, Rows::of(&low, rank), Rows::of(a, gx.stride), gx)?;
        }
        let Some(x) = x else { return Ok(()) };
        if let Some(sum) = grads.rows(adapter.a, x.stride) {
            self.ops.product(Product::weight(rows, rank, x.stride), Rows::of(&low, rank), x, sum)?;
        }
        if let Some(sum) = grads.rows(adapter.b, rank) {
            let low = self.low_rank(adapter, x, rows)?;
            let of = Product::weight(rows, map.out, rank).scaled(scale);
            self.ops.product(of, g, Rows::of(&low, rank), sum)?;
        }
        Ok(())
    }
}
