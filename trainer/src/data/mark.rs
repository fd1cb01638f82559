//! Decides which tokens of a row carry a loss.
//!
//! The whole text is tokenised once; a token is labelled when it shares a byte with a marked range. With one range at the
//! end of the text this labels what the rule of the longest common token prefix labels (tokenise the prompt alone and the
//! whole text; what they do not share is the answer), except that a token with no byte of the answer is never labelled:
//! where the prompt's own last tokens change once the answer follows, the prefix rule labels those too.
//! The end: an end token right behind a range is labelled even when the template's marks leave it out, and an answer whose
//! last token is no special token gets the model's end token. What follows the last labelled token is cut off: no loss
//! depends on it. Cost: one tokenisation, O(tokens + ranges).

use super::columns::RawRow;
use super::{LossOn, SequenceOptions};
use crate::tokenizer::TextTokenizer;
use crate::{IGNORE, Sequence};
use curate_core::{Error, Location, Result};
use std::ops::Range;

/// A row with its labelled tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marked {
    /// Row id.
    pub(super) row: u64,
    /// Token ids.
    pub(super) ids: Vec<u32>,
    /// Byte range of each token; empty for tokens the text does not hold.
    pub(super) bytes: Vec<Range<usize>>,
    /// Whether each token carries a loss.
    pub(super) labelled: Vec<bool>,
    /// Tokens cut off at `max_length`.
    pub(super) cut_tokens: usize,
    /// Whether the end token was added.
    pub(super) eos_added: bool,
    /// Bytes of text that the labelled tokens stand for; special tokens stand for none.
    pub(super) labelled_bytes: usize,
}

/// What became of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has something to learn.
    Kept(Marked),
    /// Its text is empty or white space.
    Empty,
    /// No token carries a loss.
    Unlabelled,
    /// Tokens carry a loss, but what stands before them fills `max_length`.
    Beyond,
}

/// Tokenise and label a row.
pub(super) fn mark(raw: &RawRow<'_>, tokenizer: &TextTokenizer, options: &SequenceOptions) -> Result<Outcome> {
    if raw.text.trim().is_empty() {
        return Ok(Outcome::Empty);
    }
    let tokens = tokenizer.encode(raw.text).map_err(|e| e.at(Location::default().row(raw.row)))?;
    let labelled = match (&raw.marks, options.loss_on) {
        (Some(ranges), LossOn::Completion) => overlapping(&tokens.bytes, ranges),
        _ => overlapping(&tokens.bytes, std::slice::from_ref(&(0..raw.text.len()))),
    };
    let mut marked = Marked { row: raw.row, ids: tokens.ids, bytes: tokens.bytes, labelled, ..Marked::default() };
    marked.label_ends(tokenizer);
    if !marked.cut_tail() {
        return Ok(Outcome::Unlabelled);
    }
    if options.append_eos {
        marked.append_eos(tokenizer)?;
    }
    marked.truncate(options.max_length);
    marked.count_bytes(tokenizer);
    let any = marked.labelled.iter().skip(1).any(|label| *label);
    let beyond = marked.cut_tokens > 0;
    Ok(if any {
        Outcome::Kept(marked)
    } else if beyond {
        Outcome::Beyond
    } else {
        Outcome::Unlabelled
    })
}

/// Whether each token shares a byte with one of the sorted `ranges`. A token without bytes counts as its place, unless it
/// stands at the very front, where BOS does.
fn overlapping(tokens: &[Range<usize>], ranges: &[Range<usize>]) -> Vec<bool> {
    let mut next = 0;
    let mut shares = |token: &Range<usize>| {
        let end = token.end.max(token.start + 1);
        while ranges.get(next).is_some_and(|range| range.end <= token.start) {
            next += 1;
        }
        let later = ranges[next.min(ranges.len())..].iter().take_while(|range| range.start < end);
        token.end > 0 && later.into_iter().any(|range| range.end > token.start)
    };
    tokens.iter().map(&mut shares).collect()
}

impl Marked {
    /// Label an end token that follows a labelled token.
    fn label_ends(&mut self, tokenizer: &TextTokenizer) {
        for at in 1..self.ids.len() {
            let behind = self.labelled[at - 1] && !self.labelled[at] && !tokenizer.is_special(self.ids[at - 1]);
            self.labelled[at] |= behind && tokenizer.stops().contains(&self.ids[at]);
        }
    }

    /// Drop what follows the last labelled token; whether there is one.
    fn cut_tail(&mut self) -> bool {
        let kept = self.labelled.iter().rposition(|label| *label).map_or(0, |last| last + 1);
        self.shorten(kept);
        kept > 0
    }

    fn shorten(&mut self, length: usize) {
        self.ids.truncate(length);
        self.bytes.truncate(length);
        self.labelled.truncate(length);
    }

    /// Let the model learn to stop: where the last token is no special one, add the end token.
    fn append_eos(&mut self, tokenizer: &TextTokenizer) -> Result<()> {
        if self.ids.last().is_some_and(|id| tokenizer.is_special(*id)) {
            return Ok(());
        }
        let eos = tokenizer.eos().ok_or_else(|| {
            Error::data("tokenizer/no-eos", "an answer has no end token, and the model folder names none")
                .hint(
                    "set eos_token in tokenizer_config.json, or let the chat template end answers with a special token",
                )
                .at(Location::default().row(self.row))
        })?;
        let end = self.bytes.last().map_or(0, |bytes| bytes.end);
        self.ids.push(eos);
        self.bytes.push(end..end);
        self.labelled.push(true);
        self.eos_added = true;
        Ok(())
    }

    /// Keep the start.
    fn truncate(&mut self, max_length: usize) {
        self.cut_tokens = self.ids.len().saturating_sub(max_length);
        self.eos_added &= self.cut_tokens == 0;
        self.shorten(max_length);
    }

    /// Count the bytes of text under the labelled tokens; tokens that share a character share its bytes.
    fn count_bytes(&mut self, tokenizer: &TextTokenizer) {
        let mut end = 0;
        for at in 1..self.ids.len() {
            if self.labelled[at] && !tokenizer.is_special(self.ids[at]) {
                let bytes = &self.bytes[at];
                self.labelled_bytes += bytes.end.saturating_sub(bytes.start.max(end));
                end = end.max(bytes.end);
            }
        }
    }

    /// The sequence for the model.
    pub(super) fn sequence(self) -> Sequence {
        let label = |(at, (id, labelled)): (usize, (&u32, &bool))| if *labelled && at > 0 { *id } else { IGNORE };
        let labels = self.ids.iter().zip(&self.labelled).enumerate().map(label).collect();
        Sequence { row: self.row, labels, tokens: self.ids, weight: 1.0 }
    }
}
