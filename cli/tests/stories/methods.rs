//! Every registered method does its work on real rows, and says what it is.

use crate::story::{Story, sample, selected};
use crate::tables;
use arrow::array::{ArrayRef, Float32Array};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Names of the methods of one kind.
fn named(story: &Story, kind: &str) -> Vec<String> {
    let listed = story.curate(&["methods", "--json"]).json();
    let all = listed.as_array().or_else(|| listed["methods"].as_array()).expect("a list of methods").clone();
    let text = |method: &Value, key: &str| method[key].as_str().unwrap_or_default().to_owned();
    all.iter().filter(|m| text(m, "kind") == kind).map(|m| text(m, "name")).collect()
}

/// Methods that want a target.
const TARGETED: [&str; 3] = ["gotd", "goracs", "dsir"];

#[test]
fn every_method_meets_its_budget() {
    let story = Story::new();
    let input = story.at("scored.parquet");
    let column =
        |m: u16| Arc::new(Float32Array::from_iter_values((0..2000u16).map(|row| 1.0 + f32::from(row % m)))) as ArrayRef;
    let scored = tables::with_quality(&tables::read(&sample()), 0.5);
    let said = [("signal.grad_norm", 7), ("signal.loss", 11), ("signal.loss_alone", 13), ("score.instructmining", 17)];
    tables::write(&input, &said.iter().fold(scored, |table, (name, m)| tables::with_column(&table, name, column(*m))));
    let target = story.at("target.parquet");
    tables::write(&target, &tables::read(&sample()).slice(100, 50));
    let methods = named(&story, "selector");
    assert!(methods.len() >= 4, "{methods:?}");
    for method in methods {
        let out = story.at(&format!("{method}.parquet"));
        let mut more = vec!["--budget", "40", "--method", &method, "--quality", "column:quality"];
        if TARGETED.contains(&method.as_str()) {
            story.try_select(&input, &out, &more).refused(&format!("{method} without a target"), &[2]);
            more.extend(["--target", &target]);
        }
        assert_eq!(selected(&story.select(&input, &out, &more)), 40, "{method}");
        let rows = tables::integers(&tables::read(&out), "curate_row");
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), 40, "{method} chose a row twice");
        assert!(rows.iter().all(|&row| row < 2000), "{method} chose a row that is not there");
    }
}

#[test]
fn every_filter_runs_before_a_method() {
    let story = Story::new();
    for filter in named(&story, "filter") {
        let out = story.at(&format!("{filter}.parquet"));
        let summary = story.select(&sample(), &out, &["--budget", "40", "--method", "random", "--filter", &filter]);
        assert_eq!(selected(&summary), 40, "{filter}");
    }
}

#[test]
fn every_method_describes_itself() {
    let story = Story::new();
    for method in named(&story, "selector").into_iter().chain(named(&story, "filter")) {
        let described = story.curate(&["methods", &method, "--json"]).json();
        assert!(described.to_string().contains(&method));
        let said = story.curate(&["methods", &method]).ok();
        assert!(said.stdout.contains(&method) || said.stderr.contains(&method), "{method}");
    }
    let unknown = story.curate(&["methods", "kmeans-qualty"]);
    unknown.refused("unknown method", &[2]);
    assert!(unknown.stderr.contains("kmeans-quality"), "the hint names the methods: {}", unknown.stderr);
}

#[test]
fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let story = Story::new();
    let (sample, out) = (sample(), story.at("out.parquet"));
    let select = |more: &[&str]| story.try_select(&sample, &out, &[&["--budget", "5"], more].concat());
    let cases = [
        ("methods", story.curate(&["methods", "kmean"]), "did you mean 'kmeans-quality'"),
        ("method", select(&["-m", "kmean-quality"]), "did you mean 'kmeans-quality'"),
        ("parameter", select(&["--set", "kk=1"]), "did you mean 'k'"),
        ("format", select(&["--format", "sharegtp"]), "did you mean 'sharegpt'"),
        ("online method", select(&["-m", "uds"]), "curate train --online uds"),
    ];
    for (what, said, hint) in cases {
        said.refused(what, &[2]);
        let flat = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(hint), "{what}: {}", said.stderr);
    }
}

