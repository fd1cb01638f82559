//! Effort: how far a row would move the model, the length of its gradient.
//!
//! `effort_i = |grad loss_i|_2` over the weights the model's signal is taken from (`signal.grad_norm`). Source: `DEALRec` (Lin et al. 2024).
//! Deviations: the gradient is of the weights that are trained, not of one adapter matrix; the model is in
//! evaluation mode, without dropout. `DEALRec`'s whole score is the expression `minmax(influence) + 0.5*minmax(effort)`. Cost: n.

use crate::reading::{finish, non_negative};
use arrow::array::Float32Array;
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of effort: none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Effort {}

impl Algorithm for Effort {
    const INFO: Info = Info {
        name: "effort",
        summary: "Scores a row by the length of its gradient: how far it would move the model.",
        source: "DEALRec (Lin et al. 2024), effort",
        cost: "n time, 12 n bytes; the gradients are a forward and backward pass over the rows",
    };
}

impl Scorer for Effort {
    fn needs(&self) -> Vec<Column> {
        vec![Column::signal("grad_norm")]
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        finish(Self::INFO.name, &non_negative(pool, &Column::signal("grad_norm"))?, pool, ctx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch};
    use std::sync::Arc;

    #[test]
    fn a_norm_is_never_negative() {
        let norms = Arc::new(Float32Array::from(vec![2.0, -1.0])) as ArrayRef;
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("signal.grad_norm", norms)]).unwrap());
        let error = Effort {}.score(&pool, &Ctx::new(0)).unwrap_err();
        assert_eq!((error.code(), error.location().unwrap().row), ("score/negative", Some(1)));
    }
}
