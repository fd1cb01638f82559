//! Rows of the target, as the learner reads them: for methods that ask how much a row helps there.

use super::ready::Ready;
use crate::choose::open;
use crate::host::Host;
use crate::plan::Plan;
use crate::train::Rows;
use curate_core::{Column, Ctx, Error, Result};
use curate_ingest::InputSpec;
use curate_trainer::Sequence;

/// Rows of a target at most: their gradients are taken anew at every step.
const MOST_ROWS: u64 = 64;

/// What to do without a target.
const HINT: &str = "name a few rows of the task that the model shall learn: --target FILE";

/// Whether the target's rows are asked for; they must be named then.
///
/// # Errors
/// `target/missing`.
pub(super) fn target_of(plan: &Plan, probed: &[Column]) -> Result<bool> {
    let asked = probed.contains(&Column::signal("ghost_validation"));
    if asked && plan.target.is_empty() {
        return Err(Error::usage("target/missing", "the method compares rows with those of a target").hint(HINT));
    }
    Ok(asked)
}

impl Ready {
    /// The target's rows, where the method asks for gradients to be compared with theirs; else none.
    ///
    /// # Errors
    /// `target/missing`, `target/too-many`; what reading gives.
    pub(super) fn examples(&self, plan: &Plan, probed: &[Column], host: &Host, ctx: &Ctx) -> Result<Vec<Sequence>> {
        if !target_of(plan, probed)? {
            return Ok(Vec::new());
        }
        let input = InputSpec { paths: plan.target.clone(), where_: None, ..plan.input.clone() };
        let ctx = ctx.child("target");
        let source = open(&Plan { input, ..plan.clone() }, host, &ctx)?;
        if source.rows() > MOST_ROWS {
            let what = format!("a target of {} rows costs as much at every step", source.rows());
            return Err(Error::usage("target/too-many", what).hint(format!("{HINT}, {MOST_ROWS} at most")));
        }
        Ok(Rows { source: &source, ..self.as_rows() }.read(&ctx)?.0)
    }
}
