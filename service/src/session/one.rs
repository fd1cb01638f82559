//! One session: its machine, its journal, and the batch that is made ahead.

use super::load::{Ready, load};
use super::machine::{Frozen, Ground, Machine, Next, Step, picks_json, step_of};
use super::manager::Shared;
use super::points::point;
use super::served::{Served, rendered};
use super::signals::{Fed, bytes_of};
use crate::problem::Problem;
use crate::store::{Appended, Event, Kind, Snapshot};
use crate::wire::{FeedbackDone, SessionSpec};
use curate_api::{Error, Location, Pool, Progress, Result};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{broadcast, watch};

/// Tries before a call gives up against other servers.
const TRIES: usize = 8;

/// News of a session: its kind, the step it belongs to, and what there is to tell.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) kind: &'static str,
    pub(crate) step: u64,
    pub(crate) data: Value,
}

/// Where a session stands.
pub(super) enum Stage {
    Preparing,
    Ready(Box<Ready>),
    Failed(Box<Problem>),
}

/// A session.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) created: f64,
    pub(crate) spec: Arc<SessionSpec>,
    pub(crate) spec_json: Value,
    pub(super) shared: Arc<Shared>,
    pub(super) stage: Mutex<Stage>,
    pub(super) progress: Progress,
    pub(super) changed: watch::Sender<u64>,
    pub(super) news: broadcast::Sender<Told>,
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |passed| passed.as_secs_f64())
}

impl Session {
    pub(super) fn new(id: String, created: f64, spec: SessionSpec, shared: Arc<Shared>) -> Arc<Self> {
        let spec_json = serde_json::to_value(&spec).unwrap_or_default();
        let progress = Progress::root("prepare");
        let (changed, news) = (watch::Sender::new(0), broadcast::Sender::new(256));
        let stage = Mutex::new(Stage::Preparing);
        Arc::new(Self { id, created, spec: Arc::new(spec), spec_json, shared, stage, progress, changed, news })
    }

    /// Prepare or load; what becomes of it is the new stage.
    pub(super) fn open(&self) {
        let stage = match load(self) {
            Ok(ready) => Stage::Ready(Box::new(ready)),
            Err(error) => Stage::Failed(Box::new(Problem::from(&error))),
        };
        *self.lock() = stage;
        self.progress.finish();
        self.tell("info", 0, Value::Null);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it could not be made ready.
    pub(super) fn has_failed(&self) -> bool {
        matches!(*self.lock(), Stage::Failed(_))
    }

    /// Wake those who wait, and tell those who watch.
    pub(super) fn tell(&self, kind: &'static str, step: u64, data: Value) {
        self.changed.send_modify(|count| *count += 1);
        // Nobody may be listening.
        let _ = self.news.send(Told { kind, step, data });
    }

    /// Watch for changes.
    pub(crate) fn watch(&self) -> (watch::Receiver<u64>, broadcast::Receiver<Told>) {
        (self.changed.subscribe(), self.news.subscribe())
    }

    /// Do something with a session that is ready and knows all of its journal.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Ready) -> Result<T>) -> Result<T> {
        let mut stage = self.lock();
        match &mut *stage {
            Stage::Preparing => Err(not_yet("the rows of the session are being prepared")),
            Stage::Failed(problem) => Err(failed(problem)),
            Stage::Ready(ready) => {
                self.catch_up(ready)?;
                work(ready)
            }
        }
    }

    /// Read what others appended, or everything after a call that failed half-way.
    fn catch_up(&self, ready: &mut Ready) -> Result<()> {
        let behind = self.shared.store.name() != "sqlite" && self.shared.store.last(&self.id)? != ready.last;
        if ready.stale || behind {
            ready.reload(self)?;
        }
        Ok(())
    }

    /// Append to the journal. When it fails, the machine is made anew before the next call.
    fn append(&self, ready: &mut Ready, event: &Event, points: &[(u64, Value)]) -> Result<bool> {
        match self.shared.wrote(self.shared.store.append(&self.id, ready.last, event, points)) {
            Ok(Appended::At(number)) => {
                ready.last = number;
                Ok(true)
            }
            Ok(Appended::Behind) => {
                ready.stale = true;
                Ok(false)
            }
            Err(error) => {
                ready.stale = true;
                Err(error)
            }
        }
    }

