//! Takes the rows that pull the pool towards a target: those whose share of the optimal transport from the pool to the target
//! is cheapest to increase.
//!
//! `c_j = g_j - sum_(l != j) g_l / (n - 1)`, g the potentials of the candidates in the transport between pool and target
//! (equal weights, entropy `epsilon`): the change of the distance for mass moved onto row j from all others. Rows of the
//! smallest `c` first. Source: Kang et al. 2024 (GOT-D); calibration, Just et al. 2023 (LAVA). Deviation: the
//! published notebook divides by n where n - 1 is meant: same order, but there the values depend on how g is shifted. The
//! plan is solved to `tolerance`; theirs stops early. Rows count alone: copies of a row all rank together. Ties go to the
//! lower row id. Cost: n m d once and n m exponentials a sweep for m target rows, exact about n m times some hundred;
//! memory 4 (n + m) d bytes, and costs as many as fit in half the memory allowed.

use crate::limit::Limit;
use crate::ranking::Ranking;
use crate::target::Sides;
use curate_core::kernels::transport::{Costs, Entropic, Ground, Points, exact};
use curate_core::{Algorithm, Budget, Column, Ctx, Info, Pool, Result, Selection, Selector};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How far two vectors are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Distance {
    /// Squared Euclidean distance, as published.
    #[default]
    SqEuclidean,
    /// Euclidean distance.
    Euclidean,
    /// One minus the cosine.
    Cosine,
}

/// How to solve the transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Solver {
    /// With entropy: any size, unique potentials.
    #[default]
    Entropic,
    /// Without: small pools; potentials may be one choice of several.
    Exact,
}

/// Parameters of GOT-D.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GotD {
    /// Strength of the entropy, in units of the distance: less is nearer to the exact transport and slower.
    #[schemars(range(min = 1e-9, max = 1e9))]
    pub epsilon: f64,
    /// Count `epsilon` in mean distances between pool and target, which suits vectors of any length.
    pub relative: bool,
    /// How far two vectors are apart.
    pub distance: Distance,
    /// How to solve the transport.
    pub solver: Solver,
    /// Share of the mass that may still lie wrong when the solver stops.
    #[schemars(range(min = 1e-12, max = 0.1))]
    pub tolerance: f64,
    /// Sweeps after which the solver stops in any case.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_sweeps: usize,
    /// Scale the embeddings to unit length first. The built-in embedders do that already.
    pub normalize: bool,
}

impl Default for GotD {
    fn default() -> Self {
        Self {
            epsilon: 0.1,
            relative: false,
            distance: Distance::SqEuclidean,
            solver: Solver::Entropic,
            tolerance: 1e-5,
            max_sweeps: 2000,
            normalize: false,
        }
    }
}

impl Algorithm for GotD {
    const INFO: Info = Info {
        name: "gotd",
        summary: "Takes the rows that pull the pool towards a target by optimal transport, each row on its own.",
        source: "Kang et al. 2024 (GOT-D); Just et al. 2023 (LAVA), calibration",
        cost: "n m (d + exponentials a sweep) for m target rows; 4 (n + m) d bytes, more is used where there is",
    };
}

impl Selector for GotD {
    fn needs(&self) -> Vec<Column> {
        vec![Column::EMBEDDING]
    }

    fn target_needs(&self) -> Vec<Column> {
        vec![Column::EMBEDDING]
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
        if ids.is_empty() {
            return Ok(Selection::default());
        }
        let ctx = &ctx.child(Self::INFO.name);
        let sides = Sides::read((pool, &ids), target, self.normalize, ctx)?;
        let (potentials, report) = self.potentials(&sides, ctx)?;
        let calibrated = sides.by_position(&calibrated(&potentials));
        let n = ids.len();
        let mut chosen =
            Ranking::by(&ids, |p| falling(calibrated[p])).select(&limit, &scores(&calibrated), |p, rank| {
                format!(
                    "more of it changes the distance to the target by {:.4} per unit of mass; place {rank} of {n} rows",
                    calibrated[p]
                )
            })?;
        chosen.report = report;
        Ok(chosen)
    }
}

impl GotD {
    /// Potentials of the candidates in order of their ids, and figures for the report.
    fn potentials(&self, sides: &Sides<'_>, ctx: &Ctx) -> Result<(Vec<f64>, Map<String, Value>)> {
        let ground = match self.distance {
            Distance::SqEuclidean => Ground::SqEuclidean,
            Distance::Euclidean => Ground::Euclidean,
            Distance::Cosine => Ground::Cosine,
        };
        let costs = Points::new(sides.candidates.view()?, sides.goals.view()?, ground)?;
        let (a, b) = (even(costs.rows()), even(costs.cols()));
        let tick = |rows: u64| ctx.tick(rows).is_ok();
        if self.solver == Solver::Exact {
            ctx.memory().reserve(9 * (a.len() * b.len()) as u64, "the distances to the target")?;
            let found = exact(&costs, &a, &b, &tick)?;
            return Ok((found.u, Map::from_iter([("distance".to_owned(), json!(found.cost))])));
        }
        let eps = if self.relative { self.epsilon * mean(&costs) } else { self.epsilon };
        let params = Entropic {
            eps: eps.max(f64::MIN_POSITIVE),
            tolerance: self.tolerance,
            max_sweeps: self.max_sweeps,
            hold_bytes: usize::try_from(ctx.memory().limit_bytes() / 2).unwrap_or(usize::MAX),
        };
        let found = ctx.backend().sinkhorn(&costs, &a, &b, &params, &tick)?;
        let report = [
            ("distance", json!(found.cost)),
            ("epsilon", json!(params.eps)),
            ("sweeps", json!(found.sweeps)),
            ("mass_misplaced", json!(found.error)),
        ];
        Ok((found.f, report.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows as a weight")]
fn even(n: usize) -> Vec<f64> {
    vec![1.0 / n as f64; n]
}

/// Mean cost over at most 1000 evenly spaced rows.
#[expect(clippy::cast_precision_loss, reason = "a number of costs as a divisor")]
fn mean(costs: &dyn Costs) -> f64 {
    let (mut row, mut sum, mut count) = (vec![0.0; costs.cols()], 0.0, 0);
    for i in (0..costs.rows()).step_by(costs.rows().div_ceil(1000)) {
        costs.row(i, &mut row);
        sum += row.iter().sum::<f64>();
        count += row.len();
    }
    if sum > 0.0 { sum / count as f64 } else { 1.0 }
}

/// What mass moved onto each candidate from all others changes; 0 for a single one.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a number of rows as a divisor")]
pub fn calibrated(potentials: &[f64]) -> Vec<f64> {
    let others = (potentials.len() as f64 - 1.0).max(1.0);
    let sum: f64 = potentials.iter().sum();
    potentials.iter().map(|g| if potentials.len() == 1 { 0.0 } else { g - (sum - g) / others }).collect()
}

/// A key that is larger for smaller values.
fn falling(value: f64) -> i64 {
    let bits = (-value + 0.0).to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

#[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
fn scores(calibrated: &[f64]) -> Vec<f32> {
    calibrated.iter().map(|&c| (-c + 0.0) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_does_not_see_a_shift() {
        let (a, b) = (calibrated(&[1.0, 2.0, 6.0]), calibrated(&[11.0, 12.0, 16.0]));
        assert_eq!((a, b), (vec![-3.0, -1.5, 4.5], vec![-3.0, -1.5, 4.5]));
        assert_eq!(calibrated(&[7.0]), [0.0]);
        assert!(falling(-1.0) > falling(0.0) && falling(0.0) == falling(-0.0) && falling(0.0) > falling(1e-300));
    }
}
