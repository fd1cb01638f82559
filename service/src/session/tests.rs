//! Sessions as a trainer meets them, without the network: repeated calls, restarts, several ranks, going back.

use super::manager::{Sessions, Shared};
use super::one::Session;
use super::signals::{Fed, from_json};
use crate::store::{Store, StoreOptions, open};
use crate::wire::{SessionSpec, Signals};
use curate_api::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A server's sessions on a folder; dropping it and making it again is a restart.
struct Server {
    sessions: Sessions,
}

fn rows_file(folder: &Path, count: usize) -> String {
    let path = folder.join("rows.jsonl");
    let line = |i: usize| {
        let topic = ["sums", "poems", "trees", "ships"][i % 4];
        json!({"instruction": format!("Tell me about {topic} number {i}"), "output": format!("Answer {i} on {topic}."), "score": i % 7}).to_string() + "\n"
    };
    std::fs::write(&path, (0..count).map(line).collect::<String>()).unwrap();
    path.to_string_lossy().into_owned()
}

impl Server {
    fn start(folder: &Path) -> Self {
        let store: Arc<dyn Store> = open(&folder.join("data").to_string_lossy(), &StoreOptions::default()).unwrap();
        let host = curate_api::local(folder).unwrap();
        Self { sessions: Sessions::new(Shared::new(store, folder.join("data/corpora"), host), 100) }
    }

    fn make(&self, spec: &Value) -> Arc<Session> {
        let spec: SessionSpec = serde_json::from_value(spec.clone()).unwrap();
        ready(self.sessions.create(spec).unwrap().0)
    }

    fn get(&self, id: &str) -> Arc<Session> {
        ready(self.sessions.get(id).unwrap())
    }
}

fn ready(session: Arc<Session>) -> Arc<Session> {
    let start = Instant::now();
    while session.info().status == "preparing" {
        assert!(start.elapsed() < Duration::from_mins(1), "the session is never ready");
        std::thread::sleep(Duration::from_millis(5));
    }
    session
}

fn fed(rows: &[u64], name: &str, value: impl Fn(u64) -> f64) -> Fed {
    let values = rows.iter().map(|row| json!(value(*row))).collect();
    from_json(&Signals { rows: rows.to_vec(), signals: [(name.to_owned(), values)].into() }).unwrap()
}

/// Outcomes of eight tries a prompt.
fn tried(rows: &[u64], step: u64) -> Fed {
    let successes = rows.iter().map(|row| json!((row * 7 + step) % 9)).collect();
    let trials = rows.iter().map(|_| json!(8)).collect();
    let signals = [("successes".to_owned(), successes), ("trials".to_owned(), trials)].into();
    from_json(&Signals { rows: rows.to_vec(), signals }).unwrap()
}

fn batch(session: &Session, step: u64) -> Vec<u64> {
    let served = session.propose(step, 0, None).unwrap();
    served.picks.iter().map(|pick| pick.row).collect()
}

fn code<T>(result: Result<T>) -> &'static str {
    result.err().map_or("ok", |error: Error| error.code())
}

fn mopps(path: &str, lag: u64) -> Value {
    json!({"id": "run", "batch": 4, "lag": lag, "render": "rows", "plan": {"seed": 5, "input": {"paths": [path]}, "online": {"use": "mopps"}}})
}