    /// A batch of the next step, or of an earlier one once more.
    ///
    /// # Errors
    /// `step/not-yet` to try again later; `step/*`, `session/*`, `signal/*`, `store/*`.
    pub(crate) fn propose(&self, step: u64, rank: u32, brought: Option<&Fed>) -> Result<Arc<Served>> {
        self.check_rank(rank)?;
        for _ in 0..TRIES {
            if let Some(served) = self.with(|ready| self.try_propose(ready, step, rank, brought))? {
                return Ok(served);
            }
        }
        Err(busy())
    }

    fn check_rank(&self, rank: u32) -> Result<()> {
        let ranks = self.spec.ranks;
        if rank < ranks {
            return Ok(());
        }
        Err(Error::usage("step/rank", format!("there is no rank {rank}: the session has {ranks}"))
            .hint("ranks count from 0; create the session with as many as there are trainers"))
    }

    fn try_propose(
        &self,
        ready: &mut Ready,
        step: u64,
        rank: u32,
        brought: Option<&Fed>,
    ) -> Result<Option<Arc<Served>>> {
        if step == 0 || step > ready.given + 1 {
            return Err(out_of_order(step, ready.given + 1));
        }
        if step <= ready.given {
            return self.again(ready, step, rank, brought).map(Some);
        }
        if ready.machine.paused {
            return Err(Error::usage("session/paused", "the session is paused")
                .hint("resume it, then send the same call again"));
        }
        let made = if let Some(made) = ready.ahead.take() {
            Next::Made(made)
        } else {
            let brought = Self::brought(ready, brought)?;
            ready.keeping.count(|| ready.machine.next(brought.as_ref()))?
        };
        match made {
            Next::Made(made) => self.hand_out(ready, (step, rank), &made, brought),
            Next::Waits(missing) => Err(not_yet(&format!("the feedback of step {missing} is missing"))),
            Next::Ended => Ok(Some(Arc::new(self.ended(ready, step, rank)))),
        }
    }

    /// Candidates that came with the call, joined with what the corpus knows of them.
    fn brought(ready: &Ready, brought: Option<&Fed>) -> Result<Option<Pool>> {
        match (brought, ready.machine.asks()) {
            (None, false) => Ok(None),
            (Some(_), false) => {
                Err(Error::usage("candidates/unasked", "the method takes no candidates from the trainer")
                    .hint("leave out 'candidates'"))
            }
            (None, true) => {
                let needs = ready.machine.method().map(|method| method.needs().before).unwrap_or_default();
                let names: Vec<&str> = needs.iter().map(curate_api::Column::as_str).collect();
                Err(Error::usage("candidates/missing", "the method chooses among candidates that the trainer brings")
                    .hint(format!(
                        "send \"candidates\": {{\"rows\": [..], \"signals\": ..}} with {}",
                        names.join(", ")
                    )))
            }
            (Some(fed), true) => ready.joined(fed).map(Some),
        }
    }

    fn hand_out(
        &self,
        ready: &mut Ready,
        (step, rank): (u64, u32),
        made: &Step,
        brought: Option<&Fed>,
    ) -> Result<Option<Arc<Served>>> {
        let head = json!({"epoch": made.epoch, "chain": made.chain, "picks": picks_json(&made.picks), "figures": made.figures});
        let (digest, body) = match brought {
            Some(fed) => (fed.digest()?, bytes_of(fed)?),
            None => (String::new(), Vec::new()),
        };
        let event = Event { kind: Kind::Propose, step, rank: 0, digest, at: now(), head, body };
        let told = point(step, made, &ready.machine, event.at);
        // Rendered before it is promised: what cannot be rendered is not handed out.
        let served = self.serve(ready, (step, rank), made)?;
        if !self.append(ready, &event, &[(step, told.clone())])? {
            return Ok(None);
        }
        ready.given = step;
        ready.snapshot_due = true;
        self.tell("point", step, told);
        Ok(Some(served))
    }

