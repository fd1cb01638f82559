//! The surrogate for interaction data: a small recommender (`SASRec`) that learns which item a user takes next, and the
//! influence of each user's sequence on the risk of the others.
//!
//! As for the surrogate on embeddings, users fall into two halves by lot; one half trains a model, the other gives the gradient `v` of the risk,
//! and the other way round. Influence is taken of one matrix, the last block's attention output: at each position the loss depends on it
//! through `context W` alone, so that with `a` the gradient of a logit by `context W` and `c` the context, the Gauss-Newton matrix is the
//! mean of `sigma' (c a^T)(c a^T)^T`. `influence_i = <(G + damping I)^-1 v, grad_i>`, one solve by conjugate gradients for all rows. Source: `DEALRec` (Lin et al.
//! 2024); `SASRec` (Kang and `McAuley` 2018). Deviations: the Gauss-Newton matrix in place of the Hessian (never indefinite), an exact
//! solve in place of a stochastic recursion, negatives fixed for each row, one attention head without biases, no dropout but few
//! epochs. Cost, for p positions, width d and e epochs: e p (36 d^2 + 2 t d) time for sequences of t items, then 4 p d^2 a step of the solver; 24 p d bytes.

mod items;
mod layers;
mod model;
mod params;
mod solve;
mod train;

pub(crate) use items::Histories;

use crate::linear::usize_f64;
use curate_core::{Ctx, Result};
use model::Sequence;
use params::Shape;
use solve::Curvature;

/// How the recommender is made and damped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Numbers of an item's vector.
    pub(crate) width: usize,
    /// Passes over the sequences.
    pub(crate) epochs: u64,
    /// Added to the curvature's diagonal, as a share of its mean.
    pub(crate) damping: f64,
}

/// A row's sequence, its id and the half it fell into.
pub(crate) struct User {
    sequence: Sequence,
    id: u64,
    half: bool,
}

/// Influence of every row of `histories`, in rising order of row ids; 0 for a row with fewer than two items.
///
/// # Errors
/// `memory/too-small`, `influence/not-solved`; `cancelled`.
pub(crate) fn influence(histories: &Histories, setting: Setting, ctx: &Ctx) -> Result<Vec<f64>> {
    let shape = Shape { width: setting.width, items: histories.items, length: histories.longest };
    let mut out = vec![0.0; histories.users.len()];
    for half in [false, true] {
        let of = |wanted: bool| -> Vec<usize> {
            let learns =
                |at: &usize| histories.users[*at].half == wanted && !histories.users[*at].sequence.next.is_empty();
            (0..histories.users.len()).filter(learns).collect()
        };
        let (own, other) = (of(half), of(!half));
        if own.is_empty() || other.is_empty() {
            continue;
        }
        let ctx = ctx.labelled(if half { "odd" } else { "even" });
        let params = train::train(&histories.pick(&own), shape, setting.epochs, &ctx)?;
        let risk = Curvature::of(&params, &histories.pick(&other), &ctx)?.risk();
        let curvature = Curvature::of(&params, &histories.pick(&own), &ctx)?;
        let solved = curvature.solve(&risk, setting.damping, &ctx)?;
        let size = risk.iter().map(|v| v * v).sum::<f64>().sqrt();
        ctx.progress().note(format!("length of the risk's gradient {size:.2e}"));
        own.iter().zip(curvature.along(&solved)).for_each(|(&at, value)| out[at] = value);
    }
    Ok(out)
}

/// Mean of values of sequences, each weighing the same.
fn share(count: usize) -> f64 {
    usize_f64(count.max(1)).recip()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Users who walk round a ring of items, and some who jump at random.
    #[test]
    fn users_who_contradict_the_others_have_the_least_influence() {
        let ctx = Ctx::new(5);
        let lists = (0..240u64).map(|id| {
            let mut rng = ctx.rng("users", id);
            let start = rng.below(12);
            let walk =
                |step: u64, rng: &mut curate_core::Rng| if id % 8 == 3 { rng.below(12) } else { (start + step) % 12 };
            (id, (0..6).map(|step| i64::try_from(walk(step, &mut rng)).unwrap()).collect::<Vec<i64>>())
        });
        let histories = Histories::of(lists.collect(), &ctx);
        let setting = Setting { width: 8, epochs: 30, damping: 0.01 };
        let found = influence(&histories, setting, &ctx).unwrap();
        let mean = |wanted: bool| {
            let of: Vec<f64> = (0..240).filter(|at| (at % 8 == 3) == wanted).map(|at| found[at]).collect();
            of.iter().sum::<f64>() / usize_f64(of.len())
        };
        assert!(mean(true) < mean(false), "{} {}", mean(true), mean(false));
        let mut worst: Vec<usize> = (0..240).collect();
        worst.sort_by(|&a, &b| found[a].total_cmp(&found[b]));
        let jumpers = worst[..30].iter().filter(|&&at| at % 8 == 3).count();
        assert!(jumpers >= 8, "{jumpers} of the 30 least are among the 30 who jump; by chance it were 4");
    }

    #[test]
    fn one_item_has_no_influence() {
        let ctx = Ctx::new(1);
        let lists = vec![(0, vec![]), (1, vec![7]), (2, vec![7, 9]), (3, vec![9, 7, 7]), (4, vec![7, 9, 7])];
        let found =
            influence(&Histories::of(lists, &ctx), Setting { width: 2, epochs: 2, damping: 0.1 }, &ctx).unwrap();
        assert_eq!(found[..2], [0.0, 0.0]);
        assert!(found.iter().all(|v| v.is_finite()));
    }
}
