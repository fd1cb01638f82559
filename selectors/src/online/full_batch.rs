//! Takes every candidate, whatever number is asked for: training without selection.
//!
//! Source: Regular, a baseline of UDS (2025). May be proposed ahead: there is no choice. Cost: B time.

use super::batch::Batch;
use super::running::Method;
use curate_core::{Algorithm, Ctx, Info, Needs, Result, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All candidates; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FullBatch {}

impl Algorithm for FullBatch {
    const INFO: Info = Info {
        name: "full-batch",
        summary: "Takes every candidate, whatever number is asked for: training without selection, for comparison.",
        source: "Regular, a baseline of UDS (2025)",
        cost: "B time",
    };
}

impl Method for FullBatch {
    type Memory = ();

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn may_prefetch(&self) -> bool {
        true
    }

    fn choose(&self, _memory: &mut (), batch: &Batch<'_>, _k: usize, _ctx: &Ctx) -> Result<Selection> {
        let order: Vec<usize> = (0..batch.len()).collect();
        Ok(batch.select(&order, |_| 1.0, |_| "every candidate is taken".to_owned()))
    }
}
