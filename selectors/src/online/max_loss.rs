//! Takes the candidates with the largest loss.
//!
//! Top `min(k, B)` of `l(x_i; theta_t)`, the mean loss a token under the present weights, ties to the lower position.
//! Source: `MaxLoss`, a baseline of UDS (2025) and GREATS (2024). May not be proposed ahead: the loss is that of the present
//! weights. Cost: B log B time after a forward pass of the candidates.

use super::batch::{Batch, largest};
use super::running::Method;
use curate_core::{Algorithm, Column, Ctx, Info, Needs, Result, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest loss first; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaxLoss {}

impl Algorithm for MaxLoss {
    const INFO: Info = Info {
        name: "max-loss",
        summary: "Takes the candidates with the largest loss under the present weights; a baseline that also likes noise.",
        source: "MaxLoss, a baseline of UDS (2025) and GREATS (2024)",
        cost: "B log B time after a forward pass of the candidates",
    };
}

impl Method for MaxLoss {
    type Memory = ();

    fn needs(&self) -> Needs {
        Needs { before: vec![Column::signal("loss")], after: Vec::new() }
    }

    fn choose(&self, _memory: &mut (), batch: &Batch<'_>, k: usize, _ctx: &Ctx) -> Result<Selection> {
        let loss = batch.signal(&Column::signal("loss"))?;
        Ok(batch.select(&largest(&loss, k), |p| loss[p], |p| format!("loss {:.4}", loss[p])))
    }
}
