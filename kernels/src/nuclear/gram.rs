//! Gram matrices `X X^T`, the lower half only, in tiles; and the products that go with them.
//!
//! The depth is walked in blocks, each converted or centred once while it lies in cache. Groups of blocks are summed apart and added
//! in order; how many there are follows from the shape alone, so that threads cannot matter. Cost: n^2 depth / 2 multiplications.

use crate::MatRef;
use crate::nn::wide;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Depth of a block: sums in f32 are no longer than this.
const BLOCK: usize = 512;
/// Rows and columns of a tile.
const TILE: usize = 64;
/// Up to so many rows several groups of blocks are summed at once.
const FEW_ROWS: usize = 512;
/// How many.
const GROUPS: usize = 16;
/// Lanes of a sum.
const LANES: usize = 8;

/// Rows of numbers: row-major `[rows, depth]`, or `[depth, rows]` where `by_depth`.
pub(super) struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) by_depth: bool,
}

/// A symmetric matrix, its lower half filled, and how far its entries may be off through rounding in f32.
pub(super) struct Gram {
    pub(super) n: usize,
    pub(super) lower: Vec<f64>,
    single: f64,
}

impl Gram {
    pub(super) fn zero(n: usize) -> Self {
        Self { n, lower: vec![0.0; n * n], single: 0.0 }
    }

    /// Error of an eigenvalue that rounding in f32 may leave, 0 in double precision.
    pub(super) const fn error(&self) -> f64 {
        self.single
    }

    pub(super) fn is_finite(&self) -> bool {
        self.lower.iter().all(|v| v.is_finite())
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.lower.iter_mut().zip(&other.lower).for_each(|(a, b)| *a += b);
    }
}

impl<T: Copy + Into<f64>> View<'_, T> {
    /// The numbers of a part of the depth, in the order they lie in, and the steps from row to row and along the depth.
    fn part(&self, range: Range<usize>, out: &mut Vec<f64>) -> (usize, usize) {
        out.clear();
        if self.by_depth {
            out.extend(self.data[range.start * self.rows..range.end * self.rows].iter().map(|&v| v.into()));
            return (1, self.rows);
        }
        for row in self.data.chunks_exact(self.depth) {
            out.extend(row[range.clone()].iter().map(|&v| v.into()));
        }
        (range.len(), 1)
    }
}

/// Rows, columns and sums of a part of the matrix.
type Tile = (Range<usize>, Range<usize>, Vec<f64>);

/// Sums of one group of blocks.
struct Sums {
    n: usize,
    tiles: Vec<Tile>,
    /// Inner products of the rows with the mean row, and of that with itself.
    along: Vec<f64>,
    mean_square: f64,
}

impl Sums {
    fn new(n: usize) -> Self {
        let cut = |t: usize| t * TILE..((t + 1) * TILE).min(n);
        let pairs = (0..n.div_ceil(TILE)).flat_map(|i| (0..=i).map(move |j| (cut(i), cut(j))));
        let tiles = pairs.map(|(i, j)| (i.clone(), j.clone(), vec![0.0; i.len() * j.len()])).collect();
        Self { n, tiles, along: vec![0.0; n], mean_square: 0.0 }
    }

    fn plus(mut self, other: &Self) -> Self {
        for (own, its) in self.tiles.iter_mut().zip(&other.tiles) {
            own.2.iter_mut().zip(&its.2).for_each(|(a, b)| *a += b);
        }
        self.along.iter_mut().zip(&other.along).for_each(|(a, b)| *a += b);
        self.mean_square += other.mean_square;
        self
    }

    /// Add the products of a block of doubles.
    fn add(&mut self, block: &[f64], depth: usize, steps: (usize, usize), alone: bool) {
        let one = |(i, j, sums): &mut Tile| {
            let (a, b) = (&block[i.start * steps.0..], &block[j.start * steps.0..]);
            product(sums, true, (i.len(), j.len(), depth), (a, steps.0, steps.1), (b, steps.1, steps.0));
        };
        if alone { self.tiles.iter_mut().for_each(one) } else { self.tiles.par_iter_mut().for_each(one) }
    }

