//! What users really have: vectors and clusters of their own, hundreds of shards, one enormous row, two runs at once.

use crate::story::{Said, Story, digest, sample, selected};
use crate::tables;
use arrow::array::{ArrayRef, Float32Array, Float32Builder, ListBuilder};
use std::fs;
use std::process::Stdio;
use std::sync::Arc;

#[test]
fn vectors_of_ones_own() {
    let story = Story::new();
    let (cache, wide) = (story.at("cache"), story.at("wide.parquet"));
    story.curate(&["embed", &sample(), "-o", &wide, "--cache", &cache]).ok();
    let by_model = story.select(&sample(), &story.at("model.parquet"), &["--budget", "5%"]);
    let by_column =
        story.select(&wide, &story.at("column.parquet"), &["--budget", "5%", "--embedder", "column:embedding"]);
    assert_eq!(digest(&by_model), digest(&by_column), "the same vectors, the same choice");
}

#[test]
fn vectors_that_cannot_be_used() {
    let story = Story::new();
    let batch = tables::read(&sample());
    let lists = |odd: usize, value: f32| {
        let mut lists = ListBuilder::new(Float32Builder::new());
        for row in 0..batch.num_rows() {
            let length = if row == 700 { odd } else { 3 };
            (0..length).for_each(|i| lists.values().append_value(if row == 700 && i == 1 { value } else { 0.5 }));
            lists.append(true);
        }
        Arc::new(lists.finish()) as ArrayRef
    };
    for (name, column) in [("length", lists(2, 0.5)), ("number", lists(3, f32::NAN))] {
        let input = story.at(&format!("{name}.parquet"));
        tables::write(&input, &tables::with_column(&batch, "v", column));
        let said = story.try_select(&input, &story.at("out.parquet"), &["--budget", "5", "--embedder", "column:v"]);
        said.refused(name, &[3]);
        assert!(story.names(".").iter().all(|n| n != "out.parquet"));
    }
}

#[test]
fn clusters_of_ones_own() {
    let story = Story::new();
    let (cache, wide) = (story.at("cache"), story.at("wide.parquet"));
    story.curate(&["cluster", &sample(), "-o", &wide, "--set", "k=10", "--cache", &cache]).ok();
    let by_column = story.select(&wide, &story.at("column.parquet"), &["--budget", "5%", "--set", "clusters=column"]);
    let by_model = story.select(&sample(), &story.at("model.parquet"), &["--budget", "5%", "--set", "k=10"]);
    let sizes = |summary: &serde_json::Value| summary["report"]["median_cluster_rows"].as_u64().expect("a median");
    assert_eq!((selected(&by_column), sizes(&by_column)), (100, sizes(&by_model)));
    let minus = tables::with_column(
        &tables::read(&sample()),
        "cluster",
        Arc::new(Float32Array::from_iter_values((0..2000u16).map(|row| 3.0 - f32::from(row)))),
    );
    let bad = story.at("minus.parquet");
    tables::write(&bad, &minus);
    let said = story.try_select(&bad, &story.at("bad.parquet"), &["--budget", "5%", "--set", "clusters=column"]);
    said.refused("negative clusters", &[3]);
}

