//! A decoder (Llama, Mistral, Qwen) on the device: mathematics and names are those of the trainer's model.

use super::attention::{Grouping, Tiles};
use super::forward::Run;
use super::grads::Grads;
use super::numbers::{Numbers, Precision};
use super::ops::{Ops, Turn, check_even};
use super::plan::{Plan, Tensors};
use super::weights::Weights;
use crate::KernelError;
use crate::cuda::Device;
use std::ops::Range;

/// Sequences laid end to end.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Token ids, all below the size of the vocabulary.
    pub tokens: &'a [u32],
    /// Token range of each sequence; one begins where the one before ends.
    pub segments: &'a [Range<usize>],
    /// Cosines of the positions, `[longest sequence, head_dim / 2]`.
    pub cos: &'a [f32],
    /// Sines, the same.
    pub sin: &'a [f32],
}

/// Labels, and the tokens that predict them.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Place of the token before each label.
    pub before: &'a [u32],
    /// The labels.
    pub labels: &'a [u32],
    /// Factor of each label's loss in the gradient.
    pub scales: &'a [f32],
}

/// What became of the labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Negative log-likelihood of each.
    pub nll: Vec<f32>,
    /// Whether it has the largest logit, the first of equals.
    pub hit: Vec<bool>,
}

/// A decoder whose weights lie on a device.
pub struct Decoder {
    device: Device,
    precision: Precision,
    plan: Plan,
    weights: Weights,
}

impl Decoder {
    /// Send the weights to the device.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`]; [`KernelError::Device`], also where the heads are too wide.
    pub fn new(device: Device, precision: Precision, plan: Plan, tensors: &dyn Tensors) -> Result<Self, KernelError> {
        check(&plan, &device)?;
        let weights = Weights::new(&device, precision, &plan, tensors)?;
        Ok(Self { device, precision, plan, weights })
    }

    /// The device it lies on.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Send what has changed; everything where the plan is another.
    ///
    /// # Errors
    /// As [`Decoder::new`]; the weights must not be used after.
    pub fn refresh(&mut self, plan: Plan, tensors: &dyn Tensors) -> Result<(), KernelError> {
        if plan == self.plan {
            return self.weights.refresh(&self.device, tensors);
        }
        check(&plan, &self.device)?;
        self.weights = Weights::empty();
        self.weights = Weights::new(&self.device, self.precision, &plan, tensors)?;
        self.plan = plan;
        Ok(())
    }

    fn run<'a>(&'a self, input: Input<'_>) -> Result<Run<'a>, KernelError> {
        let device = &self.device;
        let ops = Ops { device, precision: self.precision };
        let positions: Vec<u32> = input.segments.iter().flat_map(|s| 0..s.len() as u32).collect();
        let turn = Turn {
            cos: device.upload(input.cos)?,
            sin: device.upload(input.sin)?,
            positions: device.upload(&positions)?,
            head_dim: self.plan.head_dim,
        };
        Ok(Run {
            ops,
            plan: &self.plan,
            weights: &self.weights,
            tokens: input.tokens.len(),
            ids: device.upload(input.tokens)?,
            turn,
            tiles: Tiles::new(ops, heads(&self.plan), input.segments)?,
        })
    }

    /// Losses of the labels, forward only. `stop` is asked between blocks.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`]; [`KernelError::Stopped`].
    pub fn losses(&self, input: Input<'_>, labels: Labels<'_>, stop: &dyn Fn() -> bool) -> Result<Found, KernelError> {
        let run = self.run(input)?;
        let x = run.stream(stop)?;
        run.head(&x, labels, None).map(|(found, _)| found)
    }

    /// The last hidden states after the final norm, `[tokens, hidden]`, with the losses of the labels where there are any.
    ///
    /// # Errors
    /// As [`Decoder::losses`].
    pub fn hidden(
        &self,
        input: Input<'_>,
        labels: Labels<'_>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Vec<f32>, Found), KernelError> {
        let run = self.run(input)?;
        let x = run.stream(stop)?;
        let mut hidden = vec![0.0; run.tokens * self.plan.hidden];
        let out = self.device.alloc::<f32>(hidden.len())?;
        let out = Numbers::Wide(out);
        run.norm_into(self.plan.final_norm, (&x, &out), run.tokens)?;
        if let Numbers::Wide(out) = &out {
            self.device.download(out, &mut hidden)?;
        }
        Ok((hidden, run.head(&x, labels, None)?.0))
    }

    /// Losses of the labels, and the gradient of their scaled sum by the tensors of `trained` (each with its length), handed
    /// to `take` one after another. With `again`, only the inputs of blocks are kept and the rest is computed twice.
    ///
    /// # Errors
    /// As [`Decoder::losses`]; `take` has then not been called.
    pub fn gradients(
        &self,
        input: Input<'_>,
        labels: Labels<'_>,
        (trained, again): (&[(usize, usize)], bool),
        stop: &dyn Fn() -> bool,
        take: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<Found, KernelError> {
        let run = self.run(input)?;
        let grads = Grads::zeros(&self.device, trained)?;
        let found = run.learn((input, labels), &grads, again, stop)?;
        grads.hand_out(&self.device, take)?;
        Ok(found)
    }
}

pub(super) const fn heads(plan: &Plan) -> Grouping {
    Grouping { heads: plan.heads, kv_heads: plan.kv_heads, head_dim: plan.head_dim, causal: true }
}

/// Refuse what no kernel takes.
fn check(plan: &Plan, device: &Device) -> Result<(), KernelError> {
    check_even(&[plan.hidden, plan.intermediate, plan.head_dim])?;
    heads(plan).check(device)
}

/// Turn a wish to stop into its error.
pub(super) fn ask(stop: &dyn Fn() -> bool) -> Result<(), KernelError> {
    if stop() { Err(KernelError::Stopped) } else { Ok(()) }
}