    /// Add the products of a block of singles, row-major.
    fn add_single(&mut self, block: &[f32], depth: usize, alone: bool) {
        let one = |(i, j, sums): &mut Tile| {
            let mut products = [0f32; TILE * TILE];
            let (a, b) = (&block[i.start * depth..], &block[j.start * depth..]);
            let products = &mut products[..sums.len()];
            product(products, false, (i.len(), j.len(), depth), (a, depth, 1), (b, 1, depth));
            sums.iter_mut().zip(products).for_each(|(sum, p)| *sum += f64::from(*p));
        };
        if alone { self.tiles.iter_mut().for_each(one) } else { self.tiles.par_iter_mut().for_each(one) }
    }

    /// The mean row put back.
    fn gram(&self) -> Gram {
        let mut gram = Gram::zero(self.n);
        for (i, j, sums) in &self.tiles {
            for (row, line) in i.clone().zip(sums.chunks_exact(j.len())) {
                for (column, sum) in j.clone().zip(line) {
                    gram.lower[row * self.n + column] = sum + (self.along[row] + self.along[column] + self.mean_square);
                }
            }
        }
        gram
    }

    fn largest(&self) -> f64 {
        let diagonal = self.tiles.iter().filter(|(i, j, _)| i == j);
        diagonal.flat_map(|(i, _, sums)| (0..i.len()).map(|at| sums[at * (i.len() + 1)])).fold(0.0, f64::max)
    }
}

/// `X X^T` in double precision.
pub(super) fn exact<T: Copy + Into<f64> + Sync>(x: &View<'_, T>) -> Gram {
    walk(x.rows, x.depth, |sums, range, alone| {
        let mut block = Vec::with_capacity(x.rows * range.len());
        let steps = x.part(range.clone(), &mut block);
        sums.add(&block, range.len(), steps, alone);
    })
    .gram()
}

/// `(U X) (U X)^T` in double precision, `U` row-major `[any, rows]`.
pub(super) fn projected<T: Copy + Into<f64> + Sync>(x: &View<'_, T>, u: &[f64]) -> Gram {
    let rows = u.len() / x.rows;
    walk(rows, x.depth, |sums, range, alone| {
        let (mut block, mut image) = (Vec::new(), vec![0.0; rows * range.len()]);
        let steps = x.part(range.clone(), &mut block);
        product(&mut image, false, (rows, range.len(), x.rows), (u, x.rows, 1), (&block, steps.0, steps.1));
        sums.add(&image, range.len(), (range.len(), 1), alone);
    })
    .gram()
}

/// `X X^T` with products in single precision of the rows less their mean, which is put back exactly. Row-major only.
pub(super) fn centred(x: &View<'_, f32>) -> Gram {
    let sums = walk(x.rows, x.depth, |sums, range, alone| {
        let mut mean = vec![0.0; range.len()];
        x.data.chunks_exact(x.depth).for_each(|row| add_row(&mut mean, &row[range.clone()]));
        mean.iter_mut().for_each(|m| *m /= x.rows as f64);
        let mut block = vec![0f32; x.rows * range.len()];
        for (i, out) in block.chunks_exact_mut(range.len()).enumerate() {
            sums.along[i] += centre(&x.data[i * x.depth..][range.clone()], &mean, out);
        }
        sums.mean_square += mean.iter().map(|m| m * m).sum::<f64>();
        sums.add_single(&block, range.len(), alone);
    });
    Gram { single: f64::from(f32::EPSILON) * sums.largest(), ..sums.gram() }
}

