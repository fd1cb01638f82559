//! Golden vectors of iterative refinement end to end: `datasets/golden/kmq/refinement.json`.

use super::golden_uds::numbers;
use super::stream::method;
use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt32Array};
use curate_core::{Ctx, Feedback, Pool, Selection};
use curate_selectors::online::share_of_round;
use serde_json::{Value, json};
use std::sync::Arc;

fn whole(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

fn float_column(values: Vec<f64>) -> ArrayRef {
    Arc::new(Float64Array::from(values))
}

/// The rows cluster after cluster, as the file lists them.
fn by_cluster(chosen: &Selection) -> Vec<u64> {
    let mut picks: Vec<(Option<u32>, u64)> = chosen.picks.iter().map(|p| (p.group, p.row)).collect();
    picks.sort_by_key(|pick| pick.0);
    picks.into_iter().map(|pick| pick.1).collect()
}

fn assert_close(got: &[f64], told: &[f64], what: &str) {
    assert_eq!(got.len(), told.len(), "{what}");
    assert!(
        got.iter().zip(told).all(|(g, t)| (g - t).abs() <= 1e-9 * t.abs() + 1e-12),
        "{what}: {got:?} is not {told:?}"
    );
}

fn check(case: &Value) {
    let (input, name) = (&case["input"], case["name"].as_str().unwrap());
    let draw = if input["within_cluster"] == "uniform" { "random" } else { "softmax" };
    let params =
        json!({"clusters": "column", "mode": input["mode"], "feedback": "reward", "draw": draw, "shrinkage": 0.0});
    let mut run = method("kmeans-refine", &params);
    let clusters: ArrayRef =
        Arc::new(whole(&input["cluster"]).iter().map(|&c| Some(c as u32)).collect::<UInt32Array>());
    let gold = numbers(&input["reward_gold"]);
    let (budget, rounds) = (input["budget"].as_u64().unwrap() as usize, input["iterations"].as_u64().unwrap() as usize);
    let mut drawn: Vec<u64> = Vec::new();
    for (round, told) in case["expected"]["steps"].as_array().unwrap().iter().enumerate() {
        let columns = [
            ("cluster", clusters.clone()),
            ("score.quality", float_column(numbers(&input["quality"]))),
            ("signal.draw", float_column(numbers(&input["uniforms"][round]))),
        ];
        let pool = Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap());
        let k = share_of_round(budget, rounds, round + 1);
        assert_eq!(k as u64, told["budget"].as_u64().unwrap(), "{name}");
        let chosen = run.propose(&pool, k, &Ctx::new(1)).unwrap();
        assert_eq!(by_cluster(&chosen), whole(&told["selected"]), "{name}: round {round}");
        assert_close(&numbers(&chosen.report["weights"]), &numbers(&told["weights_used"]), name);
        drawn.extend(chosen.rows());
        let generated = numbers(&input["reward_generated"][round]);
        let reward = drawn.iter().map(|&row| gold[row as usize] - generated[row as usize]).collect();
        let signals = RecordBatch::try_from_iter([("signal.reward", float_column(reward))]).unwrap();
        run.observe(&Feedback { step: round as u64, rows: drawn.clone(), signals }, &Ctx::new(1)).unwrap();
        assert_close(&next_weights(&run.state()), &numbers(&told["weights_next"]), name);
    }
}

fn next_weights(state: &curate_core::State) -> Vec<f64> {
    use arrow::array::AsArray;
    let (_, table) = state.tables.iter().find(|(name, _)| name == "clusters").unwrap();
    let next = table.column_by_name("next").unwrap().as_primitive::<arrow::datatypes::Float64Type>();
    next.values().to_vec()
}

#[test]
fn rounds_of_every_mode() {
    let path = format!("{}/../datasets/golden/kmq/refinement.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file["cases"].as_array().unwrap().iter().for_each(check);
}
