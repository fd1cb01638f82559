//! Nearest centroids by tensor cores, the host's half of `shortlist.cu`: images of rows and centroids, the constants of the bound, and
//! which way to go. Devices before compute 8.0, very wide rows and few centroids take the plain kernel.

use super::buffer::{Arg, Buffer};
use super::{Cuda, Rows, THREADS, warps};
use crate::assign::{gather, mean_row};
use crate::sketch::MAX_DIM;
use crate::{KernelError, MatRef, exact};

/// Rows of a block, and columns of a tile (`TILE_ROWS`, `TILE_COLUMNS` in the source).
const TILE: usize = 128;
/// Bytes of one chunk of a tile, and numbers of a row in it.
const CHUNK_BYTES: usize = TILE * 128;
const CHUNK: usize = 64;
const STAGES: usize = 3;
/// Bytes of shared memory that a kernel may have beside the tiles.
const STATIC_BYTES: usize = 1024;
/// Fewer centroids do not fill a tile.
const FEW: usize = 32;
/// Rows from which the centre is taken.
const SAMPLE: usize = 1024;
/// Centred squared norms from here on are compared in full (`LARGE` in the source).
const LARGE: f32 = 1e30;
/// Unit roundoff of f32.
const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// Where rows and columns are mapped to, and the constants of the bound.
pub(super) struct Frame {
    centre: Buffer<f32>,
    /// Largest share of a row that rounding took so far.
    ratio: Buffer<u32>,
    width: u32,
    halved: bool,
    per_product: f64,
    per_square: f64,
    per_row: f64,
}

/// Images of rows.
pub(super) struct Images {
    words: Buffer<u32>,
    length: Buffer<f32>,
    sq_norm: Buffer<f32>,
}

/// Images of columns, errors and biases padded to whole tiles.
pub(super) struct Columns {
    images: Images,
    error: Buffer<f32>,
    bias: Buffer<f32>,
}

/// Rows and columns that meet.
pub(super) struct Sweep<'a> {
    pub(super) frame: &'a Frame,
    pub(super) x: Rows<'a>,
    pub(super) images: &'a Images,
    pub(super) base: Rows<'a>,
    pub(super) columns: &'a Columns,
}

impl Frame {
    /// Whether so many columns are worth a tile.
    pub(super) const fn serves(columns: usize) -> bool {
        columns >= FEW
    }
}

impl Cuda {
    /// A frame around the mean of a sample of `x`, or around nothing for inner products (`halved` false); `None` where the plain kernels
    /// are the only or the better way.
    pub(super) fn frame(&self, x: MatRef<'_>, columns: usize, halved: bool) -> Result<Option<Frame>, KernelError> {
        let dim = x.dim();
        if !Frame::serves(columns) || dim > MAX_DIM || self.device.capability() < 80 {
            return Ok(None);
        }
        let sample = gather(x, SAMPLE);
        let centre = if halved && !sample.is_empty() { mean_row(MatRef::new(&sample, dim)?) } else { vec![0.0; dim] };
        if centre.iter().any(|v| !v.is_finite()) {
            return Ok(None);
        }
        let width = dim.next_multiple_of(16);
        // See `sketch.rs`; every 16 products a tensor core may cut each of 17 terms and the sum at 2^-23.
        let accumulation = (2 * width + 64) as f64 * 2.0 * UNIT;
        let (canonical, centring) = (f64::from(exact::rounding(dim)), 2.0 * UNIT);
        let summing = (dim / 32 + 8) as f64 * UNIT;
        Ok(Some(Frame {
            centre: self.device.upload(&centre)?,
            ratio: self.device.zeros(1)?,
            width: width as u32,
            halved,
            per_product: 2.2 * accumulation + centring + 2.0 * canonical,
            per_square: 0.6 * accumulation + centring + canonical + summing,
            per_row: 1.01 * (2.0 * canonical + 2.0 * centring + UNIT),
        }))
    }

