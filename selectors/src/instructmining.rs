//! Takes the rows for which a linear rule over their indicators predicts the lowest loss after training on them.
//!
//! Falling `score.instructmining`, which is minus the predicted log loss, as the scorer of that name gives it; another
//! version or a rule of one's own is set there (`--score instructmining:version=v1`). Source: `InstructMining` (Cao et
//! al. 2023), selection by the fitted rule. Deviation: the size of the set is the budget; the later version searches it by
//! training. Ties go to the lower row id. Cost: n log n time, 24 n bytes.

use crate::limit::Limit;
use crate::ranking::{Ranking, sortable};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The lowest predicted losses first; its parameters are those of the scorer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InstructMining {}

impl Algorithm for InstructMining {
    const INFO: Info = Info {
        name: "instructmining",
        summary: "Takes the rows for which a linear rule over indicators predicts the lowest loss.",
        source: "InstructMining (Cao et al. 2023), selection by the fitted rule",
        cost: "n log n time, 24 n bytes; the indicators come from models",
    };
}

impl Selector for InstructMining {
    fn needs(&self) -> Vec<Column> {
        vec![Column::score("instructmining")]
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let (ids, scores) = (pool.ids()?, pool.numbers(&Column::score("instructmining"))?);
        ctx.tick(ids.len() as u64)?;
        let n = ids.len();
        Ranking::by(&ids, |p| sortable(scores[p])).select(&limit, &scores, |p, rank| {
            format!("predicted log loss {:.4}, place {rank} of {n} rows", 0.0 - scores[p])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    use std::sync::Arc;

    #[test]
    fn the_lowest_predicted_loss_comes_first() {
        let scores = Arc::new(Float32Array::from(vec![-0.5, 0.2, -0.5])) as ArrayRef;
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("score.instructmining", scores)]).unwrap());
        let picked = InstructMining {}.select(&pool, Budget::Rows(2), &Ctx::new(0)).unwrap();
        assert_eq!(picked.rows(), [1, 0]);
        assert_eq!(picked.picks[1].reason, "predicted log loss 0.5000, place 2 of 3 rows");
    }
}
