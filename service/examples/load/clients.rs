//! Clients of the storm: trainers of every kind of session, and somebody who has jobs done.

use super::chaos::{Dice, Storm};
use super::client::Caller;
use super::oracle::{Oracle, same_run};
use serde_json::{Value, json};
use std::thread::sleep;
use std::time::Duration;

/// A trainer: draws, feeds back, asks again for what it was given, goes back, dies.
pub(crate) fn client(storm: &Storm<'_>, oracle: &Oracle, seed: u64) {
    let (mut dice, mut oracle) = (Dice::new(seed), oracle.clone());
    if begin(storm, &oracle).is_none() {
        return;
    }
    let mut starts = 0;
    while !storm.ending() {
        if starts != storm.starts() {
            starts = storm.starts();
            if check_place(storm, &oracle).is_none() {
                return;
            }
        }
        if turn(storm, &mut oracle, &mut dice).is_none() {
            return;
        }
    }
    finish(storm, &oracle);
}

fn begin(storm: &Storm<'_>, oracle: &Oracle) -> Option<()> {
    storm.insist("/v1/sessions", &oracle.spec(&oracle.id), None)?;
    ready(storm, &oracle.id).map(drop)
}

/// What is said of a session, once it is ready; while it is being read again it stands nowhere.
fn ready(storm: &Storm<'_>, id: &str) -> Option<Value> {
    loop {
        let info = storm.look(&format!("/v1/sessions/{id}"))?;
        let info: Value = serde_json::from_slice(&info).unwrap_or_default();
        match info["status"].as_str() {
            Some("ready") => return Some(info),
            Some("preparing") => sleep(Duration::from_millis(30)),
            _ => {
                storm.wrong(format!("session {id} is not ready: {info}"));
                return None;
            }
        }
    }
}

/// After a restart: nothing that was answered is lost, and at most one more step came of calls without an answer.
fn check_place(storm: &Storm<'_>, oracle: &Oracle) -> Option<()> {
    let info = ready(storm, &oracle.id)?;
    let (step, known) = (info["step"].as_u64().unwrap_or(0), oracle.step());
    if step < known || step > known + 1 {
        storm.wrong(format!("session {} stands at step {step}, and {known} were answered", oracle.id));
        return None;
    }
    Some(())
}

/// One step, with some mischief.
fn turn(storm: &Storm<'_>, oracle: &mut Oracle, dice: &mut Dice) -> Option<()> {
    if oracle.used_up() {
        return back_to(storm, oracle, oracle.step() / 2);
    }
    let step = oracle.step() + 1;
    for rank in 0..oracle.ranks() {
        let call = oracle.propose(step, rank);
        die(storm, dice, &call);
        let batch = storm.insist(&call.0, &call.1, None)?;
        oracle.proposed(step, rank, &batch).map_err(|what| storm.wrong(what)).ok()?;
    }
    for rank in 0..oracle.ranks() {
        let call = oracle.feedback(step, rank);
        die(storm, dice, &call);
        let done = storm.insist(&call.0, &call.1, None)?;
        oracle.fed(step, rank, &done).map_err(|what| storm.wrong(what)).ok()?;
    }
    match dice.below(12) {
        0..4 => again(storm, oracle, dice),
        4 => conflict(storm, oracle, dice),
        5 if dice.below(4) == 0 => back(storm, oracle, dice),
        6 => storm.look(&format!("/v1/sessions/{}/state", oracle.id)).map(drop),
        7 => history(storm, oracle),
        _ => Some(()),
    }
}

/// Now and then somebody sends the call and dies.
fn die(storm: &Storm<'_>, dice: &mut Dice, call: &(String, Value)) {
    if dice.below(6) == 0 {
        Caller::new(storm.place.port).post_and_die(&call.0, &call.1, dice.below(3) == 0);
        storm.note(|report| report.deaths += 1);
    }
}

/// Ask for an earlier step once more: the same rows; tell it once more: taken note of already.
fn again(storm: &Storm<'_>, oracle: &Oracle, dice: &mut Dice) -> Option<()> {
    let (step, rank) = oracle.some_step(dice);
    let (path, body) = oracle.propose(step, rank);
    let batch = storm.insist(&path, &body, None)?;
    oracle.compare(step, rank, &batch).map_err(|what| storm.wrong(what)).ok()?;
    let (path, body) = oracle.feedback(step, rank);
    let done = storm.insist(&path, &body, None)?;
    if done["replayed"] != json!(true) {
        storm.wrong(format!("session {}: feedback of step {step} was taken in twice: {done}", oracle.id));
        return None;
    }
    storm.note(|report| report.repeated += 2);
    Some(())
}

