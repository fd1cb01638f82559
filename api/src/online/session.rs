//! The loop: candidates in, a batch out, one update, and what came of it back to the method.
//!
//! While the learner works, the next candidates are read; the next batch is chosen ahead only where the method permits it,
//! because its choice depends on nothing that the learner says. Both ways give the same rows, log and checkpoints.

use super::columns::Provided;
use super::log::{self, Line, Log};
use super::rounds::Rounds;
use super::state;
use super::stream::{Position, Stream, ids_digest};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use curate_core::{Column, Ctx, Error, Feedback, Learner, Needs, OnlineSelector, Pool, Result, Selection, State};
use std::sync::Arc;
use std::time::Instant;

/// Candidates on the table.
struct Offer {
    pool: Pool,
    epoch: u64,
    /// Where the stream stands behind them.
    next: Position,
    /// What was chosen ahead, with the seconds it took.
    chosen: Option<(Selection, f64)>,
}

/// A run of the loop, between two steps.
pub(super) struct Session<'a> {
    pub(super) selector: Box<dyn OnlineSelector>,
    pub(super) stream: Stream<'a>,
    pub(super) provided: Option<Provided>,
    /// Columns the learner is asked for before a choice.
    pub(super) probed: Vec<Column>,
    /// What the method hears after a step that the corpus says.
    pub(super) given: Vec<Column>,
    /// Candidates and rows of a step.
    pub(super) sizes: (usize, usize),
    /// Rounds, where a step is one.
    pub(super) rounds: Option<Rounds>,
    /// Rows drawn in earlier rounds, where a round begins anew.
    pub(super) drawn: Vec<u64>,
    /// Updates of the learner at the last whole step.
    pub(super) updates: u64,
    /// Steps made.
    pub(super) steps: u64,
    /// The selector after the last whole step.
    pub(super) boundary: State,
    /// The stream after the last whole step.
    pub(super) position: Position,
    offer: Option<Offer>,
    ctx: Ctx,
}

impl<'a> Session<'a> {
    /// A loop at its beginning.
    pub(super) fn new(selector: Box<dyn OnlineSelector>, stream: Stream<'a>, sizes: (usize, usize), ctx: &Ctx) -> Self {
        let (boundary, position) = (selector.state(), stream.position());
        let (provided, probed, given, rounds, drawn, offer) = (None, Vec::new(), Vec::new(), None, Vec::new(), None);
        let (steps, updates, ctx) = (0, 0, ctx.clone());
        Self {
            selector,
            stream,
            provided,
            probed,
            given,
            sizes,
            rounds,
            drawn,
            updates,
            steps,
            boundary,
            position,
            offer,
            ctx,
        }
    }

    /// Go on behind a step.
    ///
    /// # Errors
    /// `state/*` when the state is not one of this method; `online/position`.
    pub(super) fn go_to(&mut self, steps: u64, position: Position, state: State) -> Result<()> {
        self.selector.restore(state.clone())?;
        self.stream.go_to(position)?;
        (self.steps, self.position, self.boundary) = (steps, position, state);
        Ok(())
    }

    /// One step; `last` when no other follows, so that nothing is prepared for it.
    ///
    /// # Errors
    /// What reading, choosing and training give; `cancelled`.
    pub(super) fn step(&mut self, learner: &mut dyn Learner, says: &[&str], last: bool, log: &mut Log) -> Result<Line> {
        let ctx = self.ctx.labelled(&format!("step {}", self.steps));
        if let Some(rounds) = &self.rounds {
            self.sizes = (usize::MAX, rounds.share(self.steps).max(1));
        }
        let offer =
            self.offer.take().map_or_else(|| offer(&mut self.stream, self.provided.as_ref(), self.sizes), Ok)?;
        let mut line = Line { step: self.steps + 1, epoch: offer.epoch, ..Line::default() };
        let candidates = self.probe(learner, &offer.pool, &mut line)?;
        let (chosen, seconds) = match offer.chosen {
            Some(chosen) => chosen,
            None => choose(self.selector.as_mut(), &candidates, self.sizes.1, &ctx)?,
        };
        line.choose_s = seconds;
        let mut rows = chosen.rows();
        rows.extend(&self.drawn);
        let batch = batch_of(&offer.pool, &rows)?;
        let asked = asked(&self.selector.needs(), &self.given, says);
        let train = || timed(|| learner.step(&batch, &asked, &ctx));
        let (fed, next, before) = self.work(train, last || self.rounds.is_some());
        let (mut fed, seconds) = fed?;
        (fed.step, line.train_s) = (self.steps + 1, seconds);
        fed.signals =
            self.given.iter().try_fold(fed.signals, |said, column| with(&said, column, batch.column(column)?))?;
        describe(&mut line, &candidates, &chosen, (&fed, &asked[..]))?;
        if before.is_none() {
            line.choose_s += timed(|| self.selector.observe(&fed, &ctx))?.1;
        }
        if self.rounds.is_some_and(|rounds| rounds.restart) {
            self.drawn.extend(&line.rows);
        }
        self.boundary = before.unwrap_or_else(|| self.selector.state());
        (self.steps, self.position) = (self.steps + 1, offer.next);
        line.state = state::digest(&self.boundary)?;
        log.write(&line)?;
        self.offer = next?;
        Ok(line)
    }

