//! A session as a machine: calls go in, in the order they were accepted, and the same calls always give the same batches. It knows nothing of
//! time, network or database; whatever must be kept is in its events.

use super::order::Shuffle;
use super::signals::{Fed, bytes_of, fed_from};
use crate::store::{Event, Kind};
use crate::wire::{Order, SessionSpec};
use curate_api::serving::{Candidates, Corpus, pack_state, unpack_state};
use curate_api::{Column, Ctx, Error, Feedback, OnlineSelector, Pick, Pool, Result, State};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Steps kept in memory for replays.
const KEPT_STEPS: u64 = 4;

/// A step that was proposed: its rows for all ranks, and what was said of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Step {
    /// Epoch.
    pub(crate) epoch: u64,
    /// Rows of all ranks; rank r has every `ranks`-th from r.
    pub(crate) picks: Vec<Pick>,
    /// Name of the history up to here.
    pub(crate) chain: String,
    /// What the ranks said; `None` for one that has not spoken.
    pub(crate) fed: Vec<Option<Fed>>,
    /// Figures of the choice for people.
    pub(crate) figures: Value,
}

impl Step {
    /// Whether every rank has spoken.
    pub(crate) fn complete(&self) -> bool {
        self.fed.iter().all(Option::is_some)
    }

    /// The rows of a rank.
    pub(crate) fn of_rank(&self, rank: u32) -> Vec<Pick> {
        self.picks.iter().skip(rank as usize).step_by(self.fed.len().max(1)).cloned().collect()
    }
}

/// What became of a group so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) drawn: u64,
    pub(crate) signal: Option<f64>,
}

/// What a method needs to work on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub(crate) spec: Arc<SessionSpec>,
    pub(crate) corpus: Option<Arc<Corpus>>,
    pub(crate) candidates: Option<Arc<Candidates>>,
    pub(crate) ctx: Ctx,
}

/// Why there is no next step yet.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Next {
    /// It was made.
    Made(Step),
    /// Feedback of this step is missing.
    Waits(u64),
    /// The rows are used up.
    Ended,
}

/// The machine.
pub(crate) struct Machine {
    ground: Ground,
    method: Option<Box<dyn OnlineSelector>>,
    /// Steps proposed.
    pub(crate) proposed: u64,
    /// Steps whose feedback the method took in, or passed over.
    pub(crate) observed: u64,
    /// Steps after `observed`, and a few before.
    pub(crate) open: BTreeMap<u64, Step>,
    /// What became of each group.
    pub(crate) tallies: BTreeMap<u32, Tally>,
    /// Whether batches are withheld.
    pub(crate) paused: bool,
    /// Names of changes by hand, so that none is made twice.
    pub(crate) steered: BTreeSet<String>,
    chain: String,
}

/// What a snapshot says besides the method's state.
#[derive(Serialize, Deserialize)]
struct Head {
    proposed: u64,
    observed: u64,
    paused: bool,
    steered: BTreeSet<String>,
    chain: String,
    tallies: Vec<(u32, Tally)>,
    steps: Vec<(u64, Value, Vec<Option<String>>)>,
}

/// A machine at a moment.
pub(crate) struct Frozen {
    head: Head,
    state: Option<State>,
}

impl Frozen {
    /// About the bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        let tables = self.state.iter().flat_map(|state| &state.tables);
        tables.map(|(_, table)| table.get_array_memory_size() as u64).sum()
    }

    /// As bytes.
    pub(crate) fn pack(&self) -> Result<Vec<u8>> {
        let state = self.state.as_ref().map(pack_state).transpose()?.unwrap_or_default();
        let head = serde_json::to_vec(&self.head).map_err(|e| Error::io("json", e.to_string()))?;
        Ok([&(head.len() as u64).to_le_bytes()[..], &head, &state].concat())
    }
}

impl Machine {
    /// A machine before its first call.
    pub(crate) fn new(ground: Ground, method: Option<Box<dyn OnlineSelector>>) -> Self {
        let chain =
            blake3::hash(json!([ground.spec.plan, ground.spec.batch]).to_string().as_bytes()).to_hex()[..16].into();
        let (open, tallies) = (BTreeMap::new(), BTreeMap::new());
        Self { ground, method, proposed: 0, observed: 0, open, tallies, paused: false, steered: BTreeSet::new(), chain }
    }

    /// The method, where it chooses step by step.
    pub(crate) fn method(&self) -> Option<&dyn OnlineSelector> {
        self.method.as_deref()
    }

    /// Whether the next choice waits for feedback at all.
    pub(crate) fn wants_feedback(&self) -> bool {
        self.method.as_ref().is_some_and(|method| !method.needs().after.is_empty())
    }

