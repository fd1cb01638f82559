//! A forward pass that can be looked at, kept, and gone back through later, whole or for some of its sequences.
//!
//! Source: own work. A sequence's activations have the same bits in any company where [`Model::stands_apart`], so that going back
//! through some sequences of a pass gives the bits of a pass over those alone. Cost: the bytes of [`Trace::bytes`] while it is kept.

use super::forward::{Pass, Saved};
use super::head::HeadRun;
use super::policy::Policy;
use super::{Linear, Losses, Model, StepOptions};
use crate::{Batch, Grads};
use curate_core::kernels::nn::{self, MatMut};
use curate_core::{Ctx, Result};
use std::borrow::Cow;
use std::ops::Range;

/// What a block keeps on the way up.
pub(super) enum Kept {
    All(Box<Saved>),
    Input(Vec<f32>),
}

/// What a forward pass leaves: the stream after the last block, and what the way back needs of the blocks it goes through.
pub struct Trace {
    tokens: usize,
    /// The stream after the last block, before the final norm.
    pub(super) x: Vec<f32>,
    /// From the lowest trained block up.
    pub(super) kept: Vec<Kept>,
}

/// Some tokens of a trace.
pub type Part<'a> = (&'a Trace, Range<usize>);

impl Trace {
    /// Bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let kept = self.kept.iter().map(|kept| match kept {
            Kept::All(saved) => saved.fields().iter().map(|field| field.len()).sum(),
            Kept::Input(x) => x.len(),
        });
        4 * (self.x.len() + kept.sum::<usize>()) as u64
    }

    /// Tokens it was made of.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.tokens
    }
}

