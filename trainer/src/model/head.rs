//! The head on the positions that carry a label, a block of tokens at a time.
//!
//! Formula: logits = norm(x) W^T, loss and gradient as in the kernel `loss`. Source: the definitions; computing the head in
//! blocks and on labelled positions only is what TRL's chunked loss and Liger's fused loss do. Deviation: the gradient of a
//! block is taken at once, so that logits are computed once and never kept. Cost: two operations a weight of the head and
//! label, three times that with gradients; memory: one block of logits.

use super::policy::Policy;
use super::{Losses, Model};
use crate::signals::Tap;
use crate::{Batch, Grads, IGNORE};
use curate_core::kernels::nn::{self, TokenLoss};
use curate_core::{Ctx, Result};
use std::ops::Range;

/// Logits of a block, at most, unless one of `MIN_ROWS` holds more.
const BLOCK: usize = 1 << 22;
/// Tokens of a block, at least; more come in multiples of it.
const MIN_ROWS: usize = 64;

/// The head over one batch.
pub(super) struct HeadRun<'a> {
    pub(super) model: &'a Model,
    pub(super) batch: &'a Batch,
    /// Whether the blocks or the embedding want a gradient.
    pub(super) below: bool,
    /// A weight for every token and a temperature, where there is more to it than likelihood.
    pub(super) policy: Option<&'a Policy<'a>>,
}

/// Labels, where they stand, and the tokens before them, which predict them.
pub(super) struct Labelled {
    pub(super) at: Vec<usize>,
    pub(super) before: Vec<u32>,
    pub(super) labels: Vec<u32>,
}

impl Labelled {
    /// The first token of a sequence has nothing before it, so that its label never counts.
    pub(super) fn of(batch: &Batch) -> Self {
        let inside = batch.segments.iter().flat_map(|segment| segment.clone().skip(1));
        let at: Vec<usize> = inside.filter(|i| batch.labels[*i] != IGNORE).collect();
        let before = at.iter().map(|i| *i as u32 - 1).collect();
        let labels = at.iter().map(|i| batch.labels[*i]).collect();
        Self { at, before, labels }
    }

    /// Which of them belong to each sequence.
    fn ranges(&self, batch: &Batch) -> Vec<Range<usize>> {
        let place = |end: usize| self.at.partition_point(|at| *at < end);
        batch.segments.iter().map(|segment| place(segment.start)..place(segment.end)).collect()
    }

    /// What became of every sequence and token.
    pub(super) fn losses(&self, batch: &Batch, found: &[TokenLoss]) -> Losses {
        let tokens = batch.tokens.len();
        let mut losses = Losses { token_nll: vec![0.0; tokens], token_hit: vec![false; tokens], ..Losses::default() };
        for (at, loss) in self.at.iter().zip(found) {
            losses.token_nll[*at] = loss.nll;
            losses.token_hit[*at] = loss.hit;
        }
        let mut next = self.at.iter().peekable();
        for segment in &batch.segments {
            let count = std::iter::from_fn(|| next.next_if(|at| **at < segment.end)).count();
            losses.labelled.push(count);
            losses.nll.push(losses.token_nll[segment.clone()].iter().map(|nll| f64::from(*nll)).sum());
        }
        losses
    }
}

/// Scale and gradients of a pass that learns.
type Learning<'a> = Option<(f32, &'a mut Grads)>;