/// `X R^T`, row-major, in double precision; `R` is row-major `[rank, dim]`.
pub(super) fn times_transposed(x: MatRef<'_>, r: &[f64], rank: usize) -> Vec<f64> {
    let (dim, mut out) = (x.dim(), vec![0.0; x.rows() * rank]);
    out.par_chunks_mut(TILE * rank).enumerate().for_each(|(at, part)| {
        let rows = part.len() / rank;
        let block: Vec<f64> = x.data()[at * TILE * dim..][..rows * dim].iter().map(|&v| f64::from(v)).collect();
        product(part, false, (rows, rank, dim), (&block, dim, 1), (r, 1, dim));
    });
    out
}

/// Visit the blocks of the depth, groups of them at once where there are few rows.
fn walk(rows: usize, depth: usize, visit: impl Fn(&mut Sums, Range<usize>, bool) + Sync) -> Sums {
    let blocks = depth.div_ceil(BLOCK);
    let groups = if rows <= FEW_ROWS { GROUPS.min(blocks.max(1)) } else { 1 };
    let group = |g: usize| {
        let mut sums = Sums::new(rows);
        for b in g * blocks / groups..(g + 1) * blocks / groups {
            visit(&mut sums, b * BLOCK..((b + 1) * BLOCK).min(depth), groups > 1);
        }
        sums
    };
    let parts: Vec<Sums> = (0..groups).into_par_iter().map(group).collect();
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_else(|| Sums::new(rows));
    parts.fold(first, |sum, part| sum.plus(&part))
}

wide! {
    /// Add a row of singles to doubles.
    fn add_row(sums: &mut [f64], row: &[f32]) {
        sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += f64::from(v));
    }
}

wide! {
    /// Write a row less the mean; the inner product of what was written with the mean.
    fn centre(row: &[f32], mean: &[f64], out: &mut [f32]) -> f64 {
        let mut lanes = [0f64; LANES];
        let (rows, tail) = row.as_chunks::<LANES>();
        let (means, mean_tail) = mean.as_chunks::<LANES>();
        let (outs, out_tail) = out.as_chunks_mut::<LANES>();
        for ((x, m), c) in rows.iter().zip(means).zip(outs) {
            for l in 0..LANES {
                c[l] = (f64::from(x[l]) - m[l]) as f32;
                lanes[l] = f64::from(c[l]).mul_add(m[l], lanes[l]);
            }
        }
        let mut sum = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
        for ((x, m), c) in tail.iter().zip(mean_tail).zip(out_tail) {
            *c = (f64::from(*x) - m) as f32;
            sum = f64::from(*c).mul_add(*m, sum);
        }
        sum
    }
}

/// A factor of a product: numbers, step from row to row, step from column to column.
type Factor<'a, T> = (&'a [T], usize, usize);

/// `C (+)= A B` on the calling thread, `C` row-major `[m, n]`, `A` `[m, k]`, `B` `[k, n]`.
fn product<T: Number>(c: &mut [T], add: bool, (m, n, k): (usize, usize, usize), a: Factor<'_, T>, b: Factor<'_, T>) {
    let needs = |(_, rs, cs): Factor<'_, T>, rows: usize, columns: usize| (rows - 1) * rs + (columns - 1) * cs + 1;
    if m * n * k == 0 {
        return;
    }
    assert!(c.len() == m * n && a.0.len() >= needs(a, m, k) && b.0.len() >= needs(b, k, n), "shapes of a product");
    let step = |step: usize| step.cast_signed();
    // SAFETY: the assertion above holds every element that is touched inside the slices; `c` is borrowed to be written.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            step(n),
            add,
            a.0.as_ptr(),
            step(a.2),
            step(a.1),
            b.0.as_ptr(),
            step(b.2),
            step(b.1),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// What can be multiplied here.
trait Number: Copy + 'static {
    const ONE: Self;
}

impl Number for f32 {
    const ONE: Self = 1.0;
}

impl Number for f64 {
    const ONE: Self = 1.0;
}
