//! Candidates and feedback as the methods read them, checked once, and the choice as they give it back.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use curate_core::{Assessment, Column, Ctx, Error, Feedback, Location, MatrixBlock, Pick, Pool, Result, Selection};

/// Most candidates that are assessed one by one: a proposal among millions would carry more than it costs.
const ASSESSED: usize = 1 << 16;

/// Candidates: at least one, no row twice.
pub(crate) struct Batch<'a> {
    pool: &'a Pool,
    ids: ScalarBuffer<u64>,
}

impl<'a> Batch<'a> {
    /// Check the candidates of `stage`.
    pub(crate) fn new(pool: &'a Pool, stage: &str) -> Result<Self> {
        if pool.is_empty() {
            return Err(Error::data("candidates/empty", format!("{stage} was offered no candidate"))
                .hint("offer at least one row; a stream that has ended ends the run"));
        }
        let ids = ids(pool)?;
        if let Some(row) = repeated(&ids) {
            return Err(Error::data("candidates/repeated", format!("{stage} was offered row {row} twice"))
                .at(Location::default().row(row))
                .hint("offer every row once in a proposal"));
        }
        Ok(Self { pool, ids })
    }

    /// Number of candidates, above 0.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Row ids by position.
    pub(crate) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The candidates as a pool.
    pub(crate) const fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// One finite number a candidate.
    pub(crate) fn signal(&self, column: &Column) -> Result<Vec<f64>> {
        numbers(&self.pool.column(column)?, &self.ids, column)
    }

    /// The same where the column is there.
    pub(crate) fn signal_if(&self, column: &Column) -> Result<Option<Vec<f64>>> {
        self.pool.has(column).then(|| self.signal(column)).transpose()
    }

    /// One vector of finite numbers a candidate.
    pub(crate) fn vectors(&self, column: &Column, ctx: &Ctx) -> Result<MatrixBlock> {
        let block = self.pool.matrix(column, ctx)?;
        let view = block.view()?;
        let bad = (0..self.len()).find(|&p| view.row(p).iter().any(|v| !v.is_finite()));
        bad.map_or(Ok(()), |p| Err(not_finite(self.ids[p], column)))?;
        Ok(block)
    }

    /// The candidates at `order` (positions, best first), with a score and a reason for each; up to [`ASSESSED`] candidates
    /// are assessed one by one.
    #[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
    pub(crate) fn select(
        &self,
        order: &[usize],
        score: impl Fn(usize) -> f64,
        reason: impl Fn(usize) -> String,
    ) -> Selection {
        let score = |p: usize| score(p) as f32;
        let pick = |&p: &usize| Pick { row: self.ids[p], score: score(p), weight: 1.0, group: None, reason: reason(p) };
        let assess = || Assessment {
            row: self.ids.to_vec(),
            score: (0..self.len()).map(score).collect(),
            ..Assessment::default()
        };
        let assessment = (self.len() <= ASSESSED).then(assess);
        Selection { picks: order.iter().map(pick).collect(), assessment, ..Selection::default() }
    }
}

/// Feedback, one signal a row.
pub(crate) struct Seen<'a>(&'a Feedback);

impl<'a> Seen<'a> {
    /// Check the feedback given to `stage`.
    pub(crate) fn new(feedback: &'a Feedback, stage: &str) -> Result<Self> {
        let (rows, signals) = (feedback.rows.len(), feedback.signals.num_rows());
        if rows != signals {
            return Err(Error::data(
                "feedback/length",
                format!("{stage}: signals of {signals} rows for {rows} row ids"),
            )
            .hint("send one row of signals for every row id, in order"));
        }
        Ok(Self(feedback))
    }

    /// Row ids, in order.
    pub(crate) fn rows(&self) -> &'a [u64] {
        &self.0.rows
    }

    /// One finite number a row.
    pub(crate) fn signal(&self, column: &Column) -> Result<Vec<f64>> {
        let missing = || Error::usage("column/missing", format!("the feedback has no column '{column}'"));
        let array = self.0.signals.column_by_name(column.as_str()).ok_or_else(missing)?;
        numbers(array, self.rows(), column)
    }
}

/// Positions of the `k` largest scores, largest first, ties to the lower position.
pub(crate) fn largest(score: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).collect();
    order.sort_unstable_by(|&a, &b| score[b].total_cmp(&score[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}

/// A count as a number.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) const fn float(count: usize) -> f64 {
    count as f64
}

/// Row ids without a copy where they lie in one piece.
fn ids(pool: &Pool) -> Result<ScalarBuffer<u64>> {
    if !pool.has(&Column::ROW) {
        return Ok((0..pool.rows() as u64).collect::<Vec<u64>>().into());
    }
    let array = pool.column(&Column::ROW)?;
    let ids = array.as_primitive_opt::<UInt64Type>().filter(|ids| ids.null_count() == 0);
    ids.map(|ids| ids.values().clone()).ok_or_else(|| {
        Error::data("column/type", "the column 'row' must be u64 without nulls")
            .hint("give every candidate its row id, or leave the column out")
    })
}

/// A row id that occurs twice.
fn repeated(ids: &[u64]) -> Option<u64> {
    if ids.is_sorted_by(|a, b| a < b) {
        return None;
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn numbers(array: &ArrayRef, rows: &[u64], column: &Column) -> Result<Vec<f64>> {
    let bad_type = || {
        Error::data("column/type", format!("the column '{column}' holds {}, not numbers", array.data_type()))
            .hint("give one number a row")
    };
    if !array.data_type().is_numeric() {
        return Err(bad_type());
    }
    let floats = cast(array, &DataType::Float64).map_err(|_| bad_type())?;
    let floats = floats.as_primitive::<Float64Type>();
    let bad = (0..floats.len()).find(|&i| floats.is_null(i) || !floats.value(i).is_finite());
    bad.map_or_else(|| Ok(floats.values().to_vec()), |i| Err(not_finite(rows[i], column)))
}

fn not_finite(row: u64, column: &Column) -> Error {
    Error::data("signal/not-finite", "a signal is null, NaN or infinite")
        .at(Location::default().row(row).column(column.as_str()))
        .hint("leave the row out; if many rows are affected the model has diverged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lower_position() {
        assert_eq!(largest(&[1.0, 3.0, 3.0, 2.0], 3), [1, 2, 3]);
    }

    #[test]
    fn repeats_are_found_in_any_order() {
        assert_eq!((repeated(&[3, 5, 9]), repeated(&[5, 3, 5]), repeated(&[4, 4])), (None, Some(5), Some(4)));
    }
}
