//! Methods with a target: golden vectors of `datasets/golden/gotd` and `datasets/golden/goracs`, planted truth, and what a
//! target must be.

use super::pools::{self, Row, chunked, rows, shuffled};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field};
use curate_core::{Budget, Ctx, Pool, Selection, find};
use curate_selectors::SELECTORS;
use curate_selectors::gotd::calibrated;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../datasets/golden/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn whole(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

/// A pool of the given vectors and further columns.
fn cloud(points: &Value, more: Vec<(&str, ArrayRef)>) -> Pool {
    let points: Vec<Vec<f64>> = points.as_array().unwrap().iter().map(floats).collect();
    let dim = points[0].len();
    let values: Vec<f32> = points.iter().flatten().map(|&v| v as f32).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let list = FixedSizeListArray::new(item, dim as i32, Arc::new(Float32Array::from(values)), None);
    let columns = std::iter::once(("embedding", Arc::new(list) as ArrayRef)).chain(more);
    Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap())
}

fn choose(name: &str, params: &Value, pool: &Pool, target: Pool, n: usize) -> Selection {
    let params = params.as_object().unwrap();
    let method = find(SELECTORS, name, "method").unwrap().build(params).unwrap();
    method.select(pool, Budget::Rows(n), &Ctx::new(17).with_target(target)).unwrap()
}

fn set(rows: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    rows.into_iter().collect()
}

#[test]
fn calibrated_potentials_and_choices_are_golden() {
    for case in cases("gotd/small").into_iter().chain(cases("gotd/clusters")) {
        let name = case["name"].as_str().unwrap();
        let (pool, target) = (cloud(&case["candidates"], vec![]), cloud(&case["target"], vec![]));
        let distance = if case["cost_kind"] == "euclidean" { "euclidean" } else { "sq-euclidean" };
        for (solver, told) in [("entropic", &case["calibrated"]), ("exact", &case["exact"]["calibrated"])] {
            let (told, n) = (floats(told), pool.rows());
            let params = json!({"epsilon": case["eps"], "distance": distance, "solver": solver, "tolerance": 1e-9});
            let all = choose("gotd", &params, &pool, target.clone(), n);
            let scores = all.assessment.unwrap().score;
            for (score, expected) in scores.iter().zip(&told) {
                assert!((f64::from(-score) - expected).abs() <= 4e-6 * (1.0 + expected.abs()), "{name} {solver}");
            }
            if solver == "entropic" {
                let order: Vec<u64> = all.picks.iter().map(|p| p.row).collect();
                assert_eq!(order, whole(&case["ranking"]), "{name}: gaps are far above rounding");
                for (budget, chosen) in case["selected"].as_object().unwrap() {
                    let found = choose("gotd", &params, &pool, target.clone(), budget.parse().unwrap());
                    assert_eq!(set(found.rows()), set(whole(chosen)), "{name}: {budget}");
                }
            }
        }
        let (g, told) = (floats(&case["g"]), floats(&case["calibrated"]));
        assert!(calibrated(&g).iter().zip(&told).all(|(c, t)| (c - t).abs() < 1e-9), "{name}");
    }
}

fn goracs(case: &Value, more: &Value) -> Selection {
    let grads = Float32Array::from(floats(&case["grads"]).iter().map(|&g| g as f32).collect::<Vec<_>>());
    let pool = cloud(&case["train"], vec![("signal.grad_norm", Arc::new(grads) as ArrayRef)]);
    let mut params = json!({"lambda": case["lam"], "exchanges": case["max_iters"], "candidates": case["cut_num"]});
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    choose("goracs", &params, &pool, cloud(&case["valid"], vec![]), case["n"].as_u64().unwrap() as usize)
}

fn objective(selection: &Selection, part: usize) -> f64 {
    selection.report["parts"][part]["objective"].as_f64().unwrap()
}

