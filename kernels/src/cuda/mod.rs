//! The CUDA body: kernels compiled at run time, rows streamed through the device in blocks.
//!
//! Every pair is compared by its canonical sum (see `kernels.cu`), so results equal those of the CPU body bit for bit.
//! No CUDA file is needed to build; at run time the driver is needed, and libnvrtc unless the build carries PTX.
//! Not yet measured on a GPU: the same sources run in the emulation by the conformance suite. Cost: n k d multiplications and one trip of
//! the rows to the device an operation.

mod buffer;
mod chance;
pub mod device;
pub mod doctor;
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
mod topk;
mod transport;

use std::ops::Range;

pub use buffer::{Arg, Bf16, Buffer, Plain};
pub use device::{Device, Info, Mark};
pub use gemm::{Element, Gemm, Math};

use crate::backend::Tick;
use crate::backend::{check_assign, check_betas, check_coverage, check_len, check_own, check_top_k};
use crate::transport::{Costs, Entropic, Sinkhorn};
use crate::{Backend, KernelError, Lloyd, MatRef, Metric, Neighbours, SegmentSums};

/// Threads of a block: eight warps.
const THREADS: u32 = 256;
/// Rows a warp works on at once (`ROWS` in the source).
const ROWS_PER_WARP: u64 = 4;
/// Rows whose sums a thread keeps (32 in the source).
const SEGMENT_ROWS: u64 = 32;
/// Bytes of rows sent to the device at a time.
const BLOCK_BYTES: usize = 64 << 20;

/// Rows below which a block is not cut for want of memory.
const LEAST_ROWS: usize = 64;

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

/// Rows that lie on the device.
struct Held {
    data: Buffer<f32>,
    count: u64,
    dim: u32,
}

/// A view of them, or of a block that passes through.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a Buffer<f32>,
    count: u64,
    dim: u32,
}

impl Held {
    const fn rows(&self) -> Rows<'_> {
        Rows { data: &self.data, count: self.count, dim: self.dim }
    }
}

impl<'a> Rows<'a> {
    /// As a kernel takes them: numbers, count, width.
    const fn args(self) -> [Arg<'a>; 3] {
        [self.data.arg(), Arg::U64(self.count), Arg::U32(self.dim)]
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

    fn hold(&self, x: MatRef<'_>) -> Result<Held, KernelError> {
        Ok(Held { data: self.device.upload(x.data())?, count: x.rows() as u64, dim: narrow(x.dim())? })
    }

    /// Call `body(rows, range)` for block after block of `x`; the next one travels meanwhile. Where the memory does not suffice, blocks
    /// become smaller from the one on that found too little; `body` must ask for all it needs before it changes anything.
    fn each_block(
        &self,
        x: MatRef<'_>,
        mut body: impl FnMut(Rows<'_>, Range<usize>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let (dim, wide) = (narrow(x.dim())?, x.dim());
        let (mut done, mut size) = (0, block_rows(wide).min(x.rows().max(1)));
        loop {
            let first = done;
            let fed = self.device.feed(&x.data()[first * wide..], size * wide, |data, range| {
                let range = first + range.start / wide..first + range.end / wide;
                body(Rows { data, count: range.len() as u64, dim }, range.clone())?;
                done = range.end;
                Ok(())
            });
            match fed {
                Err(KernelError::OutOfMemory { .. }) if size > LEAST_ROWS => size = size.div_ceil(2),
                other => return other,
            }
        }
    }

    /// An error that names the first row whose canonical squared norm is not finite, counted from `first`.
    fn check_rows(&self, op: &'static str, x: Rows<'_>, first: usize) -> Result<(), KernelError> {
        let bad = self.device.upload(&[u64::MAX])?;
        let [data, count, dim] = x.args();
        let args = [data, count, dim, Arg::U64(first as u64), bad.arg()];
        self.device.launch("check_finite", warps(x.count), THREADS, 0, &args)?;
        let mut row = [0];
        self.device.download(&bad, &mut row)?;
        if row[0] == u64::MAX { Ok(()) } else { Err(KernelError::NotFinite { op, row: row[0] as usize }) }
    }

    fn norms(&self, x: Rows<'_>, norms: &mut [f32]) -> Result<(), KernelError> {
        let out = self.device.alloc::<f32>(norms.len())?;
        let args = [&x.args()[..], &[out.arg()]].concat();
        self.device.launch("row_sq_norms", warps(x.count), THREADS, 0, &args)?;
        self.device.download(&out, norms)
    }

    /// Labels by comparing every pair; distances too where wanted.
    fn label_plainly(
        &self,
        x: Rows<'_>,
        c: Rows<'_>,
        labels: &Buffer<u32>,
        sq_dist: Option<&Buffer<f32>>,
    ) -> Result<(), KernelError> {
        let [data, count, dim] = x.args();
        let dist = sq_dist.map_or(Arg::NULL, Buffer::arg);
        let args = [data, count, c.data.arg(), Arg::U32(c.count as u32), dim, labels.arg(), dist];
        self.device.launch("assign", warps(x.count.div_ceil(ROWS_PER_WARP)), THREADS, 0, &args)
    }

    /// Squared distance of every row to its own centroid.
    fn own(&self, x: Rows<'_>, c: Rows<'_>, labels: &Buffer<u32>, out: &mut [f32]) -> Result<(), KernelError> {
        let dist = self.device.alloc::<f32>(out.len())?;
        let [data, count, dim] = x.args();
        let args = [data, count, c.data.arg(), dim, labels.arg(), dist.arg()];
        self.device.launch("own_sq_dist", warps(x.count), THREADS, 0, &args)?;
        self.device.download(&dist, out)
    }

    /// Add rows to the sums of their segments, taking them from where they were `before`.
    fn add_to_segments(
        &self,
        x: Rows<'_>,
        before: Option<&[u32]>,
        after: &[u32],
        scale: f64,
        sums: &Buffer<u64>,
    ) -> Result<(), KernelError> {
        let (from, to) = (before.map(|b| self.device.upload(b)).transpose()?, self.device.upload(after)?);
        let [data, count, dim] = x.args();
        let from = from.as_ref().map_or(Arg::NULL, Buffer::arg);
        let args = [data, count, dim, from, to.arg(), Arg::F64(scale), sums.arg()];
        let block = x.dim.next_multiple_of(32).min(THREADS);
        let grid = (x.count.div_ceil(SEGMENT_ROWS) as u32, x.dim.div_ceil(block), 1);
        self.device.launch("segment_sums", grid, block, 0, &args)
    }
}

/// Enough blocks for `count` warps.
fn warps(count: u64) -> (u32, u32, u32) {
    threads(count * 32)
}

/// Enough blocks for `count` threads. Blocks of rows are cut so that this fits 32 bits.
fn threads(count: u64) -> (u32, u32, u32) {
    (u32::try_from(count.div_ceil(u64::from(THREADS))).unwrap_or(u32::MAX), 1, 1)
}

/// Rows of a block of about [`BLOCK_BYTES`].
const fn block_rows(dim: usize) -> usize {
    let rows = BLOCK_BYTES / (4 * dim);
    if rows == 0 { 1 } else { rows }
}

/// A width as kernels take it.
fn narrow(dim: usize) -> Result<u32, KernelError> {
    let expected = || format!("at most {} columns", u32::MAX);
    u32::try_from(dim).map_err(|_| KernelError::Shape { op: "cuda", expected: expected(), got: dim.to_string() })
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
