//! `InstructMining`: a linear rule that predicts the loss after training on a row from indicators of the row.
//!
//! `log L = c0 + sum c_j indicator_j`; the score is `-log L`, so that the lowest predicted loss is best. Source: `InstructMining`
//! (Cao et al. 2023), version 1 and its later version, Table "multivariate linear regression"; the later coefficients from secondary
//! sources. Deviations: any rule may be given (`rule`; [`crate::fit_rule`] fits one to runs of one's own); a missing indicator is an error,
//! never 0. Indicators far outside the rows that a rule was fitted on make it extrapolate. Cost: n times the number of indicators.

use crate::reading::{finish, numbers};
use crate::rule::{Rule, Term};
use arrow::array::Float32Array;
use curate_core::{Algorithm, Column, Ctx, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A published rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// First version: reward, length in tokens, distance to the 6th neighbour.
    V1,
    /// Later version: reward, understandability, naturalness, coherence.
    #[default]
    Later,
}

/// Parameters of `InstructMining`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InstructMining {
    /// A published rule; `rule` goes before it.
    pub version: Version,
    /// A rule of one's own for the log of the loss, such as `1.07 - 0.15*score.reward + 8e-5*tokens`.
    pub rule: Option<String>,
}

impl Algorithm for InstructMining {
    const INFO: Info = Info {
        name: "instructmining",
        summary: "Scores a row by the loss that a linear rule over its indicators predicts: the lowest first.",
        source: "InstructMining (Cao et al. 2023), versions 1 and later, multivariate linear regression",
        cost: "n m time for m indicators, 8 n m bytes; the indicators themselves come from models",
    };

    fn check(&self) -> Result<()> {
        self.rule.as_ref().map_or(Ok(()), |text| text.parse::<Rule>().map(|_| ()))
    }
}

impl Version {
    /// The rule, over `score.reward`, `tokens`, `score.knn-distance`, `score.understandability`, `score.naturalness`, `score.coherence`.
    #[must_use]
    pub fn rule(self) -> Rule {
        let term = |column, coefficient| Term { column, coefficient };
        let reward = |coefficient| term(Column::score("reward"), coefficient);
        match self {
            Self::V1 => Rule {
                constant: 1.0684,
                terms: vec![
                    term(Column::score("knn-distance"), -0.9350),
                    reward(-0.1498),
                    term(Column::TOKENS, 8.257e-5),
                ],
            },
            Self::Later => Rule {
                constant: 0.0274,
                terms: vec![
                    term(Column::score("coherence"), -0.1520),
                    term(Column::score("naturalness"), -0.3212),
                    reward(-0.0078),
                    term(Column::score("understandability"), 0.4421),
                ],
            },
        }
    }
}

/// `UniEval`'s score, which the later rule's indicators are: the chance of yes against no, from the logits of both.
#[must_use]
pub fn chance_of_yes(logit_yes: f64, logit_no: f64) -> f64 {
    1.0 / (1.0 + (logit_no - logit_yes).exp())
}

impl InstructMining {
    /// The rule in force; one that cannot be read (which [`Algorithm::check`] refuses) gives way to the version's.
    #[must_use]
    pub fn in_force(&self) -> Rule {
        self.rule.as_ref().and_then(|text| text.parse().ok()).unwrap_or_else(|| self.version.rule())
    }
}

impl Scorer for InstructMining {
    fn needs(&self) -> Vec<Column> {
        self.in_force().columns()
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        self.check()?;
        pool.require(&self.needs(), Self::INFO.name)?;
        let rule = self.in_force();
        let columns = rule.columns().iter().map(|column| numbers(pool, column)).collect::<Result<Vec<_>>>()?;
        let row = |at: usize| columns.iter().map(move |column| column[at]);
        let scores: Vec<f64> = (0..pool.rows()).map(|at| 0.0 - rule.value(row(at))).collect();
        finish(Self::INFO.name, &scores, pool, ctx)
    }
}
