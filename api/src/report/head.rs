//! The head and the foot of a report: the plan in words, counts, versions, digests; what it cost.

use super::data::{Head, ReportCost, StageCost, Tokens};
use super::table::Table;
use crate::cache::CODE_VERSION;
use crate::choose::Chosen;
use crate::manifest::{Cost, selection_digest};
use crate::plan::{Plan, Use};
use crate::select::{counts, figures, input_digest};
use curate_core::{Ctx, Result, Snapshot};
use serde_json::{Map, Value};

pub(super) fn head(plan: &Plan, chosen: &Chosen, table: &Table) -> Result<Head> {
    let select = plan.selection()?;
    let sum = |mut positions: Box<dyn Iterator<Item = usize> + '_>| {
        positions.try_fold(0u64, |sum, at| table.tokens.get(at).map(|&own| sum + u64::from(own)))
    };
    let tokens = sum(Box::new(table.candidates().into_iter())).zip(sum(Box::new(table.picks.iter().copied())));
    let digests = [
        ("input", Some(input_digest(&chosen.source))),
        ("target", chosen.target_digest.clone()),
        ("model", chosen.model.clone()),
        ("selection", Some(selection_digest(&chosen.selection))),
    ];
    Ok(Head {
        curate: env!("CARGO_PKG_VERSION").to_owned(),
        code_version: CODE_VERSION,
        method: select.name.clone(),
        summary: crate::methods::find_method(&select.name)?.info.summary.to_owned(),
        plan: words(plan)?,
        counts: counts(chosen),
        tokens: tokens.map(|(pool, selected)| Tokens { pool, selected }),
        figures: figures(chosen),
        digests: digests.into_iter().filter_map(|(name, digest)| digest.map(|d| (name.to_owned(), d))).collect(),
    })
}

/// The plan line by line, in the words of its flags.
fn words(plan: &Plan) -> Result<Vec<(String, String)>> {
    let select = plan.selection()?;
    let list = |all: &[Use]| all.iter().map(|own| named(&own.name, &own.params)).collect::<Vec<_>>().join(", ");
    let some = |text: String| (!text.is_empty()).then_some(text);
    let lines = [
        ("input", some(plan.input.paths.join(", "))),
        ("where", plan.input.where_.clone()),
        ("target", some(plan.target.join(", "))),
        ("embedder", Some(plan.embed.name.clone())),
        ("model", plan.model.clone()),
        ("quality", plan.quality.clone()),
        ("scorers", some(list(&plan.score))),
        ("filters", some(list(&plan.filter))),
        ("method", Some(named(&select.name, &select.params))),
        ("budget", Some(select.budget.to_string())),
        ("seed", Some(plan.seed.to_string())),
    ];
    Ok(lines.into_iter().filter_map(|(key, value)| value.map(|v| (key.to_owned(), v))).collect())
}

fn named(name: &str, params: &Map<String, Value>) -> String {
    let said =
        |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().map_or(value.to_string(), str::to_owned));
    let params: Vec<String> = params.iter().map(said).collect();
    if params.is_empty() { name.to_owned() } else { format!("{name} ({})", params.join(", ")) }
}

/// Seconds of each stage so far; tokens where a stage read all of them; operations where they are counted: those of the report, and
/// the static encoder's, one addition a token and number of its vectors (`added`).
pub(super) fn stages(ctx: &Ctx, table: &Table, added: Option<usize>, flop: f64) -> Vec<StageCost> {
    let rows = table.rows() as u64;
    let tokens: u64 = table.tokens.iter().map(|&own| u64::from(own)).sum();
    let stage = |node: &Snapshot| {
        let read = node.label == "embed" && tokens > 0 && node.done >= rows;
        let embedding = added.filter(|_| read).map(|dim| tokens as f64 * dim as f64);
        StageCost {
            stage: node.label.clone(),
            seconds: node.elapsed_secs,
            done: node.done,
            tokens: read.then_some(tokens),
            flop: if node.label == "report" { Some(flop) } else { embedding },
        }
    };
    ctx.progress().snapshot().children.iter().map(stage).collect()
}

/// What is known only when all is done.
pub(super) fn add_cost(report: &mut ReportCost, cost: &Cost) {
    report.seconds = cost.seconds;
    report.peak_rss_bytes = cost.peak_rss_bytes;
    report.threads = cost.threads;
    report.backend.clone_from(&cost.backend);
    report.cached_units = cost.cached_units;
    report.computed_units = cost.computed_units;
}
