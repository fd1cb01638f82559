//! Takes the candidates whose loss a reference model shows to be reducible.
//!
//! Top `min(k, B)` of `l(x_i; theta_t) - l(x_i; theta_ref)`, ties to the lower position; `theta_ref` is a model trained on
//! held-out rows. Source: RHO-Loss (Mindermann et al. 2022), as the baseline of UDS (2025) and GREATS (2024).
//! May not be proposed ahead: the loss is that of the present weights. Cost: B log B time after a forward pass of the
//! candidates; the reference losses are a column, computed once: `--reference MODEL` names who says it.

use super::batch::{Batch, largest};
use super::running::Method;
use curate_core::{Algorithm, Column, Ctx, Info, Needs, Result, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest reducible loss first; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RhoLoss {}

impl Algorithm for RhoLoss {
    const INFO: Info = Info {
        name: "rho-loss",
        summary: "Takes the candidates whose loss exceeds that of a reference model most: learnable, not learnt, not noise.",
        source: "RHO-Loss (Mindermann et al. 2022); a baseline of UDS (2025)",
        cost: "B log B time after a forward pass of the candidates; reference losses once",
    };
}

impl Method for RhoLoss {
    type Memory = ();

    fn needs(&self) -> Needs {
        Needs { before: vec![Column::signal("loss"), Column::signal("loss_reference")], after: Vec::new() }
    }

    fn choose(&self, _memory: &mut (), batch: &Batch<'_>, k: usize, _ctx: &Ctx) -> Result<Selection> {
        let loss = batch.signal(&Column::signal("loss"))?;
        let reference = batch.signal(&Column::signal("loss_reference"))?;
        let excess: Vec<f64> = loss.iter().zip(&reference).map(|(l, r)| l - r).collect();
        let reason = |p: usize| format!("loss {:.4}, reference {:.4}", loss[p], reference[p]);
        Ok(batch.select(&largest(&excess, k), |p| excess[p], reason))
    }
}

#[cfg(test)]
mod tests {
    use super::super::running::Running;
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    use curate_core::{OnlineSelector, Pool};
    use std::sync::Arc;

    #[test]
    fn noise_that_the_reference_cannot_learn_either_comes_last() {
        let column = |values: Vec<f32>| Arc::new(Float32Array::from(values)) as ArrayRef;
        let columns =
            [("signal.loss", column(vec![9.0, 2.0, 0.5])), ("signal.loss_reference", column(vec![9.5, 0.5, 0.25]))];
        let pool = Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap());
        let chosen = Running::new(RhoLoss {}).propose(&pool, 2, &Ctx::new(0)).unwrap();
        assert_eq!(chosen.rows(), [1, 2]);
        assert_eq!(chosen.picks[0].reason, "loss 2.0000, reference 0.5000");
    }
}
