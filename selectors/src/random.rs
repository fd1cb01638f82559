//! Draws rows uniformly without replacement: what every other method must beat.
//!
//! `key_i = hash(seed, row id i)`; the rows of the largest keys, largest first.
//! Source: own work; sorting by random keys is the usual way to draw without replacement. Every row's key depends on
//! nothing but seed and row id, so that the choice for a smaller budget begins the choice for a larger one.
//! Cost: n log n time, 24 n bytes.

use crate::limit::Limit;
use crate::ranking::Ranking;
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Uniform draw without replacement; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Random {}

impl Algorithm for Random {
    const INFO: Info = Info {
        name: "random",
        summary: "Draws rows uniformly at random; the baseline that every other method must beat.",
        source: "own work",
        cost: "n log n time, 24 n bytes",
    };
}

impl Selector for Random {
    fn needs(&self) -> Vec<Column> {
        Vec::new()
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        let limit = Limit::of(pool, budget)?;
        let (ids, stream) = (pool.ids()?, ctx.stream("random"));
        ctx.tick(ids.len() as u64)?;
        let keys: Vec<u64> = ids.iter().map(|&id| stream(id).bits()).collect();
        let score: Vec<f32> = keys.iter().map(|&key| share(key)).collect();
        let n = ids.len();
        Ranking::by(&ids, |p| keys[p]).select(&limit, &score, |_, rank| {
            format!("drawn at random, place {rank} of {n} rows in the shuffled order")
        })
    }
}

/// The key as a number in [0, 1).
#[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
fn share(key: u64) -> f32 {
    (key >> 40) as f32 / (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_shares() {
        assert_eq!((share(0), share(1 << 63)), (0.0, 0.5));
        assert!(share(u64::MAX) < 1.0);
    }
}
