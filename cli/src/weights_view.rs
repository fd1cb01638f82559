//! `curate weights`: the call for each tool, and its words.

use crate::weights_args::{WeightsTool, lines};
use curate_api::{Host, Result, UpdateReport, WeightsDone};
use serde_json::Value;

/// What came of it: for machines, and for people.
pub(crate) fn run(tool: &WeightsTool, host: &Host) -> Result<(Value, String)> {
    let done = match tool {
        WeightsTool::Sparsity { pair, atol, ranks } => {
            let found = curate_api::update_report(&pair.pair(), (*atol, *ranks), host)?;
            return Ok((serde_json::to_value(&found).unwrap_or_default(), report(&found)));
        }
        WeightsTool::Lines { pair, alpha, beta, outer, to } => {
            curate_api::scale(&pair.pair(), &lines(*alpha, *beta, outer)?, &to.place(), host)?
        }
        WeightsTool::Graft { pair, share, everything, to } => {
            curate_api::graft_onto(&pair.pair(), (*share, *everything), &to.place(), host)?
        }
        WeightsTool::Delta { pair, share, to } => curate_api::export_delta(&pair.pair(), *share, &to.place(), host)?,
        WeightsTool::Apply { base, delta, to } => curate_api::apply_deltas(base, delta, &to.place(), host)?,
    };
    Ok((serde_json::to_value(&done).unwrap_or_default(), wrote(&done)))
}

fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

fn wrote(done: &WeightsDone) -> String {
    let share = percent(done.changed, done.entries);
    format!("wrote {}: {} of {} numbers differ from the base ({share:.3}%)", done.wrote, done.changed, done.entries)
}

fn report(found: &UpdateReport) -> String {
    let report = &found.report;
    let [before, after] = &found.dtypes;
    let mut lines = vec![
        format!("weights    {before} before, {after} after"),
        format!(
            "unchanged  {:.3}% to the bit, {:.3}% within {:e}",
            100.0 * report.unchanged,
            100.0 * report.unchanged_within,
            report.atol
        ),
        String::new(),
        "block  mean change".to_owned(),
    ];
    let blocks = report.movement_by_layer.iter().enumerate();
    lines.extend(blocks.map(|(block, mean)| format!("{block:<5}  {mean:.3e}")));
    let width = report.tensors.iter().map(|t| t.name.len()).max().unwrap_or(0);
    let ranks = report.tensors.iter().any(|t| t.rank.is_some());
    lines.push(String::new());
    lines.push(format!("{:<width$}  changed   mean change{}", "tensor", if ranks { "  rank" } else { "" }));
    for tensor in &report.tensors {
        let share = percent(tensor.changed_beyond as u64, tensor.entries as u64);
        let rank = tensor.rank.zip(tensor.full_rank).map_or_else(String::new, |(r, of)| format!("    {r} of {of}"));
        lines.push(format!("{:<width$}  {share:6.2}%   {:.3e}{rank}", tensor.name, tensor.mean_change));
    }
    lines.join("\n")
}
