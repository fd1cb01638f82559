//! The main job: from a plan to a written selection with its manifest.

use crate::cache::CODE_VERSION;
use crate::choose::{Chosen, Prepared, choose, prepare};
use crate::features::missing_rows;
use crate::gather::{output_schema, write_picks};
use crate::host::{Host, peak_rss_bytes};
use crate::manifest::{Cost, Counts, InputRecord, Manifest, OutputRecord, manifest_path, selection_digest};
use crate::plan::Plan;
use crate::report::{Place, report};
use curate_core::{Budget, Ctx, Error, Result, format_bytes};
use curate_ingest::{Format, Layout, OutputSpec, Source, Written, WrittenFile};
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Instant;

/// What a dry run says.
#[derive(Clone, Debug, Serialize)]
pub struct Forecast {
    /// Reading of the input.
    pub layout: String,
    /// Rows of the input.
    pub input_rows: u64,
    /// Its columns.
    pub columns: Vec<String>,
    /// Rows that would be chosen, before `--where` and filters; absent for token budgets.
    pub selected_rows: Option<usize>,
    /// Rows whose features are not in the cache.
    pub rows_to_compute: u64,
    /// Bytes of vectors.
    pub vector_bytes: u64,
    /// Expected peak of resident memory.
    pub memory_bytes: u64,
    /// Expected seconds, roughly.
    pub seconds: f64,
}

/// Run a selection plan and write its output and manifest.
///
/// # Errors
/// What the stages give; nothing is left under the final name then.
pub fn select(plan: &Plan, host: &Host) -> Result<Manifest> {
    let started = Instant::now();
    let output = output_spec(plan)?;
    let place = Place::of(plan)?;
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let prepared = prepare(plan, host, &ctx)?;
        spare_inputs(plan, &prepared)?;
        let mut sink = curate_ingest::create(&output, output_schema(prepared.source.schema(), plan.output.plain)?)?;
        let chosen = choose(prepared, host, &ctx)?;
        write_picks(&chosen.source, &chosen.selection, plan.output.plain, sink.as_mut(), &host.scratch, &ctx)?;
        let looked_back = place.map(|place| Ok::<_, Error>((place, report(plan, &chosen, &ctx)?))).transpose()?;
        let written = sink.finish()?;
        let manifest = manifest(plan, &chosen, &written, cost(&ctx, host, &chosen, started));
        if let Some((place, report)) = looked_back {
            place.write(report, &manifest.cost)?;
        }
        if let Some(path) = manifest_path(&plan.output.path) {
            curate_ingest::write_whole(&path, &pretty(&manifest)?)?;
        }
        Ok(manifest)
    })
}

/// Look, but do not work: what a run would read, need and give.
///
/// # Errors
/// Usage errors and what opening the input gives.
pub fn forecast(plan: &Plan, host: &Host) -> Result<Forecast> {
    Place::check(plan)?;
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let prepared = prepare(plan, host, &ctx)?;
        spare_inputs(plan, &prepared)?;
        let Prepared { source, want, budget, .. } = &prepared;
        let rows = source.rows();
        let selected = match budget {
            Budget::Tokens(_) => None,
            other => Some(other.rows_of(usize::try_from(rows).unwrap_or(usize::MAX))?),
        };
        let dim = want.embedder.as_ref().map_or(0, |e| e.dim()) as u64;
        let rows_to_compute = missing_rows(source, want, &host.cache)?;
        let per_second =
            if plan.embed.name == "static" { 60_000.0 * host.threads as f64 } else { 30.0 * host.threads as f64 };
        Ok(Forecast {
            layout: source.layout().to_string(),
            input_rows: rows,
            columns: source.schema().fields().iter().map(|f| f.name().clone()).collect(),
            selected_rows: selected,
            rows_to_compute,
            vector_bytes: rows * dim * 4,
            memory_bytes: (300 << 20) + rows * 64 + (rows * dim * 4).min(256 * 1024 * dim * 4),
            seconds: 1.0 + rows_to_compute as f64 / per_second + rows as f64 * 8e-5 / host.threads as f64,
        })
    })
}

fn output_spec(plan: &Plan) -> Result<OutputSpec> {
    if plan.output.path.is_empty() {
        return Err(Error::usage("output/missing", "no output is named").hint("add -o picks.parquet"));
    }
    Ok(OutputSpec {
        path: plan.output.path.clone(),
        overwrite: plan.output.overwrite,
        shard_rows: plan.output.shard_rows,
    })
}

/// Refuse to write over what is read: the rows, the target, or a folder that holds them.
fn spare_inputs(plan: &Plan, prepared: &Prepared) -> Result<()> {
    let target = prepared.target.iter().flat_map(|(target, _)| target.files());
    let manifest = manifest_path(&plan.output.path);
    let outputs: Vec<&str> = [Some(&plan.output.path), plan.output.report.as_ref(), manifest.as_ref()]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .collect();
    for file in prepared.source.files().iter().chain(target).filter(|file| file.path != "-") {
        if let Some(output) = outputs.iter().find(|output| replaces(output, &file.path)) {
            return Err(Error::usage(
                "output/is-input",
                format!("{output} would be written over {}, which is read", file.path),
            )
            .hint("choose another name with -o; the input is never changed"));
        }
    }
    Ok(())
}

