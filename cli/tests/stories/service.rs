//! `curate serve` and a trainer of a dozen lines: both are killed, both go on, and the rows are those of an unbroken run.

use crate::live::Live;
use crate::story::Story;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn corpus(story: &Story) -> String {
    let line = |i: usize| {
        let topic = ["sums", "poems", "trees"][i % 3];
        json!({"instruction": format!("Tell me about {topic} {i}"), "output": format!("Answer {i}.")}).to_string()
            + "\n"
    };
    story.file("rows.jsonl", (0..90).map(line).collect::<String>())
}

fn spec(path: &str) -> Value {
    json!({"id": "run", "batch": 6, "plan": {"seed": 3, "input": {"paths": [path]}, "online": {"use": "kmeans-refine", "k": 3, "feedback": "reward"}}})
}

/// What a row is worth to the trainer.
fn reward(row: &Value) -> f64 {
    let row = row["row"].as_u64().expect("a number");
    (row % 3) as f64 / 2.0 + (row % 7) as f64 / 10.0
}

fn weights(server: &Live) -> Value {
    let state = server.get("/v1/sessions/run/state");
    state["groups"].as_array().expect("groups").iter().map(|group| group["weight"].clone()).collect()
}

/// A session begun, and what its method wants to hear.
fn begun(server: &Live, path: &str) -> String {
    assert_eq!(server.done("/v1/sessions", &spec(path))["id"], "run");
    server.done("/v1/sessions/run/propose", &json!({"step": 1}));
    let info = server.get("/v1/sessions/run");
    info["needs"]["after"][0].as_str().unwrap_or("signal.reward").trim_start_matches("signal.").to_owned()
}

#[test]
fn a_killed_server_and_a_killed_trainer_end_with_the_rows_of_an_unbroken_run() {
    let (whole, broken) = (Story::new(), Story::new());
    let path = corpus(&whole);
    let server = Live::start(&whole, &["--allow", &path]);
    let name = begun(&server, &path);
    let (rows, _) = server.train(1..=10, &name, reward);
    let last = weights(&server);
    assert!(
        last.as_array().is_some_and(|all| all.len() == 3 && all.iter().any(|w| *w != all[0])),
        "weights moved: {last}"
    );

    let server = Live::start(&broken, &["--allow", &path]);
    server.done("/v1/sessions", &spec(&path));
    let (mut seen, cursor) = server.train(1..=4, &name, reward);
    // The trainer's checkpoint is of step 4; it goes on to step 6 and dies, and so does the server.
    server.train(5..=6, &name, reward);
    drop(server);
    let server = Live::start(&broken, &["--allow", &path]);
    assert_eq!(server.done("/v1/sessions", &spec(&path))["id"], "run");
    let back = server.done("/v1/sessions/run/seek", &json!({"cursor": cursor}));
    assert_eq!(back["step"], 4);
    seen.extend(server.train(5..=10, &name, reward).0);
    assert_eq!(seen, rows);
    assert_eq!(weights(&server), last);
}

/// The library that makes a program believe in another time. Without it a test says so; in CI that is a failure.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CURATE_CI").is_none(),
            "libfaketime is not installed, and CI must not skip its tests"
        );
        eprintln!("SKIPPED: libfaketime is not installed (Debian: apt-get install faketime)");
    }
    found
}

