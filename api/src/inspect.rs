//! The schema doctor: what the input is, what would be trained on, and what is wrong with it, before anyone spends an hour.

use crate::choose::open;
use crate::host::Host;
use crate::plan::Plan;
use curate_core::{Ctx, Embedder, Result};
use curate_ingest::{ChatTemplate, InputSpec, OnBadRow, Rendered, Role, Source, Unit};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Rows longer than this many tokens are called oversized: what common trainers cut at by default.
const OVERSIZED_TOKENS: u32 = 2048;

/// Unreadable rows that are shown.
const BAD_ROWS: usize = 5;

/// What `curate inspect` found.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Reading of the input, in words.
    pub layout: String,
    /// Files with their rows.
    pub files: Vec<FileLine>,
    /// Columns with their types and nulls.
    pub columns: Vec<ColumnLine>,
    /// Rows of the input.
    pub rows: u64,
    /// Rows excluded by `--where`.
    pub filtered_rows: u64,
    /// Rows that could not be read.
    pub skipped_rows: u64,
    /// The first of them: where each stands and what is wrong with it.
    pub bad_rows: Vec<String>,
    /// Rows whose text to embed is empty.
    pub empty_rows: u64,
    /// Rows that repeat an earlier row's whole text.
    pub duplicate_rows: u64,
    /// Rows above 2048 tokens.
    pub oversized_rows: u64,
    /// Rows in which nothing would be trained on.
    pub zero_label_rows: u64,
    /// Characters a row.
    pub chars: Distribution,
    /// Tokens a row, by the built-in tokenizer.
    pub tokens: Distribution,
    /// Turns by role.
    pub roles: BTreeMap<String, u64>,
    /// Up to three rows as the model would see them.
    pub samples: Vec<Sample>,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
pub struct FileLine {
    /// Its path.
    pub path: String,
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// One column.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnLine {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub kind: String,
    /// Nulls in it.
    pub nulls: u64,
}

/// A row rendered by the chat template; `trained` are the byte ranges a trainer learns from.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Source row.
    pub row: u64,
    /// The text.
    pub text: String,
    /// Byte ranges of the text.
    pub trained: Vec<Range<usize>>,
}

/// Quantiles and a histogram over powers of two.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Distribution {
    /// Smallest value.
    pub min: u32,
    /// Median.
    pub p50: u32,
    /// 90th percentile.
    pub p90: u32,
    /// 99th percentile.
    pub p99: u32,
    /// Largest value.
    pub max: u32,
    /// Mean.
    pub mean: f64,
    /// Sum.
    pub sum: u64,
    /// Rows with a value below 2, 4, 8 ... : entry `i` counts values of `i` bits.
    pub histogram: Vec<u64>,
}

impl Distribution {
    fn of(values: &mut [u32]) -> Self {
        values.sort_unstable();
        let Some(&max) = values.last() else { return Self::default() };
        let at = |q: f64| values[((values.len() - 1) as f64 * q).round() as usize];
        let sum: u64 = values.iter().map(|&v| u64::from(v)).sum();
        let mut histogram = vec![0; (32 - max.leading_zeros()) as usize + 1];
        values.iter().for_each(|v| histogram[(32 - v.leading_zeros()) as usize] += 1);
        Self {
            min: values[0],
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max,
            mean: sum as f64 / values.len() as f64,
            sum,
            histogram,
        }
    }
}

/// Running counts over units.
#[derive(Default)]
struct Tally {
    chars: Vec<u32>,
    tokens: Vec<u32>,
    seen: HashSet<u128>,
    nulls: Vec<u64>,
    roles: BTreeMap<String, u64>,
    empty: u64,
    duplicate: u64,
    zero_label: u64,
    skipped: u64,
    bad: Vec<String>,
    bad_file: Option<usize>,
    filtered: u64,
}

/// Inspect the input of a plan.
///
/// # Errors
/// What opening and reading gives.
pub fn inspect(plan: &Plan, host: &Host) -> Result<Inspection> {
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        // Bad rows are counted here, whatever a run would do with them.
        let input = InputSpec { on_bad_row: OnBadRow::Skip, ..plan.input.clone() };
        let source = open(&Plan { input, ..plan.clone() }, host, &ctx)?;
        let template = match &plan.input.chat_template {
            Some(path) => ChatTemplate::load(std::path::Path::new(path))?,
            None => ChatTemplate::chatml()?,
        };
        let tally = tally(&source, &ctx)?;
        if let Some(error) = tally.bad_file.and_then(|file| source.other_shape(file)) {
            return Err(error);
        }
        let samples = samples(&source, &template)?;
        Ok(report(&source, tally, samples))
    })
}

