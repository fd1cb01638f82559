//! Numeric kernels: a handful of coarse operations behind [`Backend`], each with a plain reference body, a fast CPU
//! body and, where the machine has one, a CUDA body. This room knows no Arrow, no pools and no parameters.
//!
//! Promise: on one device the same numbers give the same bits, whatever the number of threads, the chunking of rows or
//! the instruction set. Every value that leaves the fast CPU body is the *canonical* one of `exact` (fixed lanes,
//! fixed tree); faster arithmetic only decides which pairs need to be looked at, under a proven error bound.
#![allow(unsafe_code)] // reason: vector intrinsics and CUDA launches live here and nowhere else
#![allow(
    clippy::cast_possible_truncation, // reason: row numbers are u32 by contract, checked where data enters
    clippy::cast_precision_loss,      // reason: counts become weights and costs
    clippy::cast_sign_loss,
    clippy::float_cmp,                // reason: same bits is the promise
    clippy::inline_always,            // reason: bodies that must take on the caller's target features
    clippy::needless_for_each
)]

mod assign;
mod backend;
mod basis;
pub mod chance;
mod cpu;
pub mod cuda;
mod error;
mod exact;
mod fixed;
mod hash;
pub mod ivf;
pub mod kmeans;
mod mat;
pub mod nn;
pub mod nuclear;
mod reference;
mod simd;
mod sketch;
mod tile;
mod topk;
pub mod transport;

pub use backend::{Backend, Lloyd, Metric, Neighbours, Tick};
pub use cpu::Cpu;
pub use error::KernelError;
pub use fixed::SegmentSums;
pub use mat::MatRef;
pub use reference::Reference;
pub use simd::Isa;

use std::sync::Arc;

/// The fastest backend this CPU can run, chosen at run time.
#[must_use]
pub fn cpu() -> Arc<dyn Backend> {
    Arc::new(Cpu::new())
}

/// Open a device by name: `cpu`, `reference`, `cuda:N`, or `auto` (the first CUDA device where there is one, else the
/// CPU; [`Backend::name`] says which).
///
/// # Errors
/// [`KernelError::Device`] when the name is unknown or the accelerator cannot be used.
pub fn open(device: &str) -> Result<Arc<dyn Backend>, KernelError> {
    match device {
        "cpu" => Ok(cpu()),
        "reference" => Ok(Arc::new(Reference)),
        "auto" => Ok(cuda::Cuda::open(0).map_or_else(|_| cpu(), |gpu| Arc::new(gpu) as Arc<dyn Backend>)),
        other => match other.strip_prefix("cuda:").map(str::parse::<usize>) {
            Some(Ok(ordinal)) => Ok(Arc::new(cuda::Cuda::open(ordinal)?)),
            _ => Err(KernelError::Device {
                device: other.to_owned(),
                message: "unknown device; use cpu, reference, auto or cuda:N".to_owned(),
            }),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_opened_by_name() {
        assert_eq!(open("reference").unwrap().name(), "reference");
        assert!(open("cpu").unwrap().name().starts_with("cpu-"));
        assert!(open("auto").is_ok());
        assert!(matches!(open("abacus"), Err(KernelError::Device { .. })));
        assert!(matches!(open("cuda:x"), Err(KernelError::Device { .. })));
    }
}
