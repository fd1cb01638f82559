//! The dry-run view: what the model would really be trained on, for a few rows.

use super::SequenceOptions;
use super::columns::Data;
use super::mark::{Marked, Outcome, mark};
use crate::tokenizer::TextTokenizer;
use curate_core::{Pool, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A row as the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Row id.
    pub row: u64,
    /// The whole text.
    pub text: String,
    /// Byte ranges of the text whose tokens carry a loss, joined where they touch.
    pub trained: Vec<Range<usize>>,
    /// Bytes from here on are not seen: cut at `max_length`, or behind the last answer.
    pub seen_bytes: usize,
    /// Tokens seen.
    pub tokens: usize,
    /// Tokens with a loss.
    pub labelled_tokens: usize,
    /// Tokens cut at `max_length`.
    pub cut_tokens: usize,
    /// Whether the end token is added and learned.
    pub eos_added: bool,
}

/// The first `count` rows that have something to learn.
///
/// # Errors
/// As [`super::sequences`], but rows behind the last sample are not looked at, and none found is no error.
pub fn preview(pool: &Pool, tokenizer: &TextTokenizer, options: &SequenceOptions, count: usize) -> Result<Vec<Sample>> {
    options.check(None)?;
    let data = Data::open(pool, options.loss_on)?;
    let mut samples = Vec::new();
    for chunk in 0..data.chunks() {
        if samples.len() == count {
            break;
        }
        let chunk = data.chunk(chunk)?;
        for at in 0..chunk.len() {
            let raw = chunk.row(at)?;
            if samples.len() == count {
                break;
            }
            if let Outcome::Kept(marked) = mark(&raw, tokenizer, options)? {
                samples.push(sample(raw.text, &marked));
            }
        }
    }
    Ok(samples)
}

fn sample(text: &str, marked: &Marked) -> Sample {
    let mut trained: Vec<Range<usize>> = Vec::new();
    let labelled = || (1..marked.ids.len()).filter(|&at| marked.labelled[at]);
    for bytes in labelled().map(|at| marked.bytes[at].clone()).filter(|bytes| !bytes.is_empty()) {
        match trained.last_mut() {
            Some(last) if last.end >= bytes.start => last.end = last.end.max(bytes.end),
            _ => trained.push(bytes),
        }
    }
    Sample {
        row: marked.row,
        text: text.to_owned(),
        trained,
        seen_bytes: marked.bytes.last().map_or(0, |bytes| bytes.end),
        tokens: marked.ids.len(),
        labelled_tokens: labelled().count(),
        cut_tokens: marked.cut_tokens,
        eos_added: marked.eos_added,
    }
}
