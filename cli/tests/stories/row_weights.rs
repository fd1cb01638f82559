//! Weights of picks, from the selection to the loss.

use crate::story::Said;
use crate::tables;
use crate::train::Desk;
use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::Float32Type;
use std::fs;
use std::sync::Arc;

const SHORT: [&str; 7] = ["--from-scratch", "--learning-rate", "3e-3", "--batch-size", "16", "--max-steps", "5"];

/// The losses in a run's log.
fn losses(desk: &Desk, out: &str) -> Vec<f64> {
    let text = fs::read_to_string(desk.story.at(&format!("{out}/log.jsonl"))).expect("a log");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line"));
    lines.filter_map(|line| line["loss"].as_f64()).collect()
}

fn train(desk: &Desk, rows: &str, out: &str, more: &[&str]) -> Said {
    let out = desk.story.at(out);
    let fixed = ["train", rows, "--model", &desk.model, "-o", &out, "--json", "--cache", &desk.cache];
    desk.story.curate(&[&fixed[..], &SHORT[..], more].concat())
}

fn weights(picks: &RecordBatch) -> Vec<f32> {
    picks.column_by_name("curate_weight").expect("weights").as_primitive::<Float32Type>().values().to_vec()
}

/// The picks with other weights.
fn reweighed(desk: &Desk, picks: &RecordBatch, name: &str, weights: Vec<f32>) -> String {
    let at = picks.schema().index_of("curate_weight").expect("weights");
    let mut columns: Vec<ArrayRef> = picks.columns().to_vec();
    columns[at] = Arc::new(Float32Array::from(weights));
    let path = desk.story.at(name);
    tables::write(&path, &RecordBatch::try_new(picks.schema(), columns).expect("a table"));
    path
}

#[test]
fn the_weights_of_craig_reach_the_loss() {
    let desk = Desk::new();
    let craig = ["--budget", "25%", "--method", "craig"];
    desk.train("chosen", &[&SHORT[..], &craig[..]].concat()).ok();
    let path = desk.story.at("chosen/picks.parquet");
    let picks = tables::read(&path);
    let given = weights(&picks);
    assert!(given.iter().any(|weight| (weight - 1.0).abs() > 0.1), "{given:?}");

    train(&desk, &path, "auto", &[]).ok();
    train(&desk, &path, "none", &["-O", "row_weights=none"]).ok();
    train(&desk, &path, "named", &["-O", "row_weights=curate_weight"]).ok();
    let (chosen, auto, none) = (losses(&desk, "chosen"), losses(&desk, "auto"), losses(&desk, "none"));
    assert_eq!((auto.len(), &auto), (5, &losses(&desk, "named")));
    assert_eq!(chosen, auto, "chosen before training or in one run");
    assert!(auto.iter().zip(&none).all(|(auto, none)| auto.to_bits() != none.to_bits()), "{auto:?} {none:?}");
    let csv = desk.story.at("picks.csv");
    let craig = ["--budget", "25%", "--method", "craig", "--cache", &desk.cache];
    desk.story.curate(&[&["select", &desk.rows, "-o", &csv][..], &craig[..]].concat()).ok();
    train(&desk, &csv, "csv", &[]).ok();
    assert_eq!(losses(&desk, "csv"), auto, "weights in a file without types");
    let ones = reweighed(&desk, &picks, "ones.parquet", vec![1.0; given.len()]);
    train(&desk, &ones, "ones", &[]).ok();
    assert_eq!(losses(&desk, "ones"), none);
}

#[test]
fn weights_that_are_none_are_refused_by_row() {
    let desk = Desk::new();
    let table = tables::read(&desk.rows);
    let rows = table.num_rows();
    let picks = tables::with_column(&table, "curate_weight", Arc::new(Float32Array::from(vec![1.0; rows])));
    for bad in [f32::NAN, -1.0, f32::INFINITY] {
        let weights = (0..rows).map(|row| if row == 7 { bad } else { 1.0 }).collect();
        let path = reweighed(&desk, &picks, "bad.parquet", weights);
        let said = train(&desk, &path, "bad", &[]);
        said.refused("a bad weight", &[3]);
        assert!(said.stderr.contains("row 7") && said.stderr.contains("curate_weight"), "{}", said.stderr);
    }
    let path = reweighed(&desk, &picks, "zero.parquet", vec![0.0; rows]);
    let said = train(&desk, &path, "zero", &[]);
    said.refused("weights of 0", &[3]);
    assert!(said.stderr.contains("weigh 0"), "{}", said.stderr);
    train(&desk, &path, "missing", &["-O", "row_weights=mass"]).refused("a column that is not there", &[2]);
    let online = ["--online", "random-k", "--eval-share", "0.2", "-O", "row_weights=curate_weight"];
    train(&desk, &path, "online", &online).refused("weights of rows that are chosen while the model learns", &[2]);
    let words = table.schema().fields().iter().find(|f| !f.data_type().is_numeric()).expect("texts").name().clone();
    train(&desk, &path, "words", &["-O", &format!("row_weights={words}")]).refused("words for weights", &[3]);
    let one = (0..rows).map(|row| if row == 7 { 0.0 } else { 1.0 }).collect();
    let path = reweighed(&desk, &picks, "one.parquet", one);
    let done = train(&desk, &path, "one", &[]).json();
    assert_eq!(done["data"]["weightless"], serde_json::json!([7]));
    assert_eq!(done["data"]["kept_rows"], rows - 1);
}
