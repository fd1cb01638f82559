//! Golden vectors of UDS end to end: `datasets/golden/uds`, checked against the released code.

use super::stream::{Method, floats, lists, method};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::Float32Type;
use curate_core::{Ctx, Pool};
use serde_json::{Value, json};
use std::f64::consts::TAU;
use std::sync::Arc;

fn golden(file: &str) -> Value {
    let path = format!("{}/../datasets/golden/uds/{file}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap()
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

/// One batch: nuclear norm and sketch of every sample.
struct Samples {
    norms: Vec<f64>,
    sketches: Vec<Vec<f64>>,
}

/// `Z[a,b] = sqrt(V T / (r1 r2)) sum_t sum_v s_T[t] cos(2 pi k_T[a] t / T) s_V[v] cos(2 pi k_V[b] v / V) L[t,v]`.
fn sketch(spec: &Value, logits: &Value) -> Vec<f64> {
    let side = |signs: &str, indices: &str| (numbers(&spec[signs]), numbers(&spec[indices]));
    let ((sign_t, index_t), (sign_v, index_v)) = (side("sign_time", "index_time"), side("sign_vocab", "index_vocab"));
    let (t_len, v_len) = (sign_t.len() as f64, sign_v.len() as f64);
    let scale = (v_len * t_len / (index_t.len() * index_v.len()) as f64).sqrt();
    let rows: Vec<Vec<f64>> = list(logits).iter().map(numbers).collect();
    let wave = |sign: &[f64], k: f64, n: f64, i: usize| sign[i] * (TAU * k * i as f64 / n).cos();
    let entry = |a: f64, b: f64| -> f64 {
        let row = |t: usize| -> f64 {
            let along = rows[t].iter().enumerate().map(|(v, l)| l * wave(&sign_v, b, v_len, v));
            wave(&sign_t, a, t_len, t) * along.sum::<f64>()
        };
        scale * (0..rows.len()).map(row).sum::<f64>()
    };
    index_t.iter().flat_map(|&a| index_v.iter().map(move |&b| (a, b))).map(|(a, b)| entry(a, b)).collect()
}

fn close(got: f64, told: f64) {
    assert!((got - told).abs() <= 1e-5 * told.abs() + 1e-9, "{got} is not {told}");
}

/// Propose batch after batch and compare choice, scores and ring with what the file says.
fn check(file: &Value, read: impl Fn(&Value) -> Samples) {
    let params = &file["params"];
    let mut run = method("uds", &json!({"alpha": params["alpha"], "memory_slots": params["memory_size"]}));
    let k = params["k"].as_u64().unwrap() as usize;
    let mut all: Vec<Vec<Vec<f64>>> = Vec::new();
    for (number, batch) in list(&file["batches"]).iter().enumerate() {
        let (samples, expected) = (read(batch), &batch["expected"]);
        let first = 100 * number as u64;
        let chosen = run.propose(&pool(&samples, first), k, &Ctx::new(0)).unwrap();
        let told: Vec<u64> = list(&expected["selected"]).iter().map(|p| first + p.as_u64().unwrap()).collect();
        assert_eq!(chosen.rows(), told, "batch {number}");
        for (&got, told) in chosen.assessment.unwrap().score.iter().zip(numbers(&expected["score"])) {
            close(f64::from(got), told);
        }
        all.push(samples.sketches);
        check_ring(&run, &expected["memory_after"], &all);
    }
}

fn pool(samples: &Samples, first: u64) -> Pool {
    let single = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
    let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(first..first + samples.norms.len() as u64));
    let (flat, dim) = (samples.sketches.concat(), samples.sketches[0].len());
    let columns = [
        ("row", ids),
        ("signal.nuclear_norm", floats(single(&samples.norms))),
        ("signal.sketch", lists(single(&flat), dim)),
    ];
    Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap())
}

fn check_ring(run: &Method, told: &Value, all: &[Vec<Vec<f64>>]) {
    let state = run.state();
    assert_eq!(state.scalars["next"], told["ptr"]);
    let ring = state.tables[0].1.column(0).as_fixed_size_list();
    let held: Vec<&Value> = list(&told["slots"]).iter().filter(|slot| !slot.is_null()).collect();
    assert_eq!(
        (ring.value_offset(0), held.len()),
        (0, list(&told["slots"]).len().min(told["count"].as_u64().unwrap() as usize))
    );
    let values = ring.values().as_primitive::<Float32Type>().values();
    let dim = ring.value_length() as usize;
    assert_eq!(values.len(), held.len() * dim);
    for (slot, place) in values.chunks(dim).zip(held) {
        let at = |i: usize| place[i].as_u64().unwrap() as usize;
        let told: Vec<f32> = all[at(0)][at(1)].iter().map(|&v| v as f32).collect();
        assert_eq!(slot, told);
    }
}

#[test]
fn signals_that_came_from_elsewhere() {
    let file = golden("service_sequence");
    check(&file, |batch| {
        let samples = list(&batch["samples"]);
        Samples {
            norms: samples.iter().map(|s| s["nuclear_norm"].as_f64().unwrap()).collect(),
            sketches: samples.iter().map(|s| numbers(&s["z"])).collect(),
        }
    });
}

#[test]
fn signals_of_logits() {
    let file = golden("online_sequence");
    check(&file, |batch| Samples {
        norms: numbers(&batch["expected"]["nuclear_norm"]),
        sketches: list(&batch["logits"]).iter().map(|logits| sketch(&file["sketch"], logits)).collect(),
    });
}
