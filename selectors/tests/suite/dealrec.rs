//! `DEALRec`'s choice: golden vectors of `datasets/golden/dealrec`, and inputs without a spread.

use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use curate_core::{Budget, Ctx, Pool, Selection, find};
use curate_selectors::SELECTORS;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn cases() -> Vec<Value> {
    let path = format!("{}/../datasets/golden/dealrec/selection.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn whole(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

fn choose(influence: Vec<f32>, effort: Vec<f32>, params: &Value, n: usize) -> Selection {
    let column = |values: Vec<f32>| Arc::new(Float32Array::from(values)) as ArrayRef;
    let columns = [("score.influence", column(influence)), ("score.effort", column(effort))];
    let pool = Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap());
    let method = find(SELECTORS, "dealrec", "method").unwrap().build(params.as_object().unwrap()).unwrap();
    method.select(&pool, Budget::Rows(n), &Ctx::new(5)).unwrap()
}

#[test]
fn strata_and_their_shares_are_golden() {
    for case in cases() {
        let name = case["name"].as_str().unwrap();
        let params = json!({"lambda": case["lam"], "strata": case["k"], "prune": case["hard_prune"]});
        let n = case["n"].as_u64().unwrap() as usize;
        let chosen = choose(floats(&case["influence"]), floats(&case["effort"]), &params, n);
        let told = chosen.assessment.as_ref().unwrap();
        for (score, expected) in told.score.iter().zip(floats(&case["overall"])) {
            assert!((score - expected).abs() < 1e-6, "{name}: {score} is not {expected}");
        }
        let mut strata = BTreeMap::<u64, BTreeSet<u64>>::new();
        for (row, group) in told.row.iter().zip(&told.group) {
            strata.entry(u64::from(*group)).or_default().insert(*row);
        }
        let pruned = strata.remove(&case["k"].as_u64().unwrap()).unwrap_or_default();
        assert_eq!(pruned, whole(&case["pruned"]).into_iter().collect(), "{name}: pruned");
        for (stratum, members) in case["groups"].as_array().unwrap().iter().enumerate() {
            let found = strata.remove(&(stratum as u64)).unwrap_or_default();
            assert_eq!(found, whole(members).into_iter().collect(), "{name}: stratum {stratum}");
        }
        for budget in case["budgets"].as_array().unwrap() {
            let [stratum, size, picked] = whole(budget)[..] else { panic!("{name}: {budget}") };
            let group = chosen.groups.iter().find(|g| u64::from(g.id) == stratum).unwrap();
            assert_eq!((group.size_rows, group.picked_rows), (size, picked), "{name}: stratum {stratum}");
        }
        assert_eq!(chosen.picks.len(), n, "{name}");
    }
}

#[test]
fn scores_without_a_spread_are_one_stratum() {
    for (influence, effort) in [(vec![2.0; 9], vec![0.0; 9]), (vec![0.0; 9], vec![5.0; 9])] {
        let chosen = choose(influence, effort, &json!({}), 4);
        assert_eq!(chosen.groups.iter().map(|g| g.size_rows).collect::<Vec<_>>(), [9]);
        assert_eq!(chosen.picks.len(), 4);
    }
    assert_eq!(choose(vec![1.0], vec![1.0], &json!({"prune": 1.0}), 1).rows(), [0], "the budget goes before pruning");
}