#[test]
fn a_streamed_choice_passes_every_row_once_an_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 40);
    let server = Server::start(folder.path());
    let spec = json!({"id": "s", "batch": 3, "ranks": 2, "epochs": 2, "plan": {"seed": 1, "input": {"paths": [path]},
        "quality": "column:score", "select": {"use": "top-score", "budget": "20"}}});
    let session = server.make(&spec);
    assert_eq!((session.info().kind, session.info().rows), ("stream", 20));
    let mut epochs = [Vec::new(), Vec::new()];
    for step in 1..=8 {
        let both: Vec<Vec<u64>> = (0..2)
            .map(|rank| session.propose(step, rank, None).unwrap())
            .map(|b| b.picks.iter().map(|p| p.row).collect())
            .collect();
        assert_eq!(both[0].len(), both[1].len(), "ranks have as many rows each");
        let epoch = session.propose(step, 0, None).unwrap().epoch as usize;
        epochs[epoch].extend(both.concat());
        session.prefetch();
    }
    for epoch in &mut epochs {
        let order = epoch.clone();
        epoch.sort_unstable();
        epoch.dedup();
        assert_eq!((epoch.len(), order.len()), (20, 20));
    }
    assert_eq!(epochs[0], epochs[1]);
    let end = session.propose(9, 0, None).unwrap();
    assert!(end.end && end.picks.is_empty());
    assert!(session.propose(9, 1, None).unwrap().end);
    let json: Value = serde_json::from_slice(&session.propose(1, 1, None).unwrap().json().unwrap()).unwrap();
    assert_eq!(json["rows"][0]["data"]["score"].as_f64(), json["rows"][0]["score"].as_f64());
    assert!(json["rows"][0]["score"].as_f64().unwrap() >= 3.0, "{}", json["rows"][0]);
    assert!(json["rows"][0]["data"]["instruction"].as_str().unwrap().starts_with("Tell me"));
    assert!(json["rows"][0]["data"].get("_curate_row").is_none());
}

#[test]
fn a_call_again_is_answered_again_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let session = server.make(&mopps(&rows_file(folder.path(), 50), 0));
    assert_eq!(code(session.propose(2, 0, None)), "step/out-of-order");
    assert_eq!(code(session.propose(1, 1, None)), "step/rank");
    let first = batch(&session, 1);
    assert_eq!(first, batch(&session, 1));
    assert_eq!(code(session.propose(2, 0, None)), "step/not-yet");
    assert_eq!(code(session.feedback(2, 0, &tried(&first, 1))), "step/out-of-order");
    assert_eq!(code(session.feedback(1, 0, &tried(&[9999], 1))), "feedback/unknown-row");
    assert_eq!(code(session.feedback(1, 0, &fed(&first, "loss", |_| 1.0))), "signal/missing");
    let wrong = |s: i64, t: i64| {
        let one = |n| first.iter().map(|_| json!(n)).collect::<Vec<Value>>();
        from_json(&Signals {
            rows: first.clone(),
            signals: [("successes".into(), one(s)), ("trials".into(), one(t))].into(),
        })
        .unwrap()
    };
    assert_ne!(code(session.feedback(1, 0, &wrong(9, 8))), "ok");
    let done = session.feedback(1, 0, &tried(&first, 1)).unwrap();
    assert_eq!((done.replayed, done.observed), (false, 1));
    assert!(session.feedback(1, 0, &tried(&first, 1)).unwrap().replayed);
    assert_eq!(code(session.feedback(1, 0, &tried(&first, 2))), "feedback/conflict");
    session.pause(true).unwrap();
    assert_eq!(code(session.propose(2, 0, None)), "session/paused");
    assert_eq!(first, batch(&session, 1));
    session.pause(false).unwrap();
    assert_eq!(batch(&session, 2).len(), 4);
}

/// Steps from `from` to `to` with feedback, and what came.
fn run(session: &Session, steps: std::ops::RangeInclusive<u64>) -> Vec<Vec<u64>> {
    let one = |step| {
        let rows = batch(session, step);
        session.feedback(step, 0, &tried(&rows, step)).unwrap();
        if step % 2 == 0 {
            session.prefetch();
        }
        rows
    };
    steps.map(one).collect()
}

