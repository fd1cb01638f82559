//! Passes on a CUDA device in place of the CPU: losses, hidden states and gradients of batches. What a caller sees is the same.
//!
//! Tensors stay the host's: those that have changed since the last pass are sent before the next, and gradients come back to the
//! host, whose optimizer takes the step. Where the device's memory does not suffice, a batch is cut in two, and batches stay as
//! small from then on. Generation, policy gradients, gradients of single rows and everything that looks into a kept pass run on
//! the CPU, whatever the device. Source: own work.

use super::forward::Pass;
use super::head::Labelled;
use super::{Layer, Linear, Losses, Model, StepOptions};
use crate::{Batch, Grads, ParamId, Params};
use curate_core::kernels::KernelError;
use curate_core::kernels::cuda::net::{
    Adapter, Block, Decoder, Found, Input, Labels, Map, Plan, Precision, Tensors, Values,
};
use curate_core::kernels::cuda::{Device, net};
use curate_core::kernels::nn::TokenLoss;
use curate_core::{Ctx, Error, Result};
use half::slice::HalfFloatSliceExt;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Where passes run; on the CPU unless a device was set. Clones of a model share it.
#[derive(Clone, Default)]
pub(super) struct Accelerator(Option<Arc<Seat>>);

struct Seat {
    device: Device,
    precision: Precision,
    work: Mutex<Work>,
}

struct Work {
    decoder: Option<Decoder>,
    /// Tokens of a pass at most, unless one sequence has more.
    tokens: usize,
}

impl fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or("cpu", |seat| seat.device.name()))
    }
}

impl Tensors for Params {
    fn values(&self, id: usize) -> Values<'_> {
        let id = ParamId(id);
        self.half(id).map_or_else(|| Values::Wide(&self.get(id).data), |half| Values::Half(half.reinterpret_cast()))
    }

    fn version(&self, id: usize) -> u64 {
        Self::version(self, ParamId(id))
    }
}

impl Model {
    /// Run passes on the device of this name: `cpu`, `auto`, `cuda` or `cuda:N`. In bf16 with sums in f32, or in f32 on chips before
    /// compute capability 8.0. Weights are sent at the first pass.
    ///
    /// # Errors
    /// `device/unusable` when there is no such device or it cannot be used.
    pub fn set_device(&mut self, name: &str) -> Result<()> {
        match net::devices(name)?.into_iter().next() {
            None => self.accelerator = Accelerator::default(),
            Some(device) => {
                let precision = Precision::of(&device);
                self.set_accelerator(device, precision);
            }
        }
        Ok(())
    }

    /// The same for an opened device and a precision.
    #[doc(hidden)]
    pub fn set_accelerator(&mut self, device: Device, precision: Precision) {
        let work = Mutex::new(Work { decoder: None, tokens: usize::MAX });
        self.accelerator = Accelerator(Some(Arc::new(Seat { device, precision, work })));
    }

    /// Whether passes run on a device.
    #[must_use]
    pub const fn is_accelerated(&self) -> bool {
        self.accelerator.0.is_some()
    }

    /// The device that passes run on.
    #[must_use]
    pub fn device_name(&self) -> &str {
        self.accelerator.0.as_ref().map_or("cpu", |seat| seat.device.name())
    }

    /// The last hidden states after the final norm, `[tokens, hidden]`, and the losses.
    ///
    /// # Errors
    /// As [`Model::losses`].
    pub fn states(&self, batch: &Batch, ctx: &Ctx) -> Result<(Vec<f32>, Losses)> {
        if let Some(states) = self.accelerated_states(batch, ctx) {
            return states;
        }
        let trace = self.stream(batch, ctx)?;
        let (hidden, losses) = (self.trace_hidden(&trace), self.trace_losses(batch, &trace, ctx));
        self.release(trace);
        Ok((hidden, losses?))
    }

    /// Losses by the device, where there is one.
    pub(super) fn accelerated_losses(&self, batch: &Batch, ctx: &Ctx) -> Option<Result<Losses>> {
        let seat = self.accelerator.0.as_ref()?;
        let mut all = Losses::default();
        let done = seat.each_part(self, batch, ctx, &mut |decoder, part| {
            let found = decoder.losses(part.input(), part.labels(&[]), &part.stop)?;
            Ok(all.append(part.losses(found)))
        });
        Some(done.map(|()| all))
    }

    /// Hidden states and losses by the device, where there is one.
    pub(super) fn accelerated_states(&self, batch: &Batch, ctx: &Ctx) -> Option<Result<(Vec<f32>, Losses)>> {
        let seat = self.accelerator.0.as_ref()?;
        let (mut states, mut all) = (Vec::new(), Losses::default());
        let done = seat.each_part(self, batch, ctx, &mut |decoder, part| {
            let (hidden, found) = decoder.hidden(part.input(), part.labels(&[]), &part.stop)?;
            states.extend(hidden);
            Ok(all.append(part.losses(found)))
        });
        Some(done.map(|()| (states, all)))
    }

