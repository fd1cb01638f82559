//! Takes candidates that say much and are unlike what was taken lately.
//!
//! `u_i` = nuclear norm of the row's logits (`signal.nuclear_norm`); `z_i` = a sketch of the logits (`signal.sketch`);
//! `d_i` = mean Euclidean distance of `z_i` to the remembered sketches, 0 while there are none; score `u_i + alpha d_i`. The
//! `min(k, B)` largest scores are taken, ties to the lower position, and their sketches enter a ring of `memory_slots`,
//! in that order, over the oldest. Source: UDS (2025, arXiv 2510.16882) and its released code.
//! Alpha is in the convention of that code, whose sketch is two unnormalised cosine transforms of a `T x V` array of logits,
//! scaled by `sqrt(V T / (r1 r2))`: distances come out `sqrt(V T) / 2` times the Frobenius distance of the logits. For a
//! sketch of orthonormal transforms take `alpha sqrt(V T)`; a weight `a` a unit of Frobenius distance is
//! `alpha = 2 a / sqrt(V T)`. Which tokens count (all, unmasked, response) is the learner's choice and changes `u` and `z`.
//! Deviations: ties and the order in the ring are fixed, `k > B` takes all, distances are sums of differences in double
//! precision (the matrix form loses near-duplicates), the ring is part of the state.
//! May not be proposed ahead: both signals are those of the present weights. Cost: B M D time, 4 M D bytes.

use super::batch::{Batch, largest};
use super::running::Method;
use super::stored::{Stored, broken, put, vectors};
use curate_core::kernels::{MatRef, mean_distances};
use curate_core::{Algorithm, Column, Ctx, Error, Info, Location, Needs, Result, Selection, State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Parameters of UDS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Uds {
    /// Weight of the distance to what was taken lately, in the convention of the published code: published values apply to
    /// sketches scaled as there. For orthonormal sketches of T x V logits multiply by sqrt(V T). 0 takes the nuclear norm alone.
    #[schemars(range(min = 0.0, max = 1e12))]
    pub alpha: f64,
    /// Sketches remembered; the oldest are forgotten.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub memory_slots: usize,
}

impl Default for Uds {
    fn default() -> Self {
        Self { alpha: 2.5e-3, memory_slots: 1024 }
    }
}

impl Algorithm for Uds {
    const INFO: Info = Info {
        name: "uds",
        summary: "Takes candidates whose logits carry much (nuclear norm) and differ from those taken lately.",
        source: "UDS (2025, arXiv 2510.16882) and its released code",
        cost: "B M D time and 4 M D bytes for M remembered sketches of D numbers",
    };
}

/// The sketches taken last.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    dim: usize,
    values: Vec<f32>,
    next: usize,
}

fn norm() -> Column {
    Column::signal("nuclear_norm")
}

fn sketch() -> Column {
    Column::signal("sketch")
}

impl Method for Uds {
    type Memory = Ring;

    fn needs(&self) -> Needs {
        Needs { before: vec![norm(), sketch()], after: Vec::new() }
    }

    fn choose(&self, ring: &mut Ring, batch: &Batch<'_>, k: usize, ctx: &Ctx) -> Result<Selection> {
        let norms = batch.signal(&norm())?;
        let sketches = batch.vectors(&sketch(), ctx)?;
        let sketches = sketches.view()?;
        ring.check(sketches.dim())?;
        ctx.memory().reserve(4 * (self.memory_slots * sketches.dim()) as u64, "the memory of sketches")?;
        let distance = match ring.dim {
            0 => vec![0.0; batch.len()],
            dim => mean_distances(sketches, MatRef::new(&ring.values, dim)?)?,
        };
        ctx.tick(0)?;
        let score: Vec<f64> = norms.iter().zip(&distance).map(|(u, d)| u + self.alpha * d).collect();
        let (order, held) = (largest(&score, k), ring.held());
        for &p in &order {
            ring.push(sketches.row(p), self.memory_slots);
        }
        let reason =
            |p: usize| format!("nuclear norm {:.4}, distance {:.4} to {held} remembered rows", norms[p], distance[p]);
        let mut chosen = batch.select(&order, |p| score[p], reason);
        chosen.report.insert("remembered".into(), json!(held));
        Ok(chosen)
    }

    fn save(&self, ring: &Ring, state: &mut State) {
        state.scalars.insert("next".into(), json!(ring.next));
        if ring.dim > 0 {
            put(state, "memory", [("sketch", vectors(&ring.values, ring.dim))]);
        }
    }

    fn load(&self, stored: &Stored<'_>) -> Result<Ring> {
        let (values, dim) = stored.vectors("memory", "sketch")?;
        let next = usize::try_from(stored.whole("next")?).unwrap_or(usize::MAX);
        let ring = Ring { dim, values, next };
        let (held, slots) = (ring.held(), self.memory_slots);
        let fits = if held < slots { next == held } else { held == slots && next < slots };
        if fits { Ok(ring) } else { Err(broken(&format!("{held} sketches do not fit a memory of {slots}"))) }
    }
}

impl Ring {
    /// Sketches remembered.
    fn held(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    fn check(&self, dim: usize) -> Result<()> {
        if self.dim == 0 || self.dim == dim {
            return Ok(());
        }
        let message = format!("sketches of {dim} numbers cannot be compared with remembered ones of {}", self.dim);
        Err(Error::data("signal/shape", message)
            .at(Location::default().column(sketch().as_str()))
            .hint("the sketch or the model's head was changed; go on with the old one, or start anew"))
    }

    fn push(&mut self, z: &[f32], slots: usize) {
        self.dim = z.len();
        if self.held() < slots {
            self.values.extend_from_slice(z);
        } else {
            self.values[self.next * self.dim..][..self.dim].copy_from_slice(z);
        }
        self.next = (self.next + 1) % slots;
    }
}

#[cfg(test)]
mod tests {
    use super::super::running::Running;
    use super::*;
    use arrow::array::{ArrayRef, Float32Array, RecordBatch};
    use curate_core::{OnlineSelector, Pool};
    use std::sync::Arc;

    fn pool(norms: Vec<f32>, sketches: &[f32]) -> Pool {
        let norms = Arc::new(Float32Array::from(norms)) as ArrayRef;
        let columns = [("signal.nuclear_norm", norms), ("signal.sketch", vectors(sketches, 1))];
        Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap())
    }

    /// Row 1 is taken for its norm; then row 0, at distance 10 from it, beats row 1 at distance 0.
    #[test]
    fn what_was_taken_makes_its_like_dull() {
        let pool = pool(vec![1.0, 2.0], &[0.0, 10.0]);
        let mut run = Running::new(Uds { alpha: 0.5, memory_slots: 4 });
        let pick = |run: &mut Running<Uds>| run.propose(&pool, 1, &Ctx::new(0)).unwrap().picks.remove(0);
        assert_eq!((pick(&mut run).row, pick(&mut run).score), (1, 6.0));
        let third = pick(&mut run);
        assert_eq!((third.row, third.score), (1, 4.5), "5 from both on average");
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut ring = Ring::default();
        for z in [1.0, 2.0, 3.0, 4.0] {
            ring.push(&[z], 3);
        }
        assert_eq!((ring.values.as_slice(), ring.next), ([4.0, 2.0, 3.0].as_slice(), 1));
    }
}