impl HeadRun<'_> {
    /// Losses alone.
    pub(super) fn losses(&self, x: &[f32], ctx: &Ctx) -> Result<Losses> {
        self.run(x, None, ctx).map(|(losses, _)| losses)
    }

    /// Losses, gradients of norm and head, and the gradient of `x` where anything below wants it.
    pub(super) fn with_gradient(
        &self,
        x: &[f32],
        scale: f32,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Result<(Losses, Option<Vec<f32>>)> {
        self.run(x, Some((scale, grads)), ctx)
    }

    fn run(&self, x: &[f32], learning: Learning, ctx: &Ctx) -> Result<(Losses, Option<Vec<f32>>)> {
        let (model, width) = (self.model, self.model.config.hidden_size);
        let labelled = Labelled::of(self.batch);
        let mut found = vec![TokenLoss::default(); labelled.at.len()];
        let mut picked = model.arena.take(labelled.at.len() * width);
        nn::copy_rows(x, width, &labelled.before, &mut picked);
        let mut inverse = Vec::new();
        let normed = model.norm(model.final_norm, &picked, &mut inverse);
        let mut gx = None;
        if let Some((scale, grads)) = learning {
            let gnormed = self.blocks(&normed, (&labelled, &mut found), Some((scale, grads)), ctx)?;
            gx = self.down(x.len(), (&picked, &inverse), (&gnormed, &labelled.before), grads);
            if let Some(tap) = grads.tap_mut() {
                tap.watch(self.batch.segments.clone());
            }
            model.arena.give([gnormed]);
        } else {
            self.blocks(&normed, (&labelled, &mut found), None, ctx)?;
        }
        model.arena.give([picked, normed, inverse]);
        Ok((labelled.losses(self.batch, &found), gx))
    }

    /// The head over all blocks; returns the gradient of its input if one is wanted.
    fn blocks(
        &self,
        normed: &[f32],
        (labelled, found): (&Labelled, &mut [TokenLoss]),
        mut learning: Learning,
        ctx: &Ctx,
    ) -> Result<Vec<f32>> {
        let (model, width, vocabulary) = (self.model, self.model.config.hidden_size, self.model.config.vocab_size);
        let gain = learning.as_ref().is_some_and(|(_, grads)| grads.get(model.final_norm).is_some());
        let wanted = learning.is_some() && (self.below || gain);
        let mut gnormed = model.arena.take(if wanted { normed.len() } else { 0 });
        let sequences = labelled.ranges(self.batch);
        let tap = learning.as_ref().and_then(|(_, grads)| grads.tap()).filter(|tap| model.watched(&model.head, tap));
        for block in cut(&sequences, (BLOCK / vocabulary / MIN_ROWS).max(1) * MIN_ROWS, tap) {
            ctx.tick(0)?;
            let (from, to) = (block.start * width, block.end * width);
            let (normed, labels) = (&normed[from..to], &labelled.labels[block.clone()]);
            let found = &mut found[block.clone()];
            let mut logits = model.apply(&model.head, normed);
            self.policy.inspect(|policy| policy.heat(&mut logits));
            nn::cross_entropy(&mut logits, labels, learning.as_ref().map(|(scale, _)| *scale), found);
            if let Some((_, grads)) = &mut learning {
                self.policy.inspect(|policy| policy.weigh(&mut logits, &labelled.at[block.clone()], found));
                if let Some(tap) = grads.tap_mut() {
                    tap.watch(sequences.iter().map(|rows| within(rows, &block)).collect());
                }
                let to = wanted.then(|| (&mut gnormed[from..to], 0.0));
                model.linear_backward(&model.head, (normed, &logits), to, grads);
            }
            model.arena.give([logits]);
        }
        Ok(gnormed)
    }

    /// Through the final norm to the residual stream of all tokens.
    fn down(
        &self,
        len: usize,
        (picked, inverse): (&[f32], &[f32]),
        (gnormed, before): (&[f32], &[u32]),
        grads: &mut Grads,
    ) -> Option<Vec<f32>> {
        let model = self.model;
        let mut gpicked = model.arena.zeros(if self.below { picked.len() } else { 0 });
        model.norm_backward(model.final_norm, (picked, inverse), gnormed, (&mut gpicked, self.below), grads);
        let gx = self.below.then(|| {
            let mut gx = model.arena.zeros(len);
            nn::put_rows(&gpicked, model.config.hidden_size, before, &mut gx);
            gx
        });
        model.arena.give([gpicked]);
        gx
    }
}

/// Blocks of about `rows` labels; for whoever looks at the gradients of sequences no sequence is cut, nor any pair.
fn cut(sequences: &[Range<usize>], rows: usize, tap: Option<&Tap>) -> Vec<Range<usize>> {
    let end = sequences.last().map_or(0, |last| last.end);
    match tap {
        None => (0..end).step_by(rows).map(|start| start..end.min(start + rows)).collect(),
        Some(tap) if tap.pairs() => std::iter::once(0..end).filter(|all| !all.is_empty()).collect(),
        Some(_) => {
            let mut blocks: Vec<Range<usize>> = Vec::new();
            for own in sequences.iter().filter(|own| !own.is_empty()) {
                match blocks.last_mut().filter(|last| own.end - last.start <= rows) {
                    Some(last) => last.end = own.end,
                    None => blocks.push(own.clone()),
                }
            }
            blocks
        }
    }
}

/// The part of `rows` in a block, counted from the block's beginning.
fn within(rows: &Range<usize>, block: &Range<usize>) -> Range<usize> {
    let place = |at: usize| at.clamp(block.start, block.end) - block.start;
    place(rows.start)..place(rows.end)
}

impl Model {
    /// The negative log-likelihood of every sequence; forward only, nothing kept from block to block.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or asked to stop.
    pub fn losses(&self, batch: &Batch, ctx: &Ctx) -> Result<Losses> {
        if let Some(losses) = self.accelerated_losses(batch, ctx) {
            return losses;
        }
        let trace = self.stream(batch, ctx)?;
        let losses = self.trace_losses(batch, &trace, ctx);
        self.release(trace);
        losses
    }

    /// The last hidden states after the final norm, `[tokens, hidden]`.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn hidden(&self, batch: &Batch, ctx: &Ctx) -> Result<Vec<f32>> {
        if let Some(states) = self.accelerated_states(batch, ctx) {
            return states.map(|(hidden, _)| hidden);
        }
        let trace = self.stream(batch, ctx)?;
        let hidden = self.trace_hidden(&trace);
        self.release(trace);
        Ok(hidden)
    }

    /// The logits of every token, `[tokens, vocab]`: for tests and small batches.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn logits(&self, batch: &Batch, ctx: &Ctx) -> Result<Vec<f32>> {
        let hidden = self.hidden(batch, ctx)?;
        let logits = self.apply(&self.head, &hidden);
        self.arena.give([hidden]);
        Ok(logits)
    }
}