    /// Gradients by the device, where there is one and nobody looks into the pass.
    pub(super) fn accelerated_gradients(
        &self,
        batch: &Batch,
        scale: f32,
        options: StepOptions,
        grads: &mut Grads,
        ctx: &Ctx,
    ) -> Option<Result<Losses>> {
        let seat = self.accelerator.0.as_ref().filter(|_| grads.tap().is_none())?;
        let (trained, mut all) = (grads.wanted(), Losses::default());
        let again = options.gradient_checkpointing;
        let done = seat.each_part(self, batch, ctx, &mut |decoder, part| {
            let scales = part.scales(scale);
            let mut add = |id: usize, sum: &[f32]| {
                let to = grads.get_mut(ParamId(id)).unwrap_or_default();
                to.iter_mut().zip(sum).for_each(|(to, x)| *to += x);
            };
            let (input, labels) = (part.input(), part.labels(&scales));
            let found = decoder.gradients(input, labels, (&trained, again), &part.stop, &mut add)?;
            Ok(all.append(part.losses(found)))
        });
        Some(done.map(|()| all))
    }

    /// What the device needs to know of the model's make.
    fn plan(&self) -> Plan {
        let config = &self.config;
        Plan {
            vocab: config.vocab_size,
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            eps: config.rms_norm_eps,
            embed: self.embed.0,
            blocks: self.layers.iter().map(|layer| self.block_plan(layer)).collect(),
            final_norm: self.final_norm.0,
            head: self.map(&self.head),
        }
    }

    fn block_plan(&self, layer: &Layer) -> Block {
        Block {
            input_norm: layer.input_norm.0,
            qkv: [&layer.q, &layer.k, &layer.v].map(|linear| self.map(linear)),
            qk_norm: layer.qk_norm.map(|(q, k)| [q.0, k.0]),
            o: self.map(&layer.o),
            post_norm: layer.post_norm.0,
            gate_up: [&layer.gate, &layer.up].map(|linear| self.map(linear)),
            down: self.map(&layer.down),
            window: layer.window,
        }
    }

    fn map(&self, linear: &Linear) -> Map {
        let adapter =
            linear.lora.map(|lora| Adapter { a: lora.a.0, b: lora.b.0, rank: self.shape(lora.a).0, scale: lora.scale });
        let out = self.shape(linear.weight).0;
        Map { weight: linear.weight.0, bias: linear.bias.map(|bias| bias.0), out, adapter }
    }
}

/// Some sequences of a batch, ready for the device.
struct Part<'a> {
    pass: Pass<'a>,
    labelled: Labelled,
    stop: &'a dyn Fn() -> bool,
}

impl Part<'_> {
    fn input(&self) -> Input<'_> {
        let (batch, turn) = (self.pass.batch, self.pass.rotation());
        Input { tokens: &batch.tokens, segments: &batch.segments, cos: turn.cos, sin: turn.sin }
    }

    fn labels<'b>(&'b self, scales: &'b [f32]) -> Labels<'b> {
        Labels { before: &self.labelled.before, labels: &self.labelled.labels, scales }
    }

    /// Factor of every label's loss: `scale` times the weight of its row.
    fn scales(&self, scale: f32) -> Vec<f32> {
        let weights = self.pass.batch.token_weights();
        let one = |at: &usize| scale * weights.as_ref().map_or(1.0, |weights| weights[*at]);
        self.labelled.at.iter().map(one).collect()
    }

    fn losses(&self, found: Found) -> Losses {
        let found: Vec<TokenLoss> =
            found.nll.into_iter().zip(found.hit).map(|(nll, hit)| TokenLoss { nll, hit }).collect();
        self.labelled.losses(self.pass.batch, &found)
    }
}

impl Seat {
    /// Run over a batch, cut as the memory demands, with the weights as they stand.
    fn each_part(
        &self,
        model: &Model,
        batch: &Batch,
        ctx: &Ctx,
        run: &mut dyn FnMut(&Decoder, &Part<'_>) -> Result<(), KernelError>,
    ) -> Result<()> {
        Pass::new(model, batch)?;
        let stop = || ctx.tick(0).is_err();
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut work, model).map_err(|error| out_of_memory(error, "the weights"))?;
        let Work { decoder: Some(decoder), tokens } = &mut *work else { return Ok(()) };
        let mut waiting: VecDeque<Range<usize>> = cut(&batch.segments, *tokens).into();
        while let Some(range) = waiting.pop_front() {
            ctx.tick(0)?;
            let own = batch.part(range.clone());
            let part = Part { pass: Pass::new(model, &own)?, labelled: Labelled::of(&own), stop: &stop };
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

/// Two runs of about as many tokens.
fn halves(segments: &[Range<usize>]) -> [Range<usize>; 2] {
    let half = segments.last().map_or(0, |last| last.end) / 2;
    let middle = segments.partition_point(|segment| segment.end <= half).clamp(1, segments.len() - 1);
    [0..middle, middle..segments.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_between_sequences() {
        let segments = [0..3, 3..5, 5..12, 12..13];
        assert_eq!(cut(&segments, usize::MAX), [0..4]);
        assert_eq!(cut(&segments, 5), [0..2, 2..3, 3..4]);
        assert_eq!(cut(&segments, 1), [0..1, 1..2, 2..3, 3..4]);
        assert_eq!(halves(&segments), [0..2, 2..4]);
        assert_eq!(
            halves(&segments[2..3].iter().map(|s| s.start - 5..s.end - 5).chain([7..8]).collect::<Vec<_>>()),
            [0..1, 1..2]
        );
    }
}
