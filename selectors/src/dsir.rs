//! Draws rows so that their words are distributed like those of a target.
//!
//! `ln w = sum_g ln p(g) - ln q(g)` over a row's words and pairs of neighbouring words g, each hashed into one of `buckets`; p is
//! the distribution of the target, q that of the pool, both with `smoothing` added to every bucket. The rows of the
//! largest `ln w + Gumbel noise` are taken, which draws them without replacement in proportion to w. Source: Xie et al. 2023
//! (DSIR). Deviations: added counts in place of 1e-8, so that one word which the target lacks does not
//! decide; no row is dropped for being short, those without words come last; `per_word` divides ln w by the number of
//! terms, which takes away the taste for long rows. Words are runs of letters and digits in lower case, or of other
//! signs. Cost: twice the characters of the pool; 16 bytes a bucket and 40 n bytes, texts a chunk at a time.

use crate::limit::Limit;
use crate::ranking::Ranking;
use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use curate_core::kernels::transport::each_row;
use curate_core::{Algorithm, Budget, Column, Ctx, Error, Info, Location, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Parameters of DSIR.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Dsir {
    /// Buckets that words and pairs of words are hashed into.
    #[schemars(range(min = 1, max = 16_777_216))]
    pub buckets: u32,
    /// Count added to every bucket: more trusts a small target less.
    #[schemars(range(min = 1e-9, max = 1e6))]
    pub smoothing: f64,
    /// Strength of the noise: 1 draws in proportion to the weights, 0 takes the largest.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub noise: f64,
    /// Count the mean over a row's words and pairs in place of their sum.
    pub per_word: bool,
}

impl Default for Dsir {
    fn default() -> Self {
        Self { buckets: 10_000, smoothing: 0.1, noise: 1.0, per_word: false }
    }
}

impl Algorithm for Dsir {
    const INFO: Info = Info {
        name: "dsir",
        summary: "Draws rows so that their words are distributed like those of a target.",
        source: "DSIR (Xie et al. 2023)",
        cost: "twice the characters of the pool; 16 bytes a bucket and 40 n bytes",
    };
}

fn text() -> Column {
    Column::named("text")
}

impl Selector for Dsir {
    fn needs(&self) -> Vec<Column> {
        vec![text()]
    }

    fn target_needs(&self) -> Vec<Column> {
        vec![text()]
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let target = ctx.target(&self.target_needs(), Self::INFO.name)?;
        let ids = pool.ids()?;
        ctx.tick(0)?;
        let ctx = &ctx.child(Self::INFO.name);
        ctx.progress().set_total(2 * ids.len() as u64);
        let (wanted, given) = (self.count(target, ctx)?, self.count(pool, ctx)?);
        let ratio: Vec<f64> = self.logs(&wanted).iter().zip(self.logs(&given)).map(|(p, q)| p - q).collect();
        let weights = each_text(pool, ctx, |text| self.weight(text, &ratio))?;
        let stream = ctx.stream("draw");
        let key = |(&id, weight): (&u64, &Option<f64>)| self.noise.mul_add(stream(id).gumbel(), weight.unwrap_or(0.0));
        let keys: Vec<f64> = ids.iter().zip(&weights).map(key).collect();
        let n = ids.len();
        let preference = |p: usize| (weights[p].is_some(), rising(keys[p]));
        let mut chosen = Ranking::by(&ids, preference).select(&limit, &narrow(&keys), |p, rank| match weights[p] {
            Some(weight) => format!("log weight {weight:.3} by the target's words, place {rank} of {n} as drawn"),
            None => "no words; taken because the budget reaches that far".to_owned(),
        })?;
        let divergence: f64 = probabilities(self, &wanted).iter().zip(&ratio).map(|(p, r)| p * r).sum();
        chosen.report.insert("divergence_of_pool".into(), json!(divergence));
        Ok(chosen)
    }
}

impl Dsir {
    /// Terms of all rows by bucket.
    fn count(&self, pool: &Pool, ctx: &Ctx) -> Result<Vec<u64>> {
        let mut counts = vec![0u64; self.buckets as usize];
        for i in 0..pool.chunks() {
            let texts = texts(pool, i)?;
            ctx.tick(texts.len() as u64)?;
            for at in 0..texts.len() {
                self.terms(texts.value(at), |bucket| counts[bucket] += 1);
            }
        }
        Ok(counts)
    }

    fn logs(&self, counts: &[u64]) -> Vec<f64> {
        probabilities(self, counts).into_iter().map(f64::ln).collect()
    }

    /// Sum (or mean) over a text's terms; none without words.
    fn weight(&self, text: &str, ratio: &[f64]) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0u32);
        self.terms(text, |bucket| {
            sum += ratio[bucket];
            count += 1;
        });
        (count > 0).then(|| if self.per_word { sum / f64::from(count) } else { sum })
    }

    /// Buckets of the words and of the pairs of neighbouring words.
    fn terms(&self, text: &str, mut visit: impl FnMut(usize)) {
        let bucket = |hash: u64| usize::try_from(mixed(hash) % u64::from(self.buckets)).unwrap_or(0);
        let mut before = None;
        words(text, |word| {
            visit(bucket(word));
            if let Some(before) = before.replace(word) {
                visit(bucket(mixed(before).wrapping_add(word)));
            }
        });
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of words")]
fn probabilities(params: &Dsir, counts: &[u64]) -> Vec<f64> {
    let total: f64 = counts.iter().map(|&c| c as f64 + params.smoothing).sum();
    counts.iter().map(|&c| (c as f64 + params.smoothing) / total).collect()
}

/// Hashes of the words of a text: runs of letters and digits, or runs of other signs.
fn words(text: &str, mut visit: impl FnMut(u64)) {
    let (mut hash, mut kind) = (FNV_START, None);
    for c in text.chars() {
        let next = (!c.is_whitespace()).then(|| c.is_alphanumeric());
        if next != kind {
            if kind.is_some() {
                visit(hash);
            }
            (hash, kind) = (FNV_START, next);
        }
        if next.is_some() {
            c.to_lowercase().for_each(|c| hash = (hash ^ u64::from(u32::from(c))).wrapping_mul(FNV_PRIME));
        }
    }
    if kind.is_some() {
        visit(hash);
    }
}

/// FNV-1a over characters (Fowler, Noll, Vo 1991).
const FNV_START: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01B3;

/// Finaliser of `SplitMix64` (Steele, Lea, Flood 2014).
const fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The texts of chunk `i`.
fn texts(pool: &Pool, i: usize) -> Result<StringArray> {
    let batch = pool.chunk(i, &[&text()])?;
    let array = batch.column(0);
    if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return Err(Error::data("column/type", format!("the column 'text' holds {}, not text", array.data_type())));
    }
    let texts = cast(array, &DataType::Utf8)?.as_string::<i32>().clone();
    let Some(at) = (0..texts.len()).find(|&at| texts.is_null(at)) else { return Ok(texts) };
    let row = pool.ids()?[pool.chunk_range(i).start + at];
    Err(Error::data("text/null", "a text is null")
        .at(Location::default().row(row).column("text"))
        .hint("drop such rows with --where '\"text\" IS NOT NULL'"))
}

