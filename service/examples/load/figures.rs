//! Figures of the service on loopback: times of calls, memory, and what a training loop loses.

use crate::client::{Caller, Place, memory_of, rows_of};
use arrow::array::{Array, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// Times of many calls.
struct Times(Vec<Duration>);

impl Times {
    fn line(mut self) -> String {
        self.0.sort_unstable();
        let at = |permille: usize| self.0[(self.0.len() * permille / 1000).min(self.0.len() - 1)].as_secs_f64() * 1e3;
        format!(
            "{} calls: p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
            self.0.len(),
            at(500),
            at(900),
            at(990),
            at(1000)
        )
    }
}

/// Batches of 64 rows of a prefetched session, 100 a second. A call's time begins when it was due, not when it could be sent.
pub(crate) fn batch(place: &Place, secs: u64) {
    let caller = Caller::new(place.port);
    let input = place.rows("batch.jsonl", 20_000);
    let plan = json!({"input": {"paths": [input]}, "select": {"use": "random", "budget": "20000"}});
    caller.session(&json!({"id": "batch", "batch": 64, "plan": plan}));
    let (begun, mut times) = (Instant::now(), Vec::new());
    let mut bytes = 0;
    for step in 1..=secs * 100 {
        let due = begun + Duration::from_millis(10 * step);
        sleep(due.saturating_duration_since(Instant::now()));
        let answer = caller.post("/v1/sessions/batch/propose", &json!({"step": step})).expect("an answer");
        times.push(due.elapsed());
        assert!(answer.ok());
        bytes += answer.body.len();
    }
    let mean = bytes / times.len();
    println!("batch of 64 rows, 100 a second (JSON, {mean} bytes each): {}", Times(times).line());
}

const CANDIDATES: u64 = 8;
const SKETCH: i32 = 1024;

/// Candidates of a step with norm and sketch, as an Arrow stream.
fn brought(step: u64) -> Vec<u8> {
    let rows: Vec<u64> = (0..CANDIDATES).map(|i| step * CANDIDATES + i).collect();
    let noise = |i: u64| ((i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32) / 16_777_216.0;
    let norms: Float32Array = rows.iter().map(|row| 10.0 + noise(*row)).collect::<Vec<f32>>().into();
    let values = rows.iter().flat_map(|row| (0..SKETCH as u64).map(move |i| noise(row * 7919 + i)));
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let values = Arc::new(Float32Array::from(values.collect::<Vec<f32>>()));
    let sketch = FixedSizeListArray::try_new(item, SKETCH, values, None).expect("a list");
    let fields = vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("signal.nuclear_norm", DataType::Float32, false),
        Field::new("signal.sketch", sketch.data_type().clone(), false),
    ];
    let schema = Arc::new(Schema::new(fields));
    let columns: Vec<arrow::array::ArrayRef> =
        vec![Arc::new(UInt64Array::from(rows)), Arc::new(norms), Arc::new(sketch)];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("a batch");
    let mut writer = StreamWriter::try_new(Vec::new(), &schema).expect("a stream");
    writer.write(&batch).expect("written");
    writer.into_inner().expect("whole")
}

/// UDS chooses one of 8 candidates with sketches of 1024 numbers that travel with the call.
pub(crate) fn uds(place: &Place, steps: u64) {
    let caller = Caller::new(place.port);
    caller.session(&json!({"id": "uds", "batch": 1, "render": "rows", "plan": {"online": {"use": "uds"}}}));
    let mut times = Vec::new();
    let mut bytes = 0;
    for step in 1..=steps {
        let body = brought(step);
        bytes = body.len();
        let begun = Instant::now();
        let path = format!("/v1/sessions/uds/propose?step={step}");
        let answer = caller.send(&path, "application/vnd.apache.arrow.stream", &body).expect("an answer");
        times.push(begun.elapsed());
        assert!(answer.ok(), "{}", String::from_utf8_lossy(&answer.body));
        assert_eq!(rows_of(&answer.json()).len(), 1);
    }
    println!("UDS propose, 8 candidates, sketches of {SKETCH} numbers (Arrow, {bytes} bytes): {}", Times(times).line());
}

/// `MoPPS` chooses 256 of a million prompts; then its rollouts are told.
pub(crate) fn mopps(place: &Place, prompts: usize, steps: u64) {
    let caller = Caller::new(place.port);
    let input = place.rows("prompts.jsonl", prompts);
    let begun = Instant::now();
    let plan = json!({"input": {"paths": [input]}, "online": {"use": "mopps"}});
    caller.session(&json!({"id": "mopps", "batch": 256, "render": "rows", "plan": plan}));
    let ready = begun.elapsed().as_secs_f64();
    let (mut straight, mut later, mut feeds) = (Vec::new(), Vec::new(), Vec::new());
    for step in 1..=steps {
        let begun = Instant::now();
        let batch = caller.must("/v1/sessions/mopps/propose", &json!({"step": step}));
        let times = if step % 2 == 0 { &mut later } else { &mut straight };
        times.push(begun.elapsed());
        let rows = rows_of(&batch);
        assert_eq!(rows.len(), 256);
        let successes: Vec<u64> = rows.iter().map(|row| row.wrapping_mul(31).wrapping_add(step) % 9).collect();
        let signals = json!({"successes": successes, "trials": vec![8; rows.len()]});
        let begun = Instant::now();
        caller.must("/v1/sessions/mopps/feedback", &json!({"step": step, "rows": rows, "signals": signals}));
        feeds.push(begun.elapsed());
        // Before every second step the trainer computes for a while.
        sleep(Duration::from_millis(if step % 2 == 1 { 200 } else { 0 }));
    }
    println!("MoPPS over {prompts} prompts (ready after {ready:.1} s), 256 a step:");
    println!("  propose straight after the feedback: {}", Times(straight).line());
    println!("  propose 200 ms after the feedback:   {}", Times(later).line());
    println!("  feedback:                            {}", Times(feeds).line());
}

/// Many sessions at the same time: the server's memory.
pub(crate) fn sessions(place: &Place, server: u32, count: usize) {
    let input = place.rows("shared.jsonl", 50_000);
    let caller = Caller::new(place.port);
    let before = memory_of(server).0;
    for i in 0..count {
        caller.must("/v1/sessions", &spec(i, &input));
    }
    let begun = Instant::now();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let calls: usize = scope(|scope| {
        let work = || {
            let caller = Caller::new(place.port);
            let mut calls = 0;
            loop {
                let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if i >= count * 10 {
                    return calls;
                }
                walk(&caller, i % count, i / count, &spec(i % count, &input));
                calls += 2;
            }
        };
        let all: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        all.into_iter().map(|one| one.join().expect("a count")).sum()
    });
    let (rss, most) = memory_of(server);
    let rate = calls as f64 / begun.elapsed().as_secs_f64();
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{count} sessions over 50000 rows, 10 rounds: {rate:.0} calls a second; server {} MiB before, {} MiB after, {} MiB at most",
        mib(before),
        mib(rss),
        mib(most)
    );
}

