//! What `curate doctor` asks of a device: does every kernel agree with the processor, and how fast is each on random data.
//!
//! Agreement: each error stands beside the bound it must keep. Speed: seconds of the best of a few runs between two marks in the device's
//! own queue, with the multiplications and bytes that the task needs at least, beside a large product and a large copy measured alike.

#![allow(clippy::many_single_char_names)] // reason: n rows x, k centroids c, n by m clouds x and y

use super::buffer::{Bf16, Buffer};
use super::gemm::{Gemm, Math};
use super::transport::Sums;
use super::{Cuda, narrow};
use crate::hash::{mix, unit};
use crate::kmeans::{KMeansParams, fit};
use crate::nuclear::{FrozenHead, nuclear_norm};
use crate::transport::{Entropic, Ground, LogSums, Points, Side, sinkhorn};
use crate::{Backend, Cpu, KernelError, MatRef, Metric, SegmentSums};

/// Runs that are timed; the best counts.
const RUNS: usize = 5;
/// Random rows made here; more are copies of them.
const FRESH: usize = 1 << 14;

/// One kernel against the processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What was compared.
    pub name: &'static str,
    /// Largest error found, in the unit of the bound.
    pub error: f64,
    /// What it may be at most.
    pub bound: f64,
}

impl Check {
    /// Whether the bound is kept; NaN keeps none.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.error <= self.bound
    }
}

/// One task, timed.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The task with its shape.
    pub name: String,
    /// Seconds on the device, best of some runs.
    pub seconds: f64,
    /// Multiplications and additions that the task asks for.
    pub flops: f64,
    /// Bytes that must be read or written at least once.
    pub bytes: f64,
}

impl Measured {
    /// Work done in 1e12 operations a second.
    #[must_use]
    pub fn tflops(&self) -> f64 {
        self.flops / self.seconds / 1e12
    }

    /// Bytes moved in 1e9 a second.
    #[must_use]
    pub fn gbytes(&self) -> f64 {
        self.bytes / self.seconds / 1e9
    }
}

fn random(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64).map(|at| (unit(mix(&[seed, at])) - 0.5) as f32).collect()
}

/// Rows around some centres.
fn grouped(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
    let (centres, noise) = (random(seed, 50 * dim), random(seed + 1, rows * dim));
    noise.iter().enumerate().map(|(at, v)| centres[at / dim % 50 * dim + at % dim] + 0.6 * v).collect()
}

fn share(differ: usize, of: usize) -> f64 {
    differ as f64 / of as f64
}

fn largest(pairs: impl Iterator<Item = (f64, f64)>, scale: f64) -> f64 {
    pairs.map(|(a, b)| (a - b).abs() / scale).fold(0.0, |top, e| if e.is_nan() || e > top { e } else { top })
}