    /// Images of rows; must come before those of the columns they meet.
    pub(super) fn images(&self, frame: &Frame, x: Rows<'_>) -> Result<Images, KernelError> {
        let images = self.room(frame, x.count as usize)?;
        self.sketch(frame, x, -1.0, &images, (&images.length, &images.length))?;
        Ok(images)
    }

    /// Images of columns; `None` when one is too long for the bound.
    pub(super) fn columns(&self, frame: &Frame, c: Rows<'_>) -> Result<Option<Columns>, KernelError> {
        let (count, padded) = (c.count as usize, (c.count as usize).next_multiple_of(TILE));
        let (images, error) = (self.room(frame, count)?, self.device.zeros::<f32>(padded)?);
        let bias = self.device.upload(&vec![f32::NEG_INFINITY; padded])?;
        self.sketch(frame, c, frame.per_square, &images, (&error, &bias))?;
        let mut norms = vec![0.0; count];
        self.device.download(&images.sq_norm, &mut norms)?;
        Ok(norms.iter().all(|norm| *norm < LARGE).then_some(Columns { images, error, bias }))
    }

    fn room(&self, frame: &Frame, rows: usize) -> Result<Images, KernelError> {
        Ok(Images {
            words: self.device.alloc(rows * frame.width as usize / 2)?,
            length: self.device.alloc(rows)?,
            sq_norm: self.device.alloc(rows)?,
        })
    }

    fn sketch(
        &self,
        frame: &Frame,
        x: Rows<'_>,
        per_square: f64,
        images: &Images,
        (error, bias): (&Buffer<f32>, &Buffer<f32>),
    ) -> Result<(), KernelError> {
        let from = [x.data.arg(), Arg::U64(x.count), Arg::U32(x.dim), frame.centre.arg(), Arg::U32(frame.width)];
        let how =
            [Arg::F64(frame.per_product), Arg::F64(per_square), Arg::U32(u32::from(frame.halved)), frame.ratio.arg()];
        let to = [images.words.arg(), images.length.arg(), images.sq_norm.arg(), error.arg(), bias.arg()];
        self.device.launch("sketch", warps(x.count), THREADS, 0, &[&from[..], &how, &to].concat())
    }