    /// Ask the learner what the method wants to know of the candidates.
    fn probe(&self, learner: &mut dyn Learner, pool: &Pool, line: &mut Line) -> Result<Pool> {
        if self.probed.is_empty() {
            return Ok(pool.clone());
        }
        let mut asked = self.probed.clone();
        let tokens = Column::signal("tokens");
        if !asked.contains(&tokens) {
            asked.push(tokens);
        }
        let (found, seconds) = timed(|| learner.probe(pool, &asked, &self.ctx))?;
        line.probe_s = seconds;
        line.probed_tokens = Some(whole(log::column(&found, "signal.tokens").into_iter().flatten().sum()));
        joined(pool.clone(), &self.probed, &found)
    }

    /// Train on the batch while the next candidates are read, and the next batch is chosen where that is permitted: then
    /// with the selector's state before that choice.
    fn work<T: Send>(
        &mut self,
        train: impl FnOnce() -> T + Send,
        last: bool,
    ) -> (T, Result<Option<Offer>>, Option<State>) {
        let next_ctx = self.ctx.labelled(&format!("step {}", self.steps + 1));
        let Self { selector, stream, provided, sizes, .. } = self;
        let before = selector.may_prefetch().then(|| selector.state());
        let mut ahead = || {
            let mut next = offer(stream, provided.as_ref(), *sizes)?;
            if selector.may_prefetch() {
                next.chosen = Some(choose(selector.as_mut(), &next.pool, sizes.1, &next_ctx)?);
            }
            Ok(Some(next))
        };
        let (trained, next) = rayon::join(train, || if last { Ok(None) } else { ahead() });
        (trained, next, before)
    }
}

/// The next candidates, with the columns that the corpus has.
fn offer(stream: &mut Stream<'_>, provided: Option<&Provided>, (candidates, rows): (usize, usize)) -> Result<Offer> {
    let pool = stream.next(candidates, rows)?;
    let (epoch, next) = (stream.given_epoch(), stream.position());
    let pool = provided.map_or(Ok(pool.clone()), |provided| provided.join(pool))?;
    Ok(Offer { pool, epoch, next, chosen: None })
}

fn choose(selector: &mut dyn OnlineSelector, candidates: &Pool, rows: usize, ctx: &Ctx) -> Result<(Selection, f64)> {
    timed(|| selector.propose(candidates, rows.min(candidates.rows()), ctx))
}

/// What the method wants to hear after a step, and what the log does.
fn asked(needs: &Needs, given: &[Column], says: &[&str]) -> Vec<Column> {
    let mut asked: Vec<Column> = needs.after.iter().filter(|column| !given.contains(column)).cloned().collect();
    asked.extend(says.iter().map(|name| Column::signal(name)).filter(|column| !needs.after.contains(column)));
    asked
}

/// The chosen candidates, in order of row id.
fn batch_of(pool: &Pool, rows: &[u64]) -> Result<Pool> {
    let ids = pool.ids()?;
    let place = |row: &u64| {
        ids.binary_search(row).map_err(|_| {
            Error::data("online/choice", format!("the method chose row {row}, which was not offered"))
                .hint("this is a defect of the method; please report it")
        })
    };
    let mut places = rows.iter().map(place).collect::<Result<Vec<_>>>()?;
    places.sort_unstable();
    let count = places.len();
    places.dedup();
    if places.len() < count || places.is_empty() {
        return Err(Error::data("online/choice", "the method chose a row twice, or none")
            .hint("this is a defect of the method; please report it"));
    }
    pool.filter(&places)
}

/// The signals and one more.
pub(super) fn with(batch: &RecordBatch, column: &Column, values: ArrayRef) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = batch.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(column.as_str(), values.data_type().clone(), true)));
    let mut columns = batch.columns().to_vec();
    columns.push(values);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn joined(mut pool: Pool, columns: &[Column], found: &RecordBatch) -> Result<Pool> {
    for column in columns {
        let Some(values) = found.column_by_name(column.as_str()) else {
            return Err(Error::device("signal/missing", format!("the learner gave no {column}"))
                .hint("this is a defect; please report it"));
        };
        pool = pool.with(column, values.clone())?;
    }
    Ok(pool)
}

/// Fill in what was offered, chosen and learned.
fn describe(
    line: &mut Line,
    candidates: &Pool,
    chosen: &Selection,
    (fed, asked): (&Feedback, &[Column]),
) -> Result<()> {
    line.candidates = candidates.rows();
    line.offered = ids_digest(&candidates.ids()?);
    line.rows = chosen.rows();
    line.scores = chosen.picks.iter().map(|pick| pick.score).collect();
    let [loss, labels, tokens] =
        ["signal.loss", "signal.labels", "signal.tokens"].map(|name| log::column(&fed.signals, name));
    let weights = if labels.is_empty() { &tokens } else { &labels };
    let nll: f64 = loss.iter().zip(weights).filter_map(|(loss, weight)| Some((*loss)? * (*weight)?)).sum();
    let weight: f64 = weights.iter().flatten().sum();
    line.loss = (weight > 0.0).then_some(nll / weight);
    line.tokens = whole(tokens.into_iter().flatten().sum());
    line.signals = log::signals(&fed.signals, asked)?;
    Ok(())
}

fn whole(x: f64) -> u64 {
    x.max(0.0).round() as u64
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let started = Instant::now();
    let value = work()?;
    Ok((value, started.elapsed().as_secs_f64()))
}