fn tally(source: &Source, ctx: &Ctx) -> Result<Tally> {
    let ctx = ctx.child("inspect");
    ctx.progress().set_total(source.rows());
    let counter = curate_embed::static_encoder()?;
    let mut tally = Tally { nulls: vec![0; source.schema().fields().len()], ..Tally::default() };
    for unit in source.units() {
        count_unit(source, unit, &counter, &mut tally, &ctx)?;
        ctx.tick(u64::from(unit.rows))?;
    }
    ctx.progress().finish();
    Ok(tally)
}

fn count_unit(source: &Source, unit: &Unit, counter: &dyn Embedder, tally: &mut Tally, ctx: &Ctx) -> Result<()> {
    let data = source.read(unit, None)?;
    let texts = source.texts(&data)?;
    for (sum, column) in tally.nulls.iter_mut().zip(data.batch.columns()) {
        *sum += arrow::array::Array::logical_null_count(column) as u64;
    }
    let whole: Vec<&str> = texts.iter().map(|t| t.full.as_str()).collect();
    tally.tokens.extend(counter.count_tokens(&whole, ctx)?);
    texts.iter().for_each(|t| count_text(t, tally));
    for conversation in source.layout().conversations(&data.batch)? {
        for turn in &conversation.turns {
            *tally.roles.entry(turn.role.name().to_owned()).or_default() += 1;
        }
        let learns =
            conversation.turns.iter().any(|t| t.trained && t.role == Role::Assistant && !t.text.trim().is_empty());
        tally.zero_label += u64::from(!learns && !conversation.plain);
    }
    tally.skipped += data.skipped.len() as u64;
    let room = BAD_ROWS.saturating_sub(tally.bad.len());
    tally.bad.extend(data.skipped.iter().take(room).map(|bad| format!("{}: {}", bad.location, bad.reason)));
    tally.bad_file = tally.bad_file.or((!data.skipped.is_empty()).then_some(unit.file));
    tally.filtered += data.filtered as u64;
    Ok(())
}

fn count_text(text: &Rendered, tally: &mut Tally) {
    tally.chars.push(text.chars);
    tally.empty += u64::from(text.embed.trim().is_empty());
    let digest = blake3::hash(text.full.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest.as_bytes()[..16]);
    tally.duplicate += u64::from(!tally.seen.insert(u128::from_le_bytes(short)));
}

/// First, middle and last row.
fn samples(source: &Source, template: &ChatTemplate) -> Result<Vec<Sample>> {
    let rows = source.rows();
    let mut wanted: Vec<u64> = if rows == 0 { Vec::new() } else { vec![0, rows / 2, rows - 1] };
    wanted.dedup();
    let mut found = Vec::new();
    for row in wanted {
        let unit = source.units().iter().find(|u| (u.first_row..u.first_row + u64::from(u.rows)).contains(&row));
        let Some(unit) = unit else { continue };
        let data = source.read(unit, None)?;
        let Ok(place) = data.rows.binary_search(&row) else { continue };
        let conversations = source.layout().conversations(&data.batch.slice(place, 1))?;
        for conversation in &conversations {
            let rendered = template.render(conversation, false)?;
            found.push(Sample { row, text: rendered.text, trained: rendered.trained });
        }
    }
    Ok(found)
}

fn report(source: &Source, mut tally: Tally, samples: Vec<Sample>) -> Inspection {
    let oversized = tally.tokens.iter().filter(|&&t| t > OVERSIZED_TOKENS).count() as u64;
    let fields = source.schema().fields().iter().zip(&tally.nulls);
    Inspection {
        layout: source.layout().to_string(),
        files: source.files().iter().map(|f| FileLine { path: f.path.clone(), rows: f.rows, bytes: f.bytes }).collect(),
        columns: fields
            .map(|(f, &nulls)| ColumnLine { name: f.name().clone(), kind: f.data_type().to_string(), nulls })
            .collect(),
        rows: source.rows(),
        filtered_rows: tally.filtered,
        skipped_rows: tally.skipped,
        bad_rows: tally.bad,
        empty_rows: tally.empty,
        duplicate_rows: tally.duplicate,
        oversized_rows: oversized,
        zero_label_rows: tally.zero_label,
        chars: Distribution::of(&mut tally.chars),
        tokens: Distribution::of(&mut tally.tokens),
        roles: tally.roles,
        samples,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_of_a_few() {
        let found = Distribution::of(&mut [5, 1, 3]);
        assert_eq!((found.min, found.p50, found.max, found.sum), (1, 3, 5, 9));
        assert_eq!(found.histogram, [0, 1, 1, 1]);
        assert_eq!(Distribution::of(&mut []).max, 0);
    }
}
