//! Batches chosen while a model learns: the same for any number of threads, resumed to the bit, checked from the log.

use crate::train::{Desk, questions};
use curate_datasets::tasks::Side;
use serde_json::Value;
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A run of twelve steps of eight rows out of thirty-two.
const TWELVE: [&str; 9] =
    ["--from-scratch", "--lr", "3e-3", "--batch-size", "8", "--candidates", "32", "--max-steps", "12"];

fn online(desk: &Desk, out: &str, method: &str, more: &[&str]) -> crate::story::Said {
    desk.train(out, &[&["--online", method][..], &TWELVE[..], more].concat())
}

fn bytes(desk: &Desk, path: &str) -> Vec<u8> {
    fs::read(desk.story.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The log without seconds.
fn log(desk: &Desk, out: &str) -> Vec<Value> {
    let text = String::from_utf8(bytes(desk, &format!("{out}/online.jsonl"))).expect("text");
    let line = |line: &str| {
        let mut value: Value = serde_json::from_str(line).expect("a line of JSON");
        let map = value.as_object_mut().expect("an object");
        map.retain(|key, _| !key.ends_with("_s"));
        value
    };
    text.lines().map(line).collect()
}

fn same(desk: &Desk, one: &str, two: &str) {
    assert_eq!(log(desk, one), log(desk, two), "{one} and {two} chose otherwise");
    let model = |out: &str| bytes(desk, &format!("{out}/model/model.safetensors"));
    assert!(model(one) == model(two), "{one} and {two} have other weights");
}

#[test]
fn every_method_gives_the_same_bits_with_any_threads_and_resumed() {
    let desk = Desk::new();
    for method in ["max-loss", "uds", "random-k", "k-center"] {
        let (one, two) = (format!("{method}-1"), format!("{method}-2"));
        let done = online(&desk, &one, method, &["--threads", "1", "--eval-share", "0.2", "-O", "eval_steps=4"]).json();
        assert_eq!((&done["online"]["trained_rows"], &done["online"]["rows"]), (&96.into(), &8.into()), "{method}");
        assert_eq!(done["online"]["evals"].as_array().map(Vec::len), Some(3), "{method}");
        let rest = ["--threads", "2", "--eval-share", "0.2", "-O", "eval_steps=4", "-O", "save_steps=5"];
        online(&desk, &two, method, &rest).ok();
        same(&desk, &one, &two);
        // As if the run had been killed after step 10, with lines of steps that no checkpoint holds in its log.
        fs::remove_dir_all(desk.story.at(&format!("{two}/checkpoint-12"))).expect("a checkpoint");
        fs::remove_dir_all(desk.story.at(&format!("{two}/model"))).expect("a model");
        let again = online(&desk, &two, method, &[&rest[..], &["--resume"]].concat()).json();
        assert_eq!(again["report"]["resumed_from"], 10, "{method}");
        same(&desk, &one, &two);
        desk.story.curate(&["verify", &desk.story.at(&two), "--cache", &desk.cache]).ok();
    }
}

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_been() {
    let desk = Desk::new();
    let forty = ["-O", "save_steps=3", "--max-steps", "40"];
    let args: Vec<&str> = TWELVE[..7].iter().copied().chain(forty).collect();
    let run = |out: &str, more: &[&str]| desk.train(out, &[&["--online", "max-loss"][..], &args[..], more].concat());
    run("whole", &[]).ok();
    let out = desk.story.at("killed");
    let fixed =
        ["train", &desk.rows, "--model", &desk.model, "-o", &out, "--cache", &desk.cache, "--online", "max-loss"];
    let mut command = desk.story.command(&[&fixed[..], &args[..]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let deadline = Instant::now() + Duration::from_mins(2);
    while !fs::exists(desk.story.at("killed/checkpoint-6")).unwrap_or(false) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a process to kill");
    child.wait().expect("an end");
    run("killed", &["--resume"]).ok();
    same(&desk, "whole", "killed");
}

#[test]
fn a_changed_log_is_found_out() {
    let desk = Desk::new();
    online(&desk, "run", "random-k", &[]).ok();
    let path = desk.story.at("run/online.jsonl");
    let text = fs::read_to_string(&path).expect("a log");
    let second: Value = serde_json::from_str(text.lines().nth(1).expect("two lines")).expect("JSON");
    let rows = second["rows"].to_string();
    let mut other = second["rows"].as_array().expect("rows").clone();
    other.reverse();
    fs::write(&path, text.replace(&rows, &Value::Array(other).to_string())).expect("the log can be written");
    let said = desk.story.curate(&["verify", &desk.story.at("run"), "--cache", &desk.cache]);
    assert_eq!(said.code, 3, "{}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("from step 2 on"), "{}", said.stdout);
}

#[test]
fn what_a_loop_cannot_do_is_refused() {
    let desk = Desk::new();
    let fresh = ["--from-scratch", "--lr", "1e-3", "--max-steps", "3"];
    let cases: [(&str, &[&str]); 8] = [
        ("fewer candidates than rows", &["--online", "random-k", "--candidates", "4", "--batch-size", "8"]),
        ("no candidates", &["--online", "random-k", "--candidates", "0"]),
        ("candidates for nobody", &["--candidates", "64"]),
        ("a stream that ends early", &["--online", "random-k", "--candidates", "999", "--batch-size", "500"]),
        ("an unknown method", &["--online", "random-kk"]),
        ("an unknown parameter", &["--online", "random-k", "--set", "kk=3"]),
        ("a method with a target", &["--online", "gotd"]),
        ("packing", &["--online", "random-k", "--packing"]),
    ];
    let refusal = |(name, more): (&str, &[&str])| {
        let said = desk.train("bad", &[&fresh[..], more].concat());
        said.complaint(&[2, 3]).map(|complaint| format!("{name}: {complaint}"))
    };
    let wrong: Vec<String> = cases.into_iter().filter_map(refusal).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn one_candidate_a_step_and_candidates_beyond_the_corpus() {
    let desk = Desk::new();
    let fresh = ["--from-scratch", "--lr", "1e-3", "--max-steps", "4"];
    let one = ["--online", "random-k", "--candidates", "1", "--batch-size", "1"];
    desk.train("one", &[&fresh[..], &one[..]].concat()).ok();
    let all = ["--online", "max-loss", "--candidates", "100000", "--batch-size", "8"];
    let done = desk.train("all", &[&fresh[..], &all[..]].concat()).json();
    assert_eq!(done["online"]["offered_rows"], 4 * 240);
}

#[test]
fn another_run_is_not_resumed() {
    let desk = Desk::new();
    online(&desk, "run", "max-loss", &[]).ok();
    let refused = |more: &[&str], part: &str| {
        let said = online(&desk, "run", "max-loss", &[more, &["--resume"]].concat());
        said.refused(part, &[2]);
        assert!(said.stderr.contains(part), "{part}: {}", said.stderr);
    };
    refused(&["--seed", "7"], "seed");
    refused(&["-O", "adam_beta1=0.5"], "model");
    refused(&["-O", "window_rows=3"], "option");
    let tokenizer = desk.story.at("run/start/tokenizer.json");
    let text = fs::read_to_string(&tokenizer).expect("a tokenizer");
    fs::write(&tokenizer, text + " ").expect("the tokenizer can be written");
    refused(&[], "tokenizer");
}

#[test]
fn an_epoch_offers_every_row_once_whatever_the_window() {
    let desk = Desk::new();
    let files: Vec<String> =
        (0..4).map(|i| questions(&desk.story, &format!("part-{i}.parquet"), 25 + i, Side::Train)).collect();
    let total = (0..4).map(|i| 25 + i).sum::<usize>();
    for window in ["window_rows=1", "window_rows=60", "window_rows=1000"] {
        let out = desk.story.at(&window.replace('=', "-"));
        let fixed = ["--model", &desk.model, "-o", &out, "--cache", &desk.cache, "--from-scratch", "--lr", "1e-3"];
        let method =
            ["--online", "random-k", "--batch-size", "7", "--candidates", "7", "--epochs", "2", "--set", window];
        let inputs: Vec<&str> = files.iter().map(String::as_str).collect();
        desk.story.curate(&[&["train"][..], &inputs[..], &fixed[..], &method[..]].concat()).ok();
        let lines = log(&desk, &window.replace('=', "-"));
        for epoch in 0..2 {
            let of_epoch = lines.iter().filter(|line| line["epoch"] == epoch);
            let mut rows: Vec<u64> =
                of_epoch.flat_map(|line| line["rows"].as_array().expect("rows")).filter_map(Value::as_u64).collect();
            let offered = rows.len();
            rows.sort_unstable();
            rows.dedup();
            assert_eq!((rows.len(), offered), (total / 7 * 7, total / 7 * 7), "{window}, epoch {epoch}");
        }
    }
}
