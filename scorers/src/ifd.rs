//! Instruction-following difficulty: how little the instruction helps the model to write the answer.
//!
//! `loss`: IFD = mean loss of the answer after its instruction / mean loss of the answer alone. `perplexity`: the
//! ratio of perplexities, `exp(a - b)`. Higher is harder; from 1 on the instruction hinders, which marks answers that do not belong to it:
//! such rows score `-IFD`, below all others. Source: Li et al. 2024 ("From Quantity to Quality", Cherry); with perplexities and a
//! small model, Superfiltering (Li et al. 2024). Deviation: they drop rows above 1, here the budget does. Cost: n.

use crate::reading::{finish, non_negative};
use arrow::array::Float32Array;
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ratio {
    /// Mean losses (Cherry); above 1 is last.
    #[default]
    Loss,
    /// Perplexities (Superfiltering); 1 and above is last.
    Perplexity,
}

/// Parameters of IFD.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ifd {
    /// What is divided.
    pub ratio: Ratio,
    /// Put rows whose instruction hinders last; otherwise they are first.
    pub misfits_last: bool,
}

impl Default for Ifd {
    fn default() -> Self {
        Self { ratio: Ratio::Loss, misfits_last: true }
    }
}

impl Algorithm for Ifd {
    const INFO: Info = Info {
        name: "ifd",
        summary: "Scores a row by how little its instruction helps a model to write the answer; misfits come last.",
        source: "Li et al. 2024 (Cherry); Superfiltering (Li et al. 2024)",
        cost: "n time, 24 n bytes; the losses are two forward passes over the rows",
    };
}

impl Scorer for Ifd {
    fn needs(&self) -> Vec<Column> {
        vec![Column::signal("loss"), Column::signal("loss_alone")]
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let given = non_negative(pool, &Column::signal("loss"))?;
        let alone = non_negative(pool, &Column::signal("loss_alone"))?;
        let scores: Vec<f64> = given.iter().zip(&alone).map(|(&a, &b)| self.of(a, b)).collect();
        finish(Self::INFO.name, &scores, pool, ctx)
    }
}

impl Ifd {
    /// IFD of two mean losses: after the instruction, and alone.
    #[must_use]
    pub fn difficulty(&self, given: f64, alone: f64) -> f64 {
        match self.ratio {
            Ratio::Loss => given / alone,
            Ratio::Perplexity => (given - alone).exp(),
        }
    }

    fn of(&self, given: f64, alone: f64) -> f64 {
        let difficulty = self.difficulty(given, alone);
        let misfit = difficulty > 1.0 || (self.ratio == Ratio::Perplexity && given >= alone);
        if misfit && self.misfits_last { -difficulty } else { difficulty }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misfits_fall_below_all_others() {
        let ifd = Ifd::default();
        assert_eq!([ifd.of(1.0, 2.0), ifd.of(2.0, 2.0), ifd.of(3.0, 2.0)], [0.5, 1.0, -1.5]);
        let ppl = Ifd { ratio: Ratio::Perplexity, ..Ifd::default() };
        assert_eq!([ppl.of(2.0, 2.0), Ifd { misfits_last: false, ..ppl }.of(2.0, 2.0)], [-1.0, 1.0]);
    }
}
