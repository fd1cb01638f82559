//! Measure of textual lexical diversity: how many words pass before the share of distinct words falls to a threshold.
//!
//! Walk the words with the running ratio types / tokens; where it falls to `threshold`, count a factor and start anew; the rest
//! counts as `(1 - ratio) / (1 - threshold)`. MTLD = words / factors, mean of both directions; no factor at all: the number of
//! words. Source: `McCarthy` and Jarvis 2010; an indicator of `InstructMining`. Deviation: a text without words scores
//! 0, not nothing. Words as in [`crate::words`]. Cost: two passes over the words of each text.

use crate::reading::{each_text, finish, text_column};
use crate::words::{numbered, words};
use arrow::array::Float32Array;
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of MTLD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mtld {
    /// Share of distinct words at which a factor is full.
    #[schemars(range(min = 0.01, max = 0.99))]
    pub threshold: f64,
    /// A factor is full only below the threshold, not at it.
    pub strict: bool,
}

impl Default for Mtld {
    fn default() -> Self {
        Self { threshold: 0.72, strict: false }
    }
}

/// One direction of MTLD.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Walk {
    /// Factors that were filled.
    pub full_factors: u32,
    /// Share of a factor that the rest filled.
    pub partial_factor: f64,
    /// Neither a full nor a partial factor: all words are distinct, or there is none.
    pub saturated: bool,
    /// Words by factors.
    pub mtld: f64,
}

impl Algorithm for Mtld {
    const INFO: Info = Info {
        name: "mtld",
        summary: "Scores a text by the variety of its words, nearly independent of its length.",
        source: "McCarthy and Jarvis 2010; indicator of InstructMining",
        cost: "two passes over the words; 12 n bytes",
    };
}

impl Scorer for Mtld {
    fn needs(&self) -> Vec<Column> {
        vec![text_column()]
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let values = each_text(pool, ctx, |text| self.of(&numbered(words(text))))?;
        finish(Self::INFO.name, &values, pool, ctx)
    }
}

impl Mtld {
    /// Mean of both directions over numbered words.
    #[must_use]
    pub fn of(&self, words: &[u32]) -> f64 {
        f64::midpoint(self.walk(words.iter()).mtld, self.walk(words.iter().rev()).mtld)
    }

    /// One direction over numbered words.
    pub fn walk<'a>(&self, words: impl ExactSizeIterator<Item = &'a u32>) -> Walk {
        let count = words.len();
        let mut seen: Vec<u32> = vec![0; count];
        let (mut factor, mut types, mut tokens) = (1, 0u32, 0u32);
        for &word in words {
            let last = seen.get_mut(word as usize);
            let new = last.is_none_or(|last| std::mem::replace(last, factor) != factor);
            (types, tokens) = (types + u32::from(new), tokens + 1);
            if self.full(f64::from(types) / f64::from(tokens)) {
                (factor, types, tokens) = (factor + 1, 0, 0);
            }
        }
        let rest = if tokens == 0 { 1.0 } else { f64::from(types) / f64::from(tokens) };
        Walk::new(count, factor - 1, (1.0 - rest) / (1.0 - self.threshold))
    }

    fn full(&self, ratio: f64) -> bool {
        if self.strict { ratio < self.threshold } else { ratio <= self.threshold }
    }
}

impl Walk {
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    fn new(words: usize, full_factors: u32, partial_factor: f64) -> Self {
        let factors = f64::from(full_factors) + partial_factor;
        let saturated = factors <= 0.0;
        let mtld = if saturated { words as f64 } else { words as f64 / factors };
        Self { full_factors, partial_factor, saturated, mtld }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_words_a_factor() {
        let words = [0, 1, 0, 1, 0, 1];
        let walk = Mtld::default().walk(words.iter());
        assert_eq!((walk.full_factors, walk.mtld), (2, 3.0));
        assert!(Mtld::default().walk([0, 1, 2].iter()).saturated);
        assert_eq!([0.0, 3.0], [Mtld::default().of(&[]), Mtld::default().of(&[0, 1, 2])]);
    }
}
