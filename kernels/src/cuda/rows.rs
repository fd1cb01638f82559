//! Rows on the device, how they get there block by block, and the plain kernels over them.

use std::ops::Range;

use super::Cuda;
use super::buffer::{Arg, Buffer};
use crate::{KernelError, MatRef};

/// Threads of a block: eight warps.
pub(super) const THREADS: u32 = 256;
/// Rows a warp works on at once (`ROWS` in the source).
pub(super) const ROWS_PER_WARP: u64 = 4;
/// Rows whose sums a thread keeps (32 in the source).
pub(super) const SEGMENT_ROWS: u64 = 32;
/// Bytes of rows sent to the device at a time.
pub(super) const BLOCK_BYTES: usize = 64 << 20;

/// Rows below which a block is not cut for want of memory.
pub(super) const LEAST_ROWS: usize = 64;

/// Rows that lie on the device.
pub(super) struct Held {
    pub(super) data: Buffer<f32>,
    pub(super) count: u64,
    pub(super) dim: u32,
}

/// A view of them, or of a block that passes through.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) data: &'a Buffer<f32>,
    pub(super) count: u64,
    pub(super) dim: u32,
}

impl Held {
    pub(super) const fn rows(&self) -> Rows<'_> {
        Rows { data: &self.data, count: self.count, dim: self.dim }
    }
}

impl<'a> Rows<'a> {
    /// As a kernel takes them: numbers, count, width.
    pub(super) const fn args(self) -> [Arg<'a>; 3] {
        [self.data.arg(), Arg::U64(self.count), Arg::U32(self.dim)]
    }
}

impl Cuda {
    pub(super) fn hold(&self, x: MatRef<'_>) -> Result<Held, KernelError> {
        Ok(Held { data: self.device.upload(x.data())?, count: x.rows() as u64, dim: narrow(x.dim())? })
    }

    /// Call `body(rows, range)` for block after block of `x`; the next one travels meanwhile. Where the memory does not suffice, blocks
    /// become smaller from the one on that found too little; `body` must ask for all it needs before it changes anything.
    pub(super) fn each_block(
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
    pub(super) fn check_rows(&self, op: &'static str, x: Rows<'_>, first: usize) -> Result<(), KernelError> {
        let bad = self.device.upload(&[u64::MAX])?;
        let [data, count, dim] = x.args();
        let args = [data, count, dim, Arg::U64(first as u64), bad.arg()];
        self.device.launch("check_finite", warps(x.count), THREADS, 0, &args)?;
        let mut row = [0];
        self.device.download(&bad, &mut row)?;
        if row[0] == u64::MAX { Ok(()) } else { Err(KernelError::NotFinite { op, row: row[0] as usize }) }
    }

    pub(super) fn norms(&self, x: Rows<'_>, norms: &mut [f32]) -> Result<(), KernelError> {
        let out = self.device.alloc::<f32>(norms.len())?;
        let args = [&x.args()[..], &[out.arg()]].concat();
        self.device.launch("row_sq_norms", warps(x.count), THREADS, 0, &args)?;
        self.device.download(&out, norms)
    }

    /// Labels by comparing every pair; distances too where wanted.
    pub(super) fn label_plainly(
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
    pub(super) fn own(
        &self,
        x: Rows<'_>,
        c: Rows<'_>,
        labels: &Buffer<u32>,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let dist = self.device.alloc::<f32>(out.len())?;
        let [data, count, dim] = x.args();
        let args = [data, count, c.data.arg(), dim, labels.arg(), dist.arg()];
        self.device.launch("own_sq_dist", warps(x.count), THREADS, 0, &args)?;
        self.device.download(&dist, out)
    }

    /// Add rows to the sums of their segments, taking them from where they were `before`.
    pub(super) fn add_to_segments(
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
pub(super) fn warps(count: u64) -> (u32, u32, u32) {
    threads(count * 32)
}

/// Enough blocks for `count` threads. Blocks of rows are cut so that this fits 32 bits.
pub(super) fn threads(count: u64) -> (u32, u32, u32) {
    (u32::try_from(count.div_ceil(u64::from(THREADS))).unwrap_or(u32::MAX), 1, 1)
}

/// Rows of a block of about [`BLOCK_BYTES`].
pub(super) const fn block_rows(dim: usize) -> usize {
    let rows = BLOCK_BYTES / (4 * dim);
    if rows == 0 { 1 } else { rows }
}

/// A width as kernels take it.
pub(super) fn narrow(dim: usize) -> Result<u32, KernelError> {
    let expected = || format!("at most {} columns", u32::MAX);
    u32::try_from(dim).map_err(|_| KernelError::Shape { op: "cuda", expected: expected(), got: dim.to_string() })
}
