//! What a run leaves behind: rows as they were, reasons beside them, a manifest that can be checked and repeated.

use crate::story::{Story, digest, sample, selected};
use crate::tables;
use arrow::array::UInt64Array;
use arrow::compute::take_record_batch;
use std::collections::BTreeSet;
use std::fs;

#[test]
fn rows_keep_their_columns_and_gain_reasons() {
    let story = Story::new();
    let (out, plain) = (story.at("out.parquet"), story.at("plain.parquet"));
    story.select(&sample(), &out, &["--budget", "5%"]);
    story.select(&sample(), &plain, &["--budget", "5%", "--plain"]);
    let (picked, source) = (tables::read(&out), tables::read(&sample()));
    let rows = tables::integers(&picked, "curate_row");
    let expected = take_record_batch(&source, &UInt64Array::from(rows.clone())).expect("rows of the source");
    for name in ["id", "source", "instruction", "input", "output"] {
        assert_eq!(picked.column_by_name(name), expected.column_by_name(name), "column {name} changed");
    }
    let ranks: BTreeSet<u64> = tables::integers(&picked, "curate_rank").into_iter().collect();
    assert_eq!(ranks.len(), rows.len(), "ranks repeat");
    for name in ["curate_score", "curate_weight", "curate_group", "curate_reason"] {
        assert!(picked.column_by_name(name).is_some(), "there is no {name}");
    }
    assert_eq!(tables::read(&plain).schema().fields().len(), source.schema().fields().len());
}

#[test]
fn every_format_can_be_written() {
    let story = Story::new();
    let mut digests = BTreeSet::new();
    for name in ["a.parquet", "a.jsonl", "a.json", "a.csv", "a.arrow", "shards/"] {
        let summary = story.select(&sample(), &story.at(name), &["--budget", "30"]);
        assert_eq!(selected(&summary), 30, "{name}");
        assert!(fs::metadata(story.at(name)).is_ok(), "{name} is not there");
        digests.insert(digest(&summary));
    }
    assert_eq!(digests.len(), 1, "the format of the output changed the choice");
    let lines = fs::read_to_string(story.at("a.jsonl")).expect("text");
    assert_eq!(lines.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count(), 30);
}

#[test]
fn inspect_counts_and_shows() {
    let story = Story::new();
    let said = story.curate(&["inspect", &sample(), "--json", "--cache", &story.at("cache")]).json();
    assert_eq!(said["rows"], 2000);
    assert_eq!(said["duplicate_rows"], 1);
    assert!(!said["samples"].as_array().expect("samples").is_empty());
    story.curate(&["inspect", &sample(), "--cache", &story.at("cache")]).ok();
}

#[test]
fn explain_answers_for_kept_and_dropped() {
    let story = Story::new();
    let (out, cache) = (story.at("out.parquet"), story.at("cache"));
    story.select(&sample(), &out, &["--budget", "5%"]);
    let rows: BTreeSet<u64> = tables::integers(&tables::read(&out), "curate_row").into_iter().collect();
    let kept = *rows.first().expect("rows");
    let dropped = (0..2000).find(|row| !rows.contains(row)).expect("not all rows are kept");
    for (row, is_kept) in [(kept, true), (dropped, false)] {
        let said = story.curate(&["explain", &out, "--row", &row.to_string(), "--json", "--cache", &cache]).json();
        assert_eq!(said["kept"], is_kept, "row {row}");
        assert!(!said["because"].as_array().expect("reasons").is_empty(), "row {row}");
    }
    story.curate(&["explain", &out, "--row", "2000", "--cache", &cache]).refused("row beyond the end", &[2]);
}

#[test]
fn verify_sees_a_changed_byte() {
    let story = Story::new();
    let (out, cache) = (story.at("out.parquet"), story.at("cache"));
    story.select(&sample(), &out, &["--budget", "5%"]);
    story.curate(&["verify", &out, "--cache", &cache]).ok();
    let mut bytes = fs::read(&out).expect("the output");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&out, &bytes).expect("the output can be written");
    let said = story.curate(&["verify", &out, "--cache", &cache]);
    assert_eq!(said.code, 3, "{}{}", said.stdout, said.stderr);
    story.curate(&["verify", &story.at("none.parquet"), "--cache", &cache]).refused("no manifest", &[2, 3, 5]);
}

#[test]
fn a_plan_and_a_manifest_run_again() {
    let story = Story::new();
    let (cache, by_plan, by_flags, again) =
        (story.at("cache"), story.at("plan.parquet"), story.at("flags.parquet"), story.at("again.parquet"));
    let paths = serde_json::json!([sample()]).to_string();
    let plan = format!(
        "seed = 5\n[input]\npaths = {paths}\n[select]\nuse = \"kmeans-quality\"\nbudget = \"5%\"\n[output]\npath = {by_plan:?}\n"
    );
    let plan = story.file("plan.toml", plan);
    let first = story.curate(&["run", &plan, "--json", "--cache", &cache]).json();
    let second = story.select(&sample(), &by_flags, &["--budget", "5%", "--seed", "5"]);
    let manifest = format!("{by_plan}.curate.json");
    let third = story.curate(&["run", &manifest, "-o", &again, "--json", "--cache", &cache]).json();
    assert_eq!((digest(&first), digest(&first)), (digest(&second), digest(&third)));
    assert!(
        fs::read(&by_plan).expect("output") == fs::read(&again).expect("output"),
        "repeating the manifest gave other bytes"
    );
}

#[test]
fn a_dry_run_leaves_nothing() {
    let story = Story::new();
    story.try_select(&sample(), &story.at("out.parquet"), &["--budget", "5%", "--dry-run"]).ok();
    assert!(fs::metadata(story.at("out.parquet")).is_err());
    assert!(fs::metadata(story.at("out.parquet.curate.json")).is_err());
}
