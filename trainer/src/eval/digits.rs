//! How much of a number is right, where exact match says only yes or no.
//!
//! Both numbers are cut into parts: whole digits, decimals, denominator, exponent. `digit match` = positions that agree /
//! digits of the label, whole parts aligned at the right, decimals at the left; `dlength` = sum over the parts of
//! |difference in length|. What is no number matches 0 digits.
//! Source: Yang et al. 2024, Number Cookbook (arXiv 2411.03766), section 3. Cost: O(digits).

use serde::{Deserialize, Serialize};

/// Partial credit for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DigitScore {
    /// Share of the label's digits that are right, 0 to 1.
    pub digit_match: f64,
    /// Digits too many or too few, over all parts.
    pub dlength: u64,
}

/// The digits of a number by part; empty where the number has no such part.
#[derive(Default)]
struct Parts<'a> {
    whole: &'a str,
    decimals: &'a str,
    below: &'a str,
    exponent: &'a str,
}

impl<'a> Parts<'a> {
    /// Cut `12.5`, `3/4`, `1.5e10`; signs are left out. `None` when it is no number.
    fn of(text: &'a str) -> Option<Self> {
        let unsigned = |text: &'a str| text.strip_prefix(['-', '+']).unwrap_or(text);
        let text = unsigned(text.trim());
        let (text, below) = text.split_once('/').unwrap_or((text, ""));
        let (text, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let parts = Self { whole, decimals, below, exponent: unsigned(exponent) };
        let good = parts.all().iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()));
        (good && !whole.is_empty()).then_some(parts)
    }

    const fn all(&self) -> [&'a str; 4] {
        [self.whole, self.decimals, self.below, self.exponent]
    }
}

/// Compare what a model wrote with the label.
#[must_use]
pub fn digit_score(written: &str, label: &str) -> DigitScore {
    let Some(label) = Parts::of(label) else { return DigitScore::default() };
    let written = Parts::of(written).unwrap_or_default();
    let lengths = written.all().into_iter().zip(label.all()).map(|(a, b)| a.len().abs_diff(b.len()) as u64);
    let from_right = |a: &str, b: &str| a.bytes().rev().zip(b.bytes().rev()).filter(|(a, b)| a == b).count();
    let from_left = |a: &str, b: &str| a.bytes().zip(b.bytes()).filter(|(a, b)| a == b).count();
    let equal = from_right(written.whole, label.whole)
        + from_left(written.decimals, label.decimals)
        + from_right(written.below, label.below)
        + from_right(written.exponent, label.exponent);
    let digits: usize = label.all().iter().map(|part| part.len()).sum();
    DigitScore { digit_match: share(equal, digits), dlength: lengths.sum() }
}

#[expect(clippy::cast_precision_loss, reason = "digit counts are small")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}
