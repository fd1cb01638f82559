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

/// Kill a run when a checkpoint is there; then go on.
fn kill_and_resume(desk: &Desk, out: &str, checkpoint: &str, args: &[&str]) {
    let folder = desk.story.at(out);
    let fixed = ["train", &desk.rows, "--model", &desk.model, "-o", &folder, "--cache", &desk.cache];
    let mut command = desk.story.command(&[&fixed[..], args].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let deadline = Instant::now() + Duration::from_mins(2);
    while !fs::exists(format!("{folder}/{checkpoint}")).unwrap_or(false) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("a process to kill");
    child.wait().expect("an end");
    desk.train(out, &[args, &["--resume"]].concat()).ok();
}

#[test]
fn rounds_go_on_after_a_kill_and_can_be_checked() {
    let desk = Desk::new();
    let rounds = ["--from-scratch", "--lr", "3e-3", "--batch-size", "8", "--max-steps", "40", "--rounds", "4"];
    let method = ["--online", "kmeans-refine", "--set", "k=4", "--budget", "80"];
    for (name, more) in
        [("on", &["--set", "feedback=perplexity"][..]), ("anew", &["--set", "feedback=loss-drop", "--restart"][..])]
    {
        let args = [&rounds[..], &method[..], more].concat();
        let (whole, killed) = (format!("{name}-whole"), format!("{name}-killed"));
        let done = desk.train(&whole, &args).json();
        assert_eq!(done["online"]["distinct_rows"], 80, "{name}");
        kill_and_resume(&desk, &killed, "checkpoint-1", &args);
        same(&desk, &whole, &killed);
        desk.story.curate(&["verify", &desk.story.at(&killed), "--cache", &desk.cache]).ok();
    }
}

#[test]
fn answers_go_on_after_a_kill() {
    let desk = Desk::new();
    let fresh = ["--from-scratch", "--lr", "3e-3", "--batch-size", "32", "--max-steps", "60"];
    desk.train("warm", &fresh).ok();
    let warm = Desk { model: desk.story.at("warm/model"), ..desk };
    let options = ["-O", "grpo.judge=number", "-O", "grpo.num_generations=4", "-O", "grpo.max_completion_length=4"];
    let rest = ["--candidates", "64", "--batch-size", "16", "--lr", "1e-3", "--max-steps", "12", "-O", "save_steps=2"];
    let args = [&["--grpo", "--online", "mopps"][..], &options[..], &rest[..]].concat();
    warm.train("whole", &args).ok();
    let rewards = log(&warm, "whole").into_iter().flat_map(|line| {
        line["signals"]["signal.reward"]
            .as_array()
            .expect("rewards")
            .iter()
            .filter_map(Value::as_f64)
            .collect::<Vec<_>>()
    });
    assert!(rewards.filter(|reward| *reward > 0.0).count() > 3, "the model never answers rightly");
    kill_and_resume(&warm, "killed", "checkpoint-4", &args);
    same(&warm, "whole", "killed");
    warm.story.curate(&["verify", &warm.story.at("killed"), "--cache", &warm.cache]).ok();
}

#[test]
fn methods_that_look_at_other_rows_or_another_model() {
    let desk = Desk::new();
    let target = questions(&desk.story, "target.parquet", 16, Side::Test);
    online(&desk, "greats", "greats", &["--target", &target]).ok();
    online(&desk, "aimless", "greats", &[]).refused("no target", &[2]);
    desk.train("reference", &["--from-scratch", "--lr", "3e-3", "--max-steps", "8", "--seed", "5"]).ok();
    let reference = desk.story.at("reference/model");
    let rho = ["--reference", &reference, "--threads", "1"];
    online(&desk, "rho", "rho-loss", &rho).ok();
    online(&desk, "rho-2", "rho-loss", &["--reference", &reference, "--threads", "2", "-O", "save_steps=5"]).ok();
    same(&desk, "rho", "rho-2");
    for run in ["greats", "rho"] {
        desk.story.curate(&["verify", &desk.story.at(run), "--cache", &desk.cache]).ok();
    }
    let alone = online(&desk, "alone", "rho-loss", &[]);
    alone.refused("no reference", &[2]);
    assert!(alone.stderr.contains("signal.loss_reference") && alone.stderr.contains("--reference"), "{}", alone.stderr);
    // Other weights under the same name make another run.
    let other = ["--from-scratch", "--lr", "3e-3", "--max-steps", "9", "--seed", "6", "--overwrite"];
    desk.train("reference", &other).ok();
    online(&desk, "rho-2", "rho-loss", &["--reference", &reference, "--resume"]).refused("another reference", &[2]);
}

#[test]
fn what_a_method_wants_to_hear_is_said_by_somebody() {
    let desk = Desk::new();
    let refused = |method: &[&str], column: &str| {
        let said = desk.train("deaf", &[&TWELVE[..], &["--online"], method].concat());
        said.refused(column, &[2]);
        assert!(said.stderr.contains(column) && said.stderr.contains("help: "), "{}", said.stderr);
    };
    refused(&["mopps"], "signal.successes");
    refused(&["kmeans-refine", "--set", "feedback=loss-drop"], "signal.loss_before");
    refused(&["kmeans-refine", "--set", "feedback=reward"], "signal.reward");
}

#[test]
fn a_reward_may_be_a_column_of_the_rows() {
    let desk = Desk::new();
    let row = |i: u64| {
        let reward = (i * 37 % 11) as f64 / 4.0;
        serde_json::json!({"prompt": format!("max {i} 3 = "), "completion": i.max(3).to_string(), "signal.reward": reward})
    };
    let rows: Vec<String> = (0..60).map(|i| row(i).to_string()).collect();
    let desk = Desk { rows: desk.story.file("rated.jsonl", rows.join("\n")), ..desk };
    let method =
        ["--online", "kmeans-refine", "--set", "feedback=reward", "--set", "k=3", "--rounds", "3", "--budget", "30"];
    desk.train("rated", &[&method[..], &["--from-scratch", "--lr", "1e-3", "--max-steps", "2"]].concat()).ok();
    desk.story.curate(&["verify", &desk.story.at("rated"), "--cache", &desk.cache]).ok();
}

#[test]
fn a_dry_run_says_what_the_loop_would_do() {
    let desk = Desk::new();
    let said = online(&desk, "dry", "uds", &["--dry-run"]).json();
    let told = &said["online"];
    assert_eq!((&said["steps"], &told["candidates"], &told["rows"]), (&12.into(), &32.into(), &8.into()));
    assert_eq!(told["asked"], serde_json::json!(["signal.nuclear_norm", "signal.sketch"]));
    assert!(told["kept_bytes"].as_u64() > Some(0) && said["total_bytes"].as_u64() > told["kept_bytes"].as_u64());
    online(&desk, "dry", "rho-loss", &["--dry-run"]).refused("no reference", &[2]);
    assert!(!fs::exists(desk.story.at("dry")).unwrap_or(true), "a dry run writes nothing");
}
