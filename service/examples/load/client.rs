//! The server as a child process, and calls to it.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use ureq::Agent;

/// Where the server is, and what it is started with.
#[derive(Clone)]
pub(crate) struct Place {
    /// The binary.
    pub(crate) binary: PathBuf,
    /// Its folder, and beside it what sessions read.
    pub(crate) folder: PathBuf,
    /// Port on loopback.
    pub(crate) port: u16,
    /// More arguments.
    pub(crate) more: Vec<String>,
}

impl Place {
    /// A place on a free port.
    pub(crate) fn new(binary: &Path, folder: &Path) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        Self { binary: binary.to_owned(), folder: folder.to_owned(), port: free.port(), more: Vec::new() }
    }

    /// Start the server and wait until it answers.
    pub(crate) fn start(&self) -> Child {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--rate", "0", "--log-level", "warn", "--bind"]).arg(format!("127.0.0.1:{}", self.port));
        command.arg("--data").arg(self.folder.join("server")).arg("--allow").arg(&self.folder).args(&self.more);
        command.arg("--cache").arg(self.folder.join("cache"));
        let mut child = command.current_dir(&self.folder).stdout(Stdio::null()).spawn().expect("the server starts");
        let (begun, caller) = (Instant::now(), Caller::new(self.port));
        while !caller.get("/health").is_ok_and(|answer| answer.status == 200) {
            assert!(child.try_wait().expect("a child").is_none(), "the server ended at once");
            assert!(begun.elapsed() < Duration::from_mins(1), "the server does not answer");
            sleep(Duration::from_millis(20));
        }
        child
    }

    /// Rows to choose from: `count` of them, as long as those of instruction sets.
    pub(crate) fn rows(&self, name: &str, count: usize) -> String {
        let path = self.folder.join(name);
        let mut file = std::io::BufWriter::new(std::fs::File::create(&path).expect("a file"));
        for i in 0..count {
            let topic = ["sums", "poems", "trees", "ships", "maps"][i % 5];
            let instruction = format!("Tell me about {topic}, in {} words, number {i}", 10 + i % 90);
            let output = format!("{topic} {i} ").repeat(3 + i % 30);
            writeln!(file, "{}", json!({"instruction": instruction, "output": output, "score": i % 7}))
                .expect("written");
        }
        file.flush().expect("written");
        path.display().to_string()
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is something else.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the call went well.
    pub(crate) const fn ok(&self) -> bool {
        self.status < 300
    }
}

/// Somebody who calls, on connections that are kept.
pub(crate) struct Caller {
    agent: Agent,
    base: String,
    port: u16,
}

impl Caller {
    /// Calls to a port on loopback.
    pub(crate) fn new(port: u16) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(90)));
        Self { agent: config.build().into(), base: format!("http://127.0.0.1:{port}"), port }
    }

    /// Look at something.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, ureq::Error> {
        finish(self.agent.get(format!("{}{path}", self.base)).call()?)
    }

    /// Send JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        self.send(path, "application/json", body.to_string().as_bytes())
    }

    /// Send bytes of a type.
    pub(crate) fn send(&self, path: &str, kind: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        finish(self.agent.post(format!("{}{path}", self.base)).header("content-type", kind).send(body)?)
    }

    /// Send JSON and die before the answer comes: after half of the request, or after all of it.
    pub(crate) fn post_and_die(&self, path: &str, body: &Value, half: bool) {
        let body = body.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        let whole = format!("{head}{body}");
        let part = if half { head.len() + body.len() / 2 } else { whole.len() };
        // Whatever becomes of it: the caller is dead.
        let _ = TcpStream::connect(("127.0.0.1", self.port))
            .and_then(|mut stream| stream.write_all(&whole.as_bytes()[..part]));
    }

    /// Make a session and wait until it is ready.
    pub(crate) fn session(&self, spec: &Value) -> Value {
        let made = self.post("/v1/sessions", spec).expect("an answer");
        assert!(made.ok(), "{}", String::from_utf8_lossy(&made.body));
        let id = made.json()["id"].as_str().expect("a name").to_owned();
        loop {
            let info = self.get(&format!("/v1/sessions/{id}")).expect("an answer").json();
            match info["status"].as_str() {
                Some("preparing") => sleep(Duration::from_millis(20)),
                Some("failed") => panic!("the session failed: {info}"),
                _ => return info,
            }
        }
    }

    /// A call that must go well.
    pub(crate) fn must(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body).expect("an answer");
        assert!(answer.ok(), "{path}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }
}

fn finish(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer, ureq::Error> {
    let body = response.body_mut().with_config().limit(256 << 20).read_to_vec()?;
    Ok(Answer { status: response.status().as_u16(), body })
}

/// Rows of a batch.
pub(crate) fn rows_of(batch: &Value) -> Vec<u64> {
    let rows = batch["rows"].as_array().into_iter().flatten();
    rows.filter_map(|row| row["row"].as_u64()).collect()
}

/// Memory of a process, bytes, and the most it ever had.
pub(crate) fn memory_of(process: u32) -> (u64, u64) {
    let status = std::fs::File::open(format!("/proc/{process}/status")).map(BufReader::new);
    let lines: Vec<String> = status.map(|file| file.lines().map_while(Result::ok).collect()).unwrap_or_default();
    let kib = |name: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().find_map(|word| word.parse::<u64>().ok())
    };
    (kib("VmRSS:").unwrap_or(0) << 10, kib("VmHWM:").unwrap_or(0) << 10)
}
