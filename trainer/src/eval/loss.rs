//! Loss, perplexity and token accuracy over many tokens: sums first, one division at the end.

use super::report::Measure;
use serde::{Deserialize, Serialize};

/// Sums over labelled tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LossTotal {
    /// Negative log-likelihood, nats.
    pub nll: f64,
    /// Labelled tokens.
    pub tokens: u64,
    /// Tokens whose label was the model's first choice.
    pub correct: u64,
}

impl LossTotal {
    /// Add one token.
    pub fn token(&mut self, nll: f64, correct: bool) {
        self.add(&Self { nll, tokens: 1, correct: u64::from(correct) });
    }

    /// Add another sum.
    pub fn add(&mut self, other: &Self) {
        self.nll += other.nll;
        self.tokens += other.tokens;
        self.correct += other.correct;
    }

    /// Mean loss, nats a token; `None` without tokens.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts stay below 2^53")]
    pub fn mean(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.nll / self.tokens as f64)
    }

    /// `exp(mean loss)`.
    #[must_use]
    pub fn perplexity(&self) -> Option<f64> {
        self.mean().map(f64::exp)
    }

    /// Share of tokens whose label was the model's first choice.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts stay below 2^53")]
    pub fn accuracy(&self) -> Option<f64> {
        (self.tokens > 0).then(|| self.correct as f64 / self.tokens as f64)
    }

    /// Bits for every byte of a text of `bytes` bytes whose tokens these were: loss in a measure that does not depend on the
    /// tokenizer; `None` without bytes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "byte counts stay below 2^53")]
    pub fn bits_per_byte(&self, bytes: u64) -> Option<f64> {
        (bytes > 0).then(|| self.nll / std::f64::consts::LN_2 / bytes as f64)
    }

    /// The lines of a report. Tokens of a row are not independent, so no interval is given.
    #[must_use]
    pub fn measures(&self, task: &str, group: &str) -> Vec<Measure> {
        let metrics = [("loss", self.mean()), ("perplexity", self.perplexity()), ("token-accuracy", self.accuracy())];
        let line = |(metric, value): (&str, Option<f64>)| {
            Some(Measure { n: self.tokens, ..Measure::plain(task, group, metric, value?) })
        };
        metrics.into_iter().filter_map(line).collect()
    }
}
