//! A method at work: its parameters, what it remembers, and the rules all methods share.
//!
//! A proposal has at least one candidate, no row twice, and all columns named in the needs; it answers with `min(k, B)` rows.
//! Proposals are counted, and the count names the random streams: a proposal repeated from the same state with the same
//! seed is the same. Feedback comes once a step, steps ascending. An error leaves everything as it was.

use super::batch::{Batch, Seen};
use super::stored::{Stored, broken};
use curate_core::{Algorithm, Ctx, Error, Feedback, Location, Needs, OnlineSelector, Pool, Result, Selection, State};
use serde_json::json;

/// Version of the states written here.
const VERSION: u32 = 1;

/// An online method: the struct holds the parameters, `Memory` what a run remembers.
pub(crate) trait Method: Algorithm + Send {
    /// What a run remembers; the default is a run that has not begun.
    type Memory: Default + Send;

    /// Columns on candidates and in feedback.
    fn needs(&self) -> Needs;

    /// See [`OnlineSelector::may_prefetch`].
    fn may_prefetch(&self) -> bool {
        false
    }

    /// Choose `k` of at least `k` candidates. Whatever can fail comes before the memory is changed.
    fn choose(&self, memory: &mut Self::Memory, batch: &Batch<'_>, k: usize, ctx: &Ctx) -> Result<Selection>;

    /// Learn from feedback. Whatever can fail comes before the memory is changed.
    fn learn(&self, _memory: &mut Self::Memory, _seen: &Seen<'_>) -> Result<()> {
        Ok(())
    }

    /// Add the memory to a state: whole numbers as scalars, all else as tables.
    fn save(&self, _memory: &Self::Memory, _state: &mut State) {}

    /// The memory of a saved state.
    fn load(&self, _stored: &Stored<'_>) -> Result<Self::Memory> {
        Ok(Self::Memory::default())
    }
}

/// A run of a method.
pub(crate) struct Running<M: Method> {
    method: M,
    memory: M::Memory,
    proposals: u64,
    last_step: Option<u64>,
}

impl<M: Method> Running<M> {
    /// A run that has not begun.
    pub(crate) fn new(method: M) -> Self {
        Self { method, memory: M::Memory::default(), proposals: 0, last_step: None }
    }

    fn check_step(&self, step: u64) -> Result<()> {
        let (code, what) = match self.last_step {
            Some(last) if last == step => ("feedback/repeated", "came before"),
            Some(last) if last > step => ("feedback/out-of-order", "comes after that of a later step"),
            _ => return Ok(()),
        };
        Err(Error::usage(code, format!("{}: the feedback of step {step} {what}", M::INFO.name))
            .hint("send the feedback of every step once, in order of steps; skip what came too late"))
    }
}

impl<M: Method> OnlineSelector for Running<M> {
    fn needs(&self) -> Needs {
        self.method.needs()
    }

    fn may_prefetch(&self) -> bool {
        self.method.may_prefetch()
    }

    fn propose(&mut self, candidates: &Pool, k: usize, ctx: &Ctx) -> Result<Selection> {
        if k == 0 {
            return Err(
                Error::usage("budget/invalid", "a batch of no rows was asked for").hint("ask for 1 row or more")
            );
        }
        candidates.require(&self.method.needs().before, M::INFO.name)?;
        let batch = Batch::new(candidates, M::INFO.name)?;
        ctx.tick(batch.len() as u64)?;
        let ctx = ctx.labelled(&format!("proposal {}", self.proposals));
        let chosen = self.method.choose(&mut self.memory, &batch, k.min(batch.len()), &ctx)?;
        self.proposals += 1;
        Ok(chosen)
    }

    fn observe(&mut self, feedback: &Feedback, ctx: &Ctx) -> Result<()> {
        ctx.tick(feedback.rows.len() as u64)?;
        let needs = self.method.needs().after;
        if needs.is_empty() {
            return Ok(());
        }
        self.check_step(feedback.step)?;
        let seen = Seen::new(feedback, M::INFO.name)?;
        Pool::from_batch(feedback.signals.clone()).require(&needs, &format!("{}, in feedback,", M::INFO.name))?;
        self.method.learn(&mut self.memory, &seen)?;
        self.last_step = Some(feedback.step);
        Ok(())
    }

    fn state(&self) -> State {
        let mut state = State { version: VERSION, ..State::default() };
        state.scalars.insert("method".into(), json!(M::INFO.name));
        state.scalars.insert("proposals".into(), json!(self.proposals));
        state.scalars.insert("last_step".into(), json!(self.last_step));
        self.method.save(&self.memory, &mut state);
        state
    }

    fn restore(&mut self, state: State) -> Result<()> {
        if state.version != VERSION {
            let message = format!("{}: state version {} is not known here", M::INFO.name, state.version);
            return Err(
                Error::data("state/version", message).hint("go on with the version that wrote it, or start anew")
            );
        }
        let method = state.scalars.get("method").and_then(|name| name.as_str()).unwrap_or("no method");
        if method != M::INFO.name {
            return Err(Error::data("state/method", format!("this is a state of {method}, not of {}", M::INFO.name))
                .hint("go on with the method that wrote it")
                .at(Location::default().column("method")));
        }
        let stored = Stored::new(&state);
        let proposals = stored.whole("proposals")?;
        let last_step = match state.scalars.get("last_step") {
            None => return Err(broken("there is no last_step")),
            Some(step) if step.is_null() => None,
            Some(_) => Some(stored.whole("last_step")?),
        };
        let memory = self.method.load(&stored)?;
        (self.memory, self.proposals, self.last_step) = (memory, proposals, last_step);
        Ok(())
    }
}
