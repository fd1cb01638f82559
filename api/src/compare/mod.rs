//! `curate compare`: several methods at equal budget, model, seeds and steps; one table, one plot, one file. Random rows and
//! random rows of matched length are always among the arms: a method that is not compared with them says nothing.

mod arm;
mod base;
mod forecast;
mod plan;
mod plot;
mod summary;
mod text;

pub use arm::ArmDone;
pub use forecast::{ArmForecast, CompareForecast, forecast};
pub use plan::ComparePlan;
pub use summary::{BreakEven, Line, Stat};
pub use text::{legend, table};

use crate::host::Host;
use crate::plan::Plan;
use crate::select::pretty;
use arm::Arm;
use curate_core::{Error, Result};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// What a comparison came to.
#[derive(Clone, Debug, Serialize)]
pub struct CompareDone {
    /// Version of `curate`.
    pub curate: String,
    /// What was compared.
    pub compare: ComparePlan,
    /// The plan that all arms share.
    pub plan: Plan,
    /// Rows to choose from.
    pub rows: u64,
    /// Steps of every arm.
    pub steps: u64,
    /// The table, best first.
    pub lines: Vec<Line>,
    /// Every arm.
    pub arms: Vec<ArmDone>,
    /// Files that were written.
    pub files: Vec<String>,
    /// Wall seconds of this call; arms of an earlier one cost nothing.
    pub seconds: f64,
}

/// Compare by a plan: its `[train]` section holds model, rows to judge by, options and the folder for results.
///
/// # Errors
/// Usage errors before any work; what the arms give. Finished arms are kept whatever happens.
pub fn compare(plan: &Plan, wanted: &ComparePlan, host: &Host) -> Result<CompareDone> {
    let started = Instant::now();
    let methods = wanted.all_methods()?;
    methods.iter().try_for_each(known)?;
    let base = host.install(|| base::base(plan, wanted, &host.part("prepare"), &host.ctx(plan.seed)?))?;
    methods.iter().try_for_each(|method| arm::possible(&base, wanted, method, &host.part("check")))?;
    let arms_node = host.progress.child("arms");
    arms_node.set_total((methods.len() * wanted.seeds.len()) as u64);
    let mut arms = Vec::new();
    for method in &methods {
        let one = |seed: &u64| {
            let arm = Arm { base: &base, wanted, method, seed: *seed };
            arms_node.note(format!("{} seed {seed}", plan::label(method)));
            let done = arm.done(&Host { progress: arms_node.child("arm"), ..host.clone() });
            arms_node.add(1);
            done.map_err(way_on)
        };
        arms.push(wanted.seeds.iter().map(one).collect::<Result<Vec<_>>>()?);
    }
    arms_node.finish();
    let lines = summary::summary(&arms);
    let steps = arms.iter().flatten().map(|arm| arm.steps).max().unwrap_or(0);
    let out = Path::new(&base.train.out);
    let files = ["compare.json", "compare.md", "compare.svg"].map(|name| out.join(name).to_string_lossy().into_owned());
    let arms = arms.into_iter().flatten().collect();
    let (curate, seconds) = (env!("CARGO_PKG_VERSION").to_owned(), started.elapsed().as_secs_f64());
    let (compare, plan, rows) = (wanted.clone(), plan.clone(), base.rows);
    let done = CompareDone { curate, compare, plan, rows, steps, lines, arms, files: files.to_vec(), seconds };
    curate_ingest::write_atomic(Path::new(&files[0]), &pretty(&done)?)?;
    curate_ingest::write_atomic(Path::new(&files[1]), text::markdown(&done).as_bytes())?;
    curate_ingest::write_atomic(Path::new(&files[2]), plot::svg(&done).as_bytes())?;
    Ok(done)
}

/// A stop, with the way on.
fn way_on(error: Error) -> Error {
    match error.code() {
        "cancelled" => error.hint("finished arms are kept; run the same command again to go on from here"),
        _ => error,
    }
}

/// Refuse a name or parameter that no table knows, before any arm runs.
fn known(method: &crate::plan::Use) -> Result<()> {
    let offline = curate_selectors::SELECTORS.iter().find(|entry| entry.info.name == method.name);
    if let Some(entry) = offline {
        return entry.build(&method.params).map(drop);
    }
    if let Some(entry) = curate_selectors::ONLINE.iter().find(|entry| entry.info.name == method.name) {
        return entry.build(&crate::online::OnlinePlan::of(method)?.params).map(drop);
    }
    let names = curate_selectors::SELECTORS.iter().map(|e| e.info.name);
    let names: Vec<&str> = names.chain(curate_selectors::ONLINE.iter().map(|e| e.info.name)).collect();
    Err(Error::usage("method/unknown", format!("there is no method '{}'", method.name))
        .did_you_mean(&method.name, &names))
}
