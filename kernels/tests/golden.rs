//! The golden k-means vectors (written by a script of ours in f64, see datasets/golden).

use curate_kernels::kmeans::{KMeansParams, fit, lloyd_step};
use serde_json::Value;

use crate::{backends, view};

fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().expect("a number")],
    }
}

fn narrow(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|v| v as f32).collect()
}

fn close(got: f64, wanted: f64, scale: f64, what: &str) {
    // Input rounded to f32 (2^-24 of the coordinates) and sums in f32: 1e-6 of the squared scale is ten times that.
    assert!((got - wanted).abs() <= 1e-6 * scale, "{what}: {got} is not {wanted}");
}

#[test]
fn kmeans_vectors() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/golden/kmq/kmeans.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).expect(path)).expect("JSON");
    let cases = file["cases"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let (input, expected, name) = (&case["input"], &case["expected"], case["name"].as_str().unwrap_or("?"));
        let dim = input["points"][0].as_array().expect("points").len();
        let (points, start) = (narrow(&input["points"]), narrow(&input["centroids"]));
        let (x, c) = (view(&points, dim), view(&start, dim));
        let scale = 4.0 * points.iter().fold(1.0, |m: f64, v| m.max(f64::from(*v).abs())).powi(2) * dim as f64;
        for backend in backends() {
            let what = |field: &str| format!("{name}, {}, {field}", backend.name());
            let (mut labels, mut dist) = (vec![0; x.rows()], vec![0.0; x.rows()]);
            backend.assign(x, c, &mut labels, &mut dist).unwrap();
            let wanted: Vec<u32> = numbers(&expected["assign_labels"]).into_iter().map(|v| v as u32).collect();
            assert_eq!(labels, wanted, "{}", what("labels"));
            for (got, wanted) in dist.iter().zip(numbers(&expected["assign_sq_dist"])) {
                close(f64::from(*got), wanted, scale, &what("distance"));
            }
            let step = lloyd_step(backend.as_ref(), x, &labels, c).unwrap();
            for (got, wanted) in step.iter().zip(numbers(&expected["lloyd_step_centroids"])) {
                close(f64::from(*got), wanted, scale, &what("step"));
            }
            backend.assign(x, view(&step, dim), &mut labels, &mut dist).unwrap();
            let wanted: Vec<u32> = numbers(&expected["lloyd_step_labels"]).into_iter().map(|v| v as u32).collect();
            assert_eq!(labels, wanted, "{}", what("labels after the step"));
            let k = input["k"].as_u64().expect("k") as usize;
            let found = fit(backend.as_ref(), x, None, &KMeansParams::new(k, 42), &|_| true).unwrap();
            let limit = expected["inertia_upper_bound"].as_f64().expect("a bound");
            assert!(
                found.restarts_tried >= 20 && found.inertia <= limit + 1e-9,
                "{}: {}",
                what("inertia"),
                found.inertia
            );
        }
    }
}