impl Cuda {
    /// Every kernel of this room on small data against the processor.
    ///
    /// # Errors
    /// Those of the operations; a device that fails is no disagreement.
    pub fn checks(&self) -> Result<Vec<Check>, KernelError> {
        let cpu = Cpu::new();
        let (n, k, dim) = (700, 150, 72);
        let (x, c) = (grouped(1, n, dim), grouped(3, k, dim));
        let (x, c) = (MatRef::new(&x, dim)?, MatRef::new(&c, dim)?);
        let mut out = Vec::new();
        let mut add = |name, error, bound| out.push(Check { name, error, bound });

        let mut both = [(vec![0; n], vec![0.0; n]), (vec![0; n], vec![0.0; n])];
        let [own, wanted] = &mut both;
        self.assign(x, c, &mut own.0, &mut own.1)?;
        cpu.assign(x, c, &mut wanted.0, &mut wanted.1)?;
        let differ = |a: &[u32], b: &[u32]| a.iter().zip(b).filter(|(a, b)| a != b).count();
        add("nearest centroid: share of rows that differ", share(differ(&own.0, &wanted.0), n), 0.0);
        let wide = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<f64>>();
        add("nearest centroid: distance", largest(wide(&own.1).into_iter().zip(wide(&wanted.1)), 1.0), 0.0);

        let near = [self.top_k(x, c, 8, Metric::SqEuclidean, None)?, cpu.top_k(x, c, 8, Metric::SqEuclidean, None)?];
        add("nearest rows: share that differ", share(differ(&near[0].index, &near[1].index), 8 * n), 0.0);

        let mut sums = [SegmentSums::new(k, dim, 4.0, n as u64), SegmentSums::new(k, dim, 4.0, n as u64)];
        self.segment_sums(x, &own.0, &mut sums[0])?;
        cpu.segment_sums(x, &own.0, &mut sums[1])?;
        add("sums of clusters: 1 if they differ", f64::from(u8::from(sums[0] != sums[1])), 0.0);

        let params = KMeansParams { restarts: 1, max_iters: 3, ..KMeansParams::new(40, 1) };
        let fits = [fit(self, x, None, &params, &|_| true)?, fit(&cpu, x, None, &params, &|_| true)?];
        add("k-means: 1 if it differs", f64::from(u8::from(fits[0] != fits[1])), 0.0);

        let matrices = [grouped(5, 20, 900), grouped(6, 20, 900)];
        let views = [MatRef::new(&matrices[0], 900)?, MatRef::new(&matrices[1], 900)?];
        let norms = [nuclear_norm(views[0])?, nuclear_norm(views[1])?];
        let found = self.nuclear_norms(&views)?;
        add("nuclear norm: relative", largest(found.into_iter().zip(norms), norms[0]), 1e-6);
        let head = FrozenHead::new(c, &|_| true)?;
        let texts = [x.slice(0..45), x.slice(45..50)];
        let norms = [head.nuclear_norm(texts[0])?, head.nuclear_norm(texts[1])?];
        let found = self.head_norms(&head, &texts)?;
        add("nuclear norm behind a head: relative", largest(found.into_iter().zip(norms), norms[0]), 1e-6);

        let (y, weights) = (MatRef::new(&c.data()[..60 * dim], dim)?, [vec![1.0 / 90.0; 90], vec![1.0 / 60.0; 60]]);
        let costs = Points::new(x.slice(0..90), y, Ground::SqEuclidean)?;
        let params = Entropic { tolerance: 1e-9, ..Entropic::new(2.0) };
        let [a, b] = &weights;
        let plans = [self.sinkhorn(&costs, a, b, &params, &|_| true)?, sinkhorn(&costs, a, b, &params, &|_| true)?];
        add("transport cost: relative", largest([(plans[0].cost, plans[1].cost)].into_iter(), plans[1].cost), 1e-7);

        let best = vec![0.5; n];
        let gains = [self.coverage_gains(x, c, &best)?, cpu.coverage_gains(x, c, &best)?];
        let scale = gains[1].iter().copied().fold(1.0, f64::max);
        add("coverage: relative", largest(gains[0].iter().copied().zip(gains[1].iter().copied()), scale), 1e-5);

        let (rows, shapes): (Vec<u64>, Vec<[f64; 2]>) = (0..2000).map(|i| (i, [0.5 + i as f64 / 100.0, 3.0])).unzip();
        let draws = [self.beta_draws(7, &rows, &shapes)?, cpu.beta_draws(7, &rows, &shapes)?];
        add(
            "Beta draws: largest difference",
            largest(draws[0].iter().copied().zip(draws[1].iter().copied()), 1.0),
            1e-9,
        );
        Ok(out)
    }