fn spec(i: usize, input: &str) -> Value {
    let input = json!({"paths": [input]});
    let plan = match i % 4 {
        0 => json!({"seed": i, "input": input, "select": {"use": "random", "budget": "5000"}}),
        1 => json!({"seed": i, "input": input, "online": {"use": "mopps"}}),
        2 => json!({"seed": i, "online": {"use": "uds"}}),
        _ => json!({"seed": i, "input": input, "online": {"use": "random-k"}}),
    };
    json!({"id": format!("many-{i}"), "batch": if i % 4 == 2 { 1 } else { 16 }, "plan": plan})
}

/// One step of session `i`, if nobody else takes it at the same time.
fn walk(caller: &Caller, i: usize, round: usize, spec: &Value) {
    let path = format!("/v1/sessions/many-{i}");
    let step = round as u64 + 1;
    let answer = if i % 4 == 2 {
        let kind = "application/vnd.apache.arrow.stream";
        caller.send(&format!("{path}/propose?step={step}"), kind, &brought(step)).expect("an answer")
    } else {
        caller.post(&format!("{path}/propose"), &json!({"step": step, "wait_s": 60})).expect("an answer")
    };
    assert!(answer.ok(), "{spec}: {}", String::from_utf8_lossy(&answer.body));
    let rows = rows_of(&answer.json());
    let signals = match i % 4 {
        1 => json!({"successes": vec![3; rows.len()], "trials": vec![8; rows.len()]}),
        _ => json!({"loss": vec![1.5; rows.len()]}),
    };
    caller.must(&format!("{path}/feedback"), &json!({"step": step, "rows": rows, "signals": signals}));
}

