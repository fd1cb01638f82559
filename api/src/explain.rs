//! Why a row was kept or dropped: the plan is replayed from the cache and the row is looked up in everything the filters and
//! the selector said.

use crate::choose::{Chosen, choose, prepare};
use crate::host::Host;
use crate::manifest::{Manifest, read_manifest, selection_digest};
use crate::plan::Plan;
use crate::select::input_digest;
use curate_core::{Assessment, Column, Ctx, Error, Result};
use curate_ingest::{Source, Unit};
use serde::Serialize;
use std::io::IsTerminal;

/// The answer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// Row asked about.
    pub row: u64,
    /// Whether it was kept.
    pub kept: bool,
    /// Its rank, from 0, if kept; sentences count from 1.
    pub rank: Option<usize>,
    /// What makes the answer doubtful, if anything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// The answer in sentences.
    pub because: Vec<String>,
    /// Beginning of its text.
    pub text: String,
    /// Score the choice was made by.
    pub score: Option<f32>,
    /// Share of the pool with a lower score, in percent.
    pub score_percentile: Option<f64>,
    /// Quality given with the data.
    pub quality: Option<f32>,
    /// Share of the pool with a lower quality, in percent.
    pub quality_percentile: Option<f64>,
    /// Group of the row.
    pub group: Option<u32>,
    /// Nearest kept row other than itself.
    pub nearest_kept: Option<Nearest>,
}

/// A kept row near the one asked about.
#[derive(Clone, Debug, Serialize)]
pub struct Nearest {
    /// Its id.
    pub row: u64,
    /// Its rank, from 0.
    pub rank: usize,
    /// Cosine of the two embeddings.
    pub cosine: f32,
    /// Beginning of its text.
    pub text: String,
}

/// Explain what became of source row `row` in the selection at `output`.
///
/// # Errors
/// `explain/row` when there is no such row; what replaying gives.
pub fn explain(output: &str, row: u64, host: &Host) -> Result<Explanation> {
    let manifest = read_manifest(output)?;
    refuse_typing(&manifest.plan)?;
    host.install(|| {
        let ctx = host.ctx(manifest.plan.seed)?;
        let prepared = prepare(&manifest.plan, host, &ctx)?;
        let target = prepared.target.as_ref().map(|(target, _)| input_digest(target));
        refuse_changed(output, input_digest(&prepared.source) != manifest.input_digest, "input")?;
        refuse_changed(output, target != manifest.target_digest, "target")?;
        let chosen = choose(prepared, host, &ctx)?;
        if row >= chosen.source.rows() {
            return Err(Error::usage("explain/row", format!("there is no row {row}")).hint(format!(
                "rows are 0 to {}; the column curate_row of the output holds them",
                chosen.source.rows().saturating_sub(1)
            )));
        }
        let warning = other_choice(&manifest, &chosen, output);
        Ok(Explanation { warning, ..answer(&chosen, row, &ctx)? })
    })
}

/// Standard input cannot be read twice: it must be piped again, and nobody types it again.
fn refuse_typing(plan: &Plan) -> Result<()> {
    if !plan.input.paths.iter().any(|path| path == "-") || !std::io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Error::usage("explain/stdin", "the rows of this selection came from standard input")
        .hint("pipe the same data into this command again"))
}

fn refuse_changed(output: &str, changed: bool, what: &str) -> Result<()> {
    if !changed {
        return Ok(());
    }
    let message = format!("the {what} is not the one that {output} was chosen from, so there is nothing to explain");
    Err(Error::data("explain/input-changed", message).hint(format!(
        "'curate verify {output}' tells what changed; bring back the {what} as it was, or run 'curate select' again"
    )))
}

/// A word on a replay that chooses otherwise than the selection did, though the input is the same.
fn other_choice(manifest: &Manifest, chosen: &Chosen, output: &str) -> Option<String> {
    (selection_digest(&chosen.selection) != manifest.selection_digest).then(|| {
        format!("running the plan again chooses otherwise than {output} says, so what follows may not hold for it; 'curate verify {output}' tells what differs")
    })
}

fn answer(chosen: &Chosen, row: u64, ctx: &Ctx) -> Result<Explanation> {
    let rank = chosen.selection.picks.iter().position(|p| p.row == row);
    let text = text_of(chosen, row)?;
    let mut out = Explanation { row, kept: rank.is_some(), rank, text, ..Explanation::default() };
    let ids = chosen.features.pool.ids()?;
    let Ok(position) = ids.binary_search(&row) else {
        out.because.push(format!("It never reached the pool: {}.", absence(chosen, row)?));
        return Ok(out);
    };
    fill_quality(&mut out, chosen, position)?;
    if let Some(rank) = rank {
        let pick = &chosen.selection.picks[rank];
        (out.score, out.group) = (Some(pick.score), pick.group);
        out.because.push(format!("Kept at rank {} of {}: {}.", rank + 1, chosen.selection.picks.len(), pick.reason));
    }
    for (name, judged, verdict) in &chosen.verdicts {
        let place = judged.binary_search(&row).ok().filter(|&p| !verdict.keep[p]);
        if let Some(place) = place {
            let blocker = verdict
                .blocker
                .get(place)
                .filter(|&&b| b != u64::MAX)
                .map_or("another row".to_owned(), |b| format!("row {b}"));
            out.because.push(format!("Dropped by {name}: {}.", verdict.reason.replace("{blocker}", &blocker)));
        }
    }
    if let Some(assessment) = &chosen.selection.assessment {
        describe_place(&mut out, chosen, assessment);
    }
    out.nearest_kept = nearest(chosen, row, position, ctx)?;
    if !out.kept && out.because.is_empty() {
        out.because.push(not_chosen(out.nearest_kept.as_ref()));
    }
    Ok(out)
}

