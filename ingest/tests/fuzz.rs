//! No byte sequence makes the front door panic.

use crate::Desk;
use curate_ingest::{InputSpec, OnBadRow};
use proptest::prelude::*;

fn swallow(name: &str, bytes: &[u8]) {
    let desk = Desk::new();
    for on_bad_row in [OnBadRow::Fail, OnBadRow::Skip] {
        let path = desk.put(name, bytes);
        let spec = InputSpec { on_bad_row, max_row_bytes: 512, ..InputSpec::of(path) };
        if let Err(error) = desk.read(&spec) {
            assert!(!error.code().is_empty());
        }
    }
}

/// Lines that look like data.
fn row() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec![
        "\"x\"",
        "1",
        "1.5",
        "null",
        "true",
        "[]",
        "{}",
        "[\"a\"]",
        "[{\"role\":\"user\",\"content\":\"c\"}]",
        "[{\"from\":\"gpt\",\"value\":2}]",
        "\"\\ud800\"",
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"c\"}]}]",
        "{\"a\":{\"b\":[null]}}",
        "[[\"a\",\"b\"]]",
        "[{\"input\":\"i\",\"output\":\"o\"}]",
        "99999999999999999999",
    ]);
    let key = prop::sample::select(vec![
        "text",
        "messages",
        "conversations",
        "prompt",
        "completion",
        "instruction",
        "input",
        "output",
        "instances",
        "history",
        "system",
        "tools",
        "question",
        "answer",
        "turns",
        "data_source",
        "x",
    ]);
    prop::collection::vec((key, value), 0..5).prop_map(|pairs| {
        let members: Vec<String> = pairs.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), name in prop::sample::select(vec!["x.jsonl", "x.json", "x.csv", "x.tsv", "x.arrow", "x.parquet", "x", "x.gz", "x.zst"])) {
        swallow(name, &bytes);
    }

    #[test]
    fn rows_of_any_shape(rows in prop::collection::vec(row(), 1..6), name in prop::sample::select(vec!["x.jsonl", "x.json"])) {
        swallow(name, rows.join("\n").as_bytes());
    }

    #[test]
    fn predicates(sql in "[a-z0-9 ()'<>=*,.+%-]{0,40}") {
        let desk = Desk::new();
        let path = desk.put("x.jsonl", "{\"text\":\"a\",\"n\":1}\n{\"text\":\"b\",\"n\":null}\n");
        let _ = desk.read(&InputSpec { where_: Some(sql), ..InputSpec::of(path) });
    }
}
