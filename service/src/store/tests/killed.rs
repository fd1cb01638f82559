//! A process that is killed in the middle of a stream of appends has lost nothing it was told is stored, and left nothing half done.

use super::{Desk, Event, Kind, StoreOptions, open, with_session};
use serde_json::json;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// What event number `n` is like: with a body of any size, up to many pages.
fn nth(n: u64) -> Event {
    let kind = if n.is_multiple_of(11) { Kind::Seek } else { Kind::Propose };
    let body = (0..n * 37 % 30_000).map(|byte| (byte + n).to_le_bytes()[0]).collect();
    Event { kind, step: n, digest: format!("{n}"), head: json!({"n": n}), at: 0.5, body, rank: 0 }
}

/// What the other process does: append, then say so.
#[test]
#[ignore = "the process that is killed"]
fn child() {
    let mut place = String::new();
    if stdin().lock().read_line(&mut place).expect("a place") == 0 {
        return;
    }
    let store = open(place.trim(), &StoreOptions::default()).expect("a store");
    let mut n = store.last("s").expect("a number");
    loop {
        store.append("s", n, &nth(n + 1), &[(n + 1, json!({"point": n + 1}))]).expect("appended");
        n += 1;
        writeln!(stdout(), "stored {n}").expect("a reader");
    }
}

fn start(desk: &Desk) -> Child {
    let this = std::env::current_exe().expect("the test binary");
    let mut command = Command::new(this);
    command.args(["store::tests::killed::child", "--exact", "--ignored", "--nocapture"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a child");
    writeln!(child.stdin.as_mut().expect("its input"), "{}", desk.place).expect("told");
    child
}

/// Let the child work for a while, kill it, and tell the last number it was answered.
fn stream_and_kill(desk: &Desk, millis: u64) -> u64 {
    let mut child = start(desk);
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let (begun, hears) = channel();
    let listener = spawn(move || listen(output, &begun));
    hears.recv_timeout(Duration::from_mins(1)).expect("its first append");
    sleep(Duration::from_millis(millis));
    child.kill().expect("killed");
    child.wait().expect("ended");
    listener.join().expect("a number")
}

/// The last number that was said in a whole line.
fn listen(mut output: impl BufRead, begun: &Sender<()>) -> u64 {
    let (mut said, mut line) = (0, String::new());
    while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        if let Some(number) = line.strip_suffix('\n').and_then(|line| line.split("stored ").nth(1)) {
            said = number.parse().expect("a number");
            let _ = begun.send(());
        }
        line.clear();
    }
    said
}

pub(super) fn keeps_what_was_answered(desk: &Desk) {
    drop(with_session(desk));
    let mut before = 0;
    for millis in [0, 3, 40, 150, 400] {
        let said = stream_and_kill(desk, millis);
        // A server may still be busy with the last call of the one that died.
        sleep(Duration::from_millis(100));
        let store = desk.open();
        let last = store.last("s").unwrap();
        assert!(said > before && (said..=said + 1).contains(&last), "{said} were answered, {last} are there");
        let events = store.events("s", 0, usize::MAX).unwrap();
        assert_eq!(events.len() as u64, last);
        assert!((1..).zip(&events).all(|(n, event)| *event == (n, nth(n))), "an event is not as it was written");
        let points = store.points("s", 0, usize::MAX).unwrap();
        let whole = (1..=last).map(|n| (n, json!({"point": n})));
        assert!(points.into_iter().eq(whole), "an event and its point are written together");
        before = last;
    }
}
