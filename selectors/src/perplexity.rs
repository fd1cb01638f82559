//! Takes rows by how surprising they are to a model: the least, the most, or those in the middle.
//!
//! Rows are ranked by their loss (perplexity is `exp(loss)`, which has the same order). `low` takes ranks 1, 2, ..., `high` the
//! last first, `mid` those nearest to the middle rank, so that a budget of b rows is the band of b ranks around the median.
//! `skip` passes over that share of the rows at the end where the band begins, `min_tokens` over answers too short to
//! judge; both come last. Source: Ankner et al. 2024 ("Perplexed by Perplexity": low, medium, high); the
//! defaults with a budget of 20% are the filter of POINTS (Liu et al. 2024). Deviations: bands are cut by the
//! budget, not at fixed quantiles; POINTS rounds its probabilities to bfloat16 first. Ties go to the lower row id.
//! Cost: n log n time, 40 n bytes.

use crate::limit::Limit;
use crate::ranking::{Ranking, sortable};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Which rows to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The least surprising.
    #[default]
    Low,
    /// Those around the median.
    Mid,
    /// The most surprising.
    High,
}

/// Parameters of the band.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Perplexity {
    /// Which rows to take.
    pub side: Side,
    /// Share of the rows to pass over at the end where the band begins: the least surprising rows are often boilerplate, the
    /// most surprising noise. Has no meaning for `mid`.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub skip: f64,
    /// Pass over rows with fewer learnt tokens (`signal.labels`): a short answer has a small loss and says little. 0
    /// leaves that column unread.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_tokens: u32,
    /// Column to rank by, any that rises with the perplexity.
    pub column: String,
}

impl Default for Perplexity {
    fn default() -> Self {
        Self { side: Side::Low, skip: 0.0, min_tokens: 0, column: "signal.loss".to_owned() }
    }
}

impl Algorithm for Perplexity {
    const INFO: Info = Info {
        name: "perplexity",
        summary: "Takes rows by a model's perplexity on them: a low, middle or high band.",
        source: "Ankner et al. 2024 (Perplexed by Perplexity); POINTS (Liu et al. 2024)",
        cost: "n log n time, 40 n bytes; the losses are a forward pass over the rows",
    };
}

impl Selector for Perplexity {
    fn needs(&self) -> Vec<Column> {
        let tokens = (self.min_tokens > 0).then(|| Column::signal("labels"));
        std::iter::once(Column::named(self.column.clone())).chain(tokens).collect()
    }

    fn nested(&self) -> bool {
        true
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let (ids, values) = (pool.ids()?, pool.numbers(&Column::named(self.column.clone()))?);
        ctx.tick(ids.len() as u64)?;
        let ranks = Ranks::new(&ids, &values, &self.long_enough(pool)?);
        let mut chosen = Ranking::by(&ids, |p| self.preference(ranks.of[p], ranks.ranked)).select(
            &limit,
            &self.scores(&values, &ranks),
            |p, _| reason(values[p], ranks.of[p], ranks.ranked),
        )?;
        chosen.report.insert("too_short_rows".into(), json!(ids.len() - ranks.ranked));
        Ok(chosen)
    }
}

/// Rank of every position among those that may be judged, from 0.
struct Ranks {
    of: Vec<Option<usize>>,
    ranked: usize,
}

impl Ranks {
    fn new(ids: &[u64], values: &[f32], judged: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..ids.len()).filter(|&p| judged[p]).collect();
        order.sort_by_key(|&p| (sortable(values[p]), ids[p]));
        let mut of = vec![None; ids.len()];
        order.iter().enumerate().for_each(|(rank, &p)| of[p] = Some(rank));
        Self { of, ranked: order.len() }
    }
}

impl Perplexity {
    fn long_enough(&self, pool: &Pool) -> Result<Vec<bool>> {
        if self.min_tokens == 0 {
            return Ok(vec![true; pool.rows()]);
        }
        let tokens = pool.numbers(&Column::signal("labels"))?;
        Ok(tokens.iter().map(|&count| f64::from(count) >= f64::from(self.min_tokens)).collect())
    }

    /// Larger is sooner: first the band, then what was passed over at its end, then what is too short.
    fn preference(&self, rank: Option<usize>, ranked: usize) -> (u8, i64) {
        let Some(rank) = rank else { return (0, 0) };
        let place = match self.side {
            Side::Low => rank,
            Side::High => ranked - 1 - rank,
            Side::Mid => return (2, -signed((2 * rank + 1).abs_diff(ranked))),
        };
        (if place < self.skipped(ranked) { 1 } else { 2 }, -signed(place))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 <= skip <= 0.5"
    )]
    fn skipped(&self, ranked: usize) -> usize {
        (self.skip * ranked as f64) as usize
    }

    /// The higher, the rather taken: loss with its sign, or the distance from the middle rank.
    #[expect(clippy::cast_precision_loss, reason = "for display; the choice is made in whole numbers")]
    fn scores(&self, values: &[f32], ranks: &Ranks) -> Vec<f32> {
        let score = |(&value, rank): (&f32, &Option<usize>)| match self.side {
            Side::Low => 0.0 - value,
            Side::High => value,
            Side::Mid => -(rank.map_or(ranks.ranked, |r| (2 * r + 1).abs_diff(ranks.ranked)) as f32) / 2.0,
        };
        values.iter().zip(&ranks.of).map(score).collect()
    }
}

fn reason(value: f32, rank: Option<usize>, ranked: usize) -> String {
    match rank {
        Some(rank) => format!("loss {value:.4}, place {} of {ranked} from the least surprising", rank + 1),
        None => format!("loss {value:.4} of a short answer, taken because the budget reaches that far"),
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    use std::sync::Arc;

    fn taken(method: &Perplexity, rows: usize) -> Vec<u64> {
        let column = |values: Vec<f32>| Arc::new(Float32Array::from(values)) as ArrayRef;
        let columns = [
            ("signal.loss", column(vec![0.5, 0.1, 3.0, 0.2, 1.0])),
            ("signal.labels", column(vec![9.0, 1.0, 9.0, 9.0, 9.0])),
        ];
        let pool = Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap());
        method.select(&pool, Budget::Rows(rows), &Ctx::new(0)).unwrap().rows()
    }

    #[test]
    fn bands_of_five_rows() {
        let of = |side| Perplexity { side, ..Perplexity::default() };
        assert_eq!(taken(&of(Side::Low), 5), [1, 3, 0, 4, 2]);
        assert_eq!(taken(&of(Side::High), 2), [2, 4]);
        assert_eq!(taken(&of(Side::Mid), 3), [0, 3, 4], "ranks 3, 2, 4: the median and its neighbours");
    }

    #[test]
    fn boilerplate_and_short_answers_come_last() {
        let skip = Perplexity { skip: 0.2, ..Perplexity::default() };
        assert_eq!(taken(&skip, 5), [3, 0, 4, 2, 1]);
        let short = Perplexity { min_tokens: 2, skip: 0.25, ..Perplexity::default() };
        assert_eq!(taken(&short, 5), [0, 4, 2, 3, 1], "of the four that count, the lowest is passed over");
    }
}