/// What `number` says of every text, in order.
fn each_text<T: Send>(pool: &Pool, ctx: &Ctx, number: impl Fn(&str) -> T + Send + Sync) -> Result<Vec<T>> {
    let mut all = Vec::with_capacity(pool.rows());
    for i in 0..pool.chunks() {
        let texts = texts(pool, i)?;
        ctx.tick(texts.len() as u64)?;
        all.extend(each_row(texts.len(), |at| number(texts.value(at))));
    }
    Ok(all)
}

/// A key that sorts like the number.
fn rising(value: f64) -> i64 {
    let bits = (value + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
fn narrow(keys: &[f64]) -> Vec<f32> {
    keys.iter().map(|&key| key as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, RecordBatch};
    use std::sync::Arc;

    fn pool(texts: Vec<&str>) -> Pool {
        let texts = Arc::new(StringArray::from(texts)) as ArrayRef;
        Pool::from_batch(RecordBatch::try_from_iter([("text", texts)]).unwrap())
    }

    #[test]
    fn words_and_pairs() {
        let count = |text: &str| {
            let mut terms = Vec::new();
            Dsir::default().terms(text, |bucket| terms.push(bucket));
            terms
        };
        assert_eq!(count("Add 2+2!").len(), 9, "add, 2, +, 2, ! and four pairs");
        assert_eq!(count("ADD"), count(" add "));
        assert!(count(" \n").is_empty());
    }

    #[test]
    fn rows_with_the_words_of_the_target_come_first() {
        let rows = pool(vec!["a cat sat", "two plus two is four", "the dog ran", "", "three plus one is four"]);
        let ctx = Ctx::new(0).with_target(pool(vec!["one plus one is two", "four plus two is six"]));
        for noise in [0.0, 0.1] {
            let dsir = Dsir { noise, ..Dsir::default() };
            let chosen = dsir.select(&rows, Budget::Rows(2), &ctx).unwrap();
            let mut rows = chosen.rows();
            rows.sort_unstable();
            assert_eq!(rows, [1, 4]);
        }
    }

    #[test]
    fn a_target_of_texts_is_needed() {
        let choose = |pool: &Pool, ctx: Ctx| Dsir::default().select(pool, Budget::Rows(1), &ctx).unwrap_err();
        let rows = pool(vec!["one", "two"]);
        assert_eq!(choose(&rows, Ctx::new(0)).code(), "target/missing");
        assert_eq!(choose(&rows, Ctx::new(0).with_target(pool(vec![]))).code(), "target/empty");
        let holes = Arc::new(StringArray::from(vec![Some("one"), None])) as ArrayRef;
        let holes = Pool::from_batch(RecordBatch::try_from_iter_with_nullable([("text", holes, true)]).unwrap());
        let error = choose(&holes, Ctx::new(0).with_target(rows));
        assert_eq!((error.code(), error.location().unwrap().row), ("text/null", Some(1)));
    }

    #[test]
    fn smoothed_counts_by_hand() {
        let dsir = Dsir { buckets: 1, smoothing: 1.0, ..Dsir::default() };
        assert_eq!(dsir.logs(&[5]), [0.0], "a single bucket says nothing");
        let two = Dsir { buckets: 2, smoothing: 1.0, ..Dsir::default() };
        assert_eq!(probabilities(&two, &[1, 0]), [2.0 / 3.0, 1.0 / 3.0]);
    }
}
