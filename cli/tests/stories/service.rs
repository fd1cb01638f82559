//! `curate serve` and a trainer of a dozen lines: both are killed, both go on, and the rows are those of an unbroken run.

use crate::story::Story;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A server of this story's folder; killed when dropped.
struct Served {
    child: Child,
    address: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(story: &Story, more: &[&str]) -> Served {
    let (data, cache) = (story.at("server"), story.at("cache"));
    let args = [&["serve", "--bind", "127.0.0.1:0", "--data", &data, "--cache", &cache][..], more].concat();
    let mut child =
        story.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
    let start = Instant::now();
    let mut address = None;
    let mut heard = String::new();
    while address.is_none() {
        let mut line = String::new();
        let read = said.read_line(&mut line).expect("the server speaks");
        heard.push_str(&line);
        assert!(
            read > 0 && start.elapsed() < Duration::from_secs(30),
            "the server did not say where it listens: {heard}"
        );
        address =
            line.split("http://").nth(1).map(|rest| rest.split(['/', ' ', '\n']).next().unwrap_or_default().to_owned());
    }
    // Nobody reads on; the pipe must not fill.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Served { child, address: address.expect("an address") }
}

/// One call; the connection is closed after it. `None` when the server is gone.
fn call(address: &str, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}

fn sent(address: &str, path: &str, body: &Value) -> (u16, Value) {
    call(address, "POST", path, body).expect("the server answers")
}

/// The same call until it is answered: what every client does while a server starts again or a batch is not ready.
fn until_done(address: &str, path: &str, body: &Value) -> Value {
    let start = Instant::now();
    loop {
        let (status, answer) = sent(address, path, body);
        match status {
            200 | 201 => return answer,
            425 | 503 => assert!(start.elapsed() < Duration::from_mins(1), "never ready: {answer}"),
            other => panic!("{path}: {other} {answer}"),
        }
    }
}

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
fn reward(row: u64) -> f64 {
    (row % 3) as f64 / 2.0 + (row % 7) as f64 / 10.0
}

/// Steps of the trainer: a batch, what it saw, the cursor for its checkpoint.
fn train(address: &str, steps: std::ops::RangeInclusive<u64>, name: &str) -> (Vec<Vec<u64>>, String) {
    let mut cursor = String::new();
    let one = |step| {
        let batch = until_done(address, "/v1/sessions/run/propose", &json!({"step": step}));
        let rows: Vec<u64> =
            batch["rows"].as_array().expect("rows").iter().map(|row| row["row"].as_u64().expect("a number")).collect();
        let rewards: Vec<f64> = rows.iter().map(|row| reward(*row)).collect();
        let done = until_done(
            address,
            "/v1/sessions/run/feedback",
            &json!({"step": step, "rows": rows, "signals": {name: rewards}}),
        );
        done["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        rows
    };
    let rows = steps.map(one).collect();
    (rows, cursor)
}

fn weights(address: &str) -> Value {
    let (status, state) = call(address, "GET", "/v1/sessions/run/state", &Value::Null).expect("the server answers");
    assert_eq!(status, 200, "{state}");
    state["groups"].as_array().expect("groups").iter().map(|group| group["weight"].clone()).collect()
}

/// What the method wants to hear.
fn wanted(address: &str) -> String {
    let info = call(address, "GET", "/v1/sessions/run", &Value::Null).expect("the server answers").1;
    info["needs"]["after"][0].as_str().unwrap_or("signal.reward").trim_start_matches("signal.").to_owned()
}

#[test]
fn a_killed_server_and_a_killed_trainer_end_with_the_rows_of_an_unbroken_run() {
    let (whole, broken) = (Story::new(), Story::new());
    let path = corpus(&whole);
    let server = serve(&whole, &["--allow", &path]);
    let made = until_done(&server.address, "/v1/sessions", &spec(&path));
    assert_eq!(made["id"], "run");
    until_done(&server.address, "/v1/sessions/run/propose", &json!({"step": 1}));
    let name = wanted(&server.address);
    let (rows, _) = train(&server.address, 1..=10, &name);
    let last = weights(&server.address);
    assert!(
        last.as_array().is_some_and(|all| all.len() == 3 && all.iter().any(|w| *w != all[0])),
        "weights moved: {last}"
    );

    let mut server = serve(&broken, &["--allow", &path]);
    until_done(&server.address, "/v1/sessions", &spec(&path));
    let (mut seen, cursor) = train(&server.address, 1..=4, &name);
    // The trainer's checkpoint is of step 4; it goes on to step 6 and dies, and so does the server.
    let (_, _) = train(&server.address, 5..=6, &name);
    server.child.kill().expect("the server can be killed");
    let server = serve(&broken, &["--allow", &path]);
    let again = until_done(&server.address, "/v1/sessions", &spec(&path));
    assert_eq!(again["id"], "run");
    let back = until_done(&server.address, "/v1/sessions/run/seek", &json!({"cursor": cursor}));
    assert_eq!(back["step"], 4);
    seen.extend(train(&server.address, 5..=10, &name).0);
    assert_eq!(seen, rows);
    assert_eq!(weights(&server.address), last);
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
    let server = serve(&story, &["--allow", &path]);
    let plan = json!({"seed": 5, "input": {"paths": [path]}, "select": {"budget": "10"}});
    let made = sent(&server.address, "/v1/jobs", &json!({"id": "one", "plan": plan}));
    assert_eq!(made.0, 201, "{}", made.1);
    let start = Instant::now();
    let done = loop {
        let info = call(&server.address, "GET", "/v1/jobs/one", &Value::Null).expect("the server answers").1;
        if !["queued", "running"].contains(&info["status"].as_str().unwrap_or_default()) {
            break info;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "never done: {info}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(done["status"], "done", "{done}");
    assert!(local["selection_digest"].is_string(), "{local}");
    assert_eq!(done["result"]["manifest"]["selection_digest"], local["selection_digest"]);
    let file = std::fs::read(format!("{}/jobs/one/picks.parquet", story.at("server"))).expect("the result lies there");
    assert_eq!(file, std::fs::read(picks).expect("the picks"));
    let outside = sent(
        &server.address,
        "/v1/jobs",
        &json!({"plan": {"input": {"paths": ["/etc/passwd"]}, "select": {"budget": "1"}}}),
    );
    assert_eq!((outside.0, outside.1["code"].as_str()), (403, Some("input/not-allowed")));
    let escape = sent(
        &server.address,
        "/v1/jobs",
        &json!({"plan": {"input": {"paths": [path]}, "select": {"budget": "1"}, "output": {"path": "../x.parquet"}}}),
    );
    assert!((400..500).contains(&escape.0), "{}", escape.1);
}