#[test]
fn two_runs_on_one_cache_at_once() {
    let story = Story::new();
    let start = |out: &str| {
        let args = story.select_args(&sample(), &story.at(out), &["--budget", "5%"]);
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        story.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let both = ["one.parquet", "two.parquet"].map(start);
    let digests = both.map(|child| digest(&Said::of(child.wait_with_output().expect("it ends")).json()));
    assert_eq!(digests[0], digests[1]);
    assert!(fs::read(story.at("one.parquet")).expect("one") == fs::read(story.at("two.parquet")).expect("two"));
}

#[test]
fn two_hundred_shards_with_other_column_orders() {
    let story = Story::new();
    let batch = tables::read(&sample());
    for shard in 0..200 {
        let slice = batch.slice(shard * 10, 10);
        let order: Vec<usize> = (0..slice.num_columns()).map(|i| (i + shard) % slice.num_columns()).collect();
        tables::write(&story.at(&format!("shards-{shard:03}.parquet")), &slice.project(&order).expect("a projection"));
    }
    let many = story.select(&story.at("shards-*.parquet"), &story.at("many.parquet"), &["--budget", "5%"]);
    let one = story.select(&sample(), &story.at("one.parquet"), &["--budget", "5%"]);
    assert_eq!(digest(&many), digest(&one));
}

#[test]
fn one_row_of_a_hundred_megabytes() {
    let story = Story::new();
    let row = |text: &str| format!("{{\"instruction\": \"say it\", \"output\": \"{text}\"}}\n");
    let input = story.file("big.jsonl", row("a") + &row(&"long ".repeat(20_000_000)) + &row("b") + &row("c"));
    let refused = story.try_select(&input, &story.at("out.parquet"), &["--budget", "2"]);
    refused.refused("a row of 100 MB", &[3]);
    let more = ["--budget", "2", "--on-bad-row", "skip"];
    let summary = story.select(&input, &story.at("out.parquet"), &more);
    assert_eq!((summary["counts"]["skipped_rows"].as_u64(), selected(&summary)), (Some(1), 2));
}

#[test]
fn one_name_for_two_columns() {
    let story = Story::new();
    let csv = story.file("twice.csv", "prompt,completion,prompt\na,b,c\nd,e,f\n");
    story.try_select(&csv, &story.at("out.parquet"), &["--budget", "1"]).refused("csv", &[3]);
    let json = story.file("twice.jsonl", "{\"prompt\": \"a\", \"completion\": \"b\", \"prompt\": \"c\"}\n");
    let said = story.try_select(&json, &story.at("out.parquet"), &["--budget", "1"]);
    assert!(said.code == 0 || said.complaint(&[3]).is_none(), "{}", said.stderr);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let story = Story::new();
    story.try_select(&sample(), "/dev/full", &["--budget", "5%"]).refused("full disk", &[5]);
}

#[test]
fn shards_are_verified_one_by_one() {
    let story = Story::new();
    let (out, cache) = (format!("{}/", story.at("out")), story.at("cache"));
    let summary = story.select(&sample(), &out, &["--budget", "5%", "--shard-rows", "40"]);
    assert_eq!(summary["outputs"].as_array().map(Vec::len), Some(3));
    story.curate(&["verify", &out, "--cache", &cache]).ok();
    let shard = story.at("out/part-00001.parquet");
    let mut bytes = fs::read(&shard).expect("a shard");
    bytes[100] ^= 1;
    fs::write(&shard, bytes).expect("the shard can be written");
    assert_eq!(story.curate(&["verify", &out, "--cache", &cache]).code, 3);
}

#[test]
fn files_of_different_shapes_are_named() {
    let story = Story::new();
    let alpaca = story.file("alpaca.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n".repeat(3));
    let turns =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"b\"}]}\n";
    let messages = story.file("messages.jsonl", turns.repeat(3));
    let cache = story.at("cache");
    let out = story.at("out.jsonl");
    let both: [&[&str]; 2] = [
        &["inspect", &alpaca, &messages, "--cache", &cache],
        &["select", &alpaca, &messages, "--budget", "2", "-o", &out, "--cache", &cache],
    ];
    for command in both {
        let said = story.curate(command);
        said.refused("two shapes", &[3]);
        let words = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("input/shapes") && words.contains("is alpaca") && words.contains("is messages"),
            "{words}"
        );
    }
}

#[test]
fn inspect_counts_bad_rows_and_shows_the_first() {
    let story = Story::new();
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let input =
        story.file("in.jsonl", format!("{good}{{\"prompt\": \n{good}{{\"prompt\": null, \"completion\": \"c\"}}\n"));
    let said = story.curate(&["inspect", &input, "--json", "--cache", &story.at("cache")]).json();
    assert_eq!((&said["rows"], &said["skipped_rows"]), (&4.into(), &2.into()));
    let bad: Vec<&str> = said["bad_rows"].as_array().expect("bad rows").iter().filter_map(|bad| bad.as_str()).collect();
    assert!(bad.len() == 2 && bad[0].contains("line 2") && bad[1].contains("null"), "{bad:?}");
    let words = story.curate(&["inspect", &input, "--cache", &story.at("cache")]).ok().stdout;
    assert!(words.contains("2 unreadable rows (50.0%)") && words.contains("line 2"), "{words}");
}

#[test]
fn control_characters_reach_no_terminal() {
    let story = Story::new();
    let evil = "x\u{1b}]0;title\u{7}\u{1b}[2Jy\u{9b}31m\u{0}z";
    let row = serde_json::json!({"prompt": evil, "completion": evil}).to_string() + "\n";
    let input = story.file("in.jsonl", row.repeat(4));
    let (out, cache) = (story.at("out.jsonl"), story.at("cache"));
    story.select(&input, &out, &["--budget", "1"]);
    for command in
        [&["inspect", &input, "--cache", &cache][..], &["explain", &out, "--row", "1", "--cache", &cache][..]]
    {
        let words = story.curate(command).ok().stdout;
        assert!(!words.chars().any(|c| c.is_control() && c != '\n'), "{words:?}");
        assert!(words.contains("\\u{1b}"), "{words}");
    }
}

#[test]
fn rows_without_answers_or_without_text_are_spoken_of() {
    let story = Story::new();
    let line = |i: usize| format!("{{\"question\": \"ask {i}\", \"n\": {i}}}\n");
    let input = story.file("in.jsonl", (0..10).map(line).collect::<String>());
    let said = story.try_select(&input, &story.at("out.jsonl"), &["--budget", "2"]).ok();
    assert!(
        said.stderr.contains("no answers: 100% of rows") && said.stderr.contains("--map response=COLUMN"),
        "{}",
        said.stderr
    );
    let table = story.try_select(&input, &story.at("table.jsonl"), &["--budget", "2", "--format", "table"]);
    table.refused("vectors of no text", &[3]);
    assert!(table.stderr.contains("embedding/no-text"), "{}", table.stderr);
    story.select(&input, &story.at("random.jsonl"), &["--budget", "2", "--format", "table", "--method", "random"]);
}