/// Tell something else of an earlier step: refused.
fn conflict(storm: &Storm<'_>, oracle: &Oracle, dice: &mut Dice) -> Option<()> {
    let (step, rank) = oracle.some_step(dice);
    let (path, mut body) = oracle.feedback(step, rank);
    for values in body["signals"].as_object_mut().into_iter().flat_map(|signals| signals.values_mut()) {
        values[0] = json!(0);
    }
    storm.insist(&path, &body, Some("feedback/conflict")).map(drop)
}

/// Restart the trainer from an older step.
fn back(storm: &Storm<'_>, oracle: &mut Oracle, dice: &mut Dice) -> Option<()> {
    back_to(storm, oracle, oracle.step().saturating_sub(dice.below(30)).max(1))
}

fn back_to(storm: &Storm<'_>, oracle: &mut Oracle, step: u64) -> Option<()> {
    let (path, body) = oracle.seek(step);
    let info = storm.insist(&path, &body, None)?;
    if info["step"] != json!(step) {
        storm.wrong(format!("session {} went back to {} instead of {step}", oracle.id, info["step"]));
        return None;
    }
    oracle.went_back(step);
    Some(())
}

/// The history has one point a step.
fn history(storm: &Storm<'_>, oracle: &Oracle) -> Option<()> {
    let after = oracle.step().saturating_sub(50);
    let told = storm.look(&format!("/v1/sessions/{}/history?after={after}&limit=2000", oracle.id))?;
    let told: Value = serde_json::from_slice(&told).unwrap_or_default();
    let steps: Vec<u64> = told["points"].as_array()?.iter().filter_map(|point| point["step"].as_u64()).collect();
    if steps != (after + 1..=oracle.step()).collect::<Vec<u64>>() {
        storm.wrong(format!(
            "session {}: history after {after} has steps {steps:?}, and {} were made",
            oracle.id,
            oracle.step()
        ));
        return None;
    }
    Some(())
}

/// All that was answered is in the journal, once; and a run without any trouble gives the same rows.
fn finish(storm: &Storm<'_>, oracle: &Oracle) {
    let mut lines = Vec::new();
    let mut after = 0;
    loop {
        let Some(page) = storm.look(&format!("/v1/sessions/{}/log?after={after}&limit=10000", oracle.id)) else {
            return;
        };
        let page: Vec<Value> =
            String::from_utf8_lossy(&page).lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let Some(last) = page.last() else { break };
        after = last["n"].as_u64().unwrap_or(u64::MAX);
        lines.extend(page);
    }
    if let Err(what) = oracle.check_log(&lines) {
        storm.wrong(what);
    }
    if let Some(Err(what)) = same_run(storm, oracle) {
        storm.wrong(what);
    }
}

/// Somebody who has jobs done: whatever dies, each ends well, and the same plan with the same picks.
pub(crate) fn jobs(storm: &Storm<'_>, rows: &str) {
    let mut found: Option<Value> = None;
    for n in 0.. {
        let plan = json!({"seed": 3, "input": {"paths": [rows]}, "select": {"use": "k-center", "budget": "50"}, "output": {"path": "picks.jsonl"}});
        let body = json!({"id": format!("job-{n}"), "plan": plan});
        if storm.ending() || storm.insist("/v1/jobs", &body, None).is_none() {
            return;
        }
        let Some(job) = await_job(storm, &format!("/v1/jobs/job-{n}")) else { return };
        let digest = job["result"]["manifest"]["selection_digest"].clone();
        let digest = if digest.is_null() { job["result"]["rows"].clone() } else { digest };
        if job["status"] != json!("done") || found.as_ref().is_some_and(|found| *found != digest) {
            return storm.wrong(format!("a job came to another end: {job}"));
        }
        found = Some(digest);
        sleep(Duration::from_millis(400));
    }
}

fn await_job(storm: &Storm<'_>, path: &str) -> Option<Value> {
    loop {
        let job: Value = serde_json::from_slice(&storm.look(path)?).unwrap_or_default();
        if !matches!(job["status"].as_str(), Some("queued" | "running")) {
            return Some(job);
        }
        sleep(Duration::from_millis(50));
    }
}
