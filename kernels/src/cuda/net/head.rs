//! The head on the positions that carry a label, a block of them at a time, so that the logits of all never exist.
//!
//! Formula: logits = norm(x) W^T, loss and gradient as in `net_cross_entropy`. Source: the definitions; the blocks are those of
//! the trainer's model. Cost: two operations a weight of the head and label, three times that with gradients; memory: one
//! block of logits in f32 and, with gradients, once more as activations.

use super::decoder::{Found, Labels};
use super::forward::Run;
use super::grads::Grads;
use super::numbers::Numbers;
use super::ops::{Rows, THREADS, size};
use super::plan::width;
use crate::KernelError;
use crate::cuda::{Arg, Buffer, Device};
use std::ops::Range;

/// Logits of a block at most, unless one of `FEWEST` labels holds more.
const BLOCK: usize = 1 << 27;
const FEWEST: usize = 64;
/// Share of the free memory for a block of logits: one part in so many bytes.
const SHARE: u64 = 64;

/// The gradients that are wanted, and whether that of the stream is among them.
type Learning<'a> = Option<(&'a Grads, bool)>;

impl Run<'_> {
    /// Losses of the labels; with gradients also that of the stream, where anything below wants it.
    pub(super) fn head(
        &self,
        x: &Numbers,
        labels: Labels<'_>,
        learning: Learning,
    ) -> Result<(Found, Option<Numbers>), KernelError> {
        let (device, hidden, count) = (self.ops.device, self.plan.hidden, labels.labels.len());
        let mut found = Found::default();
        let before = device.upload(labels.before)?;
        let picked = self.ops.copy_rows(x, &before, hidden)?;
        let (normed, inverse) = self.norm(self.plan.final_norm, &picked, count)?;
        let gain = learning.is_some_and(|(grads, below)| below || grads.has(self.plan.final_norm));
        let gnormed = if gain { Some(self.ops.fresh(count * hidden)?) } else { None };
        let sent = Sent::new(device, labels, learning.is_some())?;
        let rows = self.block_rows();
        for start in (0..count).step_by(rows) {
            self.head_block((&normed, gnormed.as_ref()), (&sent, start..count.min(start + rows)), learning)?;
        }
        sent.read(device, &mut found)?;
        let (Some((grads, below)), Some(gnormed)) = (learning, gnormed) else { return Ok((found, None)) };
        let gpicked = if below { Some(Numbers::Wide(device.zeros(count * hidden)?)) } else { None };
        self.norm_back(self.plan.final_norm, (&picked, &inverse), &gnormed, gpicked.as_ref(), (count, grads))?;
        let Some(gpicked) = gpicked else { return Ok((found, None)) };
        let gx = Numbers::Wide(device.zeros(self.tokens * hidden)?);
        self.ops.put_rows(&gpicked, &before, hidden, &gx)?;
        Ok((found, Some(gx)))
    }

    /// Labels of a block, by the size of the vocabulary and the memory that is free.
    fn block_rows(&self) -> usize {
        let free = usize::try_from(self.ops.device.info().free / SHARE).unwrap_or(usize::MAX);
        (BLOCK.min(free) / self.plan.vocab.max(1)).max(FEWEST)
    }

    fn head_block(
        &self,
        (normed, gnormed): (&Numbers, Option<&Numbers>),
        (sent, range): (&Sent, Range<usize>),
        learning: Learning,
    ) -> Result<(), KernelError> {
        let (device, hidden, vocab, rows) = (self.ops.device, self.plan.hidden, self.plan.vocab, range.len());
        let (maps, start) = (std::slice::from_ref(&self.plan.head), range.start);
        let part = Rows { numbers: normed, at: start * hidden, stride: hidden };
        let logits = self.ops.floats(rows * width(maps))?;
        self.linear(maps, part, &logits, (rows, false))?;
        let slope = self.ops.fresh(if learning.is_some() { rows * vocab } else { 0 })?;
        let scales = sent.scales.at(if learning.is_some() { start } else { 0 });
        let args = [logits.arg(), sent.labels.at(start), size(vocab), sent.nll.at(start), sent.hit.at(start), scales];
        let learn = [Arg::U32(u32::from(learning.is_some())), slope.arg(), slope.half()];
        device.launch("net_cross_entropy", (rows as u32, 1, 1), THREADS, 0, &[&args[..], &learn].concat())?;
        drop(logits);
        let Some((grads, _)) = learning else { return Ok(()) };
        let to = gnormed.map(|numbers| Rows { numbers, at: start * hidden, stride: hidden });
        self.linear_back(maps, (Some(part), &slope), to, (rows, grads))
    }
}

/// Labels on the device, and what becomes of them.
struct Sent {
    labels: Buffer<u32>,
    scales: Buffer<f32>,
    nll: Buffer<f32>,
    hit: Buffer<u32>,
}

impl Sent {
    fn new(device: &Device, labels: Labels<'_>, learn: bool) -> Result<Self, KernelError> {
        let count = labels.labels.len();
        Ok(Self {
            labels: device.upload(labels.labels)?,
            scales: device.upload(if learn { labels.scales } else { &[] })?,
            nll: device.alloc(count)?,
            hit: device.alloc(count)?,
        })
    }

    fn read(&self, device: &Device, found: &mut Found) -> Result<(), KernelError> {
        let mut hit = vec![0; self.hit.len()];
        found.nll.resize(self.nll.len(), 0.0);
        device.download(&self.nll, &mut found.nll)?;
        device.download(&self.hit, &mut hit)?;
        found.hit = hit.into_iter().map(|hit| hit != 0).collect();
        Ok(())
    }
}