impl Model {
    /// Run the blocks and keep what the way back needs.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn trace(&self, batch: &Batch, options: StepOptions, ctx: &Ctx) -> Result<Trace> {
        let pass = Pass::new(self, batch)?;
        let lowest = self.lowest_trained();
        let mut kept = Vec::new();
        let x = pass.blocks(ctx, |index, mut saved| {
            if index < lowest {
                saved.free(self);
            } else if options.gradient_checkpointing {
                kept.push(Kept::Input(std::mem::take(&mut saved.x)));
                saved.free(self);
            } else {
                kept.push(Kept::All(Box::new(saved)));
            }
        })?;
        Ok(Trace { tokens: batch.tokens.len(), x, kept })
    }

    /// Run the blocks and keep nothing but the stream they end in, `[tokens, hidden]`, before the final norm.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn stream(&self, batch: &Batch, ctx: &Ctx) -> Result<Trace> {
        let x = Pass::new(self, batch)?.blocks(ctx, |_, saved| saved.free(self))?;
        Ok(Trace { tokens: batch.tokens.len(), x, kept: Vec::new() })
    }

    /// The last hidden states after the final norm, `[tokens, hidden]`.
    #[must_use]
    pub fn trace_hidden(&self, trace: &Trace) -> Vec<f32> {
        let mut inverse = Vec::new();
        let normed = self.norm(self.final_norm, &trace.x, &mut inverse);
        self.arena.give([inverse]);
        normed
    }

    /// The losses of the batch that a trace was made of.
    ///
    /// # Errors
    /// `cancelled`.
    pub fn trace_losses(&self, batch: &Batch, trace: &Trace, ctx: &Ctx) -> Result<Losses> {
        HeadRun { model: self, batch, below: false, policy: None }.losses(&trace.x, ctx)
    }

    /// Losses again, with gradients of the head's weights alone: a look at the last layer.
    ///
    /// # Errors
    /// `cancelled`.
    pub(crate) fn trace_head(&self, batch: &Batch, trace: &Trace, grads: &mut Grads, ctx: &Ctx) -> Result<Losses> {
        let run = HeadRun { model: self, batch, below: false, policy: None };
        run.with_gradient(&trace.x, 1.0, grads, ctx).map(|(losses, _)| losses)
    }

    /// Go back through a trace of [`Model::trace`]: as [`Model::gradients`] does, without its forward pass.
    ///
    /// # Errors
    /// `cancelled`.
    pub fn trace_gradients(
        &self,
        batch: &Batch,
        trace: Trace,
        scale: f32,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses> {
        self.learn_from((batch, trace), (scale, None), grads, ctx)
    }

    /// The way back, with the weights and the temperature of a policy where there is one, else with those of the rows.
    pub(super) fn learn_from(
        &self,
        (batch, trace): (&Batch, Trace),
        (scale, policy): (f32, Option<&Policy>),
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<Losses> {
        let pass = Pass::new(self, batch)?;
        let weights = batch.token_weights();
        let of_row = |at: usize, _: f32| weights.as_ref().map_or(1.0, |weights| weights[at]);
        let by_row = Policy { temperature: 1.0, weight: &of_row };
        let policy = policy.or(weights.is_some().then_some(&by_row));
        let lowest = self.lowest_trained();
        let below = lowest < self.layers.len() || self.trained(self.embed);
        let run = HeadRun { model: self, batch, below, policy };
        let (losses, gx) = run.with_gradient(&trace.x, scale, grads, ctx)?;
        self.arena.give([trace.x]);
        let Some(mut gx) = gx else { return Ok(losses) };
        for (layer, kept) in self.layers[lowest..].iter().zip(trace.kept).rev() {
            ctx.tick(0)?;
            let saved = match kept {
                Kept::All(saved) => *saved,
                Kept::Input(x) => {
                    let (out, saved) = pass.block(layer, x);
                    self.arena.give([out]);
                    saved
                }
            };
            self.block_backward(&pass, layer, saved, &mut gx, grads);
        }
        if let Some(table) = grads.get_mut(self.embed) {
            nn::scatter_add(&gx, self.config.hidden_size, &batch.tokens, table);
        }
        self.arena.give([gx]);
        Ok(losses)
    }

    /// A trace of some sequences out of those of others, in this order.
    #[must_use]
    pub fn gather(&self, parts: &[Part<'_>]) -> Trace {
        let tokens = parts.iter().map(|(_, range)| range.len()).sum();
        let x = self.gathered(parts, tokens, |trace| &trace.x);
        let depth = parts.first().map_or(0, |(trace, _)| trace.kept.len());
        let kept = (0..depth).map(|at| self.gather_block(parts, tokens, at)).collect();
        Trace { tokens, x, kept }
    }

    fn gather_block(&self, parts: &[Part<'_>], tokens: usize, at: usize) -> Kept {
        if parts.iter().any(|(trace, _)| matches!(trace.kept[at], Kept::Input(_))) {
            return Kept::Input(self.gathered(parts, tokens, |trace| match &trace.kept[at] {
                Kept::All(saved) => &saved.x,
                Kept::Input(x) => x,
            }));
        }
        let field = |index: usize| {
            self.gathered(parts, tokens, |trace| match &trace.kept[at] {
                Kept::All(saved) => saved.fields().get(index).copied().unwrap_or_default(),
                Kept::Input(_) => &[],
            })
        };
        Kept::All(Box::new(Saved::from_fields(std::array::from_fn(field))))
    }

    /// The rows of one buffer of every part, end to end.
    fn gathered<'a>(&self, parts: &[Part<'a>], tokens: usize, of: impl Fn(&'a Trace) -> &'a [f32]) -> Vec<f32> {
        let Some((first, _)) = parts.first() else { return Vec::new() };
        let mut out = self.arena.take(tokens * (of(first).len() / first.tokens.max(1)));
        let mut rest = out.as_mut_slice();
        for (trace, range) in parts {
            let (data, width) = (of(trace), of(trace).len() / trace.tokens.max(1));
            let (here, later) = rest.split_at_mut(range.len() * width);
            here.copy_from_slice(&data[range.start * width..range.end * width]);
            rest = later;
        }
        out
    }

    /// Whether the activations of a sequence have the same bits in every batch of so many tokens or more.
    #[must_use]
    pub fn stands_apart(&self, tokens: usize) -> bool {
        self.layers.iter().flat_map(super::Layer::linears).all(|linear| self.rows_apart(linear, tokens))
    }

    fn rows_apart(&self, linear: &Linear, tokens: usize) -> bool {
        let apart = |id| {
            let (out, input) = self.shape(id);
            nn::rows_apart(tokens, out, input)
        };
        apart(linear.weight) && linear.lora.is_none_or(|lora| apart(lora.a) && apart(lora.b))
    }

    /// Whether training changes the head, its adapter included.
    pub(crate) fn head_moves(&self) -> bool {
        self.trained_linear(&self.head)
    }

    /// The head's weights, `[vocab, hidden]`, with what an adapter adds to them.
    pub(crate) fn head_weights(&self) -> Cow<'_, [f32]> {
        let Some(lora) = self.head.lora else { return Cow::Borrowed(self.data(self.head.weight)) };
        let (out, input) = self.shape(self.head.weight);
        let mut merged = self.data(self.head.weight).to_vec();
        nn::gemm(MatMut::new(&mut merged, out, input), 1.0, lora.scale, self.matrix(lora.b), self.matrix(lora.a));
        Cow::Owned(merged)
    }

    /// Give the buffers of a trace back.
    pub fn release(&self, trace: Trace) {
        self.arena.give([trace.x]);
        for kept in trace.kept {
            match kept {
                Kept::All(saved) => saved.free(self),
                Kept::Input(x) => self.arena.give([x]),
            }
        }
    }
}
