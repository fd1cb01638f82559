//! One device with a model on it: batches are cut as its memory demands, and weights renewed before they are used.

use super::super::Model;
use super::super::forward::check;
use super::super::head::Labelled;
use super::super::losses::Losses;
use crate::Batch;
use curate_core::kernels::KernelError;
use curate_core::kernels::cuda::Device;
use curate_core::kernels::cuda::net::{Decoder, Found, Input, Labels, Precision};
use curate_core::kernels::nn::TokenLoss;
use curate_core::{Ctx, Error, Result};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// One device, and the model on it.
pub(super) struct Seat {
    device: Device,
    precision: Precision,
    work: Mutex<Work>,
}

struct Work {
    decoder: Option<Decoder>,
    /// Tokens of a pass at most, unless one sequence has more.
    tokens: usize,
    /// Cosines and sines of the positions seen so far.
    turns: (Vec<f32>, Vec<f32>),
}

/// Some sequences of a batch, ready for the device.
pub(super) struct Part<'a> {
    batch: &'a Batch,
    labelled: Labelled,
    /// Cosines and sines of all positions there are.
    turns: (&'a [f32], &'a [f32]),
    pub(super) stop: &'a dyn Fn() -> bool,
}

impl Part<'_> {
    /// What the device reads.
    pub(super) fn input(&self) -> Input<'_> {
        let (cos, sin) = self.turns;
        Input { tokens: &self.batch.tokens, segments: &self.batch.segments, cos, sin }
    }

    /// The labels, with the factors of their losses in the gradient.
    pub(super) fn labels<'b>(&'b self, scales: &'b [f32]) -> Labels<'b> {
        Labels { before: &self.labelled.before, labels: &self.labelled.labels, scales }
    }

    /// Factor of every label's loss: `scale` times the weight of its row.
    pub(super) fn scales(&self, scale: f32) -> Vec<f32> {
        let weights = self.batch.token_weights();
        let one = |at: &usize| scale * weights.as_ref().map_or(1.0, |weights| weights[*at]);
        self.labelled.at.iter().map(one).collect()
    }

    /// What became of the sequences.
    pub(super) fn losses(&self, found: Found) -> Losses {
        let found: Vec<TokenLoss> =
            found.nll.into_iter().zip(found.hit).map(|(nll, hit)| TokenLoss { nll, hit }).collect();
        self.labelled.losses(self.batch, &found)
    }
}

impl Seat {
    pub(super) const fn new(device: Device, precision: Precision) -> Self {
        let work = Work { decoder: None, tokens: usize::MAX, turns: (Vec::new(), Vec::new()) };
        Self { device, precision, work: Mutex::new(work) }
    }

    pub(super) fn name(&self) -> &str {
        self.device.name()
    }

    /// Run over a batch, cut as the memory demands, with the weights as they stand.
    pub(super) fn each_part(
        &self,
        model: &Model,
        batch: &Batch,
        ctx: &Ctx,
        run: &mut dyn FnMut(&Decoder, &Part<'_>) -> Result<(), KernelError>,
    ) -> Result<()> {
        check(batch, model.config.vocab_size)?;
        let stop = || ctx.tick(0).is_err();
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut work, model).map_err(|error| out_of_memory(error, "the weights"))?;
        if work.turns.0.len() < longest(batch) * model.config.head_dim / 2 {
            work.turns = model.config.rope.tables(longest(batch));
        }
        let Work { decoder: Some(decoder), tokens, turns } = &mut *work else { return Ok(()) };
        let mut waiting: VecDeque<Range<usize>> = cut(&batch.segments, *tokens).into();
        while let Some(range) = waiting.pop_front() {
            ctx.tick(0)?;
            let own = batch.part(range.clone());
            let turned = longest(&own) * model.config.head_dim / 2;
            let turns = (&turns.0[..turned], &turns.1[..turned]);
            let part = Part { batch: &own, labelled: Labelled::of(&own), turns, stop: &stop };
            match run(decoder, &part) {
                Ok(()) => {}
                Err(KernelError::OutOfMemory { .. }) if range.len() > 1 => {
                    *tokens = own.tokens.len().div_ceil(2);
                    let parts = halves(&own.segments).map(|half| half.start + range.start..half.end + range.start);
                    parts.into_iter().rev().for_each(|half| waiting.push_front(half));
                }
                Err(error) => return Err(out_of_memory(error, "a single sequence")),
            }
        }
        Ok(())
    }

    /// Send what has changed. After a failure nothing is taken for sent.
    fn renew(&self, work: &mut Work, model: &Model) -> Result<(), KernelError> {
        let plan = model.plan();
        work.decoder = Some(match work.decoder.take() {
            Some(mut decoder) => {
                decoder.refresh(plan, &model.params)?;
                decoder
            }
            None => Decoder::new(self.device.clone(), self.precision, plan, &model.params)?,
        });
        Ok(())
    }
}

/// Tokens of the longest sequence.
fn longest(batch: &Batch) -> usize {
    batch.segments.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
}

/// Say what did not fit.
fn out_of_memory(error: KernelError, what: &str) -> Error {
    match &error {
        KernelError::OutOfMemory { .. } => {
            Error::device("device/out-of-memory", format!("{what} did not fit: {error}"))
                .hint("raise --vram, lower max_length, set gradient_checkpointing, or use --device cpu")
                .because(error)
        }
        _ => error.into(),
    }
}

/// Runs of sequences of at most so many tokens, or one sequence.
fn cut(segments: &[Range<usize>], tokens: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if segment.end - segments[run.start].start <= tokens => run.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// Runs of sequences of about as many tokens, at most `count`.
pub(super) fn shares(segments: &[Range<usize>], count: usize) -> Vec<Range<usize>> {
    let tokens = segments.last().map_or(0, |last| last.end);
    let end = |part: usize| segments.partition_point(|segment| segment.end * count <= tokens * part);
    let ends = std::iter::once(0).chain((1..count).map(end)).chain([segments.len()]);
    let ends: Vec<usize> = ends.collect();
    ends.windows(2).map(|pair| pair[0]..pair[1]).filter(|share| !share.is_empty()).collect()
}

/// Two runs of about as many tokens.
fn halves(segments: &[Range<usize>]) -> [Range<usize>; 2] {
    let half = segments.last().map_or(0, |last| last.end) / 2;
    let middle = segments.partition_point(|segment| segment.end <= half).clamp(1, segments.len() - 1);
    [0..middle, middle..segments.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(runs: &[Range<usize>]) -> Vec<(usize, usize)> {
        runs.iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn batches_are_cut_between_sequences() {
        let segments = [0..3, 3..5, 5..12, 12..13];
        assert_eq!(pairs(&cut(&segments, usize::MAX)), [(0, 4)]);
        assert_eq!(pairs(&cut(&segments, 5)), [(0, 2), (2, 3), (3, 4)]);
        assert_eq!(pairs(&cut(&segments, 1)), [(0, 1), (1, 2), (2, 3), (3, 4)]);
        assert_eq!(pairs(&halves(&segments)), [(0, 2), (2, 4)]);
        assert_eq!(pairs(&halves(&[0..7, 7..8])), [(0, 1), (1, 2)]);
        assert_eq!(pairs(&halves(&[0..1, 1..8])), [(0, 1), (1, 2)]);
        assert_eq!(pairs(&shares(&segments, 2)), [(0, 2), (2, 4)]);
        assert_eq!(pairs(&shares(&segments, 1)), [(0, 4)]);
        assert_eq!(pairs(&shares(&segments[..1], 3)), [(0, 1)]);
    }
}