#[test]
fn exchanges_reach_the_golden_objectives() {
    for case in cases("goracs/tiny_exhaustive").into_iter().chain(cases("goracs/medium")) {
        let name = case["name"].as_str().unwrap();
        let start = goracs(&case, &json!({"exchanges": 0}));
        let report = &start.report["parts"][0];
        for (key, told) in [("cost_min", &case["cost_min"]), ("cost_max", &case["cost_max"])] {
            assert!((report[key].as_f64().unwrap() - told.as_f64().unwrap()).abs() < 1e-6, "{name}: {key}");
        }
        assert_eq!(set(start.rows()), set(whole(&case["greedy"]["subset"])), "{name}: greedy");
        assert!((objective(&start, 0) - case["greedy"]["poo"].as_f64().unwrap()).abs() < 1e-6, "{name}");
        let found = goracs(&case, &json!({}));
        assert!(objective(&found, 0) <= case["accept_objective"].as_f64().unwrap(), "{name}");
        let released = goracs(&case, &json!({"compat": "released"}));
        let told = &case["refine"]["code"];
        assert!((objective(&released, 0) - told["objective"].as_f64().unwrap()).abs() < 1e-6, "{name}: released");
        assert_eq!(set(released.rows()), set(whole(&told["subset"])), "{name}: released");
        if let Some(best) = case.get("exhaustive") {
            let best = best["best_objective"].as_f64().unwrap();
            assert!(objective(&found, 0) <= best * 1.01, "{name}: {} is not {best}", objective(&found, 0));
        }
    }
}

#[test]
fn classes_share_the_budget_and_reach_their_objectives() {
    for case in cases("goracs/label_enhanced") {
        let labels = |key: &str| -> ArrayRef {
            let labels = case[key].as_array().unwrap().iter().map(|l| l.as_u64().unwrap() as u32);
            Arc::new(UInt32Array::from(labels.collect::<Vec<_>>()))
        };
        let grads = Float32Array::from(floats(&case["grads"]).iter().map(|&g| g as f32).collect::<Vec<_>>());
        let columns = vec![("signal.grad_norm", Arc::new(grads) as ArrayRef), ("label", labels("train_label"))];
        let (pool, target) =
            (cloud(&case["train"], columns), cloud(&case["valid"], vec![("label", labels("valid_label"))]));
        let params = json!({"lambda": case["lam"], "candidates": case["cut_num"], "classes": "label"});
        let found = choose("goracs", &params, &pool, target, case["n"].as_u64().unwrap() as usize);
        for (part, key) in [(0, "negative"), (1, "positive")] {
            let (report, told) = (&found.report["parts"][part], &case["expect"][key]);
            assert_eq!(report["picked_rows"], told["budget"], "{key}");
            assert_eq!(found.groups[part].picked_rows, told["budget"].as_u64().unwrap());
            assert!((report["cost_max"].as_f64().unwrap() - told["cost_max"].as_f64().unwrap()).abs() < 1e-5);
            assert!((report["start"].as_f64().unwrap() - told["greedy_poo"].as_f64().unwrap()).abs() < 1e-6, "{key}");
            assert!(objective(&found, part) <= told["accept_objective"].as_f64().unwrap(), "{key}");
        }
    }
}

/// A target in one of four groups: both methods must go there. (Rows whose vector is a copy may be of another group.)
#[test]
fn a_planted_target_is_found() {
    let all: Vec<Row> =
        rows(400, 77).into_iter().enumerate().filter(|(i, _)| i % 10 != 9).map(|(_, row)| row).collect();
    let (goals, others): (Vec<Row>, Vec<Row>) = all.into_iter().partition(|row| row.id % 2 == 0 && row.cluster == 40);
    let share = |picked: &Selection| {
        let near: BTreeSet<u64> = others.iter().filter(|r| r.cluster == 40).map(|r| r.id).collect();
        picked.rows().iter().filter(|&row| near.contains(row)).count() as f64 / picked.picks.len() as f64
    };
    for name in ["gotd", "goracs"] {
        let found = choose(name, &json!({}), &pools::pool(&others), pools::pool(&goals), 30);
        assert!(share(&found) >= 1.0, "{name}: {}", share(&found));
    }
}