#[test]
fn a_restart_at_any_step_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 60);
    for lag in [0, 2] {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let whole = run(&Server::start(one.path()).make(&mopps(&path, lag)), 1..=150);
        let mut broken = Vec::new();
        for (from, to) in [(1, 1), (2, 66), (67, 70), (71, 140), (141, 150)] {
            let server = Server::start(other.path());
            let session = if from == 1 { server.make(&mopps(&path, lag)) } else { server.get("run") };
            assert_eq!(session.info().step, from - 1);
            broken.extend(run(&session, from..=to));
        }
        assert_eq!(whole, broken, "lag {lag}");
        assert!(whole.windows(2).any(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn the_rows_outlive_the_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 30);
    let spec = json!({"id": "s", "batch": 2, "render": "messages", "plan": {"input": {"paths": [path]}, "online": {"use": "random-k"}}});
    let first = {
        let server = Server::start(folder.path());
        let session = server.make(&spec);
        (batch(&session, 1), batch(&session, 2))
    };
    std::fs::remove_file(&path).unwrap();
    let server = Server::start(folder.path());
    let session = server.get("s");
    assert_eq!((batch(&session, 1), batch(&session, 2)), first);
    let json: Value = serde_json::from_slice(&session.propose(3, 0, None).unwrap().json().unwrap()).unwrap();
    assert_eq!(json["rows"][0]["data"]["messages"][0]["role"], json!("user"));
}

#[test]
fn going_back_forgets_what_came_after() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 60);
    let server = Server::start(folder.path());
    let session = server.make(&mopps(&path, 0));
    let all = run(&session, 1..=80);
    let cursor = session.feedback(10, 0, &tried(&all[9], 10)).unwrap().cursor;
    let chain = cursor.rsplit(':').next().unwrap().to_owned();
    assert_eq!(code(session.seek(81, None)), "seek/unknown");
    assert_eq!(code(session.seek(10, Some("0000000000000000"))), "seek/unknown");
    session.seek(10, Some(&chain)).unwrap();
    assert_eq!((session.info().step, session.info().cursor.as_str()), (10, cursor.as_str()));
    assert_eq!(run(&session, 11..=80), all[10..]);
    session.seek(70, None).unwrap();
    let rows = batch(&session, 71);
    assert_eq!(rows, all[70]);
    session.feedback(71, 0, &tried(&rows, 999)).unwrap();
    drop(session);
    drop(server);
    let server = Server::start(folder.path());
    let session = server.get("run");
    assert_eq!(session.info().step, 71);
    let points = session.history(0, 1000).unwrap();
    assert_eq!(points["points"].as_array().unwrap().len(), 71);
    session.seek(0, None).unwrap();
    assert_eq!(run(&session, 1..=80), all);
}

#[test]
fn several_ranks_are_heard_in_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 60);
    let spec = |id: &str| json!({"id": id, "batch": 3, "ranks": 3, "render": "rows", "plan": {"seed": 5, "input": {"paths": [path]}, "online": {"use": "mopps"}}});
    let server = Server::start(folder.path());
    let go = |id: &str, order: [u32; 3]| {
        let session = server.make(&spec(id));
        let mut all = Vec::new();
        for step in 1..=12 {
            let rows: Vec<Vec<u64>> = (0..3)
                .map(|rank| session.propose(step, rank, None).unwrap().picks.iter().map(|p| p.row).collect())
                .collect();
            for rank in order {
                assert_eq!(code(session.propose(step + 1, 0, None)), "step/not-yet");
                session.feedback(step, rank, &tried(&rows[rank as usize], step)).unwrap();
            }
            let mut own = rows.concat();
            all.push(own.clone());
            own.sort_unstable();
            own.dedup();
            assert_eq!(own.len(), 9, "ranks get disjoint rows");
        }
        all
    };
    assert_eq!(go("a", [0, 1, 2]), go("b", [2, 0, 1]));
}

#[test]
fn candidates_come_with_the_call_where_nobody_else_knows_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let spec = json!({"id": "u", "batch": 2, "plan": {"online": {"use": "uds"}}});
    let session = server.make(&spec);
    assert!(session.info().brings_candidates);
    assert_eq!(code(session.propose(1, 0, None)), "candidates/missing");
    let offer = |step: u64| {
        let rows: Vec<u64> = (0..8).map(|i| step * 8 + 7 - i).collect();
        let norm = rows.iter().map(|row| json!((row * 37 % 11) as f64)).collect();
        let sketch = rows.iter().map(|row| json!([(row % 3) as f64, (row % 5) as f64])).collect();
        from_json(&Signals { rows, signals: [("nuclear_norm".to_owned(), norm), ("sketch".to_owned(), sketch)].into() })
            .unwrap()
    };
    let rows = |step| -> Vec<u64> {
        session.propose(step, 0, Some(&offer(step))).unwrap().picks.iter().map(|pick| pick.row).collect()
    };
    let first: Vec<Vec<u64>> = (1..=5).map(rows).collect();
    assert_eq!(first, (1..=5).map(rows).collect::<Vec<_>>(), "a call again does not remember twice");
    assert_eq!(code(session.propose(5, 0, Some(&offer(6)))), "step/conflict");
    drop(session);
    drop(server);
    let server = Server::start(folder.path());
    let session = server.get("u");
    assert_eq!(session.propose(6, 0, Some(&offer(6))).unwrap().picks.len(), 2);
    assert_eq!(session.state().unwrap()["memory"]["held"], json!(12));
}

