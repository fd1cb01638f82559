//! What a room can be asked to do.

use crate::{Budget, Column, Ctx, Error, Feedback, Needs, Pool, Result, Selection, State};
use arrow::array::{Float32Array, RecordBatch};

/// Turns texts into vectors.
pub trait Embedder: Send + Sync {
    /// Length of one vector.
    fn dim(&self) -> usize;

    /// Digest of everything that decides the vectors (weights, tokenizer, pooling), for cache keys and manifests.
    fn digest(&self) -> String;

    /// Tokens of each text as the embedder counts them, without the cut at its maximum length.
    ///
    /// # Errors
    /// What tokenising gives.
    fn count_tokens(&self, texts: &[&str], ctx: &Ctx) -> Result<Vec<u32>>;

    /// Write the vector of `texts[i]` to `out[i * dim .. (i + 1) * dim]`. The vector of a text does not depend on its neighbours.
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn embed(&self, texts: &[&str], out: &mut [f32], ctx: &Ctx) -> Result<()>;
}

/// Gives every row a number, higher = rather keep.
pub trait Scorer: Send + Sync {
    /// Columns it reads.
    fn needs(&self) -> Vec<Column>;

    /// One number a row, in order. NaN is an error.
    ///
    /// # Errors
    /// What the computation gives; `cancelled`.
    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array>;
}

/// Drops rows before a selector sees them: no budget, only a verdict.
pub trait Filter: Send + Sync {
    /// Columns it reads.
    fn needs(&self) -> Vec<Column>;

    /// The verdict on every row.
    ///
    /// # Errors
    /// What the computation gives; `cancelled`.
    fn judge(&self, pool: &Pool, ctx: &Ctx) -> Result<Verdict>;
}

/// What a filter says of every position of the pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Whether the row stays.
    pub keep: Vec<bool>,
    /// Row id that makes this row superfluous, `u64::MAX` for none.
    pub blocker: Vec<u64>,
    /// Why a row was dropped, in words; `{blocker}` stands for the blocker's id.
    pub reason: String,
    /// Figures for the manifest.
    pub report: serde_json::Map<String, serde_json::Value>,
}

/// Chooses rows of a pool within a budget.
pub trait Selector: Send + Sync {
    /// Columns it reads; the planner provides them before work starts.
    fn needs(&self) -> Vec<Column>;

    /// Columns it reads of the target ([`Ctx::target`]); none if it takes no target.
    fn target_needs(&self) -> Vec<Column> {
        Vec::new()
    }

    /// Whether the choice for a smaller budget is always the beginning of the choice for a larger one.
    fn nested(&self) -> bool {
        false
    }

    /// Choose exactly the rows the budget allows, best first, no row twice.
    ///
    /// # Errors
    /// `budget/*`, `column/missing`, what the computation gives; `cancelled`.
    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection>;
}

/// Chooses batches while a model learns.
pub trait OnlineSelector: Send {
    /// Columns on candidates and in feedback.
    fn needs(&self) -> Needs;

    /// Whether the next batch may be proposed while the learner works on this one: only where neither feedback nor the
    /// learner's present weights can change the choice.
    fn may_prefetch(&self) -> bool {
        false
    }

    /// Choose `k` of the candidates, all of them where there are fewer; after an error nothing has changed.
    ///
    /// # Errors
    /// `candidates/*`, `column/missing`, `signal/*`, what the computation gives; `cancelled`.
    fn propose(&mut self, candidates: &Pool, k: usize, ctx: &Ctx) -> Result<Selection>;

    /// Learn from what the learner saw, one feedback a step, steps ascending; after an error nothing has changed.
    ///
    /// # Errors
    /// `column/missing`, `signal/*`, `feedback/*`; `cancelled`.
    fn observe(&mut self, feedback: &Feedback, ctx: &Ctx) -> Result<()>;

    /// All that must survive.
    fn state(&self) -> State;

    /// Go on from a saved state.
    ///
    /// # Errors
    /// `state/*` when it is not a state of this selector.
    fn restore(&mut self, state: State) -> Result<()>;
}

/// A model that learns: the bundled trainer, or a client over HTTP.
pub trait Learner: Send {
    /// Signals of rows, forward only.
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn probe(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<RecordBatch>;

    /// Forward, backward, update; signals of the rows as seen.
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn step(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<Feedback>;
}

/// Makes any offline selector an online one, so that trainer and HTTP know a single path: each proposal is the selector's
/// choice among the candidates, nothing is learnt, the state is empty.
pub struct Once<S>(pub S);

impl<S: Selector> OnlineSelector for Once<S> {
    fn needs(&self) -> Needs {
        Needs { before: self.0.needs(), after: Vec::new() }
    }

    fn may_prefetch(&self) -> bool {
        self.0.needs().iter().all(|column| !column.as_str().starts_with("signal."))
    }

    fn propose(&mut self, candidates: &Pool, k: usize, ctx: &Ctx) -> Result<Selection> {
        self.0.select(candidates, Budget::Rows(k), ctx)
    }

    fn observe(&mut self, _feedback: &Feedback, _ctx: &Ctx) -> Result<()> {
        Ok(())
    }

    fn state(&self) -> State {
        State { version: 1, ..State::default() }
    }

    fn restore(&mut self, state: State) -> Result<()> {
        match state.version {
            1 => Ok(()),
            other => Err(Error::data("state/version", format!("state version {other} is not known here"))),
        }
    }
}
