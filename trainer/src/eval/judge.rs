//! Right or wrong: how a completion is compared with its label.

use super::answer::{gsm8k_first, gsm8k_last, numeric};
use super::digits::{DigitScore, digit_score};
use crate::verify;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule of comparison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Judge {
    /// The completion is the label, up to white space around it.
    #[default]
    Exact,
    /// As `exact`, with partial credit for digits.
    Number,
    /// The first `#### number` of both, compared as text, commas dropped.
    Gsm8kFirst,
    /// The last `#### number` within the last 300 characters, compared as text, commas dropped.
    Gsm8kStrict,
    /// The number behind `####`, else the last number, compared exactly: `$72.00` is 72.
    Numeric,
    /// The last `<answer>` is an expression of the label's numbers, each used once, with the label's value: Countdown.
    Countdown,
}

/// What a judge says of one completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it is right.
    pub correct: bool,
    /// The answer found in it; what majority votes count.
    pub answer: Option<String>,
    /// Partial credit, from [`Judge::Number`].
    pub digits: Option<DigitScore>,
}

impl Judge {
    /// Compare a completion with its label.
    #[must_use]
    pub fn judge(self, completion: &str, label: &str) -> Verdict {
        if self == Self::Countdown {
            return verify::judge(completion, label);
        }
        let (answer, truth) = (self.answer(completion), self.answer(label));
        let digits = (self == Self::Number).then(|| digit_score(completion.trim(), label.trim()));
        Verdict { correct: truth.is_some() && answer == truth, answer, digits }
    }

    /// The answer in a text, in the form in which answers are compared.
    #[must_use]
    pub fn answer(self, text: &str) -> Option<String> {
        match self {
            Self::Exact | Self::Number => Some(text.trim().to_owned()),
            Self::Countdown => Some(verify::extract(text).unwrap_or_else(|| text.trim()).to_owned()),
            Self::Gsm8kFirst => gsm8k_first(text),
            Self::Gsm8kStrict => gsm8k_last(text),
            Self::Numeric => numeric(text).map(|number| number.to_string()),
        }
    }

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact | Self::Number => "exact",
            Self::Gsm8kFirst => "gsm8k-first",
            Self::Gsm8kStrict => "gsm8k-strict",
            Self::Numeric => "numeric",
            Self::Countdown => "countdown",
        }
    }
}