#[test]
fn a_weight_changed_by_hand_moves_the_draw() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 200);
    let server = Server::start(folder.path());
    let spec = json!({"id": "k", "batch": 12, "render": "rows", "plan": {"input": {"paths": [path]}, "quality": "column:score",
        "online": {"use": "kmeans-refine", "k": 4}}});
    let session = server.make(&spec);
    assert_eq!(code(session.steer(0, 2.0, None)), "group/unknown", "there are no clusters before the first batch");
    let step = |number: u64| {
        let given = session.propose(number, 0, None).unwrap();
        let rows: Vec<u64> = given.picks.iter().map(|p| p.row).collect();
        let needs = session.info().needs.after;
        let names: Vec<&str> = needs.iter().map(|need| need.trim_start_matches("signal.")).collect();
        let signals =
            names.iter().map(|name| ((*name).to_owned(), rows.iter().map(|r| json!(1.0 + (r % 4) as f64)).collect()));
        let signals = signals.collect();
        session.feedback(number, 0, &from_json(&Signals { rows, signals }).unwrap()).unwrap();
        given.picks.iter().map(|pick| pick.group).collect::<Vec<_>>()
    };
    step(1);
    let before = session.state().unwrap();
    let groups = before["groups"].as_array().unwrap();
    assert_eq!(groups.len(), 4);
    assert!(groups.iter().all(|group| group["weight"].is_number()), "{before}");
    assert_eq!(code(session.steer(77, 2.0, None)), "group/unknown");
    for group in [1, 2, 3] {
        session.steer(group, 0.0, None).unwrap();
    }
    assert_eq!(code(session.steer(0, 0.0, None)), "steer/factor");
    assert!(step(2).iter().all(|group| *group == Some(0)), "only cluster 0 has a weight");
    session.steer(1, 5.0, Some("again")).unwrap();
    let state = session.state().unwrap();
    session.steer(1, 5.0, Some("again")).unwrap();
    assert_eq!(session.state().unwrap(), state, "a named change is made once");
    drop(session);
    drop(server);
    let session = Server::start(folder.path()).get("k");
    assert_eq!(session.state().unwrap(), state);
    session.steer(1, 5.0, Some("again")).unwrap();
    assert_eq!(session.state().unwrap(), state, "after a restart, too");
}

#[test]
fn what_cannot_be_is_said_when_the_session_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = rows_file(folder.path(), 10);
    let server = Server::start(folder.path());
    let make = |spec: Value| code(server.sessions.create(serde_json::from_value(spec).unwrap()));
    let plan = json!({"input": {"paths": [path]}, "online": {"use": "mopps"}});
    assert_eq!(make(json!({"plan": {}})), "session/spec");
    assert_eq!(make(json!({"id": "../x", "plan": plan})), "id/invalid");
    assert_eq!(make(json!({"batch": 0, "plan": plan})), "session/spec");
    assert_eq!(make(json!({"id": "a", "plan": plan})), "ok");
    assert_eq!(make(json!({"id": "a", "plan": plan})), "ok");
    assert_eq!(make(json!({"id": "a", "batch": 3, "plan": plan})), "session/exists");
    let failed = server.make(&json!({"id": "f", "plan": {"input": {"paths": [folder.path().join("none.jsonl")]}, "online": {"use": "mopps"}}}));
    assert_eq!(failed.info().status, "failed");
    assert_eq!(code(failed.propose(1, 0, None)), "session/failed");
    server.sessions.remove("f").unwrap();
    assert_eq!(code(server.sessions.get("f")), "session/unknown");
    let nan = Signals { rows: vec![1], signals: [("loss".to_owned(), vec![Value::Null])].into() };
    assert_eq!(code(from_json(&nan)), "signal/not-a-number");
    let twice = Signals { rows: vec![1, 1], ..Signals::default() };
    assert_eq!(code(from_json(&twice)), "signal/rows");
    let short = Signals { rows: vec![1, 2], signals: [("loss".to_owned(), vec![json!(1.0)])].into() };
    assert_eq!(code(from_json(&short)), "signal/length");
}
