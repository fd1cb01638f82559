//! How surprising a row is to a model: the perplexity of its learnt tokens, low, high or in the middle first.
//!
//! `ppl = exp(loss)`, the loss a mean over learnt tokens. `low` scores `-ppl`, `high` scores `ppl`, `mid` scores `-|ln ppl - median|`.
//! Rows with fewer than `min_tokens` learnt tokens get the worst score of the pool: an answer of one token has a tiny
//! perplexity and says little. Source: Ankner et al. 2024 ("Perplexed by Perplexity": low, medium, high); `low` as in POINTS
//! (Liu et al. 2024). Deviation: a score, so the share kept is the budget. Cost: n, for `mid` n log n.

use crate::reading::{finish, median, non_negative, numbers};
use arrow::array::Float32Array;
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which perplexities score high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The lowest.
    #[default]
    Low,
    /// Those nearest to the median.
    Mid,
    /// The highest.
    High,
}

/// Where perplexities come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Given {
    /// The column `signal.loss`: mean loss a learnt token.
    #[default]
    Loss,
    /// The column `signal.perplexity`.
    Perplexity,
}

/// Parameters of perplexity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Perplexity {
    /// Which perplexities score high.
    pub side: Side,
    /// Where they come from.
    pub from: Given,
    /// Rows with fewer learnt tokens (`signal.labels`) score worst; 0 leaves that column unread.
    #[schemars(range(min = 0))]
    pub min_tokens: u32,
}

impl Algorithm for Perplexity {
    const INFO: Info = Info {
        name: "perplexity",
        summary: "Scores a row by a model's perplexity on it: low, high or near the median first.",
        source: "Ankner et al. 2024 (Perplexed by Perplexity); POINTS (Liu et al. 2024)",
        cost: "n log n time, 24 n bytes; the model's losses are a forward pass over the rows",
    };
}

impl Scorer for Perplexity {
    fn needs(&self) -> Vec<Column> {
        let mut columns = vec![self.column()];
        columns.extend((self.min_tokens > 0).then(|| Column::signal("labels")));
        columns
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let read = non_negative(pool, &self.column())?;
        let mut scores = self.scores(&read);
        if self.min_tokens > 0 {
            let tokens = numbers(pool, &Column::signal("labels"))?;
            let worst = scores.iter().copied().fold(f64::INFINITY, f64::min);
            let short = |tokens: &f64| *tokens < f64::from(self.min_tokens);
            scores.iter_mut().zip(&tokens).filter(|(_, t)| short(t)).for_each(|(score, _)| *score = worst);
        }
        finish(Self::INFO.name, &scores, pool, ctx)
    }
}

impl Perplexity {
    fn column(&self) -> Column {
        Column::signal(if self.from == Given::Loss { "loss" } else { "perplexity" })
    }

    fn scores(&self, read: &[f64]) -> Vec<f64> {
        let is_loss = self.from == Given::Loss;
        let perplexity = |v: f64| if is_loss { v.exp() } else { v };
        match self.side {
            Side::Low => read.iter().map(|&v| -perplexity(v)).collect(),
            Side::High => read.iter().map(|&v| perplexity(v)).collect(),
            Side::Mid => {
                let logs: Vec<f64> = read.iter().map(|&v| if is_loss { v } else { v.ln() }).collect();
                let middle = median(logs.clone());
                logs.iter().map(|v| 0.0 - (v - middle).abs()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_by_hand() {
        let of = |side| Perplexity { side, from: Given::Perplexity, min_tokens: 0 }.scores(&[1.0, 2.0, 8.0]);
        assert_eq!(of(Side::Low), [-1.0, -2.0, -8.0]);
        assert_eq!(of(Side::High), [1.0, 2.0, 8.0]);
        assert_eq!(of(Side::Mid).iter().map(|v| (v * 1e6).round()).collect::<Vec<_>>(), [-693_147.0, 0.0, -1_386_294.0]);
    }
}