    /// Whether the trainer says something of the candidates of each step, or brings them.
    pub(crate) fn asks(&self) -> bool {
        self.method.is_some() && self.ground.candidates.as_ref().is_none_or(|c| !c.asked.is_empty())
    }

    /// Rows of a step over all ranks.
    fn step_rows(&self) -> usize {
        self.ground.spec.batch.saturating_mul(self.ground.spec.ranks as usize)
    }

    /// Name of the history up to the last step.
    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    /// Make the next step. After an error nothing has changed but feedback taken in.
    pub(crate) fn next(&mut self, brought: Option<&Pool>) -> Result<Next> {
        let step = self.proposed + 1;
        if let Some(missing) = self.take_in(step)? {
            return Ok(Next::Waits(missing));
        }
        let made = if self.method.is_some() { self.choose(step, brought)? } else { self.stream(step) };
        let Some((epoch, picks, figures)) = made else { return Ok(Next::Ended) };
        let chain = chain(&self.chain, &picks);
        let fed = vec![None; self.ground.spec.ranks as usize];
        let made = Step { epoch, picks, chain: chain.clone(), fed, figures };
        for pick in &made.picks {
            if let Some(group) = pick.group {
                self.tallies.entry(group).or_default().drawn += 1;
            }
        }
        (self.proposed, self.chain) = (step, chain);
        self.open.insert(step, made.clone());
        self.forget();
        Ok(Next::Made(made))
    }

    /// Give the method all feedback that step `next` may know of; the first step that is missing, if it may not be.
    fn take_in(&mut self, next: u64) -> Result<Option<u64>> {
        let wants = self.wants_feedback();
        let upto = next.saturating_sub(1 + self.ground.spec.lag);
        while wants && self.observed < upto {
            let step = self.observed + 1;
            let Some(feedback) = self.merged(step)? else { return Ok(Some(step)) };
            if let (Some(method), false) = (&mut self.method, feedback.rows.is_empty()) {
                match method.observe(&feedback, &self.ground.ctx) {
                    Err(error) if self.ground.spec.lag == 0 => return Err(error),
                    // It was accepted long ago; what the method cannot use is passed over, now and in every replay.
                    Err(_) | Ok(()) => {}
                }
            }
            self.observed = step;
        }
        Ok(None)
    }

    /// What all ranks said of a step, once all have spoken: in the order of the step's rows.
    fn merged(&self, step: u64) -> Result<Option<Feedback>> {
        let Some(found) = self.open.get(&step).filter(|found| found.complete()) else { return Ok(None) };
        let parts: Vec<&Fed> = found.fed.iter().flatten().filter(|fed| !fed.rows.is_empty()).collect();
        super::signals::merge(step, &parts, &found.picks).map(Some)
    }

    /// The batch of a method that chooses step by step.
    fn choose(&mut self, step: u64, brought: Option<&Pool>) -> Result<Option<(u64, Vec<Pick>, Value)>> {
        let rows = self.step_rows();
        let (epoch, pool) = match (brought, self.offer(step)?) {
            (Some(brought), _) => (0, brought.clone()),
            (None, Some((epoch, offer))) => (epoch, offer),
            (None, None) => return Ok(None),
        };
        let Some(method) = &mut self.method else { return Ok(None) };
        let ctx = self.ground.ctx.labelled(&format!("step {step}"));
        let chosen = match method.propose(&pool, rows.min(pool.rows()), &ctx) {
            // A method that draws no row twice has come to the end of the rows.
            Err(error) if error.code() == "candidates/drawn" && brought.is_none() => return Ok(None),
            chosen => chosen?,
        };
        let figures = figures(&pool, &chosen.rows())?;
        Ok(Some((epoch, chosen.picks, figures)))
    }

    /// The candidates of a step that the corpus offers: none after the last epoch, or where there is no corpus.
    pub(crate) fn offer(&self, step: u64) -> Result<Option<(u64, Pool)>> {
        let Some(candidates) = &self.ground.candidates else { return Ok(None) };
        let n = candidates.pool.rows() as u64;
        let rows = self.step_rows() as u64;
        let each =
            self.ground.spec.candidates.map_or(if candidates.asked.is_empty() { n } else { 8 * rows }, |c| c as u64);
        let each = each.max(rows);
        let epoch_end = |epoch: u64| self.ground.spec.epochs.is_some_and(|epochs| epoch >= epochs);
        if each >= n {
            let epoch = (step - 1) * rows / n.max(1);
            return Ok((!epoch_end(epoch)).then(|| (epoch, candidates.pool.clone())));
        }
        let steps = n / each + u64::from(n % each >= rows);
        let (epoch, at) = ((step - 1) / steps, (step - 1) % steps);
        if epoch_end(epoch) {
            return Ok(None);
        }
        let shuffle = Shuffle::new(n, self.ground.spec.plan.seed, epoch);
        let mut places: Vec<usize> = (at * each..((at + 1) * each).min(n)).map(|i| shuffle.at(i) as usize).collect();
        places.sort_unstable();
        Ok(Some((epoch, candidates.pool.filter(&places)?)))
    }

