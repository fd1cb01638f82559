//! Golden vectors of prompt selection end to end: `datasets/golden/mopps`, checked against the released code.

use super::golden_uds::numbers;
use super::stream::{Method, floats, method};
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{Float64Type, UInt64Type};
use curate_core::{Ctx, Feedback, Pool};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn golden(file: &str) -> Value {
    let path = format!("{}/../datasets/golden/mopps/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap()
}

/// The number in `p17`.
fn number(prompt: &str) -> u64 {
    prompt[1..].parse().unwrap()
}

fn prompts(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|p| number(p.as_str().unwrap())).collect()
}

fn positions(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|p| p.as_u64().unwrap() as usize).collect()
}

/// Candidates with the draws of the file, and offline outcomes where it has some.
fn pool(step: &Value, warm: &Value) -> Pool {
    let ids = prompts(&step["candidates"]);
    let outcomes = |id: &u64| warm.get(format!("p{id}")).map(numbers).unwrap_or_default();
    let columns: [(&str, ArrayRef); 4] = [
        ("row", Arc::new(UInt64Array::from(ids.clone()))),
        ("signal.draw", Arc::new(Float64Array::from(numbers(&step["posterior_samples"])))),
        ("signal.successes", floats(ids.iter().map(|id| outcomes(id).iter().sum::<f64>() as f32).collect())),
        ("signal.trials", floats(ids.iter().map(|id| outcomes(id).len() as f32).collect())),
    ];
    Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap())
}

fn feedback(number: usize, step: &Value) -> Feedback {
    let column = |name: &str| Arc::new(Float64Array::from(numbers(&step[name]))) as ArrayRef;
    let columns = [("signal.successes", column("successes")), ("signal.trials", column("trials"))];
    let signals = RecordBatch::try_from_iter(columns).unwrap();
    Feedback { step: number as u64, rows: prompts(&step["rolled_out"]), signals }
}

/// Posteriors in the state.
fn posteriors(run: &Method) -> BTreeMap<u64, [f64; 2]> {
    let state = run.state();
    let (_, table) = &state.tables[0];
    let numbers = |i: usize| table.column(i).as_primitive::<Float64Type>().values().clone();
    let rows = table.column(0).as_primitive::<UInt64Type>().values().clone();
    rows.iter().zip(numbers(1).iter().zip(numbers(2).iter())).map(|(&row, (&a, &b))| (row, [a, b])).collect()
}

fn check(file: &str) {
    let golden = golden(file);
    let (p, warm) = (&golden["params"], &golden["warm_start_outcomes"]);
    let strategy = if p["strategy"] == "topk" { "top-k" } else { "threshold" };
    let params = json!({"strategy": strategy, "target": p["target"], "lower": p["lower"], "upper": p["upper"],
        "decay": p["decay_lambda"], "prior_alpha": p["prior_alpha"], "prior_beta": p["prior_beta"],
        "warm_start": !warm.is_null()});
    let mut run = method("mopps", &params);
    let k = p["batch_size"].as_u64().unwrap() as usize;
    for (number, step) in golden["steps"].as_array().unwrap().iter().enumerate() {
        let chosen = run.propose(&pool(step, warm), k, &Ctx::new(4)).unwrap();
        check_choice(&chosen.rows(), step, &format!("{file}, step {number}"));
        run.observe(&feedback(number, step), &Ctx::new(4)).unwrap();
        let told = step["expected"]["posterior_after"].as_object().unwrap();
        let told: BTreeMap<u64, Vec<f64>> = told.iter().map(|(p, shape)| (self::number(p), numbers(shape))).collect();
        let got = posteriors(&run);
        assert_eq!(got.keys().collect::<Vec<_>>(), told.keys().collect::<Vec<_>>(), "{file}, step {number}");
        for (shape, told) in got.values().zip(told.values()) {
            assert!((0..2).all(|i| (shape[i] - told[i]).abs() <= 1e-12 * told[i]), "{file}: {shape:?} is not {told:?}");
        }
    }
}

fn check_choice(rows: &[u64], step: &Value, what: &str) {
    let (ids, expected) = (prompts(&step["candidates"]), &step["expected"]);
    if expected["selected_positions"].is_null() {
        let inside: BTreeSet<u64> = positions(&expected["in_range_positions"]).iter().map(|&p| ids[p]).collect();
        assert!(rows.iter().all(|row| inside.contains(row)), "{what}: any of those inside");
    } else {
        let told: Vec<u64> = positions(&expected["selected_positions"]).iter().map(|&p| ids[p]).collect();
        assert_eq!(rows, told, "{what}");
    }
}

#[test]
fn nearest_to_the_target_with_decay() {
    check("topk_decay_half");
}

#[test]
fn inside_an_interval_without_decay() {
    check("threshold_no_decay");
}

#[test]
fn outcomes_known_beforehand() {
    check("topk_warm_start");
}

/// Draws of 20 000 unseen prompts, whose posterior is the prior, against the quantiles of the file.
#[test]
fn draws_follow_the_beta_distribution() {
    let golden = golden("beta_sampler");
    for item in golden["items"].as_array().unwrap() {
        let mut run = method("mopps", &json!({"prior_alpha": item["alpha"], "prior_beta": item["beta"]}));
        let rows: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..20_000));
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("row", rows)]).unwrap());
        let draws = numbers(&run.propose(&pool, 20_000, &Ctx::new(8)).unwrap().report["draws"]);
        for (probability, quantile) in item["quantiles"].as_object().unwrap() {
            let told: f64 = probability.parse().unwrap();
            let below = draws.iter().filter(|&&g| g <= quantile.as_f64().unwrap()).count() as f64 / 20_000.0;
            assert!((below - told).abs() < 0.02, "{item}: {below} lie below the quantile of {told}");
        }
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        assert!((mean - item["mean"].as_f64().unwrap()).abs() < 0.01, "{item}: mean {mean}");
    }
}
