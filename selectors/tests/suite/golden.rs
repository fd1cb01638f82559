//! Golden vectors of kMQ: `datasets/golden/kmq`, made by an independent double-precision implementation.

use curate_core::Ctx;
use curate_core::kernels::MatRef;
use curate_core::kernels::kmeans::{KMeansParams, fit, lloyd_step};
use curate_selectors::allocate::{Allocation, allocate, reference_floor};
use curate_selectors::draw::{gumbel_key, largest_keys, ln_linear, ln_softmax};
use serde_json::Value;

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/../datasets/golden/kmq/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    serde_json::from_str::<Value>(&text).unwrap()["cases"].as_array().unwrap().clone()
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn whole(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

fn matrix(value: &Value) -> (Vec<f32>, usize) {
    let rows: Vec<Vec<f64>> = value.as_array().unwrap().iter().map(floats).collect();
    (rows.concat().iter().map(|&v| v as f32).collect(), rows[0].len())
}

fn assert_close(got: &[f64], expected: &[f64], rtol: f64, atol: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= rtol * e.abs() + atol, "{what}: {g} is not {e}");
    }
}

#[test]
fn budgets_are_exact() {
    for case in cases("budgets") {
        let (input, expected) = (&case["input"], &case["expected"]);
        let told = |key: &str| Allocation {
            rows: whole(&expected[key]),
            shortfall: expected.get(format!("{key}_shortfall")).unwrap_or(&expected["shortfall"]).as_u64().unwrap(),
        };
        let budget = input["budget"].as_u64().unwrap();
        if input.get("caps").is_some() {
            assert_eq!(allocate(&floats(&input["weights"]), &whole(&input["caps"]), budget), told("alloc"), "{case}");
            continue;
        }
        let sizes = whole(&input["cluster_sizes"]);
        assert_eq!(allocate(&floats(&input["cluster_sizes"]), &sizes, budget), told("proportional"), "{case}");
        assert_eq!(allocate(&vec![1.0; sizes.len()], &sizes, budget), told("uniform"), "{case}");
        assert_eq!(reference_floor(&sizes, budget), told("reference_floor"), "{case}");
    }
}

#[test]
fn draws_are_exact() {
    for case in cases("sampling") {
        let (input, expected) = (&case["input"], &case["expected"]);
        let (quality, uniforms) = (floats(&input["quality"]), floats(&input["uniforms"]));
        let temperature = input["temperature"].as_f64().unwrap();
        let budget = input["budget"].as_u64().unwrap() as usize;
        let probabilities = |ln_p: &[f64]| ln_p.iter().map(|p| p.exp()).collect::<Vec<f64>>();
        let keys = |ln_p: &[f64]| ln_p.iter().zip(&uniforms).map(|(&p, &u)| gumbel_key(p, u)).collect::<Vec<f64>>();
        let truncated: Vec<f64> = quality.iter().map(|q| q.trunc()).collect();
        let (soft, linear) = (ln_softmax(&quality, temperature), ln_linear(&quality));
        let close = |got: &[f64], key: &str| assert_close(got, &floats(&expected[key]), 1e-9, 1e-12, key);
        close(&probabilities(&soft), "p_softmax");
        close(&probabilities(&ln_softmax(&truncated, temperature)), "p_softmax_int_truncated");
        close(&probabilities(&linear), "p_linear");
        close(&keys(&soft), "gumbel_keys_softmax");
        let picks = |ln_p: &[f64]| largest_keys(&keys(ln_p), budget).iter().map(|&i| i as u64).collect::<Vec<u64>>();
        assert_eq!(picks(&soft), whole(&expected["selected_softmax"]));
        assert_eq!(picks(&linear), whole(&expected["selected_linear"]));
    }
}

/// 20 000 draws against the exact probabilities of being drawn, with the house's own random streams.
#[test]
fn rows_are_drawn_as_often_as_they_should() {
    for case in cases("sampling").iter().filter(|c| c["expected"].get("inclusion_softmax").is_some()) {
        let quality = floats(&case["input"]["quality"]);
        let ln_p = ln_softmax(&quality, case["input"]["temperature"].as_f64().unwrap());
        let budget = case["input"]["budget"].as_u64().unwrap() as usize;
        let mut drawn = vec![0.0; quality.len()];
        for round in 0..20_000 {
            let stream = Ctx::new(round).stream("draw");
            let keys: Vec<f64> = ln_p.iter().zip(0..).map(|(&p, row)| gumbel_key(p, stream(row).uniform())).collect();
            for i in largest_keys(&keys, budget) {
                drawn[i] += 1.0 / 20_000.0;
            }
        }
        assert_close(&drawn, &floats(&case["expected"]["inclusion_softmax"]), 0.0, 0.015, "inclusion");
    }
}

/// The kernels compute in single precision: labels must match, figures within 1e-4.
#[test]
fn clusters_reach_the_best_known_inertia() {
    for case in cases("kmeans") {
        let (input, expected) = (&case["input"], &case["expected"]);
        let (ctx, k) = (Ctx::new(3), input["k"].as_u64().unwrap() as usize);
        let (points, dim) = matrix(&input["points"]);
        let x = MatRef::new(&points, dim).unwrap();
        let found = fit(ctx.backend(), x, None, &KMeansParams::new(k, ctx.derived_seed("k")), &|_| true).unwrap();
        assert!(
            found.inertia <= expected["inertia_upper_bound"].as_f64().unwrap(),
            "{}: {}",
            case["name"],
            found.inertia
        );

        let (start, _) = matrix(&input["centroids"]);
        let centroids = MatRef::new(&start, dim).unwrap();
        let (mut labels, mut sq_dist) = (vec![0; x.rows()], vec![0.0; x.rows()]);
        ctx.backend().assign(x, centroids, &mut labels, &mut sq_dist).unwrap();
        assert_eq!(labels.iter().map(|&l| u64::from(l)).collect::<Vec<_>>(), whole(&expected["assign_labels"]));
        let sq_dist: Vec<f64> = sq_dist.into_iter().map(f64::from).collect();
        assert_close(&sq_dist, &floats(&expected["assign_sq_dist"]), 1e-4, 1e-6, "assign_sq_dist");
        let step = lloyd_step(ctx.backend(), x, &labels, centroids).unwrap();
        let (step, told) = (step.into_iter().map(f64::from), matrix(&expected["lloyd_step_centroids"]).0);
        let told: Vec<f64> = told.into_iter().map(f64::from).collect();
        assert_close(&step.collect::<Vec<_>>(), &told, 1e-4, 1e-6, "lloyd_step_centroids");
    }
}
