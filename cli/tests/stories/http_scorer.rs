//! Scores that a server gives: asked in batches, kept, and never believed blindly.

use crate::story::{Story, selected};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

const ROWS: usize = 10;

/// What the server does with a request.
enum Reply {
    /// Status, more headers, body.
    Answer(u16, &'static str, String),
    /// Nothing, for so long.
    Silence(Duration),
}

/// A server on this machine.
struct Server {
    url: String,
    /// Heads and bodies of the requests.
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    /// Serve with `reply(number of the request, its body)`.
    fn start(reply: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/score?metric=all", listener.local_addr().expect("an address"));
        let (asked, count) = (Arc::new(Mutex::new(Vec::new())), AtomicUsize::new(0));
        let (log, reply) = (Arc::clone(&asked), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, reply, number) = (Arc::clone(&log), Arc::clone(&reply), count.fetch_add(1, Ordering::SeqCst));
                std::thread::spawn(move || serve(stream, number, &log, reply.as_ref()));
            }
        });
        Self { url, asked }
    }

    fn rows_asked(&self) -> Vec<u64> {
        let asked = self.asked.lock().expect("the log");
        let mut rows: Vec<u64> = asked.iter().flat_map(|(_, body)| ids(body)).collect();
        rows.sort_unstable();
        rows
    }
}

fn ids(body: &Value) -> Vec<u64> {
    body["rows"].as_array().expect("rows").iter().map(|row| row["id"].as_u64().expect("an id")).collect()
}

fn serve(
    mut stream: TcpStream,
    number: usize,
    log: &Mutex<Vec<(String, Value)>>,
    reply: &dyn Fn(usize, &Value) -> Reply,
) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    let (head, body) = loop {
        let read = stream.read(&mut piece).unwrap_or(0);
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ").map(str::to_owned));
        if body.len() >= length.and_then(|l| l.parse().ok()).unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let body: Value = serde_json::from_str(&body).expect("a request is JSON");
    log.lock().expect("the log").push((head, body.clone()));
    match reply(number, &body) {
        Reply::Silence(time) => sleep(time),
        Reply::Answer(status, headers, text) => {
            let length = text.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n{text}"
            );
        }
    }
}

/// The truth of these tests: how long the response is.
fn lengths(body: &Value) -> Reply {
    let length = |row: &Value| json!(row["response"].as_str().expect("a response").chars().count());
    let scores: Vec<Value> = body["rows"].as_array().expect("rows").iter().map(length).collect();
    Reply::Answer(200, "", json!({ "scores": scores }).to_string())
}

fn input(story: &Story) -> String {
    let line = |i: usize| json!({"prompt": format!("Count to {i}"), "completion": "一".repeat(i)}).to_string();
    story.file("rows.jsonl", (0..ROWS).map(line).collect::<Vec<_>>().join("\n"))
}

fn scorer(server: &Server, more: &str) -> String {
    format!("http:name=reward,url={},batch_rows=3{more}", server.url)
}

/// The arguments of `curate score`.
fn args(story: &Story, input: &str, scorer: &str) -> Vec<String> {
    let out = story.at("out/scored.jsonl");
    std::fs::create_dir_all(story.at("out")).expect("a folder");
    ["score", input, "--score", scorer, "-o", &out, "--overwrite", "--cache", &story.at("cache")]
        .map(str::to_owned)
        .to_vec()
}

fn scores(story: &Story) -> Vec<f64> {
    let text = std::fs::read_to_string(story.at("out/scored.jsonl")).expect("an output");
    let row =
        |line: &str| serde_json::from_str::<Value>(line).expect("a row")["score.reward"].as_f64().expect("a score");
    text.lines().map(row).collect()
}

