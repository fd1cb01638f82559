//! The CUDA body: kernels compiled at run time, rows streamed through the device in blocks.
//!
//! Every pair is compared by its canonical sum (see `kernels.cu`), so results equal those of the CPU body bit for bit.
//! No CUDA file is needed to build; at run time the driver and libnvrtc must be there.
//! Written without a GPU at hand: compiled for four architectures by a test, run by the conformance suite wherever
//! `cuda:0` opens. Cost: n k d multiplications and one trip of the rows to the device an operation.

mod lloyd;
mod program;

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg};

use crate::backend::{check_assign, check_finite, check_len, check_own, check_top_k};
use crate::{Backend, KernelError, Lloyd, MatRef, Metric, Neighbours, SegmentSums};
use program::Program;

/// Threads of a block: eight warps.
const THREADS: u32 = 256;
/// Rows a warp works on at once (`ROWS` in the source).
const ROWS_PER_WARP: u64 = 4;
/// Bytes of rows sent to the device at a time.
const BLOCK_BYTES: usize = 256 << 20;

/// One CUDA device.
pub struct Cuda {
    name: String,
    stream: Arc<CudaStream>,
    program: Program,
}

/// Rows on the device.
struct Held {
    data: CudaSlice<f32>,
    rows: u64,
    dim: u32,
}

impl Cuda {
    /// Open device `ordinal` and compile the kernels for it.
    ///
    /// # Errors
    /// [`KernelError::Device`] when the driver or the run-time compiler is missing, there is no such device, or it
    /// refuses; the message says what to install.
    pub fn open(ordinal: usize) -> Result<Self, KernelError> {
        let name = format!("cuda:{ordinal}");
        let fail = |message: String| KernelError::Device { device: name.clone(), message };
        if !program::has_driver() {
            return Err(fail("libcuda was not found; install the NVIDIA driver, or use --device cpu".to_owned()));
        }
        if !program::has_nvrtc() {
            let how = "install CUDA 13 or `pip install nvidia-cuda-nvrtc` and put its lib folder on LD_LIBRARY_PATH";
            return Err(fail(format!("libnvrtc was not found; {how}")));
        }
        let context = CudaContext::new(ordinal).map_err(|e| fail(format!("cannot open the device: {e}")))?;
        let program = Program::load(&context).map_err(fail)?;
        Ok(Self { stream: context.default_stream(), program, name })
    }

    fn failed(&self, error: DriverError) -> KernelError {
        KernelError::Device { device: self.name.clone(), message: error.to_string() }
    }

    fn hold(&self, x: MatRef<'_>) -> Result<Held, KernelError> {
        let data = self.stream.clone_htod(x.data()).map_err(|e| self.failed(e))?;
        let dim = u32::try_from(x.dim()).map_err(|_| too_wide(x.dim()))?;
        Ok(Held { data, rows: x.rows() as u64, dim })
    }

    fn zeros(&self, len: usize) -> Result<CudaSlice<f32>, KernelError> {
        self.stream.alloc_zeros(len).map_err(|e| self.failed(e))
    }

    fn fetch<T: cudarc::driver::DeviceRepr>(&self, from: &CudaSlice<T>, to: &mut [T]) -> Result<(), KernelError> {
        self.stream.memcpy_dtoh(from, to).map_err(|e| self.failed(e))?;
        self.stream.synchronize().map_err(|e| self.failed(e))
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
        let mut out = self.zeros(held.rows as usize)?;
        let mut launch = self.stream.launch_builder(&self.program.row_sq_norms);
        launch.arg(&held.data).arg(&held.rows).arg(&held.dim).arg(&mut out);
        // SAFETY: arguments match the kernel's signature; `out` holds `rows` numbers and the kernel stops at `rows`.
        unsafe { launch.launch(warps(held.rows)) }.map_err(|e| self.failed(e))?;
        let mut norms = vec![0.0; held.rows as usize];
        self.fetch(&out, &mut norms)?;
        Ok(norms)
    }

    fn assign_held(
        &self,
        x: &Held,
        centroids: &Held,
        labels: &mut [u32],
        sq_dist: &mut [f32],
    ) -> Result<(), KernelError> {
        let k = centroids.rows as u32;
        let mut out_labels = self.stream.alloc_zeros::<u32>(labels.len()).map_err(|e| self.failed(e))?;
        let mut out_dist = self.zeros(labels.len())?;
        let mut launch = self.stream.launch_builder(&self.program.assign);
        launch.arg(&x.data).arg(&x.rows).arg(&centroids.data).arg(&k).arg(&x.dim);
        launch.arg(&mut out_labels).arg(&mut out_dist);
        // SAFETY: arguments match the signature; both outputs hold `rows` entries, centroids `k` rows of `dim`.
        unsafe { launch.launch(warps(x.rows.div_ceil(ROWS_PER_WARP))) }.map_err(|e| self.failed(e))?;
        self.fetch(&out_labels, labels)?;
        self.fetch(&out_dist, sq_dist)
    }
}

/// Enough blocks for `count` warps.
fn warps(count: u64) -> LaunchConfig {
    threads(count * 32)
}

