//! The CUDA body: kernels compiled at run time, rows streamed through the device in blocks.
//!
//! Every pair is compared by its canonical sum (see `kernels.cu`), so results equal those of the CPU body bit for bit.
//! No CUDA file is needed to build; at run time the driver is needed, and libnvrtc unless the build carries PTX.
//! Not yet measured on a GPU: the same sources run in the emulation by the conformance suite. Cost: n k d multiplications and one trip of
//! the rows to the device an operation.

mod buffer;
pub mod device;
mod emulated;
mod feed;
mod gemm;
mod lloyd;
pub mod net;
pub mod program;
mod real;

use std::ops::Range;

pub use buffer::{Arg, Bf16, Buffer, Plain};
pub use device::{Device, Info, Mark};
pub use gemm::{Element, Gemm, Math};

use crate::backend::{check_assign, check_finite, check_len, check_own, check_top_k};
use crate::{Backend, KernelError, Lloyd, MatRef, Metric, Neighbours, SegmentSums};

/// Threads of a block: eight warps.
const THREADS: u32 = 256;
/// Rows a warp works on at once (`ROWS` in the source).
const ROWS_PER_WARP: u64 = 4;
/// Bytes of rows sent to the device at a time.
const BLOCK_BYTES: usize = 256 << 20;

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

/// Rows on the device.
struct Held {
    data: Buffer<f32>,
    rows: u64,
    dim: u32,
}