    /// The batch of a choice made before.
    fn stream(&self, step: u64) -> Option<(u64, Vec<Pick>, Value)> {
        let (corpus, spec) = (self.ground.corpus.as_ref()?, &self.ground.spec);
        let (n, rows, ranks) = (corpus.picks.len() as u64, self.step_rows() as u64, u64::from(spec.ranks));
        let steps = n / rows + u64::from(n % rows >= ranks);
        if steps == 0 {
            return None;
        }
        let (epoch, at) = ((step - 1) / steps, (step - 1) % steps);
        if spec.epochs.is_some_and(|epochs| epoch >= epochs) {
            return None;
        }
        let shuffle = (spec.order == Order::Shuffled).then(|| Shuffle::new(n, spec.plan.seed, epoch));
        let end = ((at + 1) * rows).min(n);
        let end = if end - at * rows < rows { at * rows + (end - at * rows) / ranks * ranks } else { end };
        let place = |i: u64| shuffle.map_or(i, |shuffle| shuffle.at(i));
        let picks = (at * rows..end).map(|i| corpus.picks[place(i) as usize].clone()).collect();
        Some((epoch, picks, Value::Null))
    }

    /// Take what a rank says of a step. With no lag the method hears it at once, so that what it refuses is not accepted.
    pub(crate) fn feed(&mut self, step: u64, rank: u32, fed: Fed) -> Result<()> {
        let Some(open) = self.open.get_mut(&step) else { return Ok(()) };
        let signals = super::signals::by_group(&fed, &open.picks);
        if let Some(place) = open.fed.get_mut(rank as usize) {
            *place = Some(fed);
        }
        let at_once = self.ground.spec.lag == 0 && step == self.proposed;
        if at_once && let Err(error) = self.take_in(step + 1) {
            if let Some(place) = self.open.get_mut(&step).and_then(|open| open.fed.get_mut(rank as usize)) {
                *place = None;
            }
            return Err(error);
        }
        if !self.wants_feedback() {
            let passed =
                (self.observed + 1..=self.proposed).take_while(|s| self.open.get(s).is_none_or(Step::complete));
            self.observed = passed.last().unwrap_or(self.observed);
        }
        for (group, signal) in signals {
            self.tallies.entry(group).or_default().signal = Some(signal);
        }
        self.forget();
        Ok(())
    }

    /// Multiply the weight of a cluster, where the method has such weights.
    pub(crate) fn steer(&mut self, group: u32, factor: f64) -> Result<()> {
        let Some(method) = &mut self.method else { return Err(no_weights()) };
        let state = super::weights::steered(method.state(), group, factor)?;
        method.restore(state)
    }

    /// Weights of the method's clusters, where it has some.
    pub(crate) fn weights(&self) -> BTreeMap<u32, f64> {
        self.method.as_ref().map(|method| super::weights::weights(&method.state())).unwrap_or_default()
    }

    /// Drop steps that no one can ask for from memory any more.
    fn forget(&mut self) {
        let oldest = self.proposed.saturating_sub(KEPT_STEPS).min(self.observed);
        let oldest = if self.wants_feedback() { oldest } else { self.proposed.saturating_sub(64) };
        self.open.retain(|step, _| *step > oldest);
    }

