//! Takes the rows whose instruction helps a model least to write their answer, as long as it helps at all.
//!
//! Falling `score.ifd`: IFD = loss of the answer after its instruction / loss of the answer alone, as the scorer of that
//! name gives it. A row whose IFD reaches `ceiling` (the instruction hinders) or that the scorer marked as such by a
//! negative sign does not belong to its instruction. Source: Li et al. 2024 (Cherry); Superfiltering (Li et al.
//! 2024). Deviation: such rows are not dropped but come last, the least bad first, and the report counts those
//! that the budget reached. Ties go to the lower row id. Cost: n log n time, 24 n bytes.

use crate::grouping::warn;
use crate::limit::Limit;
use crate::ranking::{Ranking, sortable};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Parameters of the choice by difficulty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ifd {
    /// From this IFD on an instruction hinders more than it helps.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub ceiling: f64,
}

impl Default for Ifd {
    fn default() -> Self {
        Self { ceiling: 1.0 }
    }
}

impl Algorithm for Ifd {
    const INFO: Info = Info {
        name: "ifd",
        summary: "Takes the rows whose instruction helps a model least, misfits last.",
        source: "Li et al. 2024 (Cherry); Superfiltering (Li et al. 2024)",
        cost: "n log n time, 24 n bytes; the score is two forward passes over the rows",
    };
}

impl Selector for Ifd {
    fn needs(&self) -> Vec<Column> {
        vec![Column::score("ifd")]
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let (ids, scores) = (pool.ids()?, pool.numbers(&Column::score("ifd"))?);
        ctx.tick(ids.len() as u64)?;
        let ranked: Vec<f32> = scores.iter().map(|&score| self.ranked(score)).collect();
        let mut chosen = Ranking::by(&ids, |p| sortable(ranked[p]))
            .select(&limit, &ranked, |p, rank| reason(scores[p], ranked[p] < 0.0, (rank, ids.len())))?;
        let misfits = ranked.iter().filter(|&&score| score < 0.0).count();
        let taken = chosen.picks.iter().filter(|pick| pick.score < 0.0).count();
        chosen.report.insert("misfit_rows".into(), json!(misfits));
        chosen.report.insert("misfits_taken".into(), json!(taken));
        if taken > 0 {
            warn(&mut chosen.report, "the budget reaches rows whose instruction does not help: ask for fewer rows");
        }
        Ok(chosen)
    }
}

impl Ifd {
    /// The IFD, or minus the IFD of a misfit.
    fn ranked(&self, score: f32) -> f32 {
        let fits = score >= 0.0 && f64::from(score) < self.ceiling;
        if fits { score + 0.0 } else { -score.abs().max(f32::MIN_POSITIVE) }
    }
}

fn reason(score: f32, misfit: bool, (rank, n): (usize, usize)) -> String {
    let what = if misfit { "its instruction does not help" } else { "its instruction helps little" };
    format!("IFD {:.4}: {what}; place {rank} of {n} rows", score.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    use std::sync::Arc;

    #[test]
    fn hardest_first_and_misfits_last() {
        let scores = Arc::new(Float32Array::from(vec![0.5, 1.0, 0.9, -1.5, 0.0, 1.2])) as ArrayRef;
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("score.ifd", scores)]).unwrap());
        let choose = |rows| Ifd::default().select(&pool, Budget::Rows(rows), &Ctx::new(0)).unwrap();
        assert_eq!(choose(6).rows(), [2, 0, 4, 1, 5, 3]);
        assert_eq!(choose(6).report["misfits_taken"], 3);
        assert!(choose(4).report.contains_key("warnings") && !choose(3).report.contains_key("warnings"));
    }
}
