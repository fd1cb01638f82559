//! What every scorer begins and ends with: texts read chunk by chunk, and numbers checked before they are handed on.

use arrow::array::{Array, AsArray, Float32Array};
use arrow::datatypes::DataType;
use curate_core::{Column, Ctx, Error, Location, Pool, Result};
use rayon::prelude::*;

/// Texts between two ticks.
const BLOCK_ROWS: usize = 4096;

/// The column of rendered texts, strings without nulls.
#[must_use]
pub fn text_column() -> Column {
    Column::named("text")
}

/// A number for every text, in order. Each depends on its own text only.
pub(crate) fn each_text(pool: &Pool, ctx: &Ctx, number: impl Fn(&str) -> f64 + Sync) -> Result<Vec<f64>> {
    let mut out = Vec::with_capacity(pool.rows());
    for i in 0..pool.chunks() {
        let batch = pool.chunk(i, &[&text_column()])?;
        let start = pool.chunk_range(i).start;
        let texts = strings(batch.column(0).as_ref(), |at| pool.ids().map(|ids| ids[start + at]))?;
        for block in texts.chunks(BLOCK_ROWS) {
            ctx.tick(block.len() as u64)?;
            out.par_extend(block.par_iter().map(|text| number(text)));
        }
    }
    Ok(out)
}

/// The strings of an array; `id` names a row for an error.
fn strings(array: &dyn Array, id: impl Fn(usize) -> Result<u64>) -> Result<Vec<&str>> {
    let found: Vec<Option<&str>> = match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().iter().collect(),
        DataType::LargeUtf8 => array.as_string::<i64>().iter().collect(),
        DataType::Utf8View => array.as_string_view().iter().collect(),
        other => return Err(Error::data("column/type", format!("the column 'text' holds {other}, not text"))),
    };
    match found.iter().position(Option::is_none) {
        None => Ok(found.into_iter().flatten().collect()),
        Some(at) => Err(Error::data("text/null", "a text is null")
            .at(Location::default().row(id(at)?).column("text"))
            .hint("drop such rows with --where '\"text\" IS NOT NULL'")),
    }
}

/// Columns of finite numbers, one after another.
pub(crate) fn numbers(pool: &Pool, column: &Column) -> Result<Vec<f64>> {
    Ok(pool.numbers(column)?.into_iter().map(f64::from).collect())
}

/// Numbers that must not be negative, such as losses and norms.
pub(crate) fn non_negative(pool: &Pool, column: &Column) -> Result<Vec<f64>> {
    let values = numbers(pool, column)?;
    match values.iter().position(|&v| v < 0.0) {
        None => Ok(values),
        Some(at) => Err(Error::data("score/negative", format!("{column} is {}, below 0", values[at]))
            .at(Location::default().row(pool.ids()?[at]).column(column.as_str()))
            .hint("it must be a loss, a perplexity or a norm, none of which is negative")),
    }
}

/// The scores in single precision; one that is not finite is an error that names its row.
#[expect(clippy::cast_possible_truncation, reason = "scores are f32 columns")]
pub(crate) fn finish(name: &str, values: &[f64], pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
    ctx.tick(0)?;
    let scores: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    match scores.iter().position(|v| !v.is_finite()) {
        None => Ok(scores.into()),
        Some(at) => Err(Error::data("score/not-finite", format!("{name} gives {} here", values[at]))
            .at(Location::default().row(pool.ids()?[at]))
            .hint("look at the row's columns: a division by 0, a logarithm of 0 or a number beyond f32")),
    }
}

/// Sum in rising order of the values, so that the order of rows leaves no trace.
pub(crate) fn sum(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.iter().sum()
}

/// Mean and standard deviation (divisor n), whatever the order; `(0, 0)` of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts")]
pub(crate) fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = sum(values.to_vec()) / n;
    let variance = sum(values.iter().map(|v| (v - mean).powi(2)).collect()) / n;
    (mean, variance.sqrt())
}

/// Middle value, the lower one of two; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_by_hand() {
        assert_eq!(moments(&[1.0, 3.0]), (2.0, 1.0));
        assert_eq!(moments(&[]), (0.0, 0.0));
        assert_eq!((median(vec![3.0, 1.0, 2.0, 4.0]), median(vec![])), (2.0, 0.0));
    }
}
