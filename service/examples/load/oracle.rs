//! Remembers every answer of one session.

use super::chaos::{Dice, Storm};
use super::client::rows_of;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Kinds of sessions in the storm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Chosen once, then streamed.
    Stream,
    /// Bandit over prompts, with feedback that may be outstanding.
    Mopps {
        /// Steps outstanding.
        lag: u64,
    },
    /// Candidates travel with the call.
    Uds,
    /// Weights of clusters.
    Refine,
    /// Two trainers share the steps.
    Ranks,
}

/// What one session has answered, and is held to.
#[derive(Clone)]
pub(crate) struct Oracle {
    /// Name of the session.
    pub(crate) id: String,
    kind: Kind,
    input: String,
    batches: BTreeMap<(u64, u32), Value>,
}

/// What stays the same when an answer is given again.
fn core(batch: &Value) -> Value {
    json!({"step": batch["step"], "epoch": batch["epoch"], "cursor": batch["cursor"], "end": batch["end"], "rows": batch["rows"]})
}

/// What a trainer says of rows: the same for the same rows and step.
pub(crate) fn signals(rows: &[u64], step: u64) -> Value {
    let each = |make: fn(u64) -> Value| {
        rows.iter().map(|row| make(row.wrapping_mul(31).wrapping_add(step * 7))).collect::<Vec<Value>>()
    };
    json!({"loss": each(|n| json!(0.5 + (n % 13) as f64)), "successes": each(|n| json!(n % 8)), "trials": each(|_| json!(8))})
}

impl Oracle {
    /// A session that is to be made.
    pub(crate) fn new(kind: Kind, number: u64, input: &str) -> Self {
        Self { id: format!("storm-{number}"), kind, input: input.to_owned(), batches: BTreeMap::new() }
    }

    /// What to ask for, under a name.
    pub(crate) fn spec(&self, id: &str) -> Value {
        let input = json!({"paths": [self.input]});
        let plan = |more: Value| {
            let mut plan: Map<String, Value> =
                [("seed".to_owned(), json!(11)), ("input".to_owned(), input.clone())].into_iter().collect();
            plan.extend(more.as_object().cloned().unwrap_or_default());
            Value::Object(plan)
        };
        match self.kind {
            Kind::Stream => {
                json!({"id": id, "batch": 8, "plan": plan(json!({"select": {"use": "random", "budget": "500"}}))})
            }
            Kind::Mopps { lag } => {
                json!({"id": id, "batch": 4, "lag": lag, "plan": plan(json!({"online": {"use": "mopps"}}))})
            }
            Kind::Uds => json!({"id": id, "batch": 2, "plan": {"seed": 11, "online": {"use": "uds"}}}),
            Kind::Refine => json!({"id": id, "batch": 12, "render": "rows",
                "plan": plan(json!({"quality": "column:score", "online": {"use": "kmeans-refine"}}))}),
            Kind::Ranks => {
                json!({"id": id, "batch": 3, "ranks": 2, "render": "messages", "plan": plan(json!({"online": {"use": "mopps"}}))})
            }
        }
    }

    /// Trainers.
    pub(crate) fn ranks(&self) -> u32 {
        if self.kind == Kind::Ranks { 2 } else { 1 }
    }

    /// Last step that was answered in full.
    pub(crate) fn step(&self) -> u64 {
        self.batches.keys().next_back().map_or(0, |key| key.0)
    }

    /// Whether the rows are nearly used up: this kind draws none twice.
    pub(crate) fn used_up(&self) -> bool {
        self.kind == Kind::Refine && self.step() >= 160
    }

    /// The call for a batch.
    pub(crate) fn propose(&self, step: u64, rank: u32) -> (String, Value) {
        let mut body = json!({"step": step, "rank": rank});
        if self.kind == Kind::Uds {
            let rows: Vec<u64> = (0..8).map(|i| step * 8 + i).collect();
            let norms: Vec<f64> = rows.iter().map(|row| (row * 37 % 101) as f64).collect();
            let sketch: Vec<Vec<f64>> =
                rows.iter().map(|row| (0..16).map(|i| (row * (i + 3) % 17) as f64).collect()).collect();
            body["candidates"] = json!({"rows": rows, "signals": {"nuclear_norm": norms, "sketch": sketch}});
        }
        (format!("/v1/sessions/{}/propose", self.id), body)
    }

    /// A batch came.
    pub(crate) fn proposed(&mut self, step: u64, rank: u32, batch: &Value) -> Result<(), String> {
        if rows_of(batch).is_empty() || batch["step"] != json!(step) || batch["rank"] != json!(rank) {
            return Err(format!("session {}: step {step} is no batch: {batch}", self.id));
        }
        self.batches.insert((step, rank), core(batch));
        Ok(())
    }

