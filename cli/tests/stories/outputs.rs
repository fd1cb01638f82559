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

#[test]
fn explain_refuses_an_input_that_changed() {
    let story = Story::new();
    let (input, out, cache) = (story.at("in.parquet"), story.at("out.parquet"), story.at("cache"));
    tables::write(&input, &tables::read(&sample()).slice(0, 300));
    story.select(&input, &out, &["--budget", "10"]);
    story.curate(&["explain", &out, "--row", "3", "--cache", &cache]).ok();
    tables::write(&input, &tables::read(&sample()).slice(300, 300));
    let said = story.curate(&["explain", &out, "--row", "3", "--cache", &cache]);
    said.refused("a changed input", &[3]);
    assert!(said.stderr.contains("explain/input-changed") && said.stderr.contains("curate verify"), "{}", said.stderr);
    tables::write(&input, &tables::read(&sample()).slice(0, 300));
    story.curate(&["explain", &out, "--row", "3", "--cache", &cache]).ok();
}

#[test]
fn explain_warns_where_the_same_input_is_chosen_from_otherwise() {
    let story = Story::new();
    let (out, cache) = (story.at("out.parquet"), story.at("cache"));
    story.select(&sample(), &out, &["--budget", "10", "--method", "random"]);
    let manifest = format!("{out}.curate.json");
    let mut said: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).expect("a manifest")).expect("JSON");
    said["plan"]["seed"] = 99.into();
    fs::write(&manifest, said.to_string()).expect("the manifest can be written");
    let found = story.curate(&["explain", &out, "--row", "3", "--json", "--cache", &cache]).json();
    assert!(found["warning"].as_str().is_some_and(|warning| warning.contains("chooses otherwise")), "{found}");
    assert!(story.curate(&["explain", &out, "--row", "3", "--cache", &cache]).ok().stdout.contains("  ! running"));
}

#[test]
fn ranks_are_told_from_one() {
    let story = Story::new();
    let (out, cache) = (story.at("out.parquet"), story.at("cache"));
    story.select(&sample(), &out, &["--budget", "10"]);
    let picked = tables::read(&out);
    let ranks = tables::integers(&picked, "curate_rank");
    let first = ranks.iter().position(|&rank| rank == 0).expect("a first row");
    let row = tables::integers(&picked, "curate_row")[first].to_string();
    let words = story.curate(&["explain", &out, "--row", &row, "--cache", &cache]).ok().stdout;
    assert!(words.contains("Kept at rank 1 of 10"), "{words}");
    let data = story.curate(&["explain", &out, "--row", &row, "--json", "--cache", &cache]).json();
    assert_eq!(data["rank"], 0);
}

#[test]
fn a_dropped_row_is_told_what_stands_for_it() {
    let story = Story::new();
    let cache = story.at("cache");
    for method in ["craig", "facility-location", "k-center", "goracs"] {
        let out = story.at(&format!("{method}.parquet"));
        let mut more = vec!["--budget", "10", "--method", method];
        let target = story.at("target.parquet");
        tables::write(&target, &tables::read(&sample()).slice(100, 20));
        if method == "goracs" {
            more.extend(["--target", &target]);
            let input = story.at("signals.parquet");
            let norms = arrow::array::Float32Array::from_iter_values((0..2000u16).map(|row| 1.0 + f32::from(row % 7)));
            let table = tables::with_column(&tables::read(&sample()), "signal.grad_norm", std::sync::Arc::new(norms));
            tables::write(&input, &table);
            story.select(&input, &out, &more);
        } else {
            story.select(&sample(), &out, &more);
        }
        let kept: BTreeSet<u64> = tables::integers(&tables::read(&out), "curate_row").into_iter().collect();
        let dropped = (0..2000).find(|row| !kept.contains(row)).expect("a dropped row").to_string();
        let words = story.curate(&["explain", &out, "--row", &dropped, "--cache", &cache]).ok().stdout;
        assert!(words.contains("as near as cosine") || words.contains("represented by row"), "{method}: {words}");
        assert!(!words.contains("Score 0.0000"), "{method}: {words}");
    }
}

