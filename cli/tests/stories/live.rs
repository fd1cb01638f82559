//! A server of a story's folder, and plain calls to it.

use crate::story::Story;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long any answer may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// Ask over a connection that serves this call alone: status and JSON, or text where it is none. `None` when nobody answers.
pub(crate) fn call(address: &str, line: &str, headers: &str, body: &str) -> Option<(u16, Value)> {
    let mut answer = BufReader::new(sent(address, line, headers, (body.len(), body))?);
    let mut first = String::new();
    answer.read_line(&mut first).ok()?;
    let status = first.split(' ').nth(1)?.parse().ok()?;
    let mut len = None;
    loop {
        let mut field = String::new();
        answer.read_line(&mut field).ok()?;
        if field.trim().is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("content-length") {
            len = value.trim().parse::<u64>().ok();
        }
    }
    let mut text = Vec::new();
    // chromedriver leaves a connection open that it was asked to close: its word on the length counts.
    answer.take(len.unwrap_or(u64::MAX)).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some((status, serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()))))
}

/// A call that is sent, with a body said to be so long.
pub(crate) fn sent(address: &str, line: &str, headers: &str, (len, body): (usize, &str)) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let kind = if len == 0 { "" } else { "Content-Type: application/json\r\n" };
    let head = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}{kind}Content-Length: {len}\r\n\r\n"
    );
    stream.write_all((head + body).as_bytes()).ok()?;
    Some(stream)
}

/// A server; killed when dropped.
pub(crate) struct Live {
    child: Child,
    pub(crate) address: String,
}

impl Live {
    /// Start one on a free port. Its log is the file `log` of the story.
    pub(crate) fn start(story: &Story, more: &[&str]) -> Self {
        Self::start_with(story, more, |_| ())
    }

    /// The same with something set first, such as a variable.
    pub(crate) fn start_with(story: &Story, more: &[&str], set: impl FnOnce(&mut Command)) -> Self {
        let (data, cache) = (story.at("data"), story.at("cache"));
        let mut args = vec!["serve", "--bind", "127.0.0.1:0", "--json", "--data", &data, "--cache", &cache];
        args.extend(more);
        let log = OpenOptions::new().create(true).append(true).open(story.at("log")).expect("a log");
        let mut command = story.command(&args);
        set(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("the server says where it is");
        let log = || std::fs::read_to_string(story.at("log")).unwrap_or_default();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the server did not start: {}", log()));
        let address = said["url"].as_str().and_then(|url| url.strip_prefix("http://")).expect("a URL");
        Self { child, address: address.trim_end_matches('/').to_owned() }
    }

    /// Status and body of the answer.
    #[track_caller]
    pub(crate) fn ask(&self, line: &str, headers: &str, body: &str) -> (u16, Value) {
        call(&self.address, line, headers, body).expect("the server answers")
    }

    /// The answer to what is read.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask(&format!("GET {path}"), "", "");
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Status and answer to what is sent.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(&format!("POST {path}"), "", &if body.is_null() { String::new() } else { body.to_string() })
    }

    /// The same call until it is answered: what every client does while a server starts again or a batch is not ready.
    #[track_caller]
    pub(crate) fn done(&self, path: &str, body: &Value) -> Value {
        let start = Instant::now();
        loop {
            let (status, answer) = self.post(path, body);
            match status {
                200..300 => return answer,
                425 | 503 => assert!(start.elapsed() < PATIENCE, "never ready: {answer}"),
                other => panic!("{path}: {other} {answer}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Rows of a step of the session `run`, and what the trainer says of each.
    #[track_caller]
    pub(crate) fn step(&self, step: u64, signal: &str, worth: impl Fn(&Value) -> f64) -> (Vec<u64>, Value) {
        let batch = self.done("/v1/sessions/run/propose", &json!({"step": step}));
        let rows = batch["rows"].as_array().expect("rows");
        let ids: Vec<u64> = rows.iter().map(|row| row["row"].as_u64().expect("a number")).collect();
        let values: Vec<f64> = rows.iter().map(worth).collect();
        let body = json!({"step": step, "rows": ids, "signals": {signal: values}});
        (ids, self.done("/v1/sessions/run/feedback", &body))
    }

    /// The same for several steps: the rows of each, and the cursor for the trainer's checkpoint.
    #[track_caller]
    pub(crate) fn train(
        &self,
        steps: RangeInclusive<u64>,
        signal: &str,
        worth: impl Fn(&Value) -> f64,
    ) -> (Vec<Vec<u64>>, String) {
        let mut cursor = String::new();
        let one = |step| {
            let (rows, done) = self.step(step, signal, &worth);
            done["cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
            rows
        };
        (steps.map(one).collect(), cursor)
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Exit code, and how long it took.
    pub(crate) fn ends(mut self) -> (Option<i32>, Duration) {
        let start = Instant::now();
        let status = self.child.wait().expect("the child ends");
        (status.code(), start.elapsed())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
