//! The way back through the blocks, down to the lowest tensor that is trained and no further.
//!
//! Formula: with y = x W^T + b + s (x A^T) B^T and g the gradient of y: dx = g W + s (g B) A, dW = g^T x, db = column sums
//! of g, dA = s (g B)^T x, dB = s g^T (x A^T); norms, rotation, attention and activation as their kernels say. Source:
//! the chain rule; Chen et al. 2016 for checkpointing. Deviation: nothing is computed for a frozen tensor, and no gradient
//! flows where nothing below wants it. Cost: two operations a weight and token for the stream, two more for each trained weight.

use super::forward::{Pass, Saved};
use super::policy::Policy;
use super::{Layer, Linear, LoraRef, Losses, Model, StepOptions};
use crate::{Batch, Grads, ParamId};
use curate_core::kernels::nn::{self, Mat, MatMut, Seen};
use curate_core::{Ctx, Result};

/// How far down a block the gradient must flow.
#[expect(clippy::struct_excessive_bools, reason = "one question a stage")]
#[derive(Clone, Copy, Debug)]
struct Need {
    /// Gradient of the block's input.
    below: bool,
    /// Of the norm before attention.
    normed: bool,
    /// Of queries, keys and values.
    qkv: bool,
    /// Of the stream between attention and the feed-forward part.
    mid: bool,
    /// Of the norm before the feed-forward part.
    mid_normed: bool,
    /// Of gate and up.
    gate_up: bool,
}

/// A gradient on its way into a linear map's input: where to, and whether it adds up there.
type Into<'a> = Option<(&'a mut [f32], f32)>;

