//! Mixed load while the server is killed again and again, and clients die in the middle of their calls. An oracle remembers every
//! answer, and holds the server to it.

use super::client::{Caller, Place};
use super::clients::{client, jobs};
use super::oracle::{Kind, Oracle};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Calls that were answered well.
    pub(crate) answered: u64,
    /// Answers that were asked for again and were the same.
    pub(crate) repeated: u64,
    /// Times the server was killed.
    pub(crate) kills: u64,
    /// Calls whose caller died before the answer.
    pub(crate) deaths: u64,
    /// Errors that say "again later", by code; `connection` when there was no answer.
    pub(crate) retriable: BTreeMap<String, u64>,
    /// All that must not happen.
    pub(crate) wrong: Vec<String>,
}

/// A plain generator of numbers: the same load for the same seed.
pub(crate) struct Dice(u64);

impl Dice {
    /// Begin at a seed.
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `sides`.
    pub(crate) const fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }
}

/// What all clients share.
pub(crate) struct Storm<'a> {
    /// The server's place.
    pub(crate) place: &'a Place,
    ends: Instant,
    report: Mutex<Report>,
    over: AtomicBool,
    starts: AtomicU64,
}

impl Storm<'_> {
    /// Whether clients should come to an end.
    pub(crate) fn ending(&self) -> bool {
        Instant::now() > self.ends || self.over.load(Ordering::Relaxed)
    }

    /// How often the server was started.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Note something.
    pub(crate) fn note(&self, what: impl FnOnce(&mut Report)) {
        what(&mut self.report.lock().expect("no client panics while noting"));
    }

    /// Note that something is wrong, and end the storm.
    pub(crate) fn wrong(&self, what: String) {
        self.over.store(true, Ordering::Relaxed);
        self.note(|report| report.wrong.push(what));
    }

    /// Send a call until it is answered; nothing when the answer is an error that may not be. `refusal` is a code that is looked for.
    pub(crate) fn insist(&self, path: &str, body: &Value, refusal: Option<&str>) -> Option<Value> {
        let mut caller = Caller::new(self.place.port);
        let begun = Instant::now();
        loop {
            let Ok(answer) = caller.post(path, body) else {
                self.again("connection", path, begun)?;
                caller = Caller::new(self.place.port);
                continue;
            };
            let said = answer.json();
            let code = said["code"].as_str().unwrap_or_default();
            match refusal {
                Some(wanted) if code == wanted => return Some(said),
                None if answer.ok() => {
                    self.note(|report| report.answered += 1);
                    return Some(said);
                }
                _ if said["retriable"] == json!(true) => self.again(code, &format!("{path} {body}: {said}"), begun)?,
                _ => {
                    self.wrong(format!("{path} {body}: {} {said}", answer.status));
                    return None;
                }
            }
        }
    }

    /// Wait before the same call is sent again, unless it was sent for too long.
    fn again(&self, code: &str, call: &str, begun: Instant) -> Option<()> {
        self.note(|report| *report.retriable.entry(code.to_owned()).or_default() += 1);
        if begun.elapsed() > Duration::from_mins(1) {
            self.wrong(format!("no answer for a minute: {code} {call}"));
            return None;
        }
        sleep(Duration::from_millis(25));
        Some(())
    }

    /// Look at something until it is answered.
    pub(crate) fn look(&self, path: &str) -> Option<Vec<u8>> {
        let begun = Instant::now();
        loop {
            let answer = Caller::new(self.place.port).get(path);
            let code = match answer {
                Ok(answer) if answer.ok() => return Some(answer.body),
                Ok(answer) if answer.json()["retriable"] == json!(true) => {
                    answer.json()["code"].as_str().unwrap_or_default().to_owned()
                }
                Ok(answer) => {
                    self.wrong(format!("GET {path}: {} {}", answer.status, String::from_utf8_lossy(&answer.body)));
                    return None;
                }
                Err(_) => "connection".to_owned(),
            };
            self.again(&code, path, begun)?;
        }
    }
}

/// Load the server for so many seconds with clients of every kind.
pub(crate) fn run(place: &Place, secs: u64, seed: u64) -> Report {
    let rows = place.rows("rows.jsonl", 2000);
    let ends = Instant::now() + Duration::from_secs(secs);
    let storm =
        Storm { place, ends, report: Mutex::default(), over: AtomicBool::new(false), starts: AtomicU64::new(0) };
    let kinds = [Kind::Stream, Kind::Mopps { lag: 0 }, Kind::Mopps { lag: 2 }, Kind::Uds, Kind::Refine, Kind::Ranks];
    scope(|scope| {
        let keeper = scope.spawn(|| reap(&storm, seed));
        let clients: Vec<_> = (0..)
            .zip(kinds)
            .map(|(i, kind)| {
                let (storm, rows) = (&storm, &rows);
                scope.spawn(move || client(storm, &Oracle::new(kind, i, rows), seed + i))
            })
            .collect();
        let jobs = scope.spawn(|| jobs(&storm, &rows));
        for client in clients {
            if client.join().is_err() {
                storm.wrong("a client panicked".to_owned());
            }
        }
        if jobs.join().is_err() {
            storm.wrong("the client of jobs panicked".to_owned());
        }
        storm.over.store(true, Ordering::Relaxed);
        let mut last = keeper.join().expect("the server starts");
        let _ = last.kill();
        let _ = last.wait();
    });
    storm.report.into_inner().expect("nobody notes any more")
}

/// Start the server, and kill it at odd times until the storm ends; clients check their sessions while the last one runs.
fn reap(storm: &Storm<'_>, seed: u64) -> Child {
    let mut dice = Dice::new(seed);
    let mut server = storm.place.start();
    loop {
        storm.starts.fetch_add(1, Ordering::Relaxed);
        // Some lives are long enough for the slowest session to be read again on a busy machine.
        let more = if dice.below(6) == 0 { 10_000 } else { 0 };
        let until = Instant::now() + Duration::from_millis(200 + dice.below(2800) + more);
        while Instant::now() < until {
            if storm.ending() {
                // The last server stays until everybody has checked.
                while !storm.over.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(20));
                }
                return server;
            }
            sleep(Duration::from_millis(5));
        }
        server.kill().expect("killed");
        server.wait().expect("ended");
        storm.note(|report| report.kills += 1);
        server = storm.place.start();
    }
}