    /// Launch a kernel that sweeps over all scores; `more` follows the arguments that all such have.
    pub(super) fn sweep(&self, kernel: &'static str, s: &Sweep<'_>, more: &[Arg<'_>]) -> Result<(), KernelError> {
        let chunks = (s.frame.width as usize).div_ceil(CHUNK);
        let whole = (chunks + STAGES) * CHUNK_BYTES;
        let resident = whole + STATIC_BYTES <= self.device.shared_memory() as usize;
        let shared = if resident { whole } else { 2 * STAGES * CHUNK_BYTES } as u32;
        let [data, count, dim] = s.x.args();
        let rows = [data, s.images.words.arg(), count];
        let columns = Arg::U32(s.base.count as u32);
        let them = [s.base.data.arg(), s.columns.images.words.arg(), columns, dim, Arg::U32(s.frame.width)];
        let bound = [s.images.length.arg(), s.images.sq_norm.arg(), s.columns.error.arg(), s.columns.bias.arg()];
        let how = [s.columns.images.sq_norm.arg(), Arg::F64(s.frame.per_square), Arg::F64(s.frame.per_row)];
        let args = [&rows[..], &them, &bound, &how, &[Arg::U32(u32::from(resident))], more].concat();
        let grid = ((s.x.count as usize).div_ceil(TILE) as u32, 1, 1);
        self.device.launch(kernel, grid, THREADS, shared, &args)
    }

    /// Labels of held rows. Returns where the device counts those that had to be compared with every centroid.
    pub(super) fn label(
        &self,
        x: Rows<'_>,
        images: &Images,
        c: Rows<'_>,
        (frame, columns): (&Frame, &Columns),
        labels: &Buffer<u32>,
    ) -> Result<Buffer<u32>, KernelError> {
        let open = self.device.alloc::<u32>(x.count as usize)?;
        let count = self.device.zeros::<u32>(1)?;
        let sweep = Sweep { frame, x, images, base: c, columns };
        self.sweep("assign_shortlist", &sweep, &[labels.arg(), open.arg(), count.arg()])?;
        let (k, dim) = (Arg::U32(c.count as u32), Arg::U32(x.dim));
        let args = [x.data.arg(), c.data.arg(), k, dim, open.arg(), count.arg(), labels.arg()];
        let grid = warps(x.count).0.min(4096);
        self.device.launch("assign_open", (grid, 1, 1), THREADS, 0, &args)?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::emulated_for_tests;
    use crate::{Backend, Cpu, hash};

    fn rows(seed: u64, count: usize, dim: usize, spread: f32) -> Vec<f32> {
        let draw = |at: u64| (hash::unit(hash::mix(&[seed, at])) - 0.5) as f32;
        (0..count * dim).map(|at| draw(at as u64) * spread + draw((at % dim) as u64 + 1_000_000) * 4.0).collect()
    }

    /// Labels as the processor gives them, and how many rows had to be compared with all centroids.
    fn same_labels(cuda: &Cuda, x: &[f32], c: &[f32], dim: usize) -> u32 {
        let (x, c) = (MatRef::new(x, dim).unwrap(), MatRef::new(c, dim).unwrap());
        let (mut wanted, mut dist) = (vec![0; x.rows()], vec![0.0; x.rows()]);
        Cpu::new().assign(x, c, &mut wanted, &mut dist).unwrap();
        let (held, centroids) = (cuda.hold(x).unwrap(), cuda.hold(c).unwrap());
        let frame = cuda.frame(x, c.rows(), true).unwrap().unwrap();
        let images = cuda.images(&frame, held.rows()).unwrap();
        let columns = cuda.columns(&frame, centroids.rows()).unwrap().unwrap();
        let labels = cuda.device.zeros::<u32>(x.rows()).unwrap();
        let open = cuda.label(held.rows(), &images, centroids.rows(), (&frame, &columns), &labels).unwrap();
        let (mut got, mut count) = (vec![0; x.rows()], [0]);
        cuda.device.download(&labels, &mut got).unwrap();
        cuda.device.download(&open, &mut count).unwrap();
        assert_eq!(got, wanted, "{} rows, {} centroids, {dim} wide", x.rows(), c.rows());
        count[0]
    }

    #[test]
    fn labels_are_those_of_the_processor_and_few_rows_stay_open() {
        let Some(device) = emulated_for_tests() else { return };
        let cuda = Cuda::on(device);
        for (count, k, dim) in [(200, 32, 1), (130, 300, 17), (257, 129, 64), (128, 128, 100), (150, 40, 800)] {
            let open = same_labels(&cuda, &rows(1, count, dim, 1.0), &rows(2, k, dim, 1.0), dim);
            assert!(dim < 16 || open <= count as u32 / 16, "{open} of {count} rows stayed open, {k} x {dim}");
        }
    }

    #[test]
    fn ties_zeros_and_lengths_far_apart() {
        let Some(device) = emulated_for_tests() else { return };
        let cuda = Cuda::on(device);
        let dim = 24;
        let mut x = rows(3, 140, dim, 1.0);
        x[..dim].fill(0.0);
        x[dim..2 * dim].iter_mut().for_each(|v| *v *= 1e-30);
        x[2 * dim..3 * dim].iter_mut().for_each(|v| *v *= 1e12);
        x[3 * dim..4 * dim].iter_mut().for_each(|v| *v = 1e-40);
        let twice = [&x[..20 * dim], &x[..20 * dim]].concat();
        same_labels(&cuda, &x, &twice, dim);
        same_labels(&cuda, &x, &rows(4, 50, dim, 1e-20), dim);
    }
}
