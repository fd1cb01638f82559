//! `curate compare --dry-run`: which arms there would be, and which are done already.

use super::arm::{Arm, possible};
use super::base::{Base, base};
use super::known;
use super::plan::{ComparePlan, label};
use crate::host::Host;
use crate::plan::Plan;
use crate::train::TrainPlan;
use curate_core::{Budget, Result};
use serde::Serialize;
use std::fmt;

/// An arm that a comparison would have.
#[derive(Clone, Debug, Serialize)]
pub struct ArmForecast {
    /// Method with its parameters.
    pub method: String,
    /// Seed.
    pub seed: u64,
    /// Whether every batch would be chosen while the model learns.
    pub online: bool,
    /// Whether it is finished, and would be kept.
    pub done: bool,
    /// Whether it was begun, and would go on.
    pub begun: bool,
}

/// What a comparison would do.
#[derive(Clone, Debug, Serialize)]
pub struct CompareForecast {
    /// Rows to choose from.
    pub rows: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Rows that a selector would choose; absent for a budget of tokens.
    pub selected_rows: Option<usize>,
    /// Steps of every arm.
    pub steps: u64,
    /// The arms, in the order in which they would be run.
    pub arms: Vec<ArmForecast>,
}

/// Look, but do not work: the arms that [`super::compare`] would run. Nothing is written to the folder for results.
///
/// # Errors
/// As [`super::compare`] before its first arm.
pub fn forecast(plan: &Plan, wanted: &ComparePlan, host: &Host) -> Result<CompareForecast> {
    let methods = wanted.all_methods()?;
    methods.iter().try_for_each(known)?;
    let base = elsewhere(plan, wanted, host)?;
    methods.iter().try_for_each(|method| possible(&base, wanted, method, &host.part("check")))?;
    let base = base.at_home(plan);
    let one = |method, seed| {
        let arm = Arm { base: &base, wanted, method, seed };
        let (done, begun) = (arm.kept().is_some(), arm.begun());
        ArmForecast { method: label(method), seed, online: arm.online(), done, begun: begun && !done }
    };
    let arms = methods.iter().flat_map(|method| wanted.seeds.iter().map(move |seed| one(method, *seed))).collect();
    let selected_rows = match wanted.budget {
        Budget::Tokens(_) => None,
        other => Some(other.rows_of(usize::try_from(base.rows).unwrap_or(usize::MAX))?),
    };
    let steps = base.train.sft()?.max_steps.unwrap_or(0);
    Ok(CompareForecast { rows: base.rows, tokens: base.tokens, selected_rows, steps, arms })
}

/// The common ground, made in a folder of our own.
fn elsewhere(plan: &Plan, wanted: &ComparePlan, host: &Host) -> Result<Base> {
    let own = host.scratch.join("comparison").to_string_lossy().into_owned();
    let train =
        plan.train.clone().map(|train| if train.out.is_empty() { train } else { TrainPlan { out: own, ..train } });
    let plan = Plan { train, ..plan.clone() };
    host.install(|| base(&plan, wanted, &host.part("prepare"), &host.ctx(plan.seed)?))
}

impl fmt::Display for CompareForecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |of: fn(&ArmForecast) -> bool| self.arms.iter().filter(|arm| of(arm)).count();
        let (all, done) = (self.arms.len(), count(|arm| arm.done));
        let selected =
            self.selected_rows.map_or_else(|| "a budget of tokens".to_owned(), |rows| format!("{rows} of them"));
        writeln!(f, "rows      {} with {} tokens; a selector chooses {selected}", self.rows, self.tokens)?;
        writeln!(f, "arms      {all} of {} steps each; {done} are done and kept, {} to run", self.steps, all - done)?;
        for arm in &self.arms {
            let state = if arm.done {
                "done"
            } else if arm.begun {
                "goes on"
            } else {
                "to run"
            };
            let how = if arm.online { "while the model learns" } else { "before training" };
            writeln!(f, "  {state:<8} {} seed {}, chosen {how}", arm.method, arm.seed)?;
        }
        write!(f, "nothing was trained or written")
    }
}
