//! What a loop came to, read from its log.

use super::log::Line;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Figures of a run whose batches were chosen while the model learned.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OnlineReport {
    /// The method.
    pub method: String,
    /// Candidates a step, where the epoch has as many.
    pub candidates: usize,
    /// Rows a step.
    pub rows: usize,
    /// Candidates offered over all steps.
    pub offered_rows: u64,
    /// Rows trained on, each time counted.
    pub trained_rows: u64,
    /// Different rows among them.
    pub distinct_rows: u64,
    /// Tokens of candidates that the model was asked about.
    pub probed_tokens: u64,
    /// Tokens trained on.
    pub trained_tokens: u64,
    /// Seconds of asking the model about candidates.
    pub probe_s: f64,
    /// Seconds of choosing and of learning from feedback.
    pub choose_s: f64,
    /// Seconds of training.
    pub train_s: f64,
    /// Losses on the rows to judge by: step and loss.
    pub evals: Vec<(u64, f64)>,
}

impl OnlineReport {
    /// Sums over the log.
    pub(super) fn of(method: &str, sizes: (usize, usize), lines: &[Line], evals: Vec<(u64, f64)>) -> Self {
        let mut distinct: BTreeSet<u64> = BTreeSet::new();
        let mut sum = Self { method: method.to_owned(), candidates: sizes.0, rows: sizes.1, evals, ..Self::default() };
        for line in lines {
            distinct.extend(&line.rows);
            sum.offered_rows += line.candidates as u64;
            sum.trained_rows += line.rows.len() as u64;
            sum.probed_tokens += line.probed_tokens.unwrap_or(0);
            sum.trained_tokens += line.tokens;
            sum.probe_s += line.probe_s;
            sum.choose_s += line.choose_s;
            sum.train_s += line.train_s;
        }
        sum.distinct_rows = distinct.len() as u64;
        sum
    }
}
