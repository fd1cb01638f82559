//! Takes the candidates with the largest gradient.
//!
//! Top `min(k, B)` of `|g(x_i)|`, the norm of the gradient of the row's loss, ties to the lower position.
//! Source: `MaxGrad`, a baseline of UDS (2025); `GradNorm` in GREATS (2024), there the square, which orders alike. May not be
//! proposed ahead: the gradient is that of the present weights. Cost: B log B time after the gradient of every candidate.

use super::batch::{Batch, largest};
use super::running::Method;
use curate_core::{Algorithm, Column, Ctx, Info, Needs, Result, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest gradient norm first; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MaxGradNorm {}

impl Algorithm for MaxGradNorm {
    const INFO: Info = Info {
        name: "max-grad-norm",
        summary: "Takes the candidates whose loss has the largest gradient; a baseline, dear since every row needs a backward pass.",
        source: "MaxGrad, a baseline of UDS (2025); GradNorm in GREATS (2024)",
        cost: "B log B time after the gradient of every candidate",
    };
}

impl Method for MaxGradNorm {
    type Memory = ();

    fn needs(&self) -> Needs {
        Needs { before: vec![Column::signal("grad_norm")], after: Vec::new() }
    }

    fn choose(&self, _memory: &mut (), batch: &Batch<'_>, k: usize, _ctx: &Ctx) -> Result<Selection> {
        let norm = batch.signal(&Column::signal("grad_norm"))?;
        Ok(batch.select(&largest(&norm, k), |p| norm[p], |p| format!("gradient norm {:.4}", norm[p])))
    }
}