/// Enough blocks for `count` threads. Blocks of rows are cut so that this fits 32 bits.
fn threads(count: u64) -> LaunchConfig {
    let blocks = count.div_ceil(u64::from(THREADS)).max(1);
    LaunchConfig {
        grid_dim: (u32::try_from(blocks).unwrap_or(u32::MAX), 1, 1),
        block_dim: (THREADS, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Rows cut into blocks of about [`BLOCK_BYTES`].
fn blocks(x: MatRef<'_>) -> impl Iterator<Item = Range<usize>> {
    let (rows, size) = (x.rows(), (BLOCK_BYTES / (4 * x.dim())).max(1));
    (0..rows).step_by(size).map(move |start| start..(start + size).min(rows))
}

fn too_wide(dim: usize) -> KernelError {
    KernelError::Shape { op: "cuda", expected: "fewer than 2^32 columns".to_owned(), got: dim.to_string() }
}

impl Backend for Cuda {
    fn name(&self) -> &str {
        &self.name
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
                let mut held_index = self.stream.clone_htod(&index).map_err(|e| self.failed(e))?;
                let mut held_value = self.stream.clone_htod(&value).map_err(|e| self.failed(e))?;
                let skip = skip_self.map_or(-1, |offset| i64::try_from(offset + range.start).unwrap_or(-1));
                for part in blocks(base) {
                    let b = self.hold(base.slice(part.clone()))?;
                    self.check_rows("top_k: base", &b, part.start)?;
                    let (count, start) = (b.rows as u32, part.start as u32);
                    let mut launch = self.stream.launch_builder(&self.program.top_k);
                    launch.arg(&q.data).arg(&q.rows).arg(&b.data).arg(&count).arg(&q.dim).arg(&start);
                    launch.arg(&wide).arg(&dot).arg(&skip).arg(&mut held_value).arg(&mut held_index);
                    // SAFETY: arguments match the signature; both lists hold `rows * k` entries.
                    unsafe { launch.launch(warps(q.rows.div_ceil(ROWS_PER_WARP))) }.map_err(|e| self.failed(e))?;
                    self.stream.synchronize().map_err(|e| self.failed(e))?;
                }
                self.fetch(&held_index, &mut index)?;
                self.fetch(&held_value, &mut value)?;
            }
            out.index.extend(index);
            out.value.extend(value);
        }
        Ok(out)
    }

    fn min_sq_dist_update(&self, x: MatRef<'_>, point: &[f32], min_sq_dist: &mut [f32]) -> Result<(), KernelError> {
        check_len("min_sq_dist_update", "columns", x.dim(), point.len())?;
        check_len("min_sq_dist_update", "distances", x.rows(), min_sq_dist.len())?;
        let point = self.stream.clone_htod(point).map_err(|e| self.failed(e))?;
        for range in blocks(x) {
            let held = self.hold(x.slice(range.clone()))?;
            let mut least = self.stream.clone_htod(&min_sq_dist[range.clone()]).map_err(|e| self.failed(e))?;
            let mut seen = self.zeros(range.len())?;
            let mut launch = self.stream.launch_builder(&self.program.min_sq_dist_update);
            launch.arg(&held.data).arg(&held.rows).arg(&point).arg(&held.dim).arg(&mut least).arg(&mut seen);
            // SAFETY: arguments match the signature; `least` and `seen` hold `rows` numbers, `point` `dim`.
            unsafe { launch.launch(warps(held.rows)) }.map_err(|e| self.failed(e))?;
            let mut dists = vec![0.0; range.len()];
            self.fetch(&seen, &mut dists)?;
            if let Some(row) = dists.iter().position(|dist| !dist.is_finite()) {
                return Err(KernelError::NotFinite { op: "min_sq_dist_update", row: range.start + row });
            }
            self.fetch(&least, &mut min_sq_dist[range])?;
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
            let own = self.stream.clone_htod(&labels[range.clone()]).map_err(|e| self.failed(e))?;
            let mut out = self.zeros(range.len())?;
            let mut launch = self.stream.launch_builder(&self.program.own_sq_dist);
            launch.arg(&held.data).arg(&held.rows).arg(&c.data).arg(&held.dim).arg(&own).arg(&mut out);
            // SAFETY: arguments match the signature; labels were checked to lie below the number of centroids.
            unsafe { launch.launch(warps(held.rows)) }.map_err(|e| self.failed(e))?;
            self.fetch(&out, &mut sq_dist[range])?;
        }
        Ok(())
    }

    fn segment_sums(&self, x: MatRef<'_>, labels: &[u32], sums: &mut SegmentSums) -> Result<(), KernelError> {
        let scale = sums.begin(x, labels)?;
        let mut held_sums = self.stream.clone_htod(&sums.words()).map_err(|e| self.failed(e))?;
        for range in blocks(x) {
            let held = self.hold(x.slice(range.clone()))?;
            let own = self.stream.clone_htod(&labels[range]).map_err(|e| self.failed(e))?;
            let mut launch = self.stream.launch_builder(&self.program.segment_sums);
            launch.arg(&held.data).arg(&held.rows).arg(&held.dim).arg(&own).arg(&scale).arg(&mut held_sums);
            // SAFETY: arguments match the signature; labels were checked to lie below the number of segments.
            unsafe { launch.launch(threads(held.rows * u64::from(held.dim))) }.map_err(|e| self.failed(e))?;
            self.stream.synchronize().map_err(|e| self.failed(e))?;
        }
        let mut words = sums.words();
        self.fetch(&held_sums, &mut words)?;
        sums.finish(&words, labels);
        Ok(())
    }

    fn lloyd<'a>(&'a self, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
        lloyd::open(self, x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_a_typed_error() {
        match Cuda::open(4095) {
            Err(KernelError::Device { device, message }) => {
                assert_eq!(device, "cuda:4095");
                assert!(!message.is_empty());
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("there cannot be that many devices"),
        }
    }

    #[test]
    fn blocks_cover_the_rows() {
        let data = vec![0.0; 100];
        let x = MatRef::new(&data, 10).expect("rectangular");
        assert_eq!(blocks(x).collect::<Vec<_>>(), std::iter::once(0..10).collect::<Vec<_>>());
        assert_eq!(warps(9).grid_dim, (2, 1, 1));
    }
}
