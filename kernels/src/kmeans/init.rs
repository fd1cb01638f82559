//! The k-means++ start, by an exponential race keyed on row ids.
//!
//! Each draw takes the row with the smallest `-ln(u_i) / D_i`, which is row `i` with probability `D_i / sum D`; `D_i` is
//! its squared distance to the rows drawn before (1 for the first), `u_i` a hash of (seed, restart, draw, row id).
//! Source: Arthur and Vassilvitskii 2007; the race is the exponential form of Gumbel-max. Deviation: on large data the
//! draws are made among the `max(4096, 16 k)` rows of smallest hash. Cost: s k d for s rows.

use rayon::prelude::*;

use super::Fit;
use crate::hash::{mix, unit};
use crate::{KernelError, MatRef};

/// Purposes of draws.
const SUBSAMPLE: u64 = 1;
const RACE: u64 = 2;

/// `k` rows of the data, row-major.
pub(super) fn plus_plus(fit: &Fit<'_>, restart: u32) -> Result<Vec<f32>, KernelError> {
    let (dim, k, seed) = (fit.x.dim(), fit.params.k, fit.params.seed);
    let rows = subsample(fit, restart);
    let data: Vec<f32> = rows.iter().flat_map(|&i| fit.x.row(i)).copied().collect();
    let (x, ids) = (MatRef::new(&data, dim)?, rows.iter().map(|&i| fit.id(i)).collect::<Vec<u64>>());
    let mut weight = vec![1f32; rows.len()];
    let mut drawn = vec![false; rows.len()];
    let mut sq_dist = vec![f32::MAX; rows.len()];
    let mut out = Vec::with_capacity(k * dim);
    for draw in 0..k as u64 {
        if !(fit.tick)(0) {
            return Err(KernelError::Stopped);
        }
        let key = |i: usize| -unit(mix(&[seed, RACE, u64::from(restart), draw, ids[i]])).ln() / f64::from(weight[i]);
        let open = (0..rows.len()).into_par_iter().with_min_len(1024).filter(|&i| !drawn[i]);
        let raced = open.map(|i| (key(i), ids[i], i));
        let Some((_, _, winner)) = raced.min_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2)))) else {
            break;
        };
        drawn[winner] = true;
        out.extend_from_slice(x.row(winner));
        fit.backend.min_sq_dist_update(x, x.row(winner), &mut sq_dist)?;
        weight.copy_from_slice(&sq_dist);
    }
    Ok(out)
}

/// Rows to draw from: all, or those of smallest hash; in order of their ids' hashes.
fn subsample(fit: &Fit<'_>, restart: u32) -> Vec<usize> {
    let wanted = (16 * fit.params.k).max(4096);
    let n = fit.x.rows();
    if n <= wanted {
        return (0..n).collect();
    }
    let key = |i: usize| (mix(&[fit.params.seed, SUBSAMPLE, u64::from(restart), fit.id(i)]), fit.id(i), i);
    let mut keyed: Vec<(u64, u64, usize)> = (0..n).map(key).collect();
    keyed.select_nth_unstable(wanted - 1);
    keyed.truncate(wanted);
    keyed.into_iter().map(|(_, _, i)| i).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cpu;
    use crate::kmeans::KMeansParams;

    #[test]
    fn far_groups_each_get_a_start() {
        let data = [0.0, 0.1, 0.2, 100.0, 100.1, -100.0];
        let params = KMeansParams::new(3, 5);
        let x = MatRef::new(&data, 1).unwrap();
        let fit =
            Fit { backend: &Cpu::new(), x, ids: None, params: &params, tick: &|_| true, largest: 0.0, total_sq: 0.0 };
        for restart in 0..10 {
            let mut start: Vec<f32> = plus_plus(&fit, restart).unwrap().iter().map(|v| (v / 100.0).round()).collect();
            start.sort_by(f32::total_cmp);
            assert_eq!(start, [-1.0, 0.0, 1.0]);
        }
    }
}
