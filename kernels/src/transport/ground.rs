//! Costs of moving mass: a matrix as it is, or a ground distance between two clouds of points.
//!
//! Squared Euclidean, Euclidean, cosine (one minus; a zero vector counts as orthogonal to all). Rows in double precision
//! come from differences; tiles in single precision from one matrix product of the clouds moved to their common centre,
//! so that clouds far from the origin lose nothing. Source: the definitions. Cost: n m d, memory 4 (n + m) d bytes.

use crate::nn::{Mat, MatMut, gemm_alone, wide};
use crate::{KernelError, MatRef};
use rayon::prelude::*;
use std::ops::Range;

/// A ground distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Squared Euclidean distance.
    SqEuclidean,
    /// Euclidean distance.
    Euclidean,
    /// One minus the cosine.
    Cosine,
}

/// A cost matrix that is asked for by rows.
pub trait Costs: Sync {
    /// Number of rows.
    fn rows(&self) -> usize;

    /// Number of columns.
    fn cols(&self) -> usize;

    /// Row `i`, in double precision.
    fn row(&self, i: usize, out: &mut [f64]);

    /// The clouds these costs are distances of, if they are.
    #[doc(hidden)]
    fn clouds(&self) -> Option<Clouds> {
        None
    }

    /// Some rows in single precision, one after another.
    fn tile(&self, rows: Range<usize>, out: &mut [f32]) {
        let mut wide = vec![0.0; self.cols()];
        for (i, row) in rows.zip(out.chunks_exact_mut(self.cols())) {
            self.row(i, &mut wide);
            row.iter_mut().zip(&wide).for_each(|(to, from)| *to = *from as f32);
        }
    }
}

/// Two clouds as a device wants them: rows first, columns second.
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct Clouds {
    /// Points as they are, and centred or of unit length.
    pub(crate) raw: [Vec<f32>; 2],
    pub(crate) ready: [Vec<f32>; 2],
    /// Squared lengths of `ready`; one over the lengths of `raw`.
    pub(crate) norms: [Vec<f32>; 2],
    pub(crate) inverse: [Vec<f64>; 2],
    pub(crate) dim: usize,
    pub(crate) ground: Ground,
}

impl Clouds {
    /// Every `step`-th row, and all columns.
    pub(super) fn thinned(mut self, step: usize) -> Self {
        let rows = |of: &[f32], dim: usize| of.chunks_exact(dim).step_by(step).flatten().copied().collect::<Vec<f32>>();
        (self.raw[0], self.ready[0]) = (rows(&self.raw[0], self.dim), rows(&self.ready[0], self.dim));
        self.norms[0] = rows(&self.norms[0], 1);
        self.inverse[0] = self.inverse[0].iter().step_by(step).copied().collect();
        self
    }
}

/// One number for each of `n` rows, computed side by side.
pub fn each_row<T: Send>(n: usize, score: impl Fn(usize) -> T + Send + Sync) -> Vec<T> {
    (0..n).into_par_iter().map(score).collect()
}

/// All costs, computed in double precision and kept in single.
#[must_use]
pub fn narrow(costs: &dyn Costs) -> Vec<f32> {
    let m = costs.cols();
    let mut all = vec![0.0f32; costs.rows() * m];
    let fill = |wide: &mut Vec<f64>, (i, row): (usize, &mut [f32])| {
        wide.resize(m, 0.0);
        costs.row(i, wide);
        row.iter_mut().zip(wide).for_each(|(to, from)| *to = *from as f32);
    };
    all.par_chunks_mut(m).enumerate().for_each_init(Vec::new, fill);
    all
}

/// A matrix in memory, row after row.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    data: &'a [f64],
    cols: usize,
}

