//! All rows of a pool as sequences, in the order of the pool and the same for any number of threads.

use super::SequenceOptions;
use super::columns::{Chunk, Data};
use super::mark::{Outcome, mark};
use crate::Sequence;
use crate::tokenizer::TextTokenizer;
use curate_core::{Ctx, Error, Pool, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Rows tokenised between two looks at the cancel flag.
const BLOCK_ROWS: usize = 2048;

/// What the model is trained or judged on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dataset {
    /// The rows that have something to learn, in the order of the pool.
    pub sequences: Vec<Sequence>,
    /// What became of all rows.
    pub report: DatasetReport,
}

/// Counts over the rows of a pool, and the ids of those that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetReport {
    /// Rows read.
    pub rows: u64,
    /// Rows kept.
    pub kept_rows: u64,
    /// Tokens kept.
    pub tokens: u64,
    /// Tokens that carry a loss.
    pub labelled_tokens: u64,
    /// Bytes of text those tokens stand for; special tokens stand for none.
    pub labelled_bytes: u64,
    /// Longest kept sequence, tokens.
    pub longest_tokens: usize,
    /// Kept rows that were cut at `max_length`.
    pub truncated_rows: u64,
    /// Tokens cut off from them.
    pub truncated_tokens: u64,
    /// Rows whose answer got the end token.
    pub eos_rows: u64,
    /// Ids of rows without text.
    pub empty: Vec<u64>,
    /// Ids of rows with nothing to learn within `max_length`.
    pub unlabelled: Vec<u64>,
    /// How many of those have something to learn, behind a beginning that fills `max_length`.
    #[serde(default)]
    pub beyond_rows: u64,
    /// Longest sequence allowed, tokens.
    #[serde(default)]
    pub max_length: usize,
    /// Ids of rows with something to learn that weigh 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weightless: Vec<u64>,
}

impl DatasetReport {
    fn count(&mut self, (row, weight): (u64, f32), outcome: Outcome) -> Option<Sequence> {
        self.rows += 1;
        let marked = match outcome {
            Outcome::Kept(_) if weight == 0.0 => {
                self.weightless.push(row);
                return None;
            }
            Outcome::Kept(marked) => marked,
            Outcome::Empty => {
                self.empty.push(row);
                return None;
            }
            Outcome::Unlabelled | Outcome::Beyond => {
                self.beyond_rows += u64::from(outcome == Outcome::Beyond);
                self.unlabelled.push(row);
                return None;
            }
        };
        self.kept_rows += 1;
        self.truncated_rows += u64::from(marked.cut_tokens > 0);
        self.truncated_tokens += marked.cut_tokens as u64;
        self.eos_rows += u64::from(marked.eos_added);
        self.labelled_bytes += marked.labelled_bytes as u64;
        let sequence = Sequence { weight, ..marked.sequence() };
        self.tokens += sequence.tokens.len() as u64;
        self.labelled_tokens += sequence.labelled() as u64;
        self.longest_tokens = self.longest_tokens.max(sequence.tokens.len());
        Some(sequence)
    }
}

impl DatasetReport {
    /// What to say of rows whose answers lie behind the longest sequence, and of such that are cut there.
    #[must_use]
    pub fn at_the_limit(&self) -> Option<String> {
        let (beyond, cut, max) = (self.beyond_rows, self.truncated_rows, self.max_length);
        let beyond =
            (beyond > 0).then(|| format!("in {beyond} rows what stands before the answer fills all {max} tokens"));
        let cut = (cut > 0).then(|| format!("{cut} rows are cut at {max} tokens"));
        let said = beyond.into_iter().chain(cut).collect::<Vec<_>>().join(", ");
        let hint = "a longer --max-length, where the model's context allows it, would read more";
        (!said.is_empty()).then(|| format!("{said}; {hint}"))
    }
}

/// Tokenise every row of `pool`.
///
/// # Errors
/// `column/missing`, `column/type`, `data/range` and `tokenizer/no-eos` with the row, `data/nothing-to-learn` when no row is
/// left, `data/row-weight` for a weight that is none, `data/weightless` when all rows left weigh 0, `cancelled`.
pub fn sequences(pool: &Pool, tokenizer: &TextTokenizer, options: &SequenceOptions, ctx: &Ctx) -> Result<Dataset> {
    tokenised(pool, tokenizer, options, ctx)?.check(options)
}

/// The same, where it may be that no row is left.
///
/// # Errors
/// As [`sequences`], without `data/nothing-to-learn` and `data/weightless`.
pub fn tokenised(pool: &Pool, tokenizer: &TextTokenizer, options: &SequenceOptions, ctx: &Ctx) -> Result<Dataset> {
    options.check(None)?;
    let data = Data::open(pool, options.loss_on)?;
    let mut dataset = Dataset::default();
    dataset.report.max_length = options.max_length;
    for at in 0..data.chunks() {
        let chunk = data.chunk(at)?;
        for first in (0..chunk.len()).step_by(BLOCK_ROWS) {
            let block = first..chunk.len().min(first + BLOCK_ROWS);
            ctx.tick(block.len() as u64)?;
            let outcomes: Result<Vec<_>> =
                block.into_par_iter().map(|row| outcome(&chunk, row, tokenizer, options)).collect();
            for (row, outcome) in outcomes? {
                dataset.sequences.extend(dataset.report.count(row, outcome));
            }
        }
    }
    Ok(dataset)
}

fn outcome(
    chunk: &Chunk,
    at: usize,
    tokenizer: &TextTokenizer,
    options: &SequenceOptions,
) -> Result<((u64, f32), Outcome)> {
    let raw = chunk.row(at)?;
    Ok(((raw.row, raw.weight), mark(&raw, tokenizer, options)?))
}

/// The error for rows none of which counts.
#[must_use]
pub fn weightless(rows: usize) -> Error {
    Error::data("data/weightless", format!("of {rows} rows all that have something to learn weigh 0"))
        .hint("give some of them a weight above 0, or train with row_weights=none")
}

impl Dataset {
    /// Refuse a dataset without a label.
    fn check(self, options: &SequenceOptions) -> Result<Self> {
        let rows = usize::try_from(self.report.rows).unwrap_or(usize::MAX);
        if !self.sequences.is_empty() {
            return Ok(self);
        }
        if !self.report.weightless.is_empty() {
            return Err(weightless(rows));
        }
        let (empty, unlabelled) = (self.report.empty.len(), self.report.unlabelled.len());
        let why = format!(
            "none of {rows} rows has something to learn: {empty} empty, {unlabelled} without a labelled token in the first {}",
            options.max_length
        );
        Err(Error::data("data/nothing-to-learn", why)
            .hint("look at the marked answers with --dry-run; raise max_length, or set loss_on = all"))
    }

    /// Length of every sequence, tokens.
    #[must_use]
    pub fn lengths(&self) -> Vec<usize> {
        self.sequences.iter().map(|sequence| sequence.tokens.len()).collect()
    }
}
