//! How long a row is: the plainest score, and the one that others must beat.
//!
//! Characters are Unicode scalar values, bytes are UTF-8, words as in [`crate::words`], tokens the column `tokens`.
//! Source: own work; length as a baseline, Zhao et al. 2024 ("Long Is More for Alignment"). Deviation: they rank the answer, this the
//! rendered row. Cost: one pass over the texts, or over one column.

use crate::reading::{each_text, finish, numbers, text_column};
use crate::words::words;
use arrow::array::Float32Array;
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Unicode characters of the text.
    #[default]
    Chars,
    /// Bytes of the text in UTF-8.
    Bytes,
    /// Words of the text.
    Words,
    /// The column `tokens`.
    Tokens,
}

/// Which end is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// Long rows score higher.
    #[default]
    Long,
    /// Short rows score higher: the length with a minus.
    Short,
}

/// Parameters of the length.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Length {
    /// What is counted.
    pub unit: Unit,
    /// Which end is kept.
    pub prefer: Prefer,
}

impl Algorithm for Length {
    const INFO: Info = Info {
        name: "length",
        summary: "Scores a row by its length in characters, bytes, words or tokens.",
        source: "own work; length as a baseline, Zhao et al. 2024 (Long Is More for Alignment)",
        cost: "one pass over the texts; 12 n bytes",
    };
}

impl Scorer for Length {
    fn needs(&self) -> Vec<Column> {
        vec![if self.unit == Unit::Tokens { Column::TOKENS } else { text_column() }]
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let mut lengths = match self.unit {
            Unit::Chars => each_text(pool, ctx, |text| count(text.chars().count()))?,
            Unit::Bytes => each_text(pool, ctx, |text| count(text.len()))?,
            Unit::Words => each_text(pool, ctx, |text| count(words(text).count()))?,
            Unit::Tokens => numbers(pool, &Column::TOKENS)?,
        };
        if self.prefer == Prefer::Short {
            lengths.iter_mut().for_each(|length| *length = 0.0 - *length);
        }
        finish(Self::INFO.name, &lengths, pool, ctx)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts")]
const fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use std::sync::Arc;

    #[test]
    fn counts_by_hand() {
        let texts = Arc::new(StringArray::from(vec!["Über, uns", ""])) as ArrayRef;
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("text", texts)]).unwrap());
        let of = |unit, prefer| Length { unit, prefer }.score(&pool, &Ctx::new(0)).unwrap().values().to_vec();
        assert_eq!(of(Unit::Chars, Prefer::Long), [9.0, 0.0]);
        assert_eq!(of(Unit::Bytes, Prefer::Long), [10.0, 0.0]);
        assert_eq!(of(Unit::Words, Prefer::Short), [-2.0, 0.0]);
    }
}
