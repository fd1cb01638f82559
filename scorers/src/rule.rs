//! A linear rule over columns: a constant and a coefficient for each, written as people write it.

use crate::expression::{Expression, linear};
use curate_core::{Column, Error, Result};
use std::fmt;
use std::str::FromStr;

/// One term of a rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// Column it multiplies.
    pub column: Column,
    /// Its coefficient.
    pub coefficient: f64,
}

/// `constant + sum coefficient * column`, columns in rising order. Reads `1.0684 - 0.1498*score.reward + 8.257e-5*tokens`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Value where all columns are 0.
    pub constant: f64,
    /// The terms.
    pub terms: Vec<Term>,
}

impl Rule {
    /// The rule's value for numbers given in the order of its terms.
    #[must_use]
    pub fn value(&self, numbers: impl IntoIterator<Item = f64>) -> f64 {
        self.terms.iter().zip(numbers).fold(self.constant, |sum, (term, number)| sum + term.coefficient * number)
    }

    /// The columns it reads.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        self.terms.iter().map(|term| term.column.clone()).collect()
    }
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let expression = Expression::parse(text, None)?;
        let (constant, coefficients) = linear(&expression)?;
        let mut terms: Vec<Term> = expression
            .columns()
            .into_iter()
            .zip(coefficients)
            .map(|(column, coefficient)| Term { column, coefficient })
            .collect();
        terms.sort_by(|a, b| a.column.cmp(&b.column));
        if terms.is_empty() {
            return Err(Error::usage("rule/empty", format!("the rule '{text}' names no column"))
                .hint("write a number for each indicator, such as 1.07 - 0.15*score.reward"));
        }
        Ok(Self { constant, terms })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.constant)?;
        for term in &self.terms {
            let sign = if term.coefficient.is_sign_negative() { '-' } else { '+' };
            write!(f, " {sign} {}*{}", term.coefficient.abs(), term.column)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let rule: Rule = "1.5 - 2*(score.b - tokens/4) + 0.5*a-b".parse().unwrap();
        assert_eq!(rule.to_string(), "1.5 + 0.5*score.a-b - 2*score.b + 0.5*tokens");
        assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
        assert_eq!(rule.value([2.0, 1.0, 4.0]), 2.5);
        for (bad, code) in [
            ("1 + 2", "rule/empty"),
            ("a*b", "rule/not-linear"),
            ("z(a)", "rule/not-linear"),
            ("1/a", "rule/not-linear"),
        ] {
            assert_eq!(bad.parse::<Rule>().unwrap_err().code(), code, "{bad}");
        }
    }
}