    /// A batch that was handed out before.
    fn again(&self, ready: &mut Ready, step: u64, rank: u32, brought: Option<&Fed>) -> Result<Arc<Served>> {
        let found = if brought.is_some() || !ready.machine.open.contains_key(&step) {
            let event = self.shared.store.find(&self.id, Kind::Propose, step, 0)?.map(|(_, event)| event);
            let event = event.ok_or_else(|| out_of_order(step, ready.given + 1))?;
            let other = brought.map(Fed::digest).transpose()?.is_some_and(|digest| digest != event.digest);
            if other {
                let what = format!("step {step} was proposed with other candidates");
                return Err(Error::usage("step/conflict", what)
                    .hint("send what was sent first, or seek back to an earlier step"));
            }
            let fed = vec![None; self.spec.ranks as usize];
            Step { fed, ..step_of(&event.head) }
        } else {
            ready.machine.open[&step].clone()
        };
        self.serve(ready, (step, rank), &found)
    }

    /// The part of a rank, rendered.
    pub(super) fn serve(&self, ready: &mut Ready, (step, rank): (u64, u32), made: &Step) -> Result<Arc<Served>> {
        if let Some(served) = ready.rendered.get(&(step, rank)).filter(|served| served.cursor.ends_with(&made.chain)) {
            return Ok(served.clone());
        }
        let picks = made.of_rank(rank);
        let rows: Vec<u64> = picks.iter().map(|pick| pick.row).collect();
        let data = ready.ground.corpus.as_deref().zip(ready.renderer.as_ref());
        let data = data.map(|(corpus, renderer)| rendered(corpus, renderer, &rows)).transpose()?;
        let cursor = self.cursor(step, &made.chain);
        let whose = (self.id.as_str(), self.spec.as_ref(), ready.method_name.as_str());
        let served = Arc::new(Served::new(whose, (step, rank, made.epoch), cursor, (picks, data)));
        ready.rendered.retain(|key, _| key.0 + 2 > step);
        ready.rendered.insert((step, rank), served.clone());
        Ok(served)
    }

    fn ended(&self, ready: &Ready, step: u64, rank: u32) -> Served {
        let cursor = self.cursor(ready.given, ready.chain());
        let whose = (self.id.as_str(), self.spec.as_ref(), ready.method_name.as_str());
        let epoch = self.spec.epochs.unwrap_or(0);
        let mut served = Served::new(whose, (step, rank, epoch), cursor, (Vec::new(), None));
        served.end = true;
        served
    }

    /// Where the session stands behind a step.
    pub(crate) fn cursor(&self, step: u64, chain: &str) -> String {
        format!("{}:{step}:{chain}", self.id)
    }

    /// What can be done after the answer: keep the machine now and then, and make the next batch ready where that may be done already.
    pub(crate) fn prefetch(&self) {
        let Ok(mut stage) = self.stage.try_lock() else { return };
        let Stage::Ready(ready) = &mut *stage else { return };
        let due = Self::due(ready);
        self.make_ahead(ready);
        drop(stage);
        if let Some((frozen, step, after)) = due {
            self.keep(&frozen, step, after);
        }
    }

    fn make_ahead(&self, ready: &mut Ready) {
        if ready.stale || ready.machine.paused || ready.ahead.is_some() || ready.machine.asks() {
            return;
        }
        // An error comes again when the batch is asked for, and is told then.
        if let Ok(Next::Made(made)) = ready.keeping.count(|| ready.machine.next(None)) {
            let step = ready.given + 1;
            for rank in 0..self.spec.ranks.min(8) {
                if let Ok(served) = self.serve(ready, (step, rank), &made) {
                    let _ = served.json();
                }
            }
            ready.ahead = Some(made);
        }
    }

    /// Take what a trainer says of the rows of a step.
    ///
    /// # Errors
    /// `step/*`, `feedback/*`, `signal/*`, what the method refuses, `store/*`.
    pub(crate) fn feedback(&self, step: u64, rank: u32, fed: &Fed) -> Result<FeedbackDone> {
        self.check_rank(rank)?;
        for _ in 0..TRIES {
            if let Some(done) = self.with(|ready| self.try_feedback(ready, step, rank, fed))? {
                return Ok(done);
            }
        }
        Err(busy())
    }

