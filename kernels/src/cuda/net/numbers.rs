//! Activations and weights on the device: f32 or bf16, with one face for both.

use crate::KernelError;
use crate::cuda::{Arg, Bf16, Buffer, Device};
use rayon::prelude::*;

/// Numbers converted by one thread at a time.
const BLOCK: usize = 1 << 14;
/// Numbers sent to the device at a time, where they must be converted first.
const CHUNK: usize = 1 << 24;

/// In what numbers a network computes. Sums, norms and the residual stream are f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Weights and activations in f32: slow, for comparison.
    F32,
    /// Weights and activations in bf16.
    Bf16,
}

/// Capability from which chips are made for products of bf16.
const BF16: u32 = 80;

impl Precision {
    /// The one for a device: bf16 from compute capability 8.0 on, f32 before.
    #[must_use]
    pub fn of(device: &Device) -> Self {
        if device.info().capability >= BF16 { Self::Bf16 } else { Self::F32 }
    }
}

/// Values of a tensor on the host.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// 32 bits.
    Wide(&'a [f32]),
    /// The bits of bf16.
    Half(&'a [u16]),
}

impl Values<'_> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Wide(x) => x.len(),
            Self::Half(x) => x.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A buffer of either kind.
pub(super) enum Numbers {
    Wide(Buffer<f32>),
    Half(Buffer<Bf16>),
}

impl Numbers {
    pub(super) fn alloc(device: &Device, precision: Precision, len: usize) -> Result<Self, KernelError> {
        Ok(match precision {
            Precision::F32 => Self::Wide(device.alloc(len)?),
            Precision::Bf16 => Self::Half(device.alloc(len)?),
        })
    }

    pub(super) fn of(device: &Device, precision: Precision, values: Values<'_>) -> Result<Self, KernelError> {
        let numbers = Self::alloc(device, precision, values.len())?;
        numbers.write(device, 0, values)?;
        Ok(numbers)
    }

    /// Whether they are bf16, as kernels are told.
    pub(super) const fn half(&self) -> Arg<'_> {
        Arg::U32(matches!(self, Self::Half(_)) as u32)
    }

    pub(super) const fn arg(&self) -> Arg<'_> {
        self.at(0)
    }

    pub(super) const fn at(&self, offset: usize) -> Arg<'_> {
        match self {
            Self::Wide(x) => x.at(offset),
            Self::Half(x) => x.at(offset),
        }
    }

    /// Put values in their place from number `offset` on, rounded to what is kept here.
    pub(super) fn write(&self, device: &Device, offset: usize, values: Values<'_>) -> Result<(), KernelError> {
        match (self, values) {
            (Self::Wide(to), Values::Wide(x)) => device.copy_into(x, to, offset),
            (Self::Half(to), Values::Half(x)) => {
                each_chunk(x, |x, at| device.copy_into(&convert(x, |bits| Bf16(*bits)), to, offset + at))
            }
            (Self::Half(to), Values::Wide(x)) => {
                each_chunk(x, |x, at| device.copy_into(&convert(x, |v| Bf16::from_f32(*v)), to, offset + at))
            }
            (Self::Wide(to), Values::Half(x)) => {
                each_chunk(x, |x, at| device.copy_into(&convert(x, |bits| Bf16(*bits).to_f32()), to, offset + at))
            }
        }
    }
}

fn each_chunk<T>(x: &[T], mut send: impl FnMut(&[T], usize) -> Result<(), KernelError>) -> Result<(), KernelError> {
    x.chunks(CHUNK).enumerate().try_for_each(|(i, part)| send(part, i * CHUNK))
}

fn convert<T: Sync, U: Send>(x: &[T], one: impl Fn(&T) -> U + Sync + Send) -> Vec<U> {
    x.par_iter().with_min_len(BLOCK).map(one).collect()
}
