//! Inner products of the gradients of single sequences, taken on the way back without storing those gradients.
//!
//! A linear map sees inputs x and output gradients g; the gradient of sequence i is `sum_t g_t x_t^T`, so that
//! `<G_i, G_j> = sum_{t in i, s in j} (g_t . g_s)(x_t . x_s)`. Source: Wang et al. 2024, GREATS (ghost inner products); Bu et al. 2022
//! for choosing a way by its cost. Deviation: where that is cheaper the gradients of one map, such as one side of an adapter, are made
//! and multiplied, then dropped. Cost, T tokens in all, b sequences, a map `in x out`: the lesser of `T^2 (in + out) / 2` and
//! `(T + b^2 / 2) in out`; memory: b^2 numbers and one map's work.
#![allow(clippy::cast_precision_loss)] // reason: counts decide between two ways

use crate::optim::sum_of_squares;
use curate_core::kernels::nn::{Mat, MatMut, gemm, gemm_alone};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers of single gradients of one map that may be held at once.
const HELD: usize = 1 << 24;

/// Rows of numbers: row-major, and how wide.
pub(crate) type Wide<'a> = (&'a [f32], usize);

/// Looks at a pass back and adds up inner products.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tap {
    rows: Vec<Range<usize>>,
    pairs: bool,
    head_only: bool,
    /// All pairs, `[count, count]`, or each with itself.
    products: Vec<f64>,
}

impl Tap {
    /// For so many sequences: all pairs, or each with itself.
    pub(crate) fn new(count: usize, pairs: bool) -> Self {
        let products = vec![0.0; if pairs { count * count } else { count }];
        Self { rows: Vec::new(), pairs, head_only: false, products }
    }

    /// Each with itself, by the weights of the head, trained or not.
    pub(crate) fn of_head(count: usize) -> Self {
        Self { head_only: true, ..Self::new(count, false) }
    }

    pub(crate) const fn head_only(&self) -> bool {
        self.head_only
    }

    pub(crate) const fn pairs(&self) -> bool {
        self.pairs
    }

    #[cfg(test)]
    fn products(&self) -> &[f64] {
        &self.products
    }

    pub(crate) fn into_products(self) -> Vec<f64> {
        self.products
    }

    /// Which rows of what comes next belong to each sequence.
    pub(crate) fn watch(&mut self, rows: Vec<Range<usize>>) {
        self.rows = rows;
    }

    /// A tensor whose gradient is `g^T x` joins in, its products times `factor`.
    pub(crate) fn add(&mut self, g: Wide<'_>, x: Wide<'_>, factor: f64) {
        let found = if self.whole_is_cheaper(g.1, x.1) { self.whole(g, x) } else { self.ghosts(g, x) };
        self.products.iter_mut().zip(found).for_each(|(sum, found)| *sum += factor * found);
    }

    fn whole_is_cheaper(&self, out: usize, input: usize) -> bool {
        let (count, size) = (self.rows.len(), out * input);
        let tokens: f64 = self.rows.iter().map(|rows| rows.len() as f64).sum();
        let squares: f64 = self.rows.iter().map(|rows| (rows.len() as f64).powi(2)).sum();
        let (ghosts, held, again) = if self.pairs {
            (tokens * tokens / 2.0, count * size, (count * count) as f64 / 2.0)
        } else {
            (squares, size, count as f64)
        };
        held <= HELD && (tokens + again) * size as f64 <= ghosts * (out + input) as f64
    }

    /// By the gradients themselves.
    fn whole(&self, g: Wide<'_>, x: Wide<'_>) -> Vec<f64> {
        let (count, size) = (self.rows.len(), g.1 * x.1);
        let gradient = |rows: &Range<usize>, to: &mut [f32]| {
            gemm_alone(MatMut::new(to, g.1, x.1), 0.0, 1.0, part(g, rows).t(), part(x, rows));
        };
        if !self.pairs {
            let square = |rows: &Range<usize>| {
                let mut own = vec![0.0; size];
                gradient(rows, &mut own);
                sum_of_squares(&own)
            };
            return self.rows.par_iter().map(square).collect();
        }
        let (mut all, mut products) = (vec![0f32; count * size], vec![0f32; count * count]);
        all.par_chunks_mut(size).zip(&self.rows).for_each(|(to, rows)| gradient(rows, to));
        let matrix = Mat::new(&all, count, size);
        gemm(MatMut::new(&mut products, count, count), 0.0, 1.0, matrix, matrix.t());
        products.into_iter().map(f64::from).collect()
    }

    /// By products of tokens.
    fn ghosts(&self, g: Wide<'_>, x: Wide<'_>) -> Vec<f64> {
        let count = self.rows.len();
        if !self.pairs {
            return self.rows.par_iter().map(|rows| ghost(g, x, rows, rows)).collect();
        }
        let pairs: Vec<(usize, usize)> = (0..count).flat_map(|i| (i..count).map(move |j| (i, j))).collect();
        let found: Vec<f64> = pairs.par_iter().map(|&(i, j)| ghost(g, x, &self.rows[i], &self.rows[j])).collect();
        let mut products = vec![0.0; count * count];
        for ((i, j), product) in pairs.into_iter().zip(found) {
            (products[i * count + j], products[j * count + i]) = (product, product);
        }
        products
    }
}

fn part<'a>((data, width): Wide<'a>, rows: &Range<usize>) -> Mat<'a> {
    Mat::new(&data[rows.start * width..rows.end * width], rows.len(), width)
}

fn ghost(g: Wide<'_>, x: Wide<'_>, one: &Range<usize>, other: &Range<usize>) -> f64 {
    let products = |of: Wide<'_>| {
        let mut products = vec![0f32; one.len() * other.len()];
        let c = MatMut::new(&mut products, one.len(), other.len());
        gemm_alone(c, 0.0, 1.0, part(of, one), part(of, other).t());
        products
    };
    products(g).iter().zip(products(x)).map(|(g, x)| f64::from(*g) * f64::from(x)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences of two tokens and one, a map 1 x 2: gradients are (1, 2) + 2 (0, 1) = (1, 4) and 3 (1, 1) = (3, 3).
    #[test]
    fn both_ways_by_hand() {
        let (g, x) = ([1.0, 2.0, 3.0], [1.0, 2.0, 0.0, 1.0, 1.0, 1.0]);
        let mut pairs = Tap::new(2, true);
        pairs.watch(vec![0..2, 2..3]);
        assert_eq!(pairs.ghosts((&g, 1), (&x, 2)), [17.0, 15.0, 15.0, 18.0]);
        assert_eq!(pairs.whole((&g, 1), (&x, 2)), [17.0, 15.0, 15.0, 18.0]);
        let mut own = Tap::new(2, false);
        own.watch(vec![0..2, 2..3]);
        assert_eq!(own.ghosts((&g, 1), (&x, 2)), [17.0, 18.0]);
        assert_eq!(own.whole((&g, 1), (&x, 2)), [17.0, 18.0]);
        own.add((&g, 1), (&x, 2), 2.0);
        assert_eq!(own.products(), [34.0, 36.0]);
        own.watch(vec![0..0, 2..3]);
        assert_eq!(own.ghosts((&g, 1), (&x, 2)), [0.0, 18.0]);
    }

    #[test]
    fn the_cheaper_way_is_taken() {
        let mut tap = Tap::new(2, true);
        tap.watch(vec![0..100, 100..200]);
        assert!(tap.whole_is_cheaper(64, 4) && !tap.whole_is_cheaper(512, 512));
        assert!(!tap.whole_is_cheaper(HELD, 1), "too much to hold");
    }
}