/// Little memory: distances are made anew, the choice is the same; and most rows are ruled out by a bound.
#[test]
fn goracs_goes_on_where_the_distances_do_not_fit() {
    let (all, target) = (pools::pool(&rows(2000, 3)), pools::pool(&rows(37, 4)));
    let params = json!({"candidates": 5, "exchanges": 12, "lambda": 0.0});
    let method = find(SELECTORS, "goracs", "method").unwrap().build(params.as_object().unwrap()).unwrap();
    let choose = |bytes: u64| {
        let ctx = Ctx::new(1).with_target(target.clone()).with_memory(curate_core::Memory::limited(bytes));
        method.select(&all, Budget::Rows(30), &ctx).unwrap()
    };
    let (roomy, tight) = (choose(1 << 30), choose(100_000));
    assert_eq!(roomy, tight);
    let told = |key: &str| roomy.report["parts"][0][key].as_u64().unwrap();
    assert!(told("exchanges") > 0, "{:?}", roomy.report);
    assert!(told("rows_measured") < 1970 * (told("exchanges") + 1), "{:?}", roomy.report);
}

#[test]
fn a_target_is_needed_and_must_fit() {
    let (pool, target) = (pools::pool(&rows(20, 1)), rows(9, 2));
    for name in ["gotd", "goracs"] {
        let method = find(SELECTORS, name, "method").unwrap().build(&serde_json::Map::new()).unwrap();
        assert!(!method.target_needs().is_empty());
        let code = |ctx: Ctx| method.select(&pool, Budget::Rows(3), &ctx).unwrap_err().code();
        assert_eq!(code(Ctx::new(0)), "target/missing");
        assert_eq!(code(Ctx::new(0).with_target(pools::pool(&[]))), "target/empty");
        let other = cloud(&json!([[1.0, 2.0]]), vec![]);
        assert_eq!(code(Ctx::new(0).with_target(other)), "target/dimension");
        let mut broken = target.clone();
        broken[4].vector[0] = f32::NAN;
        let ctx = Ctx::new(0).with_target(pools::pool(&broken));
        let error = method.select(&pool, Budget::Rows(3), &ctx).unwrap_err();
        assert_eq!((error.code(), error.location().unwrap().row), ("embedding/not-finite", Some(target[4].id)));
        let rows = |t: Pool| method.select(&pool, Budget::Rows(6), &Ctx::new(0).with_target(t)).unwrap().picks;
        assert_eq!(
            rows(pools::pool(&target)),
            rows(chunked(&shuffled(&target, 3), 4)),
            "order and chunks of the target"
        );
    }
}

#[test]
fn gradient_norms_must_be_sensible() {
    let target = cloud(&json!([[0.0, 0.0]]), vec![]);
    let code = |norms: Vec<f32>, lambda: f64| {
        let points = json!([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]);
        let pool = cloud(&points, vec![("signal.grad_norm", Arc::new(Float32Array::from(norms)) as ArrayRef)]);
        let params = json!({"lambda": lambda}).as_object().unwrap().clone();
        let method = find(SELECTORS, "goracs", "method").unwrap().build(&params).unwrap();
        let ctx = Ctx::new(0).with_target(target.clone());
        method.select(&pool, Budget::Rows(1), &ctx).map_or_else(|e| e.code().to_owned(), |s| s.picks[0].row.to_string())
    };
    assert_eq!(code(vec![1.0, f32::NAN, 1.0], 0.5), "score/not-finite");
    assert_eq!(code(vec![1.0, -1.0, 1.0], 0.5), "signal/negative");
    assert_eq!(code(vec![0.0, 0.0, 0.0], 0.5), "0");
    assert_eq!(code(vec![0.0, 0.1, 9.0], 50.0), "2", "a large gradient outweighs the distance");
    assert_eq!(code(vec![1.0, f32::NAN, 1.0], 0.0), "0", "not read where it has no weight");
}