fn run(story: &Story, scorer: &str) -> crate::story::Said {
    let args = args(story, &input(story), scorer);
    story.curate(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn expected() -> Vec<f64> {
    (0..u8::try_from(ROWS).expect("few rows")).map(f64::from).collect()
}

#[test]
fn scores_become_a_column_and_are_asked_for_once() {
    let (story, server) = (Story::new(), Server::start(|_, body| lengths(body)));
    run(&story, &scorer(&server, "")).ok();
    assert_eq!(scores(&story), expected());
    let rows: Vec<u64> = (0..ROWS as u64).collect();
    assert_eq!(server.rows_asked(), rows);
    let longest = server.asked.lock().unwrap().iter().map(|(_, body)| ids(body).len()).max();
    assert_eq!(longest, Some(3));
    let first = server.asked.lock().unwrap().iter().map(|(_, body)| body["rows"][0].clone()).find(|row| row["id"] == 3);
    assert_eq!(first, Some(json!({"id": 3, "prompt": "Count to 3", "response": "一一一"})));
    run(&story, &scorer(&server, "")).ok();
    assert_eq!(server.rows_asked(), rows, "kept answers are asked for again");
    run(&story, &scorer(&server, ",version=2")).ok();
    assert_eq!(server.rows_asked().len(), 2 * ROWS, "another version is another model");
}

#[test]
fn a_score_of_a_server_is_a_name_like_any_other() {
    let (story, server) = (Story::new(), Server::start(|_, body| lengths(body)));
    let (input, out, scorer) = (input(&story), story.at("picks.jsonl"), scorer(&server, ""));
    let more = ["--method", "top-score", "--budget", "3", "--quality", "2*z(reward) - z(length)", "--score", &scorer];
    assert_eq!(selected(&story.select(&input, &out, &more)), 3);
    let rule = [
        "--method",
        "top-score",
        "--budget",
        "3",
        "--quality",
        "instructmining",
        "--score",
        "instructmining:rule=1-2*reward",
    ];
    let summary = story.select(&input, &out, &[&rule[..], &["--score", &scorer, "--overwrite"]].concat());
    assert_eq!(summary["plan"]["score"][1]["use"], "http");
    let text = std::fs::read_to_string(&out).expect("picks");
    assert!(text.lines().next().is_some_and(|line| line.contains("Count to 9")), "{text}");
    story.curate(&["verify", &out, "--cache", &story.at("cache")]).ok();
    let missing = story.try_select(&input, &out, &[&rule[..], &["--overwrite"]].concat());
    missing.refused("an indicator that nobody gives", &[2]);
    assert!(
        missing.stderr.contains("score.reward") && missing.stderr.contains("http:name=reward"),
        "{}",
        missing.stderr
    );
}

#[test]
fn a_token_goes_along_and_only_from_our_own_variables() {
    let (story, server) = (Story::new(), Server::start(|_, body| lengths(body)));
    let asking = |variable: &str| scorer(&server, &format!(",token_env={variable}"));
    run(&story, &asking("CURATE_REWARD")).refused("an unset variable", &[2]);
    run(&story, &asking("HOME")).refused("a foreign variable", &[2]);
    assert!(server.rows_asked().is_empty());
    let args = args(&story, &input(&story), &asking("CURATE_REWARD"));
    let mut command = story.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    crate::story::Said::of(command.env("CURATE_REWARD", "s3cret").output().expect("it starts")).ok();
    let heads = server.asked.lock().unwrap();
    assert!(heads.iter().all(|(head, _)| head.to_lowercase().contains("authorization: bearer s3cret")));
}

#[test]
fn a_busy_server_is_asked_again() {
    let story = Story::new();
    let server = Server::start(|number, body| match number {
        0 => Reply::Answer(429, "Retry-After: 0\r\n", String::new()),
        1 => Reply::Answer(503, "", "later".to_owned()),
        _ => lengths(body),
    });
    run(&story, &scorer(&server, ",concurrency=1")).ok();
    assert_eq!(scores(&story), expected());
}

#[test]
fn lies_are_refused_with_their_row() {
    let cases: [(&str, &'static str, &'static str, u16, i32, &str); 9] = [
        ("not a number", r#"{"scores": [1, NaN, 2]}"#, "", 200, 3, "row 0"),
        ("a string", r#"{"scores": [1, "high", 2]}"#, "", 200, 3, "row 1"),
        ("beyond f32", r#"{"scores": [1, 2, 1e200]}"#, "", 200, 3, "row 2"),
        ("fewer scores", r#"{"scores": [1, 2]}"#, "", 200, 3, "row 2"),
        ("more scores", r#"{"scores": [1, 2, 3, 4]}"#, "", 200, 3, "rows 0 to 2"),
        ("a page", "<html>welcome</html>", "", 200, 3, "rows 0 to 2"),
        ("a redirect", "", "Location: http://192.0.2.1/\r\n", 307, 5, "redirect"),
        ("no right", "", "", 403, 5, "token_env"),
        ("server error", "", "", 500, 5, "rows 0 to 2"),
    ];
    for (what, text, headers, status, code, words) in cases {
        let story = Story::new();
        let server = Server::start(move |_, _| Reply::Answer(status, headers, text.to_owned()));
        let said = run(&story, &scorer(&server, ",attempts=1,concurrency=1"));
        said.refused(what, &[code]);
        let error = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
        assert!(error.contains(words), "{what}: {error}");
        assert!(!error.contains("metric=all"), "{what}: the query of the URL is shown");
        assert!(story.names("out").is_empty(), "{what}: an output was left");
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let story = Story::new();
    let server = Server::start(|_, _| Reply::Answer(200, "", " ".repeat(3_000_000)));
    let said = run(&story, &scorer(&server, ",concurrency=1"));
    said.refused("a huge answer", &[3]);
    assert!(said.stderr.contains("answer_bytes"), "{}", said.stderr);
}

#[test]
fn silence_ends_after_the_time_given() {
    let story = Story::new();
    let server = Server::start(|_, _| Reply::Silence(Duration::from_secs(30)));
    let started = Instant::now();
    run(&story, &scorer(&server, ",timeout_secs=1,attempts=2")).refused("a silent server", &[5]);
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert!(story.names("out").is_empty());
}

/// A server that answers two batches and then falls silent.
fn tiring() -> Server {
    Server::start(|number, body| if number < 2 { lengths(body) } else { Reply::Silence(Duration::from_secs(20)) })
}

fn start(story: &Story, server: &Server) -> std::process::Child {
    let args = args(story, &input(story), &scorer(server, ",concurrency=1"));
    let mut command = story.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.asked.lock().unwrap().len() < 3 && Instant::now() < deadline {
        sleep(Duration::from_millis(10));
    }
    child
}

#[test]
fn finished_batches_are_kept_through_a_kill() {
    let story = Story::new();
    let tired = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let flag = Arc::clone(&tired);
    let server = Server::start(move |number, body| {
        let sleepy = number >= 2 && flag.load(Ordering::SeqCst);
        if sleepy { Reply::Silence(Duration::from_secs(20)) } else { lengths(body) }
    });
    let mut child = start(&story, &server);
    child.kill().expect("the child can be killed");
    child.wait().expect("the child ends");
    assert!(story.names("out").is_empty(), "a killed run left an output");
    tired.store(false, Ordering::SeqCst);
    server.asked.lock().unwrap().clear();
    run(&story, &scorer(&server, "")).ok();
    assert_eq!(server.rows_asked(), [6, 7, 8, 9], "finished batches are asked for again");
    assert_eq!(scores(&story), expected());
}

#[cfg(unix)]
#[test]
fn an_interrupt_does_not_wait_for_the_server() {
    let (story, server) = (Story::new(), tiring());
    let mut child = start(&story, &server);
    let started = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there").success());
    assert_eq!(child.wait().expect("the child ends").code(), Some(130));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
