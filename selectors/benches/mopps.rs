//! Seconds of `mopps` for a proposal and its feedback: `cargo bench -p curate-selectors --bench mopps -- [PYTHON]`. With a
//! Python that has numpy the same work is timed there in the same run, and the ratio printed.
#![allow(clippy::cast_precision_loss, clippy::print_stdout, reason = "a program that prints figures")]

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use curate_core::{Ctx, Feedback, OnlineSelector, Pool, find};
use curate_selectors::ONLINE;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

const TAKEN: usize = 256;
const TRIALS: f64 = 8.0;

fn numbers(values: Vec<f64>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

fn feedback(step: u64, rows: Vec<u64>) -> Feedback {
    let successes = rows.iter().map(|row| ((row ^ step) % 9) as f64).collect();
    let columns = [("signal.successes", numbers(successes)), ("signal.trials", numbers(vec![TRIALS; rows.len()]))];
    Feedback { step, signals: RecordBatch::try_from_iter(columns).expect("two columns"), rows }
}

/// Median seconds of a proposal with its feedback, all prompts heard of before.
fn ours(prompts: u64) -> f64 {
    let params = serde_json::from_str(r#"{"decay": 0.5}"#).expect("parameters");
    let mut mopps = find(ONLINE, "mopps", "method").and_then(|entry| entry.build(&params)).expect("mopps");
    let ctx = Ctx::new(1);
    mopps.observe(&feedback(0, (0..prompts).collect()), &ctx).expect("feedback");
    let rows = Arc::new((0..prompts).map(Some).collect::<UInt64Array>()) as ArrayRef;
    let pool = Pool::from_batch(RecordBatch::try_from_iter([("row", rows)]).expect("a column"));
    let mut step = |step| step_secs(mopps.as_mut(), &pool, step, &ctx);
    let mut secs: Vec<f64> = (1..=21).map(&mut step).collect();
    secs.sort_by(f64::total_cmp);
    secs[secs.len() / 2]
}

fn step_secs(mopps: &mut dyn OnlineSelector, pool: &Pool, step: u64, ctx: &Ctx) -> f64 {
    let begun = Instant::now();
    let chosen = mopps.propose(pool, TAKEN, ctx).expect("a proposal");
    mopps.observe(&feedback(step, chosen.rows()), ctx).expect("feedback");
    begun.elapsed().as_secs_f64()
}

fn numpys(python: &str, prompts: u64) -> Option<f64> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/mopps.py");
    let output = Command::new(python).args([script, &prompts.to_string(), &TAKEN.to_string()]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

fn main() {
    let python = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for prompts in [10_000, 1_000_000] {
        let ours = ours(prompts);
        let theirs = python.as_deref().and_then(|python| numpys(python, prompts));
        let beside = theirs
            .map_or_else(String::new, |secs| format!(", numpy {:.3} ms, {:.1} times ours", 1e3 * secs, secs / ours));
        println!("{prompts} prompts, {TAKEN} taken: {:.3} ms{beside}", 1e3 * ours);
    }
}