/// All that can be said of a row of which the method says nothing.
fn not_chosen(nearest: Option<&Nearest>) -> String {
    let near = |n: &Nearest| {
        format!("The method did not choose it. Row {}, which was kept, is as near as cosine {:.2}.", n.row, n.cosine)
    };
    nearest.map_or_else(
        || "The method did not choose it, and says no more about rows it does not choose.".to_owned(),
        near,
    )
}

/// Why a row is not in the pool.
fn absence(chosen: &Chosen, row: u64) -> Result<String> {
    if chosen.features.unsaid.binary_search(&row).is_ok() {
        let why =
            "a model was to be asked about it, and the prompt alone fills the model's window, or there is no answer";
        return Ok(why.to_owned());
    }
    let Some(unit) = unit_of(&chosen.source, row) else { return Ok("there is no such row".to_owned()) };
    let data = chosen.source.read(unit, Some(&[]))?;
    let bad = data.skipped.iter().find(|bad| bad.row == row);
    Ok(bad.map_or_else(
        || "--where excluded it".to_owned(),
        |bad| format!("it could not be read ({}: {})", bad.location, bad.reason),
    ))
}

fn unit_of(source: &Source, row: u64) -> Option<&Unit> {
    source.units().iter().find(|u| (u.first_row..u.first_row + u64::from(u.rows)).contains(&row))
}

fn fill_quality(out: &mut Explanation, chosen: &Chosen, position: usize) -> Result<()> {
    if chosen.features.pool.has(&Column::QUALITY) {
        let all = chosen.features.pool.numbers(&Column::QUALITY)?;
        out.quality = Some(all[position]);
        out.quality_percentile = Some(percentile(&all, all[position]));
    }
    Ok(())
}

fn percentile(all: &[f32], value: f32) -> f64 {
    let below = all.iter().filter(|v| v.total_cmp(&value).is_lt()).count();
    100.0 * below as f64 / all.len().max(1) as f64
}

pub(crate) fn describe_place(out: &mut Explanation, chosen: &Chosen, assessment: &Assessment) {
    let Some(at) = assessment.row.iter().position(|&r| r == out.row) else { return };
    let place = assessment.place.get(at).copied().filter(|&p| p > 0);
    let score = assessment.score[at];
    let never_scored = place.is_none() && !assessment.place.is_empty() && score == 0.0;
    if !never_scored {
        out.score = Some(score);
        out.score_percentile = Some(percentile(&assessment.score, score));
    }
    let blocker = assessment.blocker.get(at).filter(|&&b| b != u64::MAX && b != out.row);
    let represented = blocker.filter(|_| !out.kept).map(|row| format!("It is represented by row {row}."));
    let Some(&group) = assessment.group.get(at) else {
        if let Some(place) = place.filter(|_| !out.kept) {
            out.because.push(format!(
                "Its place in the method's order was {place} of {}; the budget ended at {}.",
                assessment.row.len(),
                chosen.selection.picks.len()
            ));
        }
        out.because.extend(represented);
        return;
    };
    out.group = Some(group);
    let Some(info) = chosen.selection.groups.iter().find(|g| g.id == group) else { return };
    let share = format!("Cluster {group} has {} rows and was given {} places", info.size_rows, info.picked_rows);
    out.because.push(match place.filter(|_| !out.kept) {
        Some(place) => format!("{share}; this row came {place} in the draw of its cluster, so it was left out."),
        None => format!("{share}."),
    });
    out.because.extend(represented);
}

/// Nearest kept neighbour by cosine, other than the row itself.
fn nearest(chosen: &Chosen, row: u64, position: usize, ctx: &Ctx) -> Result<Option<Nearest>> {
    let pool = &chosen.features.pool;
    if !pool.has(&Column::EMBEDDING) {
        return Ok(None);
    }
    let ids = pool.ids()?;
    let mut kept: Vec<(usize, usize)> = chosen
        .selection
        .picks
        .iter()
        .enumerate()
        .filter(|(_, p)| p.row != row)
        .filter_map(|(rank, p)| ids.binary_search(&p.row).ok().map(|at| (at, rank)))
        .collect();
    kept.sort_unstable();
    let own = pool.gather(&Column::EMBEDDING, &[position], ctx)?;
    let own = own.view()?.row(0).to_vec();
    let positions: Vec<usize> = kept.iter().map(|k| k.0).collect();
    let others = pool.gather(&Column::EMBEDDING, &positions, ctx)?;
    let others = if positions.is_empty() { return Ok(None) } else { others.view()? };
    let best = (0..others.rows())
        .map(|i| (cosine(&own, others.row(i)), i))
        .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    let Some((cosine, at)) = best else { return Ok(None) };
    let row = ids[kept[at].0];
    Ok(Some(Nearest { row, rank: kept[at].1, cosine, text: text_of(chosen, row)? }))
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(p, q)| f64::from(*p) * f64::from(*q)).sum::<f64>();
    let norm = (dot(a, a) * dot(b, b)).sqrt();
    if norm > 0.0 { (dot(a, b) / norm) as f32 } else { 0.0 }
}

/// Beginning of the embedded text of a row; empty when the row is not readable.
fn text_of(chosen: &Chosen, row: u64) -> Result<String> {
    let Some(unit) = unit_of(&chosen.source, row) else { return Ok(String::new()) };
    let data = chosen.source.read(unit, None)?;
    let Ok(place) = data.rows.binary_search(&row) else { return Ok(String::new()) };
    let texts = chosen.source.texts(&data)?;
    Ok(texts[place].embed.chars().take(300).collect())
}
