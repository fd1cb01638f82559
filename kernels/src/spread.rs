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
    let wide: Vec<f64> = queries.data().iter().map(|x| f64::from(*x)).collect();
    let mut all = vec![0.0; base.rows() * n];
    let rows = (TASK / (n * dim)).max(1);
    let tasks = all.par_chunks_mut(rows * n).zip(base.data().par_chunks(rows * dim));
    tasks.for_each(|(out, rows)| distances(&wide, dim, rows, out));
    let mut sums = vec![0.0; n];
    for row in all.chunks_exact(n) {
        sums.iter_mut().zip(row).for_each(|(sum, distance)| *sum += distance);
    }
    Ok(sums.into_iter().map(|sum| sum / base.rows() as f64).collect())
}

wide! {
    /// `out[j, i] = |q_i - b_j|`.
    fn distances(queries: &[f64], dim: usize, base: &[f32], out: &mut [f64]) {
        let n = queries.len() / dim;
        for (row, out) in base.chunks_exact(dim).zip(out.chunks_exact_mut(n)) {
            for (group, out) in queries.chunks(AT_ONCE * dim).zip(out.chunks_mut(AT_ONCE)) {
                let mut sums = [[0.0f64; LANES]; AT_ONCE];
                for (at, row) in row.chunks(LANES).enumerate() {
                    let mut other = [0.0f64; LANES];
                    other.iter_mut().zip(row).for_each(|(wide, x)| *wide = f64::from(*x));
                    for (sums, query) in sums.iter_mut().zip(group.chunks_exact(dim)) {
                        let query = &query[at * LANES..];
                        if let Some(query) = query.first_chunk::<LANES>() {
                            for lane in 0..LANES {
                                let difference = query[lane] - other[lane];
                                sums[lane] = difference.mul_add(difference, sums[lane]);
                            }
                        } else {
                            for (lane, x) in query.iter().enumerate() {
                                let difference = x - other[lane];
                                sums[lane] = difference.mul_add(difference, sums[lane]);
                            }
                        }
                    }
                }
                out.iter_mut().zip(&sums).for_each(|(out, sums)| *out = sums.iter().sum::<f64>().sqrt());
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