#[test]
fn a_command_line_that_cannot_be_read_is_json_where_json_was_asked_for() {
    let story = Story::new();
    let said = story.curate(&["select", "--buget", "5", "--json"]);
    said.refused("an unknown flag", &[2]);
    let error: Value = serde_json::from_str(&said.stdout).expect("one JSON document");
    assert_eq!((&error["error"]["code"], &error["error"]["exit_code"]), (&"flag/invalid".into(), &2.into()), "{error}");
    assert!(error["error"]["message"].as_str().is_some_and(|text| text.contains("--buget")), "{error}");
    let plain = story.curate(&["select", "--buget", "5"]);
    assert!(plain.code == 2 && plain.stdout.is_empty() && plain.stderr.contains("--budget"), "{}", plain.stderr);
    assert!(story.curate(&["--help", "--json"]).ok().stdout.contains("Start here"));
}

#[test]
fn a_reader_that_goes_away_is_no_defect() {
    use std::process::Stdio;
    let story = Story::new();
    for args in [["completions", "bash"].as_slice(), &["man"], &["methods", "--markdown"], &["select", "--help"]] {
        let mut child =
            story.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        drop(child.stdout.take());
        let done = child.wait_with_output().expect("the binary ends");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && said.is_empty(), "{args:?}: {said}");
    }
    assert!(story.curate(&["completions", "bash"]).ok().stdout.contains("_curate()"));
}

#[test]
fn help_of_run_describes_plan_files() {
    let help = Story::new().curate(&["run", "--help"]).ok().stdout;
    for word in ["[select]", "budget", "[output]", "overwrite", "[online]", "window_rows", "chat_template", "--options"]
    {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn less_memory_than_the_program_needs_is_refused() {
    let story = Story::new();
    let said = story.try_select(&sample(), &story.at("out.parquet"), &["--budget", "5", "--memory", "10MiB"]);
    said.refused("too little memory", &[2]);
    assert!(said.stderr.contains("64") && said.stderr.contains("memory/too-small"), "{}", said.stderr);
}

#[test]
fn methods_of_variety_find_every_planted_topic() {
    let story = Story::new();
    let corpus = curate_datasets::planted(400, 5, 7).expect("a corpus");
    let input = story.at("planted.parquet");
    tables::write(&input, &corpus.batch);
    for method in ["kmeans-quality", "k-center", "facility-location"] {
        let out = story.at(&format!("{method}.parquet"));
        story.select(&input, &out, &["--budget", "40", "--method", method]);
        let rows = tables::integers(&tables::read(&out), "curate_row");
        let found: BTreeSet<usize> =
            rows.iter().map(|&row| corpus.topics[usize::try_from(row).expect("a row")]).collect();
        assert_eq!(found.len(), 5, "{method} missed a topic: {found:?}");
    }
}

#[test]
fn a_changed_target_is_noticed() {
    let story = Story::new();
    let (target, out, cache) = (story.at("target.parquet"), story.at("out.parquet"), story.at("cache"));
    tables::write(&target, &tables::read(&sample()).slice(100, 20));
    story.select(&sample(), &out, &["--budget", "10", "--method", "gotd", "--target", &target]);
    story.curate(&["verify", &out, "--cache", &cache]).ok();
    tables::write(&target, &tables::read(&sample()).slice(500, 20));
    let checks = story.curate(&["verify", &out, "--cache", &cache, "--json"]);
    assert_eq!(checks.code, 3, "{}", checks.stderr);
    assert!(checks.stdout.contains("\"what\":\"target\",\"ok\":false"), "{}", checks.stdout);
}

/// `just docs` writes the page.
#[test]
fn the_page_of_methods_is_current() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/methods.md");
    let Ok(written) = std::fs::read_to_string(page) else { return };
    let current = Story::new().curate(&["methods", "--markdown"]).ok().stdout;
    assert!(written.trim_end() == current.trim_end(), "docs/methods.md is out of date: run 'just docs'");
}