#[test]
fn an_output_never_replaces_what_is_read() {
    let story = Story::new();
    let input = story.at("data/in.parquet");
    fs::create_dir(story.at("data")).expect("a new folder");
    tables::write(&input, &tables::read(&sample()).slice(0, 200));
    let before = fs::read(&input).expect("the input");
    let (folder, glob) = (story.at("data"), story.at("data/*.parquet"));
    let inside = format!("{folder}/");
    for (from, to) in [(&input, &input), (&folder, &input), (&glob, &input), (&input, &inside)] {
        let said = story.try_select(from, to, &["--budget", "5", "--overwrite"]);
        said.refused("output over input", &[2]);
        assert!(said.stderr.contains("output/is-input"), "{}", said.stderr);
        story.try_select(from, to, &["--budget", "5", "--overwrite", "--dry-run"]).refused("dry run", &[2]);
    }
    let around = ["--budget", "5", "--overwrite", "--method", "gotd", "--target", &input];
    story.try_select(&sample(), &input, &around).refused("output over target", &[2]);
    assert!(fs::read(&input).expect("the input") == before, "the input was changed");
}

#[test]
fn rows_beyond_a_models_window_are_not_called_unreadable() {
    let story = Story::new();
    let (out, cache) = (story.at("out.jsonl"), story.at("cache"));
    let long = "many words stand here ".repeat(3000);
    let line = |i: usize| {
        let prompt = if i == 4 { long.clone() } else { format!("say {i}") };
        serde_json::json!({"instruction": prompt, "output": format!("the number {i}")}).to_string()
    };
    let input = story.file("in.jsonl", (0..12).map(line).collect::<Vec<_>>().join("\n"));
    let said = story.try_select(&input, &out, &["--budget", "3", "--method", "perplexity"]).ok();
    assert!(
        said.stderr.contains("1 left out: the prompt alone fills") && !said.stderr.contains("unreadable"),
        "{}",
        said.stderr
    );
    let manifest: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((&manifest["counts"]["unsaid_rows"], &manifest["counts"]["skipped_rows"]), (&1.into(), &0.into()));
    let words = story.curate(&["explain", &out, "--row", "4", "--cache", &cache]).ok().stdout;
    assert!(words.contains("the prompt alone fills the model's window") && !words.contains("--where"), "{words}");
}

#[test]
fn an_absent_row_is_told_why() {
    let story = Story::new();
    let (out, cache) = (story.at("out.jsonl"), story.at("cache"));
    let rows = "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"c\", \"completion\": null}\n{\"prompt\": \"drop\", \"completion\": \"d\"}\n";
    let input = story.file("in.jsonl", rows);
    story.select(&input, &out, &["--budget", "1", "--on-bad-row", "skip", "--where", "prompt <> 'drop'"]);
    let words = |row: &str| story.curate(&["explain", &out, "--row", row, "--cache", &cache]).ok().stdout;
    assert!(words("1").contains("it could not be read (") && words("1").contains("null"), "{}", words("1"));
    assert!(words("2").contains("--where excluded it"), "{}", words("2"));
}

#[test]
fn a_selection_from_standard_input_says_how_to_ask_again() {
    let story = Story::new();
    let (out, cache) = (story.at("out.jsonl"), story.at("cache"));
    let line = |i: usize| format!("{{\"prompt\": \"ask {i}\", \"completion\": \"say {i}\"}}\n");
    let text: String = (0..30).map(line).collect();
    let said =
        story.curate_reading(&["select", "-", "-o", &out, "--budget", "5", "--cache", &cache], text.as_bytes()).ok();
    assert!(!said.stderr.contains("curate explain"), "{}", said.stderr);
    for command in [&["explain", &out, "--row", "3", "--cache", &cache][..], &["verify", &out, "--cache", &cache][..]] {
        let alone = story.curate(command);
        alone.refused("nothing piped", &[3]);
        let words = alone.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("standard input") && words.contains("same data"), "{words}");
        story.curate_reading(command, text.as_bytes()).ok();
    }
    let other = story.curate_reading(&["explain", &out, "--row", "3", "--cache", &cache], &text.as_bytes()[37..]);
    other.refused("other data piped", &[3]);
}
