//! Scores from scores: `0.5*z(ifd) + z(mtld)`.
//!
//! Numbers, names, `+ - * /`, parentheses, and functions. Of a row alone: `log(x)` (natural), `clip(x, low, high)`. Over the pool:
//! `z(x)` (mean 0, deviation 1), `rank(x)` (share of the other rows below, ties half), `minmax(x)` (0 to 1). Where all values are
//! equal, `z` and `minmax` give 0 and `rank` 0.5. A bare name is the column `score.<name>`; `tokens`, `chars` and names with a dot are
//! columns themselves. A dash before a letter belongs to the name: write `a - b` with spaces. Source: own work.
//! Cost: n for each operation, n log n for `z` and `rank`; 8 n bytes for each number held.

mod eval;
mod parse;

use arrow::array::Float32Array;
use curate_core::{Column, Ctx, Error, Pool, Result, Scorer};

/// Longest text of an expression.
pub const MAX_BYTES: usize = 4096;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 64;

/// One step of a program on a stack of numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Number(f64),
    /// A column, by its place among the expression's columns.
    Column(usize),
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Z,
    Rank,
    MinMax,
    Log,
    Clip,
}

/// A parsed expression: a scorer like any other.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    columns: Vec<Column>,
    steps: Vec<Step>,
}

impl Expression {
    /// Read an expression. With `known`, a bare name must be one of these scorers.
    ///
    /// # Errors
    /// `expression/*`, usage errors that say at which character, and what to do.
    pub fn parse(text: &str, known: Option<&[&str]>) -> Result<Self> {
        parse::parse(text, known)
    }

    /// The columns it reads, in order of first appearance.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        self.columns.clone()
    }

    /// The text it was read from.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its value for every row, columns given in the order of [`Expression::columns`], all of `rows` numbers.
    #[must_use]
    pub fn values(&self, columns: &[Vec<f64>], rows: usize) -> Vec<f64> {
        eval::run(&self.steps, columns, rows)
    }
}

impl Scorer for Expression {
    fn needs(&self) -> Vec<Column> {
        self.columns()
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.columns, "the expression")?;
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            columns.push(crate::reading::numbers(pool, column)?);
            ctx.tick(0)?;
        }
        crate::reading::finish(&self.text, &self.values(&columns, pool.rows()), pool, ctx)
    }
}

/// The expression as a constant and a coefficient for each of its columns.
///
/// # Errors
/// `rule/not-linear` when it is not of that form.
pub(crate) fn linear(expression: &Expression) -> Result<(f64, Vec<f64>)> {
    let refuse = || {
        Error::usage("rule/not-linear", format!("the rule '{}' is not a sum of numbers times columns", expression.text))
            .hint("write a constant and a number for each column, such as 1.07 - 0.15*score.reward")
    };
    let form = eval::linear(&expression.steps, expression.columns.len()).ok_or_else(refuse)?;
    if form.iter().all(|v| v.is_finite()) { Ok((form[0], form[1..].to_vec())) } else { Err(refuse()) }
}