    fn try_feedback(&self, ready: &mut Ready, step: u64, rank: u32, fed: &Fed) -> Result<Option<FeedbackDone>> {
        if step == 0 || step > ready.given {
            return Err(Error::usage(
                "step/out-of-order",
                format!("step {step} was not handed out: the last one is {}", ready.given),
            )
            .hint("send signals of steps that were proposed"));
        }
        let digest = fed.digest()?;
        let found = self.known(ready, step, rank)?;
        let chain = found.0.chain.clone();
        let done = |ready: &Ready, replayed| {
            let (session, cursor) = (self.id.clone(), self.cursor(step, &chain));
            FeedbackDone { session, step, rank, observed: ready.machine.observed, replayed, cursor }
        };
        match &found.1 {
            Some(before) if *before == digest => return Ok(Some(done(ready, true))),
            Some(_) => {
                return Err(Error::usage(
                    "feedback/conflict",
                    format!("other signals came for step {step}, rank {rank}"),
                )
                .hint("a step is told once; seek back to tell it anew"));
            }
            None => Self::check_rows(&found.0, rank, fed)?,
        }
        ready.check_signals(fed)?;
        ready.keeping.count(|| ready.machine.feed(step, rank, fed.clone()))?;
        let body = if fed.rows.is_empty() { Vec::new() } else { bytes_of(fed)? };
        let event =
            Event { kind: Kind::Feedback, step, rank, digest, at: now(), head: json!({"rows": fed.rows.len()}), body };
        let mut told = found.0;
        if let Some(open) = ready.machine.open.get(&step) {
            told = open.clone();
        } else if let Some(place) = told.fed.get_mut(rank as usize) {
            *place = Some(fed.clone());
        }
        let told = point(step, &told, &ready.machine, event.at);
        if !self.append(ready, &event, &[(step, told.clone())])? {
            return Ok(None);
        }
        self.tell("point", step, told);
        Ok(Some(done(ready, false)))
    }

    /// A step that was handed out, and the digest of what this rank said of it.
    fn known(&self, ready: &Ready, step: u64, rank: u32) -> Result<(Step, Option<String>)> {
        let store = &self.shared.store;
        if let Some(open) = ready.machine.open.get(&step) {
            let said = open.fed.get(rank as usize).and_then(Option::as_ref).map(Fed::digest).transpose()?;
            return Ok((open.clone(), said));
        }
        let event = store.find(&self.id, Kind::Propose, step, 0)?.map(|(_, event)| event);
        let event = event.ok_or_else(|| out_of_order(step, ready.given + 1))?;
        let said = store.find(&self.id, Kind::Feedback, step, rank)?.map(|(_, event)| event.digest);
        Ok((Step { fed: vec![None; self.spec.ranks as usize], ..step_of(&event.head) }, said))
    }

    fn check_rows(step: &Step, rank: u32, fed: &Fed) -> Result<()> {
        let own: std::collections::HashSet<u64> = step.of_rank(rank).iter().map(|pick| pick.row).collect();
        match fed.rows.iter().find(|row| !own.contains(row)) {
            None => Ok(()),
            Some(row) => Err(Error::usage("feedback/unknown-row", format!("row {row} is not of this step and rank"))
                .hint("send signals of the rows that the batch had")
                .at(Location::default().row(*row))),
        }
    }

    /// The machine as it stands, with its step and the events it knows, where it is time to keep it.
    fn due(ready: &mut Ready) -> Option<(Frozen, u64, u64)> {
        let whole = !ready.stale && ready.ahead.is_none();
        if !whole || !std::mem::take(&mut ready.snapshot_due) || !ready.keeping.due(ready.given) {
            return None;
        }
        let frozen = ready.machine.freeze().ok()?;
        ready.keeping.begin(ready.given, frozen.bytes());
        Some((frozen, ready.given, ready.last))
    }

    /// Keep it, so that a restart begins there; without it a restart takes longer, nothing else. No call waits for it.
    fn keep(&self, frozen: &Frozen, step: u64, after: u64) {
        let kept =
            frozen.pack().and_then(|body| self.shared.store.put_snapshot(&self.id, &Snapshot { step, after, body }));
        if let Err(error) = kept {
            tracing::debug!(session = self.id, step, %error, "the session was not kept");
        }
    }