impl<'a> Dense<'a> {
    /// View `data` as rows of `cols` numbers.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the matrix is empty or not rectangular, [`KernelError::NotFinite`] with the row.
    pub fn new(data: &'a [f64], cols: usize) -> Result<Self, KernelError> {
        if cols == 0 || data.is_empty() || !data.len().is_multiple_of(cols) {
            return Err(KernelError::Shape {
                op: "transport",
                expected: format!("whole rows of {cols} costs"),
                got: format!("{} numbers", data.len()),
            });
        }
        match data.iter().position(|c| !c.is_finite()) {
            Some(at) => Err(KernelError::NotFinite { op: "transport", row: at / cols }),
            None => Ok(Self { data, cols }),
        }
    }
}

impl Costs for Dense<'_> {
    fn rows(&self) -> usize {
        self.data.len() / self.cols
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn row(&self, i: usize, out: &mut [f64]) {
        out.copy_from_slice(&self.data[i * self.cols..(i + 1) * self.cols]);
    }
}

/// One cloud, as it is and as the products want it.
#[derive(Clone, Debug)]
struct Cloud<'a> {
    raw: MatRef<'a>,
    /// Centred, or of unit length for cosines.
    ready: Vec<f32>,
    /// Squared lengths of `ready`.
    norms: Vec<f32>,
    /// One over the length, for cosines.
    inverse: Vec<f64>,
}

impl<'a> Cloud<'a> {
    fn new(raw: MatRef<'a>, ground: Ground, centre: &[f32]) -> Self {
        let length = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let inverse: Vec<f64> =
            (0..raw.rows()).map(|i| length(raw.row(i))).map(|l| if l > 0.0 { 1.0 / l } else { 0.0 }).collect();
        let mut ready = raw.data().to_vec();
        for (row, scale) in ready.chunks_exact_mut(raw.dim()).zip(&inverse) {
            match ground {
                Ground::Cosine => row.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32),
                _ => row.iter_mut().zip(centre).for_each(|(v, c)| *v -= c),
            }
        }
        let norms = ready.chunks_exact(raw.dim()).map(|row| length(row).powi(2) as f32).collect();
        Self { raw, ready, norms, inverse }
    }
}

/// Distances between two clouds of points.
#[derive(Clone, Debug)]
pub struct Points<'a> {
    x: Cloud<'a>,
    y: Cloud<'a>,
    ground: Ground,
}

impl<'a> Points<'a> {
    /// Rows are the points of `x`, columns those of `y`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a cloud is empty or the dimensions differ; [`KernelError::NotFinite`] with the row of
    /// `x` (or `x.rows()` plus that of `y`) that holds NaN, infinity or numbers too large to be squared.
    pub fn new(x: MatRef<'a>, y: MatRef<'a>, ground: Ground) -> Result<Self, KernelError> {
        if x.dim() != y.dim() || x.rows() == 0 || y.rows() == 0 {
            return Err(KernelError::Shape {
                op: "transport",
                expected: format!("points of {} numbers on both sides", x.dim()),
                got: format!("{} and {} points of {}", x.rows(), y.rows(), y.dim()),
            });
        }
        let finite = |row: &[f32]| row.iter().map(|&v| v * v).sum::<f32>().is_finite();
        let rows = (0..x.rows()).map(|i| x.row(i)).chain((0..y.rows()).map(|j| y.row(j)));
        if let Some(row) = rows.into_iter().position(|row| !finite(row)) {
            return Err(KernelError::NotFinite { op: "transport", row });
        }
        let centre = centre(y);
        Ok(Self { x: Cloud::new(x, ground, &centre), y: Cloud::new(y, ground, &centre), ground })
    }
}

fn centre(y: MatRef<'_>) -> Vec<f32> {
    let mut sum = vec![0.0f64; y.dim()];
    for j in 0..y.rows() {
        sum.iter_mut().zip(y.row(j)).for_each(|(s, &v)| *s += f64::from(v));
    }
    sum.into_iter().map(|s| (s / y.rows() as f64) as f32).collect()
}

