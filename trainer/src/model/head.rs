//! The head on the positions that carry a label, a block of tokens at a time.
//!
//! Formula: logits = norm(x) W^T, loss and gradient as in the kernel `loss`. Source: the definitions; computing the head in
//! blocks and on labelled positions only is what TRL's chunked loss and Liger's fused loss do. Deviation: the gradient of a
//! block is taken at once, so that logits are computed once and never kept. Cost: two operations a weight of the head and
//! label, three times that with gradients; memory: one block of logits.

use super::forward::Pass;
use super::policy::Policy;
use super::{Losses, Model};
use crate::{Batch, Grads, IGNORE};
use curate_core::kernels::nn::{self, TokenLoss};
use curate_core::{Ctx, Result};

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
struct Labelled {
    at: Vec<usize>,
    before: Vec<u32>,
    labels: Vec<u32>,
}

impl Labelled {
    /// The first token of a sequence has nothing before it, so that its label never counts.
    fn of(batch: &Batch) -> Self {
        let inside = batch.segments.iter().flat_map(|segment| segment.clone().skip(1));
        let at: Vec<usize> = inside.filter(|i| batch.labels[*i] != IGNORE).collect();
        let before = at.iter().map(|i| *i as u32 - 1).collect();
        let labels = at.iter().map(|i| batch.labels[*i]).collect();
        Self { at, before, labels }
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
            model.arena.give([gnormed]);
        } else {
            self.blocks(&normed, (&labelled, &mut found), None, ctx)?;
        }
        model.arena.give([picked, normed, inverse]);
        Ok((self.losses_of(&labelled, &found), gx))
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
        let rows = (BLOCK / vocabulary / MIN_ROWS).max(1) * MIN_ROWS;
        let wanted = learning.is_some() && (self.below || model.trained(model.final_norm));
        let mut gnormed = model.arena.take(if wanted { normed.len() } else { 0 });
        let blocks = normed.chunks(rows * width).zip(labelled.labels.chunks(rows)).zip(found.chunks_mut(rows));
        for (block, ((normed, labels), found)) in blocks.enumerate() {
            ctx.tick(0)?;
            let mut logits = model.apply(&model.head, normed);
            if let Some(policy) = self.policy {
                policy.heat(&mut logits);
            }
            nn::cross_entropy(&mut logits, labels, learning.as_ref().map(|(scale, _)| *scale), found);
            if let Some((_, grads)) = &mut learning {
                if let Some(policy) = self.policy {
                    policy.weigh(&mut logits, &labelled.at[block * rows..], found);
                }
                let at = block * rows * width;
                let to = wanted.then(|| (&mut gnormed[at..at + normed.len()], 0.0));
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

    fn losses_of(&self, labelled: &Labelled, found: &[TokenLoss]) -> Losses {
        let tokens = self.batch.tokens.len();
        let mut losses = Losses { token_nll: vec![0.0; tokens], token_hit: vec![false; tokens], ..Losses::default() };
        for (at, loss) in labelled.at.iter().zip(found) {
            losses.token_nll[*at] = loss.nll;
            losses.token_hit[*at] = loss.hit;
        }
        let mut next = labelled.at.iter().peekable();
        for segment in &self.batch.segments {
            let count = std::iter::from_fn(|| next.next_if(|at| **at < segment.end)).count();
            losses.labelled.push(count);
            losses.nll.push(losses.token_nll[segment.clone()].iter().map(|nll| f64::from(*nll)).sum());
        }
        losses
    }
}

impl Model {
    /// The negative log-likelihood of every sequence; forward only, nothing kept from block to block.
    ///
    /// # Errors
    /// When a token id lies outside the vocabulary, or asked to stop.
    pub fn losses(&self, batch: &Batch, ctx: &Ctx) -> Result<Losses> {
        let pass = Pass::new(self, batch)?;
        let x = pass.blocks(ctx, |_, saved| saved.free(self))?;
        let losses = HeadRun { model: self, batch, below: false, policy: None }.losses(&x, ctx);
        self.arena.give([x]);
        losses
    }

    /// The last hidden states after the final norm, `[tokens, hidden]`.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn hidden(&self, batch: &Batch, ctx: &Ctx) -> Result<Vec<f32>> {
        let pass = Pass::new(self, batch)?;
        let x = pass.blocks(ctx, |_, saved| saved.free(self))?;
        let mut inverse = Vec::new();
        let normed = self.norm(self.final_norm, &x, &mut inverse);
        self.arena.give([x, inverse]);
        Ok(normed)
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
