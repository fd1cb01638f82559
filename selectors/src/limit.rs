//! What a budget means for a pool: a number of rows, or as many rows as their tokens allow.
//!
//! Token budgets, exact rule. Methods whose choice for a smaller budget begins the choice for a larger one take their rows
//! in order of preference and stop before the first row that does not fit. Methods that share rows out over groups take
//! the row count `m`, found by bisection, for which the rows chosen for `m` fit and those chosen for `m + 1` do not.
//! Cost: one pass over the column `tokens`.

use curate_core::{Budget, Column, Error, Pool, Result};

/// A budget checked against a pool.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Limit {
    /// Exactly this many rows.
    Rows(usize),
    /// As many rows as fit.
    Tokens {
        /// Tokens of every position.
        tokens: Vec<u32>,
        /// Tokens there are to spend.
        budget: u64,
    },
}

impl Limit {
    /// Check the budget: nothing of nothing is fine, no rows of some is not.
    pub(crate) fn of(pool: &Pool, budget: Budget) -> Result<Self> {
        let bad = |why: &str| {
            Err(Error::usage("budget/invalid", format!("the budget {why}"))
                .hint("write a row count (500), a share (5%) or tokens (2Mtok)"))
        };
        match budget {
            Budget::Rows(0) | Budget::Tokens(0) => bad("must be above 0"),
            Budget::Fraction(share) if !(share > 0.0 && share <= 1.0) => bad("must be above 0% and at most 100%"),
            Budget::Tokens(budget) => {
                pool.require(&[Column::TOKENS], "a budget in tokens")?;
                Ok(Self::Tokens { tokens: pool.counts(&Column::TOKENS)?, budget })
            }
            rows => Ok(Self::Rows(rows.rows_of(pool.rows())?)),
        }
    }

    /// A meter at nought.
    pub(crate) const fn meter(&self) -> Meter<'_> {
        Meter { limit: self, rows: 0, tokens: 0 }
    }

    /// Length of the longest beginning of `order` (positions) that fits.
    pub(crate) fn prefix(&self, order: &[usize]) -> Result<usize> {
        let mut meter = self.meter();
        let fitting = order.iter().take_while(|&&position| meter.admits(position)).count();
        meter.finish(order.len())?;
        Ok(fitting)
    }

    /// The row count for methods that share rows out; `tokens_of(m, tokens)` counts the tokens of the rows they choose for `m`.
    pub(crate) fn row_count(&self, n: usize, tokens_of: impl Fn(usize, &[u32]) -> u64) -> Result<usize> {
        self.try_row_count(n, |m, tokens| Ok(tokens_of(m, tokens)))
    }

    /// The same where counting means choosing, which may fail.
    pub(crate) fn try_row_count(&self, n: usize, tokens_of: impl Fn(usize, &[u32]) -> Result<u64>) -> Result<usize> {
        let (tokens, budget) = match self {
            Self::Rows(rows) => return Ok(*rows),
            Self::Tokens { tokens, budget } => (tokens, *budget),
        };
        let fits = |m: usize| Ok::<_, Error>(tokens_of(m, tokens)? <= budget);
        let (mut fitting, mut beyond) = if fits(n)? { (n, n + 1) } else { (0, n) };
        while beyond - fitting > 1 {
            let middle = fitting.midpoint(beyond);
            if fits(middle)? {
                fitting = middle;
            } else {
                beyond = middle;
            }
        }
        if fitting == 0 && n > 0 { Err(too_small(budget, tokens_of(1, tokens)?)) } else { Ok(fitting) }
    }
}

/// Counts what has been taken so far.
pub(crate) struct Meter<'a> {
    limit: &'a Limit,
    rows: usize,
    tokens: u64,
}

impl Meter<'_> {
    /// Whether this row may be taken as well; if so it is counted.
    pub(crate) fn admits(&mut self, position: usize) -> bool {
        let fits = match self.limit {
            Limit::Rows(limit) => self.rows < *limit,
            Limit::Tokens { tokens, budget } => {
                self.tokens += u64::from(tokens[position]);
                self.tokens <= *budget
            }
        };
        self.rows += usize::from(fits);
        fits
    }

    /// Complain if not even one of `n` rows was taken.
    pub(crate) fn finish(self, n: usize) -> Result<()> {
        match self.limit {
            Limit::Tokens { budget, .. } if self.rows == 0 && n > 0 => Err(too_small(*budget, self.tokens)),
            _ => Ok(()),
        }
    }
}

fn too_small(budget: u64, first: u64) -> Error {
    Error::usage("budget/too-small", format!("the first row to choose has {first} tokens, the budget is {budget}"))
        .hint("give more tokens, or leave out long rows with --where")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(budget: u64) -> Limit {
        Limit::Tokens { tokens: vec![5, 1, 3, 1], budget }
    }

    #[test]
    fn a_prefix_stops_before_the_first_row_that_does_not_fit() {
        assert_eq!(tokens(6).prefix(&[1, 0, 2, 3]).unwrap(), 2, "row 3 would fit, but row 2 comes first");
        assert_eq!(tokens(4).prefix(&[0, 1]).unwrap_err().code(), "budget/too-small");
        assert_eq!(tokens(1).prefix(&[]).unwrap(), 0);
        assert_eq!(Limit::Rows(2).prefix(&[3, 2, 1]).unwrap(), 2);
    }

    #[test]
    fn bisection_finds_where_it_stops_fitting() {
        let first_rows = |m: usize, tokens: &[u32]| tokens[..m].iter().map(|&t| u64::from(t)).sum();
        let count = |budget| tokens(budget).row_count(4, first_rows);
        assert_eq!((count(5).unwrap(), count(8).unwrap(), count(99).unwrap()), (1, 2, 4));
        assert_eq!(count(4).unwrap_err().code(), "budget/too-small");
    }
}