impl Costs for Points<'_> {
    fn rows(&self) -> usize {
        self.x.raw.rows()
    }

    fn cols(&self) -> usize {
        self.y.raw.rows()
    }

    fn row(&self, i: usize, out: &mut [f64]) {
        let x = self.x.raw.row(i);
        match self.ground {
            Ground::SqEuclidean => sq_dist_row(x, self.y.raw.data(), out),
            Ground::Euclidean => {
                sq_dist_row(x, self.y.raw.data(), out);
                out.iter_mut().for_each(|c| *c = c.sqrt());
            }
            Ground::Cosine => {
                dot_row(x, self.y.raw.data(), out);
                let scale = self.x.inverse[i];
                out.iter_mut().zip(&self.y.inverse).for_each(|(c, s)| *c = (1.0 - *c * s * scale).max(0.0));
            }
        }
    }

    fn clouds(&self) -> Option<Clouds> {
        let (x, y) = (&self.x, &self.y);
        Some(Clouds {
            raw: [x.raw.data().to_vec(), y.raw.data().to_vec()],
            ready: [x.ready.clone(), y.ready.clone()],
            norms: [x.norms.clone(), y.norms.clone()],
            inverse: [x.inverse.clone(), y.inverse.clone()],
            dim: x.raw.dim(),
            ground: self.ground,
        })
    }

    fn tile(&self, rows: Range<usize>, out: &mut [f32]) {
        let (d, m) = (self.x.raw.dim(), self.cols());
        let a = Mat::new(&self.x.ready[rows.start * d..rows.end * d], rows.len(), d);
        let b = Mat::new(&self.y.ready, m, d).t();
        let factor = if self.ground == Ground::Cosine { -1.0 } else { -2.0 };
        gemm_alone(MatMut::new(out, rows.len(), m), 0.0, factor, a, b);
        for (row, &norm) in out.chunks_exact_mut(m).zip(&self.x.norms[rows]) {
            match self.ground {
                Ground::Cosine => row.iter_mut().for_each(|c| *c = (1.0 + *c).max(0.0)),
                Ground::SqEuclidean => finish_squares(row, norm, &self.y.norms),
                Ground::Euclidean => {
                    finish_squares(row, norm, &self.y.norms);
                    row.iter_mut().for_each(|c| *c = c.sqrt());
                }
            }
        }
    }
}

fn finish_squares(row: &mut [f32], norm: f32, norms: &[f32]) {
    row.iter_mut().zip(norms).for_each(|(c, n)| *c = (*c + (norm + n)).max(0.0));
}

/// Lanes of a sum in double precision.
const WIDE: usize = 8;

#[inline(always)]
fn fold(a: &[f32], b: &[f32], term: impl Fn(f64, f64, f64) -> f64) -> f64 {
    let mut lanes = [0.0f64; WIDE];
    let (whole_a, rest_a) = a.as_chunks::<WIDE>();
    let (whole_b, rest_b) = b.as_chunks::<WIDE>();
    for (x, y) in whole_a.iter().zip(whole_b) {
        for i in 0..WIDE {
            lanes[i] = term(f64::from(x[i]), f64::from(y[i]), lanes[i]);
        }
    }
    for (i, (x, y)) in rest_a.iter().zip(rest_b).enumerate() {
        lanes[i] = term(f64::from(*x), f64::from(*y), lanes[i]);
    }
    (lanes[0] + lanes[4]) + (lanes[1] + lanes[5]) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))
}

wide! {
    /// Squared distances of one point to all of `y`.
    fn sq_dist_row(x: &[f32], y: &[f32], out: &mut [f64]) {
        for (to, y) in out.iter_mut().zip(y.chunks_exact(x.len())) {
            *to = fold(x, y, |a, b, sum| (a - b).mul_add(a - b, sum));
        }
    }
}

wide! {
    /// Inner products of one point with all of `y`.
    fn dot_row(x: &[f32], y: &[f32], out: &mut [f64]) {
        for (to, y) in out.iter_mut().zip(y.chunks_exact(x.len())) {
            *to = fold(x, y, f64::mul_add);
        }
    }
}
