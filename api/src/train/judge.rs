//! `curate eval`: how surprised a model is by rows, and how often it answers them rightly.

use super::model::{Loaded, load};
use super::plan::EvalPlan;
use super::rows::{Renderer, Rows};
use crate::choose::open;
use crate::host::Host;
use crate::plan::Plan;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use curate_core::{Ctx, Error, Result};
use curate_ingest::Source;
use curate_trainer::data::{DatasetReport, SequenceOptions};
use curate_trainer::eval::{EvalItem, EvalOptions, EvalReport, Judge, LossTotal, Measure, evaluate};
use curate_trainer::model::Generator;
use curate_trainer::sft::eval_loss;
use serde::Serialize;
use std::collections::BTreeMap;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct EvalDone {
    /// Model folder or hub id.
    pub model: String,
    /// Rows judged.
    pub rows: usize,
    /// What became of all rows.
    pub data: DatasetReport,
    /// The figures.
    pub report: EvalReport,
}

/// Judge a model on the input of a plan.
///
/// # Errors
/// `model/*`, `tokenizer/*`, `data/max-length`, what reading and the model give; `cancelled`.
pub fn judge(plan: &Plan, wanted: &EvalPlan, host: &Host) -> Result<EvalDone> {
    let done = host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let source = open(plan, host, &ctx)?;
        let loaded = load(&wanted.model, wanted.adapter.as_deref(), host, &ctx)?;
        let renderer = Renderer::choose(&source, &loaded.folder)?;
        let (data, mut report) = losses(&source, &loaded, &renderer, wanted, &ctx)?;
        if let Some(judge) = wanted.judge {
            report.measures.extend(answers(&source, &loaded, &renderer, (wanted, judge), &ctx)?.measures);
        }
        let rows = usize::try_from(data.kept_rows).unwrap_or(usize::MAX);
        Ok(EvalDone { model: wanted.model.clone(), rows, data, report })
    });
    done.map_err(|error| match error.code() {
        "cancelled" => error.hint("nothing is kept of an evaluation; run the same command again"),
        _ => error,
    })
}

/// Loss, perplexity and token accuracy, for all rows and for every value of the column `by`.
fn losses(
    source: &Source,
    loaded: &Loaded,
    renderer: &Renderer,
    wanted: &EvalPlan,
    ctx: &Ctx,
) -> Result<(DatasetReport, EvalReport)> {
    let context = loaded.model.config.max_position_embeddings;
    if wanted.max_length != EvalPlan::default().max_length {
        SequenceOptions::new(wanted.max_length).check(Some(context))?;
    }
    let options = SequenceOptions { loss_on: wanted.loss_on, ..SequenceOptions::new(wanted.max_length.min(context)) };
    let rows = Rows { source, renderer, tokenizer: &loaded.tokenizer, options, weights: None };
    let (sequences, read) = rows.read(ctx)?;
    let names = groups(source, wanted.by.as_deref())?;
    let ctx = ctx.child("loss");
    ctx.progress().set_total(sequences.len() as u64);
    let (mut all, mut each): (LossTotal, BTreeMap<String, LossTotal>) = Default::default();
    for part in sequences.chunks(wanted.batch_size.max(1)) {
        let by_name = |sequence: &curate_trainer::Sequence| names.get(&sequence.row).cloned();
        if names.is_empty() {
            all.add(&eval_loss(&loaded.model, part, part.len(), &ctx)?);
        } else {
            for sequence in part {
                let one = eval_loss(&loaded.model, std::slice::from_ref(sequence), 1, &ctx)?;
                all.add(&one);
                each.entry(by_name(sequence).unwrap_or_default()).or_default().add(&one);
            }
        }
        ctx.tick(part.len() as u64)?;
    }
    ctx.progress().finish();
    let mut report = EvalReport { measures: all.measures("", "") };
    let bits = all.bits_per_byte(read.labelled_bytes);
    let line = |bits| Measure { n: read.labelled_bytes, ..Measure::plain("", "", "bits-per-byte", bits) };
    report.measures.extend(bits.map(line));
    each.iter().for_each(|(name, total)| report.measures.extend(total.measures(name, "")));
    Ok((read, report))
}

/// The value of a column for every row id; empty without a column.
fn groups(source: &Source, by: Option<&str>) -> Result<BTreeMap<u64, String>> {
    let Some(name) = by else { return Ok(BTreeMap::new()) };
    if source.schema().field_with_name(name).is_err() {
        return Err(crate::features::missing_column(source, name));
    }
    let mut found = BTreeMap::new();
    for unit in source.units() {
        let data = source.read(unit, None)?;
        let values = text_column(&data.batch, name)?;
        found.extend(data.rows.iter().copied().zip(values));
    }
    Ok(found)
}

fn text_column(batch: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(vec![String::new(); batch.num_rows()]) };
    let texts = arrow::compute::cast(column, &DataType::Utf8)
        .map_err(|e| Error::data("column/type", format!("the column '{name}' cannot be read as text: {e}")))?;
    let texts = texts.as_string::<i32>();
    Ok((0..texts.len()).map(|i| if texts.is_null(i) { String::new() } else { texts.value(i).to_owned() }).collect())
}

/// Let the model answer every row and compare.
fn answers(
    source: &Source,
    loaded: &Loaded,
    renderer: &Renderer,
    (wanted, judge): (&EvalPlan, Judge),
    ctx: &Ctx,
) -> Result<EvalReport> {
    let items = items(source, renderer, wanted.by.as_deref())?;
    let ctx = ctx.child("answer");
    ctx.progress().set_total(items.len() as u64);
    let options = EvalOptions { max_new_tokens: wanted.max_new_tokens, batch_size: wanted.batch_size.max(8), judge };
    let judged = evaluate(&Generator::new(&loaded.model), &loaded.tokenizer, &items, &options, &ctx)?;
    ctx.progress().finish();
    if let Some(path) = &wanted.answers {
        let mut lines = Vec::new();
        for one in &judged {
            lines.extend(serde_json::to_vec(one).map_err(|e| Error::io("json", e.to_string()))?);
            lines.push(b'\n');
        }
        curate_ingest::write_whole(path, &lines)?;
    }
    Ok(EvalReport::of(&judged, judge.name()))
}

/// The questions of a source with their answers.
pub(crate) fn items(source: &Source, renderer: &Renderer, by: Option<&str>) -> Result<Vec<EvalItem>> {
    let mut items = Vec::new();
    for unit in source.units() {
        let data = source.read(unit, None)?;
        let tasks = text_column(&data.batch, by.unwrap_or("task"))?;
        let bands = text_column(&data.batch, "band")?;
        let conversations = source.layout().conversations(&data.batch)?;
        for (((row, conversation), task), group) in data.rows.iter().zip(&conversations).zip(tasks).zip(bands) {
            if let Some((prompt, label)) = renderer.question(conversation)? {
                items.push(EvalItem { row: *row, prompt, label, task, group });
            }
        }
    }
    if items.is_empty() {
        return Err(Error::data("eval/no-questions", "no row has an answer to compare with")
            .hint("rows need an assistant turn, a completion or an answer; 'curate inspect' shows how they are read"));
    }
    Ok(items)
}