    /// The rows of a step and rank.
    fn rows(&self, step: u64, rank: u32) -> Vec<u64> {
        self.batches.get(&(step, rank)).map(rows_of).unwrap_or_default()
    }

    /// The call that tells of a batch.
    pub(crate) fn feedback(&self, step: u64, rank: u32) -> (String, Value) {
        let rows = self.rows(step, rank);
        let said = signals(&rows, step);
        (
            format!("/v1/sessions/{}/feedback", self.id),
            json!({"step": step, "rank": rank, "rows": rows, "signals": said}),
        )
    }

    /// The telling was answered.
    pub(crate) fn fed(&self, step: u64, rank: u32, done: &Value) -> Result<(), String> {
        let same = done["step"] == json!(step)
            && done["rank"] == json!(rank)
            && done["observed"].as_u64().is_some_and(|at| at <= step);
        if same { Ok(()) } else { Err(format!("session {}: feedback of step {step} was answered {done}", self.id)) }
    }

    /// Some step that was answered.
    pub(crate) fn some_step(&self, dice: &mut Dice) -> (u64, u32) {
        let back = if dice.below(3) == 0 { dice.below(self.step()) } else { dice.below(self.step().min(6)) };
        (self.step() - back, u32::try_from(dice.below(u64::from(self.ranks()))).unwrap_or(0))
    }

    /// Compare with what was answered before.
    pub(crate) fn compare(&self, step: u64, rank: u32, batch: &Value) -> Result<(), String> {
        let (known, now) = (&self.batches[&(step, rank)], core(batch));
        if *known == now {
            Ok(())
        } else {
            Err(format!("session {}, step {step}, rank {rank}: {known} became {now}", self.id))
        }
    }

    /// The call that goes back to a step.
    pub(crate) fn seek(&self, step: u64) -> (String, Value) {
        let cursor = &self.batches[&(step, 0)]["cursor"];
        (format!("/v1/sessions/{}/seek", self.id), json!({"cursor": cursor}))
    }

    /// It went back.
    pub(crate) fn went_back(&mut self, step: u64) {
        self.batches.retain(|key, _| key.0 <= step);
    }

    /// The journal has every answered call that is alive, once, and at most a step more.
    pub(crate) fn check_log(&self, lines: &[Value]) -> Result<(), String> {
        let (mut proposed, mut fed) = (BTreeMap::new(), BTreeMap::new());
        for (line, n) in lines.iter().zip(1_u64..) {
            if line["n"] != json!(n) {
                return Err(format!("session {}: line {n} of the journal is {line}", self.id));
            }
            let step = line["step"].as_u64().unwrap_or_default();
            match line["kind"].as_str() {
                Some("propose") => *proposed.entry(step).or_insert(0) += 1,
                Some("feedback") => *fed.entry((step, line["rank"].as_u64().unwrap_or_default())).or_insert(0) += 1,
                Some("seek") => {
                    proposed.retain(|known, _| *known <= step);
                    fed.retain(|known, _| known.0 <= step);
                }
                _ => return Err(format!("session {}: what is {line}?", self.id)),
            }
        }
        let steps = (1..=self.step()).all(|step| proposed.get(&step) == Some(&1));
        let told = (1..=self.step()).flat_map(|step| (0..u64::from(self.ranks())).map(move |rank| (step, rank)));
        let told = told.into_iter().all(|key| fed.get(&key) == Some(&1));
        let more = proposed.keys().next_back().is_some_and(|last| *last > self.step() + 1);
        if steps && told && !more {
            return Ok(());
        }
        Err(format!(
            "session {}: the journal has {proposed:?} and {fed:?}, and {} steps were answered",
            self.id,
            self.step()
        ))
    }
}

/// Steps that are walked again.
const MOST: u64 = 400;

/// Walk the same steps in a session of another name, without any trouble: the same rows.
pub(crate) fn same_run(storm: &Storm<'_>, oracle: &Oracle) -> Option<Result<(), String>> {
    let calm = Oracle { id: format!("calm-{}", oracle.id), ..oracle.clone() };
    storm.insist("/v1/sessions", &calm.spec(&calm.id), None)?;
    for step in 1..=oracle.step().min(MOST) {
        for rank in 0..oracle.ranks() {
            let (path, body) = calm.propose(step, rank);
            let batch = storm.insist(&path, &body, None)?;
            if batch["rows"] != oracle.batches[&(step, rank)]["rows"] {
                let known = &oracle.batches[&(step, rank)]["rows"];
                return Some(Err(format!(
                    "session {}: step {step} is {known}, and {} without trouble",
                    oracle.id, batch["rows"]
                )));
            }
        }
        for rank in 0..oracle.ranks() {
            let (path, body) = calm.feedback(step, rank);
            storm.insist(&path, &body, None)?;
        }
    }
    Some(Ok(()))
}
