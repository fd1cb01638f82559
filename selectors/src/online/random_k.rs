//! Draws from the candidates uniformly without replacement: what every other online method must beat.
//!
//! `key_i = hash(seed, proposal, row id i)`; the rows of the smallest keys. Source: own work; Random, a baseline of UDS (2025)
//! and, over prompts, Uniform of `MoPPS` (2025). May be proposed ahead: nothing a model says matters. Cost: B time.

use super::batch::Batch;
use super::running::Method;
use super::smallest::smallest;
use curate_core::{Algorithm, Ctx, Info, Needs, Result, Selection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Uniform draw; it has no parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RandomK {}

impl Algorithm for RandomK {
    const INFO: Info = Info {
        name: "random-k",
        summary: "Draws from the candidates at random; the baseline that every other online method must beat.",
        source: "own work; Random, a baseline of UDS (2025); Uniform, a baseline of MoPPS (2025)",
        cost: "B time",
    };
}

impl Method for RandomK {
    type Memory = ();

    fn needs(&self) -> Needs {
        Needs::default()
    }

    fn may_prefetch(&self) -> bool {
        true
    }

    fn choose(&self, _memory: &mut (), batch: &Batch<'_>, k: usize, ctx: &Ctx) -> Result<Selection> {
        let stream = ctx.stream("random");
        let keys: Vec<u64> = batch.ids().iter().map(|&id| stream(id).bits()).collect();
        let order = smallest(batch.len(), k, |p| keys[p]);
        let score = |p: usize| 1.0 - stream(batch.ids()[p]).uniform();
        Ok(batch.select(&order, score, |_| format!("drawn at random from {} candidates", batch.len())))
    }
}
