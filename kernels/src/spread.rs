//! How far rows lie from a set of others, on average: `d_i = 1/m sum_j |q_i - b_j|`.
//!
//! Formula as it stands, differences and sums in f64, because a set that lies close together would lose its digits in
//! `|q|^2 + |b|^2 - 2 q b`. Source: the memory distance of UDS (arXiv 2510.16882). Every distance is summed over eight fixed lanes
//! with fused multiply-add, distances in the order of the base rows: the same bits for any number of threads and any instruction
//! set. Cost: `n m d` differences; every base row is read once for all queries.

use crate::backend::check_len;
use crate::nn::wide;
use crate::{KernelError, MatRef};
use rayon::prelude::*;

/// Sums of a distance.
const LANES: usize = 8;
/// Queries that are compared with a base row at once.
const AT_ONCE: usize = 4;
/// Differences that a task takes at least.
const TASK: usize = 1 << 18;

/// Mean Euclidean distance of every query to all rows of `base`; zeros where it has none.
///
/// # Errors
/// [`KernelError::Shape`] when the dimensions disagree.
pub fn mean_distances(queries: MatRef<'_>, base: MatRef<'_>) -> Result<Vec<f64>, KernelError> {
    let (n, dim) = (queries.rows(), queries.dim());
    if n == 0 || base.rows() == 0 {
        return Ok(vec![0.0; n]);
    }
    check_len("mean_distances", "columns", base.dim(), dim)?;
    let wide = laid_out(queries);
    let mut all = vec![0.0; base.rows() * n];
    let rows = (TASK / (n * dim)).max(1);
    let tasks = all.par_chunks_mut(rows * n).zip(base.data().par_chunks(rows * dim));
    tasks.for_each(|(out, rows)| distances(&wide, n, rows, dim, out));
    let mut sums = vec![0.0; n];
    for row in all.chunks_exact(n) {
        sums.iter_mut().zip(row).for_each(|(sum, distance)| *sum += distance);
    }
    Ok(sums.into_iter().map(|sum| sum / base.rows() as f64).collect())
}

/// The numbers of some queries that are looked at together: one lane of each for [`LANES`] columns.
type Tile = [[f64; LANES]; AT_ONCE];

/// Queries in groups of [`AT_ONCE`], tile after tile; zeros fill up what is missing.
fn laid_out(queries: MatRef<'_>) -> Vec<Tile> {
    let (n, tiles) = (queries.rows(), queries.dim().div_ceil(LANES));
    let mut all = vec![[[0.0; LANES]; AT_ONCE]; n.div_ceil(AT_ONCE) * tiles];
    for query in 0..n {
        let group = &mut all[query / AT_ONCE * tiles..][..tiles];
        for (tile, numbers) in group.iter_mut().zip(queries.row(query).chunks(LANES)) {
            tile[query % AT_ONCE].iter_mut().zip(numbers).for_each(|(wide, x)| *wide = f64::from(*x));
        }
    }
    all
}

/// Add the squared differences between a tile and the numbers of a base row.
#[inline(always)]
fn add(sums: &mut Tile, tile: &Tile, other: &[f32; LANES]) {
    let mut wide = [0.0; LANES];
    for lane in 0..LANES {
        wide[lane] = f64::from(other[lane]);
    }
    for query in 0..AT_ONCE {
        for lane in 0..LANES {
            let difference = tile[query][lane] - wide[lane];
            sums[query][lane] = difference.mul_add(difference, sums[query][lane]);
        }
    }
}

#[inline(always)]
fn roots(sums: &Tile, out: &mut [f64]) {
    out.iter_mut().zip(sums).for_each(|(out, lanes)| *out = lanes.iter().sum::<f64>().sqrt());
}

wide! {
    /// `out[j, i] = |q_i - b_j|`, two base rows at a time: what is read of the queries serves both.
    fn distances(queries: &[Tile], n: usize, base: &[f32], dim: usize, out: &mut [f64]) {
        let tiles = dim.div_ceil(LANES);
        for (rows, out) in base.chunks(2 * dim).zip(out.chunks_mut(2 * n)) {
            let (one, two) = rows.split_at(dim);
            // A row without a second is its own.
            let two = if two.is_empty() { one } else { two };
            let ((one, one_rest), (two, two_rest)) = (one.as_chunks::<LANES>(), two.as_chunks::<LANES>());
            for (at, group) in queries.chunks_exact(tiles).enumerate() {
                let (mut a, mut b) = ([[0.0; LANES]; AT_ONCE], [[0.0; LANES]; AT_ONCE]);
                for ((tile, one), two) in group.iter().zip(one).zip(two) {
                    add(&mut a, tile, one);
                    add(&mut b, tile, two);
                }
                if let Some(tile) = group.get(one.len()) {
                    let (mut one, mut two) = ([0.0; LANES], [0.0; LANES]);
                    one[..one_rest.len()].copy_from_slice(one_rest);
                    two[..two_rest.len()].copy_from_slice(two_rest);
                    add(&mut a, tile, &one);
                    add(&mut b, tile, &two);
                }
                let places = at * AT_ONCE..n.min((at + 1) * AT_ONCE);
                roots(&a, &mut out[places.clone()]);
                if let Some(out) = out.get_mut(n..) && !out.is_empty() {
                    roots(&b, &mut out[places]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(q: &[f32], b: &[f32]) -> f64 {
        q.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum::<f64>().sqrt()
    }

    proptest! {
        #[test]
        fn it_is_the_mean_of_the_distances(n in 0usize..7, m in 0usize..70, dim in 1usize..40, seed: u64) {
            let number = |at: usize| ((seed ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32 / 1e6 - 8.0;
            let (q, b): (Vec<f32>, Vec<f32>) = ((0..n * dim).map(number).collect(), (0..m * dim).map(|at| number(at + 999)).collect());
            let found = mean_distances(MatRef::new(&q, dim).unwrap(), MatRef::new(&b, dim).unwrap()).unwrap();
            prop_assert_eq!(found.len(), n);
            for (q, found) in q.chunks_exact(dim).zip(found) {
                let wanted = b.chunks_exact(dim).map(|b| plain(q, b)).sum::<f64>() / m.max(1) as f64;
                prop_assert!((found - wanted).abs() <= 1e-12 * wanted.max(1.0), "{found} {wanted}");
            }
        }
    }

    #[test]
    fn threads_do_not_matter_and_shapes_are_checked() {
        let data: Vec<f32> = (0..1100 * 257).map(|i| (i % 977) as f32 / 7.0).collect();
        let (q, b) = (MatRef::new(&data[..7 * 257], 257).unwrap(), MatRef::new(&data[7 * 257..], 257).unwrap());
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| mean_distances(q, b).unwrap())
        };
        assert_eq!(with(1), with(4));
        let alone = mean_distances(q.slice(3..4), b).unwrap();
        assert_eq!(alone[0], with(2)[3]);
        assert!(mean_distances(q, MatRef::new(&data[..256], 256).unwrap()).is_err());
    }
}