/// Whether writing `output` would replace the file `input`: they are one file, or the output is a folder around it.
fn replaces(output: &str, input: &str) -> bool {
    let local = |path: &str| std::fs::canonicalize(path.strip_prefix("file://").unwrap_or(path));
    match (local(output), local(input)) {
        (Ok(output), Ok(input)) => input.starts_with(output),
        _ => output == input,
    }
}

/// Digest over all units of an input, in order.
#[must_use]
pub(crate) fn input_digest(source: &Source) -> String {
    let mut hasher = blake3::Hasher::new();
    source.units().iter().for_each(|unit| {
        hasher.update(&unit.digest);
    });
    hasher.finalize().to_hex().to_string()
}

fn manifest(plan: &Plan, chosen: &Chosen, written: &Written, cost: Cost) -> Manifest {
    let Chosen { source, selection, model, target_digest, .. } = chosen;
    Manifest {
        curate: env!("CARGO_PKG_VERSION").to_owned(),
        code_version: CODE_VERSION,
        plan: plan.clone(),
        layout: source.layout().to_string(),
        input_digest: input_digest(source),
        target_digest: target_digest.clone(),
        inputs: source
            .files()
            .iter()
            .map(|f| InputRecord { path: f.path.clone(), rows: f.rows, bytes: f.bytes })
            .collect(),
        model: model.clone(),
        counts: counts(chosen),
        selection_digest: selection_digest(selection),
        report: figures(chosen),
        groups: selection.groups.clone(),
        outputs: written.files.iter().map(output_record).collect(),
        cost,
    }
}

/// How many rows went which way.
pub(crate) fn counts(chosen: &Chosen) -> Counts {
    let Chosen { source, features, verdicts, selection, .. } = chosen;
    let dropped: u64 = verdicts.iter().map(|v| v.2.keep.iter().filter(|k| !**k).count() as u64).sum();
    Counts {
        input_rows: source.rows(),
        filtered_rows: features.filtered_rows,
        skipped_rows: features.skipped_rows,
        unsaid_rows: features.unsaid.len() as u64,
        dropped_rows: dropped,
        pool_rows: features.pool.rows() as u64 - dropped,
        selected_rows: selection.picks.len() as u64,
    }
}

/// Figures of the method and of the filters; a note where the input has no answers.
pub(crate) fn figures(chosen: &Chosen) -> Map<String, Value> {
    let filters =
        chosen.verdicts.iter().map(|(name, _, verdict)| (name.clone(), Value::Object(verdict.report.clone())));
    let note = no_answers(chosen.source.layout()).map(|note| ("note".to_owned(), Value::from(note)));
    chosen.selection.report.clone().into_iter().chain(filters).chain(note).collect()
}

/// What is to be said of rows that have a prompt and no column of answers.
fn no_answers(layout: &Layout) -> Option<&'static str> {
    let alone = !layout.roles.prompt.is_empty() && layout.roles.response.is_empty() && layout.roles.messages.is_none();
    (alone && layout.format != Format::Verl).then_some(
        "no answers: 100% of rows have nothing to train on; name the column of answers with --map response=COLUMN",
    )
}

fn output_record(file: &WrittenFile) -> OutputRecord {
    let name = file.path.rsplit(['/', std::path::MAIN_SEPARATOR]).next().unwrap_or_default();
    OutputRecord { path: name.to_owned(), rows: file.rows, bytes: file.bytes, blake3: file.digest.clone() }
}

fn cost(ctx: &Ctx, host: &Host, chosen: &Chosen, started: Instant) -> Cost {
    let stages = ctx.progress().snapshot().children.iter().map(|c| (c.label.clone(), c.elapsed_secs)).collect();
    Cost {
        seconds: started.elapsed().as_secs_f64(),
        stages,
        peak_rss_bytes: peak_rss_bytes(),
        threads: host.threads,
        backend: ctx.backend().name().to_owned(),
        cached_units: chosen.features.cached_units,
        computed_units: chosen.features.computed_units,
    }
}

/// JSON with a final newline, for files people read.
///
/// # Errors
/// Never for our own types.
pub fn pretty(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| Error::io("json", e.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

impl std::fmt::Display for Forecast {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "input     {} rows, {}", self.input_rows, self.layout)?;
        writeln!(f, "columns   {}", self.columns.join(", "))?;
        let selected =
            self.selected_rows.map_or("as many rows as the tokens allow".to_owned(), |n| format!("{n} rows"));
        writeln!(f, "select    {selected}")?;
        writeln!(
            f,
            "compute   {} rows not in the cache, vectors {}",
            self.rows_to_compute,
            format_bytes(self.vector_bytes)
        )?;
        write!(f, "expect    about {} of memory, about {:.0} s", format_bytes(self.memory_bytes), self.seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_replaces_itself_under_any_name_and_what_its_folder_holds() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(at("in/a.jsonl"), "x").unwrap();
        for output in ["in/a.jsonl", "in/../in/a.jsonl", "in/", "."] {
            assert!(replaces(&at(output), &at("in/a.jsonl")), "{output}");
        }
        assert!(replaces(&format!("file://{}", at("in/a.jsonl")), &at("in/a.jsonl")));
        for output in ["in/b.jsonl", "in/a.jsonl.curate.json", "out/"] {
            assert!(!replaces(&at(output), &at("in/a.jsonl")), "{output}");
        }
        assert!(replaces("s3://bucket/a.parquet", "s3://bucket/a.parquet"));
    }
}
