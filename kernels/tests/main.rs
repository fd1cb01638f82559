//! One contract, every backend: conformance to f64 within a derived bound, golden vectors, and invariance under
//! threads, chunks and the order of rows.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // reason: test data
#![allow(clippy::float_cmp, clippy::must_use_candidate, clippy::many_single_char_names)]
#![allow(clippy::missing_panics_doc, clippy::needless_range_loop, clippy::should_implement_trait)]

mod conformance;
mod device;
mod golden;
mod invariance;
mod nuclear;
mod transport;

use std::sync::Arc;

use curate_kernels::cuda::{Cuda, emulated_for_tests};
use curate_kernels::{Backend, Cpu, Isa, MatRef, Reference};

/// A small deterministic generator for test data (64-bit LCG, high bits).
pub struct Draw(pub u64);

impl Draw {
    /// Next number in [-1, 1).
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` rows of `d` numbers around `groups` centres.
    pub fn clustered(&mut self, n: usize, d: usize, groups: usize, noise: f32) -> Vec<f32> {
        let centres: Vec<f32> = (0..groups * d).map(|_| self.next()).collect();
        (0..n)
            .flat_map(|i| (0..d).map(move |t| (i, t)))
            .map(|(i, t)| centres[i % groups * d + t] + noise * self.next())
            .collect()
    }
}

/// Every backend this machine can run; CUDA where there is a device, and its kernels in the emulation where there is g++.
pub fn backends() -> Vec<Arc<dyn Backend>> {
    let mut all: Vec<Arc<dyn Backend>> = vec![Arc::new(Reference)];
    all.extend(Isa::all().into_iter().filter_map(Cpu::with_isa).map(|cpu| Arc::new(cpu) as Arc<dyn Backend>));
    all.extend(curate_kernels::open("cuda:0"));
    all.extend(emulated());
    all
}

/// Devices with kernels of their own: a GPU where there is one, and the emulation where there is g++.
pub fn devices() -> Vec<Arc<dyn Backend>> {
    curate_kernels::open("cuda:0").into_iter().chain(emulated()).collect()
}

/// The CUDA body on the emulated device.
pub fn emulated() -> Option<Arc<dyn Backend>> {
    emulated_for_tests().map(|device| Arc::new(Cuda::on(device)) as Arc<dyn Backend>)
}

/// View of `data`.
pub fn view(data: &[f32], dim: usize) -> MatRef<'_> {
    MatRef::new(data, dim).expect("test data is rectangular")
}

/// Squared distance in f64.
pub fn wide_sq_dist(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

/// Inner product in f64.
pub fn wide_dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Relative error allowed to an f32 sum of `d` non-negative terms in any order: `(d + 8) 2^-24`, the classical bound.
pub fn bound(d: usize) -> f64 {
    (d + 8) as f64 * 2f64.powi(-24)
}