/// What a training loop keeps of its speed when its rows come over HTTP, fetched one step ahead by a thread, and losses go back.
pub(crate) fn training(place: &Place, steps: u64) {
    let input = place.rows("train.jsonl", 20_000);
    for (kind, millis) in [("waits for a device", 50), ("waits for a device", 20), ("computes itself", 50)] {
        let busy = kind == "computes itself";
        let local = from_file(&input, steps, millis, busy);
        let served = over_http(place, &input, steps, (millis, busy));
        let share = 100.0 * local.as_secs_f64() / served.as_secs_f64();
        let rate = |time: Duration| steps as f64 / time.as_secs_f64();
        println!(
            "training loop of {millis} ms a step that {kind}: {:.2} steps/s from a file, {:.2} over HTTP: {share:.1} %",
            rate(local),
            rate(served)
        );
    }
}

/// A step of training: on a device, or on this processor.
fn learn(millis: u64, busy: bool) {
    let begun = Instant::now();
    if !busy {
        return sleep(Duration::from_millis(millis));
    }
    while begun.elapsed() < Duration::from_millis(millis) {
        std::hint::spin_loop();
    }
}

fn from_file(path: &str, steps: u64, millis: u64, busy: bool) -> Duration {
    let mut lines = BufReader::new(File::open(path).expect("a file")).lines();
    let begun = Instant::now();
    let (sender, receiver) = sync_channel(1);
    scope(|scope| {
        scope.spawn(move || {
            for _ in 0..steps {
                let rows: Vec<Value> = lines
                    .by_ref()
                    .take(64)
                    .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
                    .collect();
                sender.send(rows).expect("a reader");
            }
        });
        for _ in 0..steps {
            assert_eq!(receiver.recv().expect("rows").len(), 64);
            learn(millis, busy);
        }
    });
    begun.elapsed()
}

fn over_http(place: &Place, input: &str, steps: u64, (millis, busy): (u64, bool)) -> Duration {
    let caller = Caller::new(place.port);
    let plan = json!({"input": {"paths": [input]}, "select": {"use": "random", "budget": "20000"}});
    let id = format!("train-{millis}-{busy}");
    caller.session(&json!({"id": id, "batch": 64, "plan": plan}));
    let begun = Instant::now();
    let (sender, receiver) = sync_channel(1);
    let (told, tell) = sync_channel::<(u64, Vec<u64>)>(4);
    scope(|scope| {
        scope.spawn(|| {
            let (sender, caller) = (sender, Caller::new(place.port));
            for step in 1..=steps {
                sender
                    .send(caller.must(&format!("/v1/sessions/{id}/propose"), &json!({"step": step})))
                    .expect("a reader");
            }
        });
        scope.spawn(|| {
            let (tell, caller) = (tell, Caller::new(place.port));
            for (step, rows) in tell {
                let body = json!({"step": step, "rows": rows, "signals": {"loss": vec![1.5; rows.len()]}});
                caller.must(&format!("/v1/sessions/{id}/feedback"), &body);
            }
        });
        for step in 1..=steps {
            let rows = rows_of(&receiver.recv().expect("rows"));
            assert_eq!(rows.len(), 64);
            learn(millis, busy);
            told.send((step, rows)).expect("a reader");
        }
        drop(told);
    });
    begun.elapsed()
}