impl Cuda {
    /// Open device `ordinal`.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open(ordinal: usize) -> Result<Self, KernelError> {
        let cuda = Self::on(Device::open(ordinal, None)?);
        cuda.norms(&cuda.hold(MatRef::new(&[1.0], 1)?)?)?; // A missing compiler shows here and not in the midst of work.
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
        let dim = u32::try_from(x.dim()).map_err(|_| too_wide(x.dim()))?;
        Ok(Held { data: self.device.upload(x.data())?, rows: x.rows() as u64, dim })
    }

    /// Canonical squared norms of held rows; an error names the first that is not finite, counted from `first`.
    fn check_rows(&self, op: &'static str, held: &Held, first: usize) -> Result<(), KernelError> {
        let norms = self.norms(held)?;
        check_finite(op, &norms).map_err(|error| match error {
            KernelError::NotFinite { op, row } => KernelError::NotFinite { op, row: row + first },
            other => other,
        })
    }

    fn norms(&self, held: &Held) -> Result<Vec<f32>, KernelError> {
        let out = self.device.alloc::<f32>(held.rows as usize)?;
        let args = [held.data.arg(), Arg::U64(held.rows), Arg::U32(held.dim), out.arg()];
        self.device.launch("row_sq_norms", warps(held.rows), THREADS, 0, &args)?;
        let mut norms = vec![0.0; held.rows as usize];
        self.device.download(&out, &mut norms)?;
        Ok(norms)
    }

    fn assign_held(
        &self,
        x: &Held,
        centroids: &Held,
        labels: &mut [u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError> {
        let (out_labels, out_dist) = (self.device.alloc::<u32>(labels.len())?, self.device.alloc::<f32>(labels.len())?);
        let (n, k) = (Arg::U64(x.rows), Arg::U32(centroids.rows as u32));
        let args = [x.data.arg(), n, centroids.data.arg(), k, Arg::U32(x.dim), out_labels.arg(), out_dist.arg()];
        self.device.launch("assign", warps(x.rows.div_ceil(ROWS_PER_WARP)), THREADS, 0, &args)?;
        self.device.download(&out_labels, labels)?;
        self.device.download(&out_dist, sq_dist)
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

/// Rows cut into blocks of about [`BLOCK_BYTES`].
fn blocks(x: MatRef<'_>) -> impl Iterator<Item = Range<usize>> {
    let (rows, size) = (x.rows(), (BLOCK_BYTES / (4 * x.dim())).max(1));
    (0..rows).step_by(size).map(move |start| start..(start + size).min(rows))
}

fn too_wide(dim: usize) -> KernelError {
    KernelError::Shape { op: "cuda", expected: format!("at most {} columns", u32::MAX), got: dim.to_string() }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        self.device.name()
    }

    /// Norms are NaN where the device fails, so that the caller's check reports the rows instead of a panic here.
    fn row_sq_norms(&self, x: MatRef<'_>) -> Vec<f32> {
        let part = |range: Range<usize>| {
            let count = range.len();
            self.hold(x.slice(range)).and_then(|held| self.norms(&held)).unwrap_or_else(|_| vec![f32::NAN; count])
        };
        blocks(x).flat_map(part).collect()
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
        self.check_rows("assign: centroids", &c, 0)?;
        for range in blocks(x) {
            let held = self.hold(x.slice(range.clone()))?;
            self.check_rows("assign", &held, range.start)?;
            self.assign_held(&held, &c, &mut labels[range.clone()], &mut sq_dist[range])?;
        }
        Ok(())
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
        let wide = u32::try_from(k).map_err(|_| too_wide(k))?;
        let dot = u32::from(metric == Metric::Dot);
        let mut out = Neighbours { k, ..Neighbours::default() };
        for range in blocks(queries) {
            let q = self.hold(queries.slice(range.clone()))?;
            self.check_rows("top_k: queries", &q, range.start)?;
            let mut index = vec![u32::MAX; range.len() * k];
            let mut value = vec![metric.worst(); range.len() * k];
            if k > 0 {
                let (held_index, held_value) = (self.device.upload(&index)?, self.device.upload(&value)?);
                let skip = skip_self.map_or(-1, |offset| i64::try_from(offset + range.start).unwrap_or(-1));
                for part in blocks(base) {
                    let b = self.hold(base.slice(part.clone()))?;
                    self.check_rows("top_k: base", &b, part.start)?;
                    let (count, start) = (b.rows as u32, part.start as u32);
                    let lists = [Arg::U32(wide), Arg::U32(dot), Arg::I64(skip), held_value.arg(), held_index.arg()];
                    let rows = [q.data.arg(), Arg::U64(q.rows), b.data.arg(), Arg::U32(count), Arg::U32(q.dim)];
                    let args = [&rows[..], &[Arg::U32(start)], &lists].concat();
                    self.device.launch("top_k", warps(q.rows.div_ceil(ROWS_PER_WARP)), THREADS, 0, &args)?;
                }
                self.device.download(&held_index, &mut index)?;
                self.device.download(&held_value, &mut value)?;
            }
            out.index.extend(index);
            out.value.extend(value);
        }
        Ok(out)
    }

    fn min_sq_dist_update(&self, x: MatRef<'_>, point: &[f32], min_sq_dist: &mut [f32]) -> Result<(), KernelError> {
        check_len("min_sq_dist_update", "columns", x.dim(), point.len())?;
        check_len("min_sq_dist_update", "distances", x.rows(), min_sq_dist.len())?;
        let point = self.device.upload(point)?;
        for range in blocks(x) {
            let held = self.hold(x.slice(range.clone()))?;
            let least = self.device.upload(&min_sq_dist[range.clone()])?;
            let seen = self.device.alloc::<f32>(range.len())?;
            let args = [held.data.arg(), Arg::U64(held.rows), point.arg(), Arg::U32(held.dim), least.arg(), seen.arg()];
            self.device.launch("min_sq_dist_update", warps(held.rows), THREADS, 0, &args)?;
            let mut dists = vec![0.0; range.len()];
            self.device.download(&seen, &mut dists)?;
            if let Some(row) = dists.iter().position(|dist| !dist.is_finite()) {
                return Err(KernelError::NotFinite { op: "min_sq_dist_update", row: range.start + row });
            }
            self.device.download(&least, &mut min_sq_dist[range])?;
        }
        Ok(())
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
        for range in blocks(x) {
            let held = self.hold(x.slice(range.clone()))?;
            let own = self.device.upload(&labels[range.clone()])?;
            let out = self.device.alloc::<f32>(range.len())?;
            let args = [held.data.arg(), Arg::U64(held.rows), c.data.arg(), Arg::U32(held.dim), own.arg(), out.arg()];
            self.device.launch("own_sq_dist", warps(held.rows), THREADS, 0, &args)?;
            self.device.download(&out, &mut sq_dist[range])?;
        }
        Ok(())
    }

    fn segment_sums(&self, x: MatRef<'_>, labels: &[u32], sums: &mut SegmentSums) -> Result<(), KernelError> {
        let scale = sums.begin(x, labels)?;
        let held_sums = self.device.upload(&sums.words())?;
        for range in blocks(x) {
            let held = self.hold(x.slice(range.clone()))?;
            let own = self.device.upload(&labels[range])?;
            let (n, d) = (Arg::U64(held.rows), Arg::U32(held.dim));
            let args = [held.data.arg(), n, d, own.arg(), Arg::F64(scale), held_sums.arg()];
            self.device.launch("segment_sums", threads(held.rows * u64::from(held.dim)), THREADS, 0, &args)?;
        }
        let mut words = sums.words();
        self.device.download(&held_sums, &mut words)?;
        sums.finish(&words, labels);
        Ok(())
    }

    fn lloyd<'a>(&'a self, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
        lloyd::open(self, x)
    }
}

#[cfg(test)]
mod tests;