impl Model {
    /// Add `scale` times the gradient of the summed negative log-likelihood, each row times its weight, to `grads`; the
    /// losses given back are not weighed.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or asked to stop.
    pub fn gradients(
        &self,
        batch: &Batch,
        scale: f32,
        options: StepOptions,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses> {
        if let Some(losses) = self.accelerated_gradients(batch, scale, options, grads, ctx) {
            return losses;
        }
        self.learn(batch, (scale, None), options, grads, ctx)
    }

    /// As [`Model::gradients`], with the weights and the temperature of a policy where there is one.
    pub(super) fn learn(
        &self,
        batch: &Batch,
        (scale, policy): (f32, Option<&Policy>),
        options: StepOptions,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses> {
        let trace = self.trace(batch, options, ctx)?;
        self.learn_from((batch, trace), (scale, policy), grads, ctx)
    }

    /// The lowest block that holds a trained tensor; the lowest of all when the embedding is trained.
    pub(super) fn lowest_trained(&self) -> usize {
        if self.trained(self.embed) {
            return 0;
        }
        let found = self.layers.iter().position(|layer| self.trained_layer(layer));
        found.unwrap_or(self.layers.len())
    }

    fn trained_layer(&self, layer: &Layer) -> bool {
        let norms =
            [Some(layer.input_norm), Some(layer.post_norm), layer.qk_norm.map(|n| n.0), layer.qk_norm.map(|n| n.1)];
        norms.into_iter().flatten().any(|id| self.trained(id))
            || layer.linears().into_iter().any(|linear| self.trained_linear(linear))
    }

    fn need(&self, layer: &Layer) -> Need {
        let lowest = self.layers.get(self.lowest_trained());
        let below = self.trained(self.embed) || lowest.is_some_and(|lowest| lowest.input_norm < layer.input_norm);
        let any = |linears: &[&Linear]| linears.iter().any(|linear| self.trained_linear(linear));
        let normed = below || self.trained(layer.input_norm);
        let norms = layer.qk_norm.is_some_and(|(q, k)| self.trained(q) || self.trained(k));
        let qkv = normed || norms || any(&[&layer.q, &layer.k, &layer.v]);
        let mid = qkv || any(&[&layer.o]);
        let mid_normed = mid || self.trained(layer.post_norm);
        Need { below, normed, qkv, mid, mid_normed, gate_up: mid_normed || any(&[&layer.gate, &layer.up]) }
    }

    /// Turn the gradient of a block's output into that of its input.
    pub(super) fn block_backward(
        &self,
        pass: &Pass,
        layer: &Layer,
        mut saved: Saved,
        gx: &mut [f32],
        grads: &mut Grads,
    ) {
        let need = self.need(layer);
        self.feed_forward_backward(layer, (&mut saved, need), gx, grads);
        if need.qkv {
            let mut gout = self.arena.take(saved.out.len());
            self.linear_backward(&layer.o, (&saved.out, gx), Some((&mut gout, 0.0)), grads);
            let gqkv = self.attention_backward(pass, layer, (&saved, &gout), grads);
            self.arena.give([gout]);
            self.projection_backward(layer, (&saved, need), &gqkv, (gx, grads));
            self.arena.give(gqkv);
        } else if need.mid {
            self.linear_backward(&layer.o, (&saved.out, gx), None, grads);
        }
        saved.free(self);
    }

    /// Down, activation, gate and up, norm. Gate and up are used up.
    fn feed_forward_backward(
        &self,
        layer: &Layer,
        (saved, need): (&mut Saved, Need),
        gx: &mut [f32],
        grads: &mut Grads,
    ) {
        let mut active = Vec::new();
        if self.trained_linear(&layer.down) {
            active = self.arena.take(saved.gate.len());
            nn::swiglu(&saved.gate, &saved.up, &mut active);
        }
        if !need.gate_up {
            self.linear_backward(&layer.down, (&active, gx), None, grads);
            return self.arena.give([active]);
        }
        let mut gactive = self.arena.take(saved.gate.len());
        self.linear_backward(&layer.down, (&active, gx), Some((&mut gactive, 0.0)), grads);
        nn::swiglu_backward(&gactive, &mut saved.gate, &mut saved.up);
        self.arena.give([active, gactive]);
        let pair = [(&layer.gate, saved.gate.as_slice()), (&layer.up, saved.up.as_slice())];
        let normed = self.normed_again(layer.post_norm, (&saved.mid, &saved.mid_inverse), &[&layer.gate, &layer.up]);
        let gnormed = self.inputs_backward(&normed, &pair, need.mid_normed, grads);
        self.norm_backward(layer.post_norm, (&saved.mid, &saved.mid_inverse), &gnormed, (gx, need.mid), grads);
        self.arena.give([normed, gnormed]);
    }

    /// Attention, rotation and the norms of queries and keys.
    fn attention_backward(
        &self,
        pass: &Pass,
        layer: &Layer,
        (saved, gout): (&Saved, &[f32]),
        grads: &mut Grads,
    ) -> [Vec<f32>; 3] {
        let seen = Seen { q: &saved.q, k: &saved.k, v: &saved.v };
        let mut g = [&saved.q, &saved.k, &saved.v].map(|x| self.arena.zeros(x.len()));
        let [gq, gk, gv] = &mut g;
        pass.attention(layer).backward(seen, (&saved.out, &saved.lse), gout, [gq, gk, gv]);
        nn::rotate(gq, self.config.q_width(), pass.rotation(), true);
        nn::rotate(gk, self.config.kv_width(), pass.rotation(), true);
        if let (Some((q, k)), Some(raw)) = (layer.qk_norm, &saved.raw) {
            for ((gain, (x, inverse)), g) in [q, k].into_iter().zip(raw).zip([gq, gk]) {
                let mut below = self.arena.zeros(g.len());
                self.norm_backward(gain, (x, inverse), g, (&mut below, true), grads);
                self.arena.give([std::mem::replace(g, below)]);
            }
        }
        g
    }

    /// Queries, keys and values down to the block's input.
    fn projection_backward(
        &self,
        layer: &Layer,
        (saved, need): (&Saved, Need),
        gqkv: &[Vec<f32>; 3],
        (gx, grads): (&mut [f32], &mut Grads),
    ) {
        let linears = [&layer.q, &layer.k, &layer.v];
        let normed = self.normed_again(layer.input_norm, (&saved.x, &saved.x_inverse), &linears);
        let maps = [(linears[0], gqkv[0].as_slice()), (linears[1], &gqkv[1]), (linears[2], &gqkv[2])];
        let gnormed = self.inputs_backward(&normed, &maps, need.normed, grads);
        self.norm_backward(layer.input_norm, (&saved.x, &saved.x_inverse), &gnormed, (gx, need.below), grads);
        self.arena.give([normed, gnormed]);
    }

    /// The normed input of some linear maps, if a gradient of theirs needs it.
    fn normed_again(&self, gain: ParamId, (x, inverse): (&[f32], &[f32]), users: &[&Linear]) -> Vec<f32> {
        if !users.iter().any(|linear| self.trained_linear(linear)) {
            return Vec::new();
        }
        let mut normed = self.arena.take(x.len());
        self.rms_norm(gain).again(x, inverse, &mut normed);
        normed
    }

    /// Linear maps of one input: their gradients, and if wanted the sum over the maps of that of the input.
    fn inputs_backward(&self, x: &[f32], maps: &[(&Linear, &[f32])], wanted: bool, grads: &mut Grads) -> Vec<f32> {
        let mut gx = Vec::new();
        for (i, (linear, gy)) in maps.iter().enumerate() {
            if wanted && i == 0 {
                let (out, input) = self.shape(linear.weight);
                gx = self.arena.take(gy.len() / out * input);
            }
            let beta = if i == 0 { 0.0 } else { 1.0 };
            self.linear_backward(linear, (x, gy), wanted.then_some((gx.as_mut_slice(), beta)), grads);
        }
        gx
    }

    /// A norm: its gain, and if wanted the gradient of its input, added to `gx`.
    pub(super) fn norm_backward(
        &self,
        gain: ParamId,
        (x, inverse): (&[f32], &[f32]),
        gy: &[f32],
        (gx, wanted): (&mut [f32], bool),
        grads: &mut Grads,
    ) {
        if let Some(ggain) = grads.get_mut(gain).filter(|_| !gy.is_empty()) {
            nn::gain_gradient(x, inverse, gy, ggain);
        }
        if wanted {
            self.rms_norm(gain).backward(x, inverse, gy, gx);
        }
    }

    /// A linear map: gradients of its trained tensors, and of its input if wanted. `x` may be empty when none is trained.
    pub(super) fn linear_backward(&self, linear: &Linear, (x, gy): (&[f32], &[f32]), gx: Into, grads: &mut Grads) {
        let (out, input) = self.shape(linear.weight);
        let rows = gy.len() / out;
        let g = Mat::new(gy, rows, out);
        if let Some(gw) = grads.get_mut(linear.weight) {
            nn::gemm(MatMut::new(gw, out, input), 1.0, 1.0, g.t(), Mat::new(x, rows, input));
        }
        if let Some(gb) = linear.bias.and_then(|bias| grads.get_mut(bias)) {
            nn::column_sums(gy, gb);
        }
        if let Some(tap) = grads.tap_mut() {
            self.tapped(linear, (x, gy), tap);
        }
        let mut gx = gx;
        if let Some((gx, beta)) = &mut gx {
            self.with_weight(linear.weight, |weight| {
                nn::gemm(MatMut::new(gx, rows, input), *beta, 1.0, g, weight);
            });
        }
        if let Some(lora) = linear.lora {
            self.lora_backward(lora, (x, gy), gx.map(|(gx, _)| gx), grads);
        }
    }

    /// An adapter: `gx += s (g B) A`, `gA += s (g B)^T x`, `gB += s g^T (x A^T)`.
    fn lora_backward(&self, lora: LoraRef, (x, gy): (&[f32], &[f32]), gx: Option<&mut [f32]>, grads: &mut Grads) {
        let ((rank, input), (out, _)) = (self.shape(lora.a), self.shape(lora.b));
        let rows = gy.len() / out;
        let g = Mat::new(gy, rows, out);
        let mut low = self.arena.take(rows * rank);
        nn::gemm(MatMut::new(&mut low, rows, rank), 0.0, lora.scale, g, self.matrix(lora.b));
        if let Some(gx) = gx {
            nn::gemm(MatMut::new(gx, rows, input), 1.0, 1.0, Mat::new(&low, rows, rank), self.matrix(lora.a));
        }
        if let Some(ga) = grads.get_mut(lora.a) {
            nn::gemm(MatMut::new(ga, rank, input), 1.0, 1.0, Mat::new(&low, rows, rank).t(), Mat::new(x, rows, input));
        }
        self.arena.give([low]);
        if let Some(gb) = grads.get_mut(lora.b) {
            let low = self.low_rank(lora, x);
            nn::gemm(MatMut::new(gb, out, rank), 1.0, lora.scale, g.t(), Mat::new(&low, rows, rank));
            self.arena.give([low]);
        }
    }
}