    /// Forget everything after a step.
    ///
    /// # Errors
    /// `seek/unknown` for a step or cursor of another history; `store/*`.
    pub(crate) fn seek(&self, step: u64, chain: Option<&str>) -> Result<()> {
        let work = |ready: &mut Ready| {
            if step > ready.given {
                return Err(unknown_place(step, ready.given));
            }
            if let Some(chain) = chain {
                let known = match step {
                    0 => Some(ready.first_chain.clone()),
                    _ => Some(self.known(ready, step, 0)?.0.chain),
                };
                if known.as_deref() != Some(chain) {
                    return Err(unknown_place(step, ready.given));
                }
            }
            let event =
                Event { kind: Kind::Seek, step, at: now(), head: json!({"from": ready.given}), ..Event::default() };
            if self.append(ready, &event, &[])? {
                ready.reload(self)?;
            }
            Ok(ready.given == step)
        };
        let mut done = false;
        for _ in 0..TRIES {
            done = done || self.with(work)?;
        }
        self.tell("info", step, json!({"seek": step}));
        if done { Ok(()) } else { Err(busy()) }
    }

    /// Stop handing out batches, or go on.
    ///
    /// # Errors
    /// `session/*`, `store/*`.
    pub(crate) fn pause(&self, pause: bool) -> Result<()> {
        let kind = if pause { Kind::Pause } else { Kind::Resume };
        self.record(&Event { kind, ..Event::default() }, |ready| {
            ready.machine.paused = pause;
            Ok(())
        })
    }

    /// Change the weight of a cluster by hand; a change that has a name is made once.
    ///
    /// # Errors
    /// `steer/*`, `group/unknown`, `store/*`.
    pub(crate) fn steer(&self, group: u32, factor: f64, name: Option<&str>) -> Result<()> {
        if let Some(name) = name {
            super::manager::check_id(name)?;
        }
        let known = |ready: &mut Ready| Ok(name.is_some_and(|name| ready.machine.steered.contains(name)));
        if self.with(known)? {
            return Ok(());
        }
        let head = json!({"group": group, "factor": factor});
        let event = Event {
            kind: Kind::Steer,
            digest: name.unwrap_or_default().to_owned(),
            head: head.clone(),
            ..Event::default()
        };
        self.record(&event, |ready| {
            if ready.ahead.is_some() {
                ready.reload(self)?;
            }
            ready.machine.steer(group, factor)?;
            ready.machine.steered.extend(name.map(str::to_owned));
            Ok(())
        })?;
        let step = self.with(|ready| Ok(ready.given))?;
        self.tell("steer", step, head);
        Ok(())
    }

    fn record(&self, event: &Event, work: impl Fn(&mut Ready) -> Result<()>) -> Result<()> {
        for _ in 0..TRIES {
            let done = self.with(|ready| {
                work(ready)?;
                let step = if event.kind == Kind::Steer { ready.given } else { 0 };
                self.append(ready, &Event { step, at: now(), ..event.clone() }, &[])
            })?;
            if done {
                self.tell("info", 0, Value::Null);
                return Ok(());
            }
        }
        Err(busy())
    }
}

/// The machine of a ground, before its first call.
pub(super) fn machine(ground: &Ground) -> Result<Machine> {
    let online = ground.spec.plan.online.is_some();
    let method = online.then(|| curate_api::serving::online_method(&ground.spec.plan)).transpose()?;
    Ok(Machine::new(ground.clone(), method))
}

fn busy() -> Error {
    Error::io("server/busy", "other servers work on this session").hint("send the same call again")
}

fn not_yet(what: &str) -> Error {
    Error::usage("step/not-yet", what).hint("send the same call again")
}

fn out_of_order(step: u64, next: u64) -> Error {
    Error::usage("step/out-of-order", format!("step {step} was asked for, and step {next} comes next"))
        .hint(format!("ask for step {next}, or seek back"))
}

fn unknown_place(step: u64, last: u64) -> Error {
    Error::usage("seek/unknown", format!("step {step} is not in this session's history as the cursor knows it"))
        .hint(format!("the last step is {last}; a cursor is void when a seek went behind it"))
}

fn failed(problem: &Problem) -> Error {
    let what = format!("the session could not be prepared: {}", problem.detail);
    Error::usage("session/failed", what).hint("delete it and create it again with what the message asks for")
}
