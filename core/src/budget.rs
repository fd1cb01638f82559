//! How much to select: rows, a share of the rows, or tokens.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How much to select. Written `500`, `5%`, `0.5%`, `2Mtok`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BudgetText", into = "String")]
pub enum Budget {
    /// Exactly this many rows.
    Rows(usize),
    /// This share of the rows, in `(0, 1]`; the row count is rounded to the nearest, at least 1.
    Fraction(f64),
    /// Rows in the order of preference as long as their tokens fit.
    Tokens(u64),
}

impl Budget {
    /// Rows to choose of `n`, for budgets that count rows.
    ///
    /// # Errors
    /// `budget/too-large` when more rows are asked for than there are, `budget/tokens` for a token budget.
    pub fn rows_of(self, n: usize) -> Result<usize> {
        match self {
            Self::Rows(rows) if rows > n => {
                Err(Error::usage("budget/too-large", format!("the budget asks for {rows} rows of {n}"))
                    .hint(format!("ask for at most {n} rows, or for a share such as 5%")))
            }
            Self::Rows(rows) => Ok(rows),
            Self::Fraction(share) => Ok(Self::share_of(share, n)),
            Self::Tokens(_) => Err(Error::usage("budget/tokens", "this method cannot count tokens")
                .hint("give the budget in rows or percent")),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 <= share <= 1"
    )]
    fn share_of(share: f64, n: usize) -> usize {
        if n == 0 { 0 } else { ((share * n as f64).round() as usize).clamp(1, n) }
    }
}

impl FromStr for Budget {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let bad = |why: &str| {
            Error::usage("budget/invalid", format!("budget '{trimmed}' {why}"))
                .hint("write a row count (500), a share (5%) or tokens (2Mtok, 500ktok)")
        };
        if let Some(percent) = trimmed.strip_suffix('%') {
            let value: f64 = percent.trim().parse().map_err(|_| bad("is not a percentage"))?;
            return if value.is_finite() && value > 0.0 && value <= 100.0 {
                Ok(Self::Fraction(value / 100.0))
            } else {
                Err(bad("must be above 0% and at most 100%"))
            };
        }
        if let Some(count) = trimmed.strip_suffix("tok") {
            return parse_tokens(count.trim())
                .map(Self::Tokens)
                .ok_or_else(|| bad("is not a positive number of tokens"));
        }
        match trimmed.replace('_', "").parse::<i128>() {
            Ok(rows) if rows <= 0 => Err(bad("must be positive")),
            Ok(rows) => usize::try_from(rows).map(Self::Rows).map_err(|_| bad("is too large")),
            Err(_) => Err(bad("is not understood")),
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked before the cast")]
fn parse_tokens(text: &str) -> Option<u64> {
    let (digits, unit) = match text.char_indices().next_back()? {
        (i, 'k' | 'K') => (&text[..i], 1e3),
        (i, 'M') => (&text[..i], 1e6),
        (i, 'G' | 'B') => (&text[..i], 1e9),
        _ => (text, 1.0),
    };
    let tokens = digits.trim().parse::<f64>().ok()? * unit;
    (tokens.is_finite() && (1.0..=1e18).contains(&tokens)).then_some(tokens.round() as u64)
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(f, "{rows}"),
            Self::Fraction(share) => write!(f, "{}%", trim_float(share * 100.0)),
            Self::Tokens(tokens) => write!(f, "{tokens}tok"),
        }
    }
}

/// Shortest decimal that reads back as the same share (5 % is stored as 0.05, and 0.05 * 100 is 5.000000000000001 in binary).
fn trim_float(percent: f64) -> String {
    (0..17)
        .map(|digits| format!("{percent:.digits$}"))
        .find(|text| text.parse::<f64>().is_ok_and(|p| (p / 100.0).to_bits() == (percent / 100.0).to_bits()))
        .unwrap_or_else(|| percent.to_string())
}

/// What a plan file may hold: text, or a bare row count.
#[derive(Deserialize)]
#[serde(untagged)]
enum BudgetText {
    Rows(u64),
    Text(String),
}

impl TryFrom<BudgetText> for Budget {
    type Error = Error;

    fn try_from(text: BudgetText) -> Result<Self> {
        match text {
            BudgetText::Rows(rows) => rows.to_string().parse(),
            BudgetText::Text(text) => text.parse(),
        }
    }
}

impl From<Budget> for String {
    fn from(budget: Budget) -> Self {
        budget.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("5%".parse::<Budget>().unwrap(), Budget::Fraction(0.05));
        assert_eq!("500".parse::<Budget>().unwrap(), Budget::Rows(500));
        assert_eq!("2Mtok".parse::<Budget>().unwrap(), Budget::Tokens(2_000_000));
        assert_eq!("1.5ktok".parse::<Budget>().unwrap(), Budget::Tokens(1_500));
        for bad in [
            "0",
            "0%",
            "-1",
            "-5%",
            "NaN",
            "NaN%",
            "5 percent",
            "101%",
            "",
            "tok",
            "1e999tok",
            "99999999999999999999999",
        ] {
            assert_eq!(bad.parse::<Budget>().unwrap_err().code(), "budget/invalid", "{bad}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["5%", "0.1%", "12.5%", "33.3%", "500", "2000000tok"] {
            assert_eq!(text.parse::<Budget>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn share_is_rounded_and_never_zero() {
        assert_eq!(Budget::Fraction(0.05).rows_of(125_513).unwrap(), 6276);
        assert_eq!(Budget::Fraction(0.001).rows_of(10).unwrap(), 1);
        assert_eq!(Budget::Fraction(0.5).rows_of(0).unwrap(), 0);
        assert_eq!(Budget::Rows(11).rows_of(10).unwrap_err().code(), "budget/too-large");
    }
}