    /// Do again what an event says. The batches must come out the same.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<()> {
        match event.kind {
            Kind::Propose if event.step == self.proposed + 1 => {
                let brought = if event.body.is_empty() { None } else { Some(fed_from(&event.body)?.pool()?) };
                let Next::Made(made) = self.next(brought.as_ref())? else { return Err(diverged(event.step)) };
                if event.head["chain"] == json!(made.chain) { Ok(()) } else { Err(diverged(event.step)) }
            }
            Kind::Propose => Err(diverged(event.step)),
            Kind::Feedback => {
                let fed = if event.body.is_empty() { Fed::default() } else { fed_from(&event.body)? };
                self.feed(event.step, event.rank, fed)
            }
            Kind::Steer => {
                let group = event.head["group"].as_u64().and_then(|g| u32::try_from(g).ok()).unwrap_or(u32::MAX);
                self.steered.extend(Some(event.digest.clone()).filter(|name| !name.is_empty()));
                self.steer(group, event.head["factor"].as_f64().unwrap_or(1.0))
            }
            Kind::Pause | Kind::Resume => {
                self.paused = event.kind == Kind::Pause;
                Ok(())
            }
            Kind::Seek => Ok(()),
        }
    }

    /// The machine as it stands, to be packed while it goes on.
    pub(crate) fn freeze(&self) -> Result<Frozen> {
        let said = |fed: &Option<Fed>| Ok(fed.as_ref().map(bytes_of).transpose()?.map(|bytes| hex(&bytes)));
        let step = |(step, open): (&u64, &Step)| {
            let head = json!({"epoch": open.epoch, "chain": open.chain, "picks": picks_json(&open.picks), "figures": open.figures});
            Ok((*step, head, open.fed.iter().map(said).collect::<Result<Vec<_>>>()?))
        };
        let head = Head {
            proposed: self.proposed,
            observed: self.observed,
            paused: self.paused,
            steered: self.steered.clone(),
            chain: self.chain.clone(),
            tallies: self.tallies.iter().map(|(group, tally)| (*group, *tally)).collect(),
            steps: self.open.iter().map(step).collect::<Result<_>>()?,
        };
        Ok(Frozen { head, state: self.method.as_ref().map(|method| method.state()) })
    }

    /// Go on from [`Frozen::pack`].
    pub(crate) fn unpack(&mut self, packed: &[u8]) -> Result<()> {
        let broken =
            |what: &str| Error::data("session/broken", format!("the snapshot of the session cannot be read: {what}"));
        let (len, rest) = packed.split_first_chunk::<8>().ok_or_else(|| broken("it is too short"))?;
        let (head, state) =
            rest.split_at_checked(u64::from_le_bytes(*len) as usize).ok_or_else(|| broken("it is cut off"))?;
        let head: Head = serde_json::from_slice(head).map_err(|e| broken(&e.to_string()))?;
        let mut open = BTreeMap::new();
        for (number, said, fed) in head.steps {
            let one = |fed: Option<String>| fed.map(|text| unhex(&text).and_then(|bytes| fed_from(&bytes))).transpose();
            let fed = fed.into_iter().map(one).collect::<Result<Vec<_>>>()?;
            open.insert(number, Step { fed, ..step_of(&said) });
        }
        if let Some(method) = &mut self.method {
            method.restore(unpack_state(state)?)?;
        }
        (self.proposed, self.observed, self.chain, self.open) = (head.proposed, head.observed, head.chain, open);
        (self.paused, self.steered) = (head.paused, head.steered);
        self.tallies = head.tallies.into_iter().collect();
        Ok(())
    }
}

/// Name of a history that goes on with these rows.
fn chain(before: &str, picks: &[Pick]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    for pick in picks {
        hasher.update(&pick.row.to_le_bytes());
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The picks of a step for the journal.
pub(crate) fn picks_json(picks: &[Pick]) -> Value {
    picks.iter().map(|p| json!([p.row, p.score, p.weight, p.group])).collect()
}

/// A step as the journal has it.
pub(crate) fn step_of(head: &Value) -> Step {
    let number = |value: &Value| value.as_f64().unwrap_or_default() as f32;
    let pick = |value: &Value| Pick {
        row: value[0].as_u64().unwrap_or_default(),
        score: number(&value[1]),
        weight: number(&value[2]),
        group: value[3].as_u64().and_then(|group| u32::try_from(group).ok()),
        reason: String::new(),
    };
    Step {
        epoch: head["epoch"].as_u64().unwrap_or_default(),
        picks: head["picks"].as_array().map(|all| all.iter().map(pick).collect()).unwrap_or_default(),
        chain: head["chain"].as_str().unwrap_or_default().to_owned(),
        fed: Vec::new(),
        figures: head["figures"].clone(),
    }
}

/// For people: mean nuclear norm of the candidates chosen, and what the score has besides.
fn figures(pool: &Pool, rows: &[u64]) -> Result<Value> {
    let norm = Column::signal("nuclear_norm");
    if !pool.has(&norm) {
        return Ok(Value::Null);
    }
    let (ids, norms) = (pool.ids()?, pool.numbers(&norm)?);
    let of = |row: &u64| ids.iter().position(|id| id == row).map_or(0.0, |at| f64::from(norms[at]));
    Ok(json!({"utility": rows.iter().map(of).sum::<f64>() / rows.len().max(1) as f64}))
}

fn diverged(step: u64) -> Error {
    Error::data("session/diverged", format!("step {step} does not come out as it was handed out before"))
        .hint("the rows of the session or the program changed; begin another session")
}

pub(crate) fn no_weights() -> Error {
    Error::usage("steer/no-weights", "the method has no cluster weights to change")
        .hint("sessions of kmeans-refine have them")
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = |at: usize| text.get(at..at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let byte =
        |at: usize| digits(at).ok_or_else(|| Error::data("session/broken", "the snapshot holds damaged signals"));
    (0..text.len()).step_by(2).map(byte).collect()
}
