//! Passes on a CUDA device in place of the CPU: losses, hidden states and gradients of batches. What a caller sees is the same.
//!
//! Tensors stay the host's: those that have changed since the last pass are sent before the next, and gradients come back to the
//! host, whose optimizer takes the step. Where the device's memory does not suffice, a batch is cut in two, and batches stay as
//! small from then on. Several devices share the losses and hidden states of a batch; gradients are the first one's. Generation,
//! policy gradients, gradients of single rows and everything that looks into a kept pass run on the CPU, whatever the device.
//! Source: own work.

mod seat;

use super::{Layer, Linear, Losses, Model, StepOptions};
use crate::{Batch, Grads, ParamId, Params};
use curate_core::kernels::KernelError;
use curate_core::kernels::cuda::net::{Adapter, Block, Decoder, Map, Plan, Precision, Tensors, Values};
use curate_core::kernels::cuda::{Device, net};
use curate_core::{Ctx, Result};
use half::slice::HalfFloatSliceExt;
use seat::{Part, Seat, shares};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Where passes run; on the CPU unless devices were set. Clones of a model share them.
#[derive(Clone, Default)]
pub(super) struct Accelerator(Arc<[Seat]>);

impl fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Seat::name)).finish()
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
    /// Run passes on the devices of this name: `cpu`, `auto`, `cuda`, `cuda:N`, `cuda:N,M` or `cuda:all`. In bf16 with sums in f32,
    /// or in f32 on chips before compute capability 8.0. Weights are sent at the first pass.
    ///
    /// # Errors
    /// `device/unusable` when there is no such device or it cannot be used.
    pub fn set_device(&mut self, name: &str) -> Result<()> {
        let devices = net::devices(name)?;
        let precision = devices.first().map_or(Precision::F32, Precision::of);
        self.set_accelerators(devices, precision);
        Ok(())
    }

    /// The same for opened devices and a precision.
    #[doc(hidden)]
    pub fn set_accelerators(&mut self, devices: Vec<Device>, precision: Precision) {
        let seat = |device| Seat::new(device, precision);
        self.accelerator = Accelerator(devices.into_iter().map(seat).collect());
    }

    /// Whether passes run on a device.
    #[must_use]
    pub fn is_accelerated(&self) -> bool {
        !self.accelerator.0.is_empty()
    }

    /// The device that passes run on, the first of several.
    #[must_use]
    pub fn device_name(&self) -> &str {
        self.accelerator.0.first().map_or("cpu", |seat| seat.name())
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

    /// Losses by the devices, where there are any.
    pub(super) fn accelerated_losses(&self, batch: &Batch, ctx: &Ctx) -> Option<Result<Losses>> {
        let found = self.across(batch, ctx, &|decoder, part| {
            Ok(part.losses(decoder.losses(part.input(), part.labels(&[]), &part.stop)?))
        })?;
        Some(found.map(|parts| {
            let mut all = Losses::default();
            for losses in parts {
                all.append(losses);
            }
            all
        }))
    }

    /// Hidden states and losses by the devices, where there are any.
    pub(super) fn accelerated_states(&self, batch: &Batch, ctx: &Ctx) -> Option<Result<(Vec<f32>, Losses)>> {
        let found = self.across(batch, ctx, &|decoder, part| {
            let (hidden, found) = decoder.hidden(part.input(), part.labels(&[]), &part.stop)?;
            Ok((hidden, part.losses(found)))
        })?;
        Some(found.map(|parts| {
            let (mut states, mut all) = (Vec::new(), Losses::default());
            for (hidden, losses) in parts {
                states.extend(hidden);
                all.append(losses);
            }
            (states, all)
        }))
    }

    /// Run over a batch on all devices, each with a run of its sequences; what comes of the parts, in order.
    fn across<T: Send>(&self, batch: &Batch, ctx: &Ctx, run: Look<'_, T>) -> Option<Result<Vec<T>>> {
        let seats = &self.accelerator.0;
        if seats.is_empty() {
            return None;
        }
        let one = |seat: &Seat, batch: &Batch| {
            let mut found = Vec::new();
            seat.each_part(self, batch, ctx, &mut |decoder, part| {
                found.push(run(decoder, part)?);
                Ok(())
            })?;
            Ok(found)
        };
        let shares = shares(&batch.segments, seats.len());
        if shares.len() < 2 {
            return Some(one(&seats[0], batch));
        }
        let found = std::thread::scope(|scope| {
            let start = |(seat, share): (_, Range<usize>)| scope.spawn(move || one(seat, &batch.part(share)));
            let threads: Vec<_> = seats.iter().zip(shares).map(start).collect();
            let end = |thread: std::thread::ScopedJoinHandle<'_, Result<Vec<T>>>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(end).collect::<Result<Vec<_>>>()
        });
        Some(found.map(|parts| parts.into_iter().flatten().collect()))
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
        let seat = self.accelerator.0.first().filter(|_| grads.tap().is_none())?;
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
            all.append(part.losses(found));
            Ok(())
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

/// What is asked of a device about some sequences.
type Look<'a, T> = &'a (dyn Fn(&Decoder, &Part<'_>) -> Result<T, KernelError> + Sync);
