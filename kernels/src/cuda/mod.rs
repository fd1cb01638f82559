//! The CUDA body: kernels compiled at run time, rows streamed through the device in blocks.
//!
//! Every value that leaves is the canonical one (see `canonical.cuh`), so results equal those of the CPU body bit for bit; tensor cores only
//! decide which pairs need to be looked at, under a proven bound (`scores.cuh`). Transport, nuclear norms and coverage agree within stated
//! bounds. No CUDA file is needed to build; at run time the driver is needed, and libnvrtc unless the build carries PTX. Not yet measured on
//! a GPU: the same sources run in the emulation by the conformance suite. Cost: n k d multiplications and one trip of the rows to the device
//! an operation.

mod buffer;
mod chance;
pub mod device;
pub mod doctor;
mod driver;
mod emulated;
mod feed;
mod gemm;
pub mod libraries;
mod lloyd;
mod nearest;
pub mod net;
mod nuclear;
pub mod program;
mod real;
mod rows;
mod time;
mod topk;
mod transport;

pub use buffer::{Arg, Bf16, Buffer, Plain};
pub use device::{Device, Info};
pub use gemm::{Element, Gemm, Math};
use rows::{Held, ROWS_PER_WARP, Rows, THREADS, block_rows, narrow, threads, warps};
pub use time::Mark;

use crate::backend::{Tick, check_assign, check_betas, check_coverage, check_len, check_own, check_top_k};
use crate::nuclear::FrozenHead;
use crate::transport::{Costs, Entropic, Sinkhorn};
use crate::{Backend, KernelError, Lloyd, MatRef, Metric, Neighbours, SegmentSums};

/// One CUDA device.
pub struct Cuda {
    device: Device,
}

/// The emulated device for a test, or `None` after saying so where there is no g++.
///
/// # Panics
/// When `CURATE_CI` is set and there is no g++: a test that runs nothing must not pass there.
#[doc(hidden)]
#[must_use]
#[allow(clippy::disallowed_methods)] // reason: only tests call this, and no result follows from the variable
pub fn emulated_for_tests() -> Option<Device> {
    match Device::emulated() {
        Ok(device) => Some(device),
        Err(why) => {
            assert!(std::env::var_os("CURATE_CI").is_none(), "{why}");
            eprintln!("SKIPPED: {why}; the kernels were NOT run in the emulation");
            None
        }
    }
}

impl Cuda {
    /// Open device `ordinal`.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open(ordinal: usize) -> Result<Self, KernelError> {
        let cuda = Self::on(Device::open(ordinal, None)?);
        cuda.norms(cuda.hold(MatRef::new(&[1.0], 1)?)?.rows(), &mut [0.0])?; // A missing compiler shows here and not in the midst of work.
        Ok(cuda)
    }

    /// With a device opened before.
    #[must_use]
    pub const fn on(device: Device) -> Self {
        Self { device }
    }

    /// The device.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        self.device.name()
    }

    /// Norms are NaN where the device fails, so that the caller's check reports the rows instead of a panic here.
    fn row_sq_norms(&self, x: MatRef<'_>) -> Vec<f32> {
        let mut norms = vec![f32::NAN; x.rows()];
        match self.each_block(x, |part, range| self.norms(part, &mut norms[range])) {
            Ok(()) => norms,
            Err(_) => vec![f32::NAN; x.rows()],
        }
    }

    fn assign(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &mut [u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError> {
        check_assign(x, centroids, labels.len(), sq_dist.len())?;
        let c = self.hold(centroids)?;
        self.check_rows("assign: centroids", c.rows(), 0)?;
        let frame = self.frame(x, centroids.rows(), true)?;
        self.each_block(x, |part, range| {
            self.check_rows("assign", part, range.start)?;
            let out = self.device.alloc::<u32>(range.len())?;
            let images = frame.as_ref().map(|frame| self.images(frame, part)).transpose()?;
            let columns = frame.as_ref().map_or(Ok(None), |frame| self.columns(frame, c.rows()))?;
            match (&frame, &images, &columns) {
                (Some(frame), Some(images), Some(columns)) => {
                    self.label(part, images, c.rows(), (frame, columns), &out).map(drop)?;
                }
                _ => self.label_plainly(part, c.rows(), &out, None)?,
            }
            self.device.download(&out, &mut labels[range.clone()])?;
            self.own(part, c.rows(), &out, &mut sq_dist[range])
        })
    }

    fn top_k(
        &self,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        skip_self: Option<usize>,
    ) -> Result<Neighbours, KernelError> {
        check_top_k(queries, base)?;
        self.neighbours(queries, base, k, metric, skip_self)
    }

    fn min_sq_dist_update(&self, x: MatRef<'_>, point: &[f32], min_sq_dist: &mut [f32]) -> Result<(), KernelError> {
        check_len("min_sq_dist_update", "columns", x.dim(), point.len())?;
        check_len("min_sq_dist_update", "distances", x.rows(), min_sq_dist.len())?;
        let point = self.device.upload(point)?;
        self.each_block(x, |part, range| {
            let least = self.device.upload(&min_sq_dist[range.clone()])?;
            let seen = self.device.alloc::<f32>(range.len())?;
            let [data, count, dim] = part.args();
            let args = [data, count, point.arg(), dim, least.arg(), seen.arg()];
            self.device.launch("min_sq_dist_update", warps(part.count), THREADS, 0, &args)?;
            let mut dists = vec![0.0; range.len()];
            self.device.download(&seen, &mut dists)?;
            if let Some(row) = dists.iter().position(|dist| !dist.is_finite()) {
                return Err(KernelError::NotFinite { op: "min_sq_dist_update", row: range.start + row });
            }
            self.device.download(&least, &mut min_sq_dist[range])
        })
    }

    fn own_sq_dist(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &[u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError> {
        check_own(x, centroids, labels, sq_dist.len())?;
        let c = self.hold(centroids)?;
        self.each_block(x, |part, range| {
            let own = self.device.upload(&labels[range.clone()])?;
            self.own(part, c.rows(), &own, &mut sq_dist[range])
        })
    }

    fn segment_sums(&self, x: MatRef<'_>, labels: &[u32], sums: &mut SegmentSums) -> Result<(), KernelError> {
        let (scale, mut words) = (sums.begin(x, labels)?, sums.words());
        let held = self.device.upload(&words)?;
        self.each_block(x, |part, range| self.add_to_segments(part, None, &labels[range], scale, &held))?;
        self.device.download(&held, &mut words)?;
        sums.finish(&words, labels);
        Ok(())
    }

    fn nuclear_norms(&self, matrices: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        self.norms_of_all(matrices)
    }

    fn head_norms(&self, head: &FrozenHead, hidden: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        self.norms_of_head(head, hidden)
    }

    fn sinkhorn(
        &self,
        costs: &dyn Costs,
        a: &[f64],
        b: &[f64],
        params: &Entropic,
        tick: Tick<'_>,
    ) -> Result<Sinkhorn, KernelError> {
        self.entropic(costs, a, b, params, tick)
    }

    fn coverage_gains(&self, x: MatRef<'_>, candidates: MatRef<'_>, best: &[f32]) -> Result<Vec<f64>, KernelError> {
        check_coverage(x, candidates, best)?;
        self.gains(x, candidates, best)
    }

    fn beta_draws(&self, key: u64, rows: &[u64], shapes: &[[f64; 2]]) -> Result<Vec<f64>, KernelError> {
        check_betas(rows, shapes)?;
        self.draws(key, rows, shapes)
    }

    fn lloyd<'a>(&'a self, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
        lloyd::open(self, x)
    }
}

#[cfg(test)]
mod tests;
