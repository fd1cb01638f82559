//! Nuclear norms and sketches of logits from hidden states, with what must be known of the head prepared once.
//!
//! The head is prepared when it is first needed, and again after every update that changes it. Cost: see `kernels::nuclear`.

use super::{TokenScope, Wanted};
use crate::model::Model;
use crate::{Batch, IGNORE};
use curate_core::kernels::nuclear::{FrozenHead, HeadSketch, Sketch};
use curate_core::kernels::{KernelError, MatRef};
use curate_core::{Ctx, Error, Location, Result};
use rayon::prelude::*;
use std::borrow::Cow;

/// A head, prepared.
#[derive(Default)]
pub(crate) struct Heads {
    /// The head's weights as they were after so many updates.
    version: u64,
    norm: Option<FrozenHead>,
    sketch: Option<HeadSketch>,
}

impl Heads {
    /// Prepare what is wanted and not yet there; `updates` is how many the model has seen.
    ///
    /// # Errors
    /// `cancelled`; weights that are no numbers.
    pub(crate) fn prepare(
        &mut self,
        model: &Model,
        updates: u64,
        (want, sketch): (&Wanted, Option<&Sketch>),
        ctx: &Ctx,
    ) -> Result<()> {
        if self.version != updates && model.head_moves() {
            *self = Self::default();
        }
        self.version = updates;
        let norm = want.has("nuclear_norm") && self.norm.is_none();
        let sketch = sketch.filter(|_| want.has("sketch") && self.sketch.is_none());
        if !norm && sketch.is_none() {
            return Ok(());
        }
        let weights: Cow<'_, [f32]> = model.head_weights();
        let weights = MatRef::new(&weights, model.config.hidden_size)?;
        let tick = |_: u64| ctx.tick(0).is_ok();
        if norm {
            self.norm = Some(FrozenHead::new(weights, &tick).map_err(broken)?);
        }
        if let Some(sketch) = sketch {
            self.sketch = Some(sketch.of_head(weights, &tick).map_err(broken)?);
        }
        Ok(())
    }
}

/// Nuclear norm and sketch of every sequence; 0 and empty where not prepared. `hidden` is what [`Model::trace_hidden`] gives.
///
/// # Errors
/// `train/not-finite` with the row.
pub(crate) fn of_hidden(
    heads: &Heads,
    (hidden, width): (&[f32], usize),
    batch: &Batch,
    scope: TokenScope,
    ctx: &Ctx,
) -> Result<Vec<(f64, Vec<f32>)>> {
    let gathered = |at: usize| -> Vec<f32> {
        let tokens = rows(batch, at, scope);
        tokens.iter().flat_map(|t| &hidden[t * width..(t + 1) * width]).copied().collect()
    };
    let gathered: Vec<Vec<f32>> = (0..batch.segments.len()).into_par_iter().map(gathered).collect();
    if let Some(at) = gathered.iter().position(|states| states.iter().any(|v| !v.is_finite())) {
        return Err(not_finite(batch.rows[at]));
    }
    let states = gathered.iter().map(|states| MatRef::new(states, width)).collect::<Result<Vec<_>, _>>()?;
    let norms = match &heads.norm {
        Some(head) => ctx.backend().head_norms(head, &states)?,
        None => vec![0.0; states.len()],
    };
    let sketch = |states: &MatRef<'_>| heads.sketch.as_ref().map_or_else(|| Ok(Vec::new()), |head| head.of(*states));
    let sketches: Vec<_> = states.par_iter().map(sketch).collect();
    norms.into_iter().zip(sketches).map(|(norm, sketch)| Ok((norm, sketch?))).collect()
}

/// Tokens of a sequence that count.
fn rows(batch: &Batch, at: usize, scope: TokenScope) -> Vec<usize> {
    let segment = batch.segments[at].clone();
    match scope {
        TokenScope::Unmasked => segment.collect(),
        TokenScope::Response => segment.clone().skip(1).filter(|t| batch.labels[*t] != IGNORE).map(|t| t - 1).collect(),
    }
}

fn broken(error: KernelError) -> Error {
    match error {
        KernelError::NotFinite { row, .. } => {
            Error::data("model/not-finite", format!("the head's weights for token {row} are no numbers"))
                .hint("the model has diverged or its file is damaged; go back to an earlier checkpoint")
        }
        other => other.into(),
    }
}

fn not_finite(row: u64) -> Error {
    Error::data("train/not-finite", "a hidden state is no number")
        .hint("the model has diverged; lower learning_rate")
        .at(Location::default().row(row))
}
