//! Takes the rows of the highest quality score: right when the score is to be trusted and variety does not matter.
//!
//! Falling `score.quality`, ties to the lower row id. Source: own work; the plain form of what DEITA and
//! `InstructMining` do after scoring. Cost: n log n time, 24 n bytes.

use crate::limit::Limit;
use crate::ranking::{Ranking, sortable};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The highest quality scores first; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopScore {}

impl Algorithm for TopScore {
    const INFO: Info = Info {
        name: "top-score",
        summary: "Takes the rows of the highest quality score, whatever they resemble.",
        source: "own work; the last step of DEITA and InstructMining",
        cost: "n log n time, 24 n bytes",
    };
}

impl Selector for TopScore {
    fn needs(&self) -> Vec<Column> {
        vec![Column::QUALITY]
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let (ids, quality) = (pool.ids()?, pool.numbers(&Column::QUALITY)?);
        ctx.tick(ids.len() as u64)?;
        let n = ids.len();
        Ranking::by(&ids, |p| sortable(quality[p]))
            .select(&limit, &quality, |p, rank| format!("quality {}, place {rank} of {n} rows", quality[p]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    use std::sync::Arc;

    #[test]
    fn the_best_two_of_three() {
        let quality = Arc::new(Float32Array::from(vec![0.5, -1.0, 0.75])) as ArrayRef;
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("score.quality", quality)]).unwrap());
        let picked = TopScore {}.select(&pool, Budget::Rows(2), &Ctx::new(0)).unwrap();
        assert_eq!(picked.rows(), [2, 0]);
        assert_eq!(picked.picks[0].reason, "quality 0.75, place 1 of 3 rows");
        assert_eq!(picked.assessment.unwrap().place, [2, 3, 1]);
    }
}