#[test]
fn a_clock_that_jumps_changes_no_row_and_only_the_life_of_tokens() {
    let Some(library) = faketime() else { return };
    let (steady, jumping, guarded) = (Story::new(), Story::new(), Story::new());
    let path = corpus(&steady);
    let server = Live::start(&steady, &["--allow", &path]);
    let name = begun(&server, &path);
    let (rows, _) = server.train(1..=10, &name, reward);
    let last = weights(&server);

    let clock = |offset: &str| {
        let next = jumping.file("next", offset);
        std::fs::rename(next, jumping.at("clock")).expect("one file replaces the other");
    };
    let start = |story: &Story| {
        Live::start_with(story, &["--allow", &path], |command| {
            let told = [
                ("FAKETIME_NO_CACHE", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
                ("FAKETIME_TIMESTAMP_FILE", &jumping.at("clock")),
            ];
            command.env("LD_PRELOAD", &library).envs(told);
        })
    };
    clock("+0");
    let mut server = start(&jumping);
    begun(&server, &path);
    let mut seen = Vec::new();
    // Back by years and forward by more, while the server runs and while it is down.
    for (step, offset) in (1..).zip(["-3y", "-3y", "+0", "+10y", "-1d", "-20y", "+0", "+30y", "-3y", "+0"]) {
        clock(offset);
        if step % 4 == 0 {
            drop(server);
            server = start(&jumping);
        }
        seen.push(server.step(step, &name, reward).0);
    }
    assert_eq!(seen, rows);
    assert_eq!(weights(&server), last);
    let listed = server.get("/v1/sessions");
    assert_eq!(listed["sessions"].as_array().map(Vec::len), Some(1), "{listed}");

    let data = guarded.at("data");
    let args = ["serve", "token", "add", "trainer", "--scope", "read", "--expires", "30d", "--data", &data];
    let secret = guarded.curate(&args).ok().stdout.trim().to_owned();
    clock("+0");
    let server = start(&guarded);
    let ask = || server.ask("GET /v1/sessions", &format!("Authorization: Bearer {secret}\r\n"), "").0;
    let answers = ["+0", "+29d", "+31d", "-3y", "+10y", "+0"].map(|offset| {
        clock(offset);
        ask()
    });
    assert_eq!(answers, [200, 200, 401, 200, 401, 200]);
}

/// Until a session or a job stands where it will stay.
#[track_caller]
fn settled(server: &Live, path: &str) -> Value {
    let start = Instant::now();
    loop {
        let info = server.get(path);
        if !["preparing", "queued", "running"].contains(&info["status"].as_str().unwrap_or_default()) {
            return info;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "never done: {info}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_plan_that_does_not_fit_is_refused_and_its_name_stays_free() {
    let story = Story::new();
    let path = corpus(&story);
    let server = Live::start(&story, &["--allow", &story.at("")]);
    let plan = |select: Value| json!({"id": "one", "plan": {"input": {"paths": [path]}, "select": select}});
    for place in ["/v1/sessions", "/v1/jobs"] {
        let refused = |select: Value, code: &str| {
            let (status, answer) = server.post(place, &plan(select));
            assert_eq!((status, answer["code"].as_str()), (422, Some(code)), "{place}: {answer}");
        };
        refused(json!({"use": "kmean-quality", "budget": 5}), "method/unknown");
        refused(json!({"use": "uds", "budget": 5}), "method/online");
        refused(json!({"use": "kmeans-quality", "budget": 5, "kk": 3}), "params/unknown");
        let (status, answer) = server.post(place, &plan(json!({"use": "kmeans-quality", "budget": 5})));
        assert_eq!(status, 201, "{place}: {answer}");
        assert_ne!(settled(&server, &format!("{place}/one"))["status"], "failed", "{place}");
    }
    let online = json!({"plan": {"input": {"paths": [path]}, "online": {"use": "mops"}}});
    assert_eq!(server.post("/v1/sessions", &online).0, 422);
}

#[test]
fn what_failed_before_it_began_gives_way() {
    let story = Story::new();
    let (path, gone) = (corpus(&story), story.at("gone.jsonl"));
    let server = Live::start(&story, &["--allow", &story.at("")]);
    let of = |path: &str| json!({"id": "one", "plan": {"input": {"paths": [path]}, "select": {"use": "random", "budget": 5}}});
    for place in ["/v1/sessions", "/v1/jobs"] {
        let one = format!("{place}/one");
        assert_eq!(server.post(place, &of(&gone)).0, 201);
        let failed = settled(&server, &one);
        assert_eq!(
            (&failed["status"], &failed["error"]["status"]),
            (&json!("failed"), &json!(422)),
            "{place}: {failed}"
        );
        let (status, answer) = server.post(place, &of(&path));
        assert_eq!(status, 201, "{place}: {answer}");
        assert_ne!(settled(&server, &one)["status"], "failed", "{place}");
        assert_eq!(server.post(place, &of(&gone)).0, 409, "{place}: what works is not replaced");
    }
    let late = story.at("late.jsonl");
    let body = json!({"id": "two", "plan": {"input": {"paths": [late]}, "select": {"use": "random", "budget": 5}}});
    server.post("/v1/sessions", &body);
    assert_eq!(settled(&server, "/v1/sessions/two")["status"], "failed");
    std::fs::copy(&path, &late).expect("the file comes late");
    assert_eq!(server.post("/v1/sessions", &body).0, 200, "the same words try again");
    assert_eq!(settled(&server, "/v1/sessions/two")["status"], "ready");
}

#[test]
fn a_job_gives_what_select_gives() {
    let story = Story::new();
    let path = corpus(&story);
    let picks = story.at("picks.parquet");
    let args =
        ["select", &path, "--budget", "10", "--seed", "5", "-o", &picks, "--cache", &story.at("cache"), "--json"];
    let local = story.command(&args).output().expect("the binary runs");
    let local: Value = serde_json::from_slice(&local.stdout).expect("a summary");
    let server = Live::start(&story, &["--allow", &path]);
    let plan = json!({"seed": 5, "input": {"paths": [path]}, "select": {"budget": "10"}});
    let made = server.post("/v1/jobs", &json!({"id": "one", "plan": plan}));
    assert_eq!(made.0, 201, "{}", made.1);
    let start = Instant::now();
    let done = loop {
        let info = server.get("/v1/jobs/one");
        if !["queued", "running"].contains(&info["status"].as_str().unwrap_or_default()) {
            break info;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "never done: {info}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(done["status"], "done", "{done}");
    assert!(local["selection_digest"].is_string(), "{local}");
    assert_eq!(done["result"]["manifest"]["selection_digest"], local["selection_digest"]);
    let file = std::fs::read(format!("{}/jobs/one/picks.parquet", story.at("data"))).expect("the result lies there");
    assert_eq!(file, std::fs::read(picks).expect("the picks"));
    let outside =
        server.post("/v1/jobs", &json!({"plan": {"input": {"paths": ["/etc/passwd"]}, "select": {"budget": "1"}}}));
    assert_eq!((outside.0, outside.1["code"].as_str()), (403, Some("input/not-allowed")));
    let escape = server.post(
        "/v1/jobs",
        &json!({"plan": {"input": {"paths": [path]}, "select": {"budget": "1"}, "output": {"path": "../x.parquet"}}}),
    );
    assert!((400..500).contains(&escape.0), "{}", escape.1);
}
