//! Gram matrices `X X^T`, the lower half only, in strips; and the products that go with them.
//!
//! The depth is walked in blocks, each converted or centred once while it lies in cache. Groups of blocks are summed apart and added
//! in order; how many there are follows from the shape alone, so that threads cannot matter. Cost: n^2 depth / 2 multiplications.

use super::product::product;
use crate::nn::{ISA, wide};
use crate::tile::{LANES as PANEL, tile_f32};
use rayon::prelude::*;
use std::ops::Range;

/// Depth of a block: sums in f32 are no longer than this.
const BLOCK: usize = 256;
/// Rows that the mean is taken of: any row may be split off, one near the mean is best.
pub(super) const MEAN_ROWS: usize = 32;
/// Rows of a strip.
const STRIP: usize = 48;
/// Up to so many rows products are tried in f32, and several groups of blocks are summed at once.
pub(super) const FEW_ROWS: usize = 1024;
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

    /// Of products in f32 that were made elsewhere, the largest square `own`: good for [`Gram::error`] alone.
    pub(super) fn rounded(own: f64) -> Self {
        Self { n: 0, lower: Vec::new(), single: f64::from(f32::EPSILON) * own }
    }

    /// What rounding in f32 may have done to an eigenvalue. Its errors are random: they move one that stands out far less than those
    /// that are no larger than themselves.
    pub(super) fn error(&self, value: f64) -> f64 {
        if value > 32.0 * self.single { self.single / 8.0 } else { 4.0 * self.single }
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

/// Rows, and their sums with all rows up to the last of them, row-major.
type Strip = (Range<usize>, Vec<f64>);

/// Sums of one group of blocks, and room for one block.
struct Sums {
    n: usize,
    strips: Vec<Strip>,
    /// Inner products of the rows with the mean row, and of that with itself.
    along: Vec<f64>,
    mean_square: f64,
    words: Vec<u32>,
    panels: Vec<u32>,
}

impl Sums {
    fn new(n: usize) -> Self {
        let cut = |t: usize| t * STRIP..((t + 1) * STRIP).min(n);
        let strips = (0..n.div_ceil(STRIP)).map(|t| (cut(t), vec![0.0; cut(t).len() * cut(t).end])).collect();
        Self { n, strips, along: vec![0.0; n], mean_square: 0.0, words: Vec::new(), panels: Vec::new() }
    }

    fn plus(mut self, other: &Self) -> Self {
        for (own, its) in self.strips.iter_mut().zip(&other.strips) {
            own.1.iter_mut().zip(&its.1).for_each(|(a, b)| *a += b);
        }
        self.along.iter_mut().zip(&other.along).for_each(|(a, b)| *a += b);
        self.mean_square += other.mean_square;
        self
    }

    /// Add the products of a block of doubles.
    fn add(&mut self, block: &[f64], depth: usize, steps: (usize, usize), alone: bool) {
        let one = |(rows, sums): &mut Strip| {
            let (a, b) = (&block[rows.start * steps.0..], block);
            product(sums, true, (rows.len(), rows.end, depth), (a, steps.0, steps.1), (b, steps.1, steps.0));
        };
        if alone { self.strips.iter_mut().for_each(one) } else { self.strips.par_iter_mut().for_each(one) }
    }

    /// Add the products of the block of singles in `words`, row-major.
    fn add_single(&mut self, depth: usize, alone: bool) {
        pack(&self.words, depth, &mut self.panels);
        let (words, panels) = (&self.words, &self.panels);
        let one = |(rows, sums): &mut Strip| {
            let width = rows.end.next_multiple_of(PANEL);
            let (bias, mut products) = ([0f32; FEW_ROWS], vec![0f32; rows.len() * width]);
            let (a, b) = (&words[rows.start * depth..rows.end * depth], &panels[..width * depth]);
            tile_f32(*ISA, a, b, depth, &bias[..width], &mut products);
            for (line, found) in sums.chunks_exact_mut(rows.end).zip(products.chunks_exact(width)) {
                line.iter_mut().zip(found).for_each(|(sum, p)| *sum += f64::from(*p));
            }
        };
        if alone { self.strips.iter_mut().for_each(one) } else { self.strips.par_iter_mut().for_each(one) }
    }

    /// The mean row put back.
    fn gram(&self) -> Gram {
        let mut gram = Gram::zero(self.n);
        for (rows, sums) in &self.strips {
            for (row, line) in rows.clone().zip(sums.chunks_exact(rows.end)) {
                for (column, sum) in line.iter().enumerate().take(row + 1) {
                    gram.lower[row * self.n + column] = sum + (self.along[row] + self.along[column] + self.mean_square);
                }
            }
        }
        gram
    }

    fn largest(&self) -> f64 {
        let own = |(rows, sums): &Strip| {
            rows.clone().map(|row| sums[(row - rows.start) * rows.end + row]).fold(0.0, f64::max)
        };
        self.strips.iter().map(own).fold(0.0, f64::max)
    }
}

wide! {
    /// Rows of words into panels, the last one filled with zeros.
    fn pack(words: &[u32], depth: usize, panels: &mut Vec<u32>) {
        let rows = words.len() / depth;
        panels.resize(rows.next_multiple_of(PANEL) * depth, 0);
        let padding = vec![0u32; depth];
        for (group, panel) in panels.chunks_exact_mut(PANEL * depth).enumerate() {
            let line = |l: usize| words.get((group * PANEL + l) * depth..).and_then(|rest| rest.get(..depth)).unwrap_or(&padding);
            let lines: [&[u32]; PANEL] = std::array::from_fn(line);
            let blocks = lines.map(|line| line.as_chunks::<PANEL>().0);
            for (at, square) in panel.chunks_exact_mut(PANEL * PANEL).enumerate() {
                let from: [&[u32; PANEL]; PANEL] = std::array::from_fn(|l| &blocks[l][at]);
                for (t, slots) in square.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                    *slots = std::array::from_fn(|l| from[l][t]);
                }
            }
            for t in depth / PANEL * PANEL..depth {
                (0..PANEL).for_each(|l| panel[t * PANEL + l] = lines[l][t]);
            }
        }
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

/// `X X^T` with products in single precision of the rows less the mean of some of them, which is put back exactly. Row-major, few rows
/// only.
pub(super) fn centred(x: &View<'_, f32>) -> Gram {
    let sums = walk(x.rows, x.depth, |sums, range, alone| {
        let depth = range.len();
        let mut mean = vec![0.0; depth];
        let apart = x.rows.div_ceil(MEAN_ROWS);
        x.data.chunks_exact(x.depth).step_by(apart).for_each(|row| add_row(&mut mean, &row[range.clone()]));
        mean.iter_mut().for_each(|m| *m /= x.rows.div_ceil(apart) as f64);
        sums.words.resize(x.rows * depth, 0);
        for (i, out) in sums.words.chunks_exact_mut(depth).enumerate() {
            sums.along[i] += centre(&x.data[i * x.depth..][range.clone()], &mean, out);
        }
        sums.mean_square += mean.iter().map(|m| m * m).sum::<f64>();
        sums.add_single(depth, alone);
    });
    Gram { single: f64::from(f32::EPSILON) * sums.largest(), ..sums.gram() }
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
    fn centre(row: &[f32], mean: &[f64], out: &mut [u32]) -> f64 {
        let mut lanes = [0f64; LANES];
        let (rows, tail) = row.as_chunks::<LANES>();
        let (means, mean_tail) = mean.as_chunks::<LANES>();
        let (outs, out_tail) = out.as_chunks_mut::<LANES>();
        for ((x, m), c) in rows.iter().zip(means).zip(outs) {
            for l in 0..LANES {
                let less = (f64::from(x[l]) - m[l]) as f32;
                c[l] = less.to_bits();
                lanes[l] = f64::from(less).mul_add(m[l], lanes[l]);
            }
        }
        let mut sum = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
        for ((x, m), c) in tail.iter().zip(mean_tail).zip(out_tail) {
            let less = (f64::from(*x) - m) as f32;
            *c = less.to_bits();
            sum = f64::from(less).mul_add(*m, sum);
        }
        sum
    }
}