    /// A product of two bf16 matrices of `side` x `side`: what the tensor cores give.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn measure_product(&self, side: usize) -> Result<Measured, KernelError> {
        let numbers: Vec<Bf16> = random(1, side).into_iter().map(Bf16::from_f32).collect();
        let a = self.copies(&numbers, side, side)?;
        let c = self.device.alloc::<f32>(side * side)?;
        let shape = Gemm { math: Math::Bf16, ..Gemm::new(side, side, side, false, true) };
        let seconds = self.timed(|| self.device.gemm(&shape, (&a, 0), (&a, 0), (&c, 0)))?;
        let cube = (side as f64).powi(3);
        Ok(Measured {
            name: format!("bf16 product {side}^3"),
            seconds,
            flops: 2.0 * cube,
            bytes: 8.0 * cube / side as f64,
        })
    }

    /// A copy of so many bytes on the device: what its memory gives.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn measure_copy(&self, bytes: usize) -> Result<Measured, KernelError> {
        let (from, to) = (self.device.zeros::<u8>(bytes)?, self.device.alloc::<u8>(bytes)?);
        let seconds = self.timed(|| self.device.copy_between((&from, 0), (&to, 0), bytes))?;
        Ok(Measured { name: format!("copy of {} MiB", bytes >> 20), seconds, flops: 0.0, bytes: 2.0 * bytes as f64 })
    }

    /// Labels of `rows` random rows that lie on the device, images made before, as in every iteration of k-means but the first.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn measure_assign(&self, rows: usize, dim: usize, k: usize) -> Result<Measured, KernelError> {
        let fresh = random(2, rows.min(FRESH) * dim);
        let x = super::Held {
            data: self.copies(&fresh, fresh.len(), rows * dim / fresh.len())?,
            count: (rows / rows.min(FRESH) * rows.min(FRESH)) as u64,
            dim: narrow(dim)?,
        };
        let centroids = random(3, k * dim);
        let c = self.hold(MatRef::new(&centroids, dim)?)?;
        let labels = self.device.alloc::<u32>(rows)?;
        let frame = self.frame(MatRef::new(&fresh, dim)?, k, true)?;
        let images = frame.as_ref().map(|frame| self.images(frame, x.rows())).transpose()?;
        let seconds = self.timed(|| {
            let columns = frame.as_ref().map_or(Ok(None), |frame| self.columns(frame, c.rows()))?;
            match (&frame, &images, &columns) {
                (Some(frame), Some(images), Some(columns)) => {
                    self.label(x.rows(), images, c.rows(), (frame, columns), &labels).map(drop)
                }
                _ => self.label_plainly(x.rows(), c.rows(), &labels, None),
            }
        })?;
        let flops = 2.0 * x.count as f64 * k as f64 * dim as f64;
        let name = format!("nearest of {k} centroids, {} x {dim}", x.count);
        Ok(Measured { name, seconds, flops, bytes: 2.0 * x.count as f64 * dim as f64 })
    }

    /// One sweep of entropic transport (rows, then columns) between random clouds.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn measure_sweep(&self, n: usize, m: usize, dim: usize) -> Result<Measured, KernelError> {
        let (x, y) = (random(4, n * dim), random(5, m * dim));
        let clouds = Points::new(MatRef::new(&x, dim)?, MatRef::new(&y, dim)?, Ground::SqEuclidean)?;
        let sums = Sums::new(&self.device, &clouds)?;
        let (rows, columns) = (vec![0.0; n], vec![0.0; m]);
        let seconds = self.timed(|| {
            sums.half(Side::Rows, &columns, 1.0, false, None)?;
            sums.half(Side::Columns, &rows, 1.0, false, None).map(drop)
        })?;
        let (cells, name) = (n as f64 * m as f64, format!("transport sweep {n} x {m}, {dim} wide"));
        Ok(Measured { name, seconds, flops: 4.0 * cells * dim as f64, bytes: 4.0 * (n + m) as f64 * dim as f64 })
    }

    /// Eigenvalues of the Gram matrices of `count` random matrices, as for nuclear norms.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn measure_norms(&self, count: usize, n: usize, depth: usize) -> Result<Measured, KernelError> {
        let x = self.copies(&random(6, n * depth), n * depth, count)?;
        let seconds = self.timed(|| self.eigenvalues(&x, (count, n, depth)).map(drop))?;
        let (all, side) = (count as f64, n as f64);
        let flops = all * (side * side * depth as f64 + 4.0 / 3.0 * side.powi(3));
        let name = format!("{count} nuclear norms {n} x {depth}");
        Ok(Measured { name, seconds, flops, bytes: 4.0 * all * side * depth as f64 })
    }

    /// `times` copies of `len` numbers on the device.
    fn copies<T: super::Plain>(&self, numbers: &[T], len: usize, times: usize) -> Result<Buffer<T>, KernelError> {
        let (one, all) = (self.device.upload(numbers)?, self.device.alloc::<T>(len * times)?);
        for at in 0..times {
            self.device.copy_between((&one, 0), (&all, at * len), len)?;
        }
        Ok(all)
    }

    fn timed(&self, run: impl Fn() -> Result<(), KernelError>) -> Result<f64, KernelError> {
        run()?;
        let mut best = f64::INFINITY;
        for _ in 0..RUNS {
            let start = self.device.mark()?;
            run()?;
            let end = self.device.mark()?;
            best = best.min(self.device.seconds(&start, &end)?);
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::emulated_for_tests;

    #[test]
    fn all_checks_pass_and_every_task_is_timed() {
        let Some(device) = emulated_for_tests() else { return };
        let cuda = Cuda::on(device);
        let checks = cuda.checks().unwrap();
        assert_eq!(checks.len(), 10);
        for check in &checks {
            assert!(check.passes(), "{check:?}");
        }
        assert!(!Check { name: "", error: f64::NAN, bound: 1.0 }.passes());
        let all = [
            cuda.measure_product(32),
            cuda.measure_copy(1 << 12),
            cuda.measure_assign(300, 24, 40),
            cuda.measure_sweep(70, 40, 8),
            cuda.measure_norms(3, 9, 40),
        ];
        for one in all {
            let one = one.unwrap();
            assert!(one.seconds > 0.0 && one.bytes > 0.0 && one.tflops().is_finite() && one.gbytes() > 0.0, "{one:?}");
        }
    }
}
