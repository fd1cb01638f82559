//! What can be done with a model before and after training, without training.

use crate::train::{Desk, FRESH, loss};
use serde_json::Value;
use std::fs;

/// A base and what training made of it.
fn pair() -> (Desk, String, String) {
    let desk = Desk::new();
    desk.train("fresh", &FRESH).ok();
    let base = desk.story.at("fresh/model");
    let out = desk.story.at("run");
    let args = ["train", &desk.rows, "--model", &base, "-o", &out, "--lr", "5e-3", "--max-steps", "8"];
    desk.story.curate(&[&args[..], &["--cache", &desk.cache]].concat()).ok();
    let tuned = desk.story.at("run/model");
    (desk, base, tuned)
}

fn weights(desk: &Desk, args: &[&str]) -> crate::story::Said {
    desk.story.curate(&[&["weights"][..], args, &["--json", "--cache", &desk.cache]].concat())
}

fn tensors(folder: &str) -> Vec<u8> {
    fs::read(format!("{folder}/model.safetensors")).expect("weights")
}

#[test]
fn scaled_grafted_and_put_together_again() {
    let (desk, base, tuned) = pair();
    let both = ["--base", &base, "--tuned", &tuned];
    let at = |name: &str| desk.story.at(name);
    let tool = |name: &str, out: &str, more: &[&str]| {
        weights(&desk, &[&[name][..], &both[..], &["-o", &at(out)], more].concat()).json()
    };
    // the ends are the models themselves
    tool("lines", "all", &["--alpha", "1"]);
    tool("graft", "none", &["--share", "0"]);
    tool("graft", "whole", &["--share", "1", "--everything"]);
    assert!(tensors(&at("all")) == tensors(&tuned) && tensors(&at("whole")) == tensors(&tuned));
    assert!(tensors(&at("none")) == tensors(&base));
    // in between something between
    let lines = tool("lines", "half", &["--alpha", "0.5"]);
    assert!(lines["changed"].as_u64() > Some(0) && lines["done"]["config"]["alpha"] == 0.5);
    let losses: Vec<f64> = ["fresh/model", "half", "run/model"].iter().map(|m| loss(&desk.eval(m, &[]))).collect();
    assert!(losses[1] < losses[0] && losses[2] < losses[1], "{losses:?}");
    let grafted = tool("graft", "part", &["--share", "0.1", "--everything"]);
    let (changed, entries) =
        (grafted["changed"].as_f64().expect("a count"), grafted["entries"].as_f64().expect("a count"));
    assert!((changed / entries - 0.1).abs() < 1e-3, "{changed} of {entries}");
    for file in ["config.json", "tokenizer.json", "curate.json"] {
        assert!(fs::metadata(format!("{}/{file}", at("part"))).is_ok(), "no {file}");
    }
    // a change as a file: exact there and back, and what a sparse run takes as its mask
    let delta = tool("delta", "change.safetensors", &[]);
    let found = weights(&desk, &[&["sparsity"][..], &both[..]].concat()).json();
    assert_eq!(
        delta["changed"],
        Value::from(found["report"]["tensors"].as_array().map(|t| t.iter().map(count).sum::<u64>()))
    );
    let (again, file) = (at("again"), at("change.safetensors"));
    weights(&desk, &["apply", "--base", &base, "--delta", &file, "-o", &again]).ok();
    assert!(tensors(&again) == tensors(&tuned));
    tool("delta", "small.safetensors", &["--share", "0.01"]);
    let (mask, sparse) = (format!("tuning.sparse.mask={}", at("small.safetensors")), at("sparse"));
    let args = ["train", &desk.rows, "--model", &base, "-o", &sparse, "--lr", "1e-3", "--max-steps", "2", "-O", &mask];
    desk.story.curate(&[&args[..], &["--cache", &desk.cache]].concat()).ok();
    let args = ["sparsity", "--base", &base, "--tuned", &at("sparse/model")];
    assert!(weights(&desk, &args).json()["report"]["unchanged"].as_f64() > Some(0.989));
}

fn count(tensor: &Value) -> u64 {
    tensor["changed"].as_u64().expect("a count")
}

#[test]
fn an_adapter_is_scaled_as_an_adapter_and_reported_like_a_model() {
    let (desk, base, _) = pair();
    let out = desk.story.at("lora");
    let args = ["train", &desk.rows, "--model", &base, "-o", &out, "--lora", "2", "--lr", "1e-2", "--max-steps", "6"];
    desk.story.curate(&[&args[..], &["--cache", &desk.cache]].concat()).ok();
    let (adapter, scaled) = (desk.story.at("lora/adapter"), desk.story.at("scaled"));
    let pair = ["--base", &base, "--tuned", &adapter];
    weights(&desk, &[&["lines"][..], &pair[..], &["--alpha", "0.3", "-o", &scaled]].concat()).ok();
    let at = |adapter: &str| loss(&desk.eval("fresh/model", &["--adapter", adapter]));
    let (none, part, all) = (loss(&desk.eval("fresh/model", &[])), at(&scaled), at(&adapter));
    assert!(all < part && part < none, "{all} {part} {none}");
    let found = weights(&desk, &[&["sparsity", "--ranks"][..], &pair[..]].concat()).json();
    let tensors = found["report"]["tensors"].as_array().expect("tensors");
    let q = tensors.iter().find(|t| t["name"] == "model.layers.0.self_attn.q_proj.weight").expect("a matrix");
    assert_eq!(q["rank"], 2, "{q}");
    let words = desk.story.curate(&[&["weights", "sparsity"][..], &pair[..], &["--cache", &desk.cache]].concat()).ok();
    assert!(words.stdout.contains("q_proj") && words.stdout.contains("unchanged"), "{}", words.stdout);
}

#[test]
fn what_must_not_be_done_is_refused() {
    let (desk, base, tuned) = pair();
    let at = |name: &str| desk.story.at(name);
    let pair = ["--base", &base, "--tuned", &tuned];
    let refused = |name: &str, args: &[&str], codes: &[i32]| weights(&desk, args).refused(name, codes);
    let with = |tool: &str, more: &[&str]| -> Vec<String> {
        [&[tool][..], &pair[..], more].concat().iter().map(|&arg| arg.to_owned()).collect()
    };
    let cases: [(&str, Vec<String>, i32); 6] = [
        ("there already", with("lines", &["-o", &base]), 2),
        ("alpha of 3", with("lines", &["--alpha", "3", "-o", &at("x")]), 2),
        ("no such outer", with("lines", &["--outer", "two", "-o", &at("x")]), 2),
        ("share of 2", with("graft", &["--share", "2", "-o", &at("x")]), 2),
        ("a folder for a file", with("delta", &["-o", &base]), 2),
        ("no such model", vec!["sparsity".into(), "--base".into(), base.clone(), "--tuned".into(), at("nowhere")], 2),
    ];
    for (name, args, code) in cases {
        refused(name, &args.iter().map(String::as_str).collect::<Vec<_>>(), &[code]);
        assert!(fs::metadata(at("x")).is_err(), "{name} left something");
    }
    // never replaces what is no model, and a change fits only its own base
    desk.story.file("mine/letter.txt", "dear");
    let args = with("lines", &["-o", &at("mine"), "--overwrite"]);
    refused("no model", &args.iter().map(String::as_str).collect::<Vec<_>>(), &[2]);
    assert!(fs::metadata(at("mine/letter.txt")).is_ok());
    let file = at("change.safetensors");
    weights(&desk, &[&["delta"][..], &pair[..], &["-o", &file]].concat()).ok();
    refused("another base", &["apply", "--base", &tuned, "--delta", &file, "-o", &at("x")], &[3]);
    refused(
        "no change",
        &["apply", "--base", &tuned, "--delta", &format!("{base}/model.safetensors"), "-o", &at("x")],
        &[3],
    );
    weights(&desk, &[&["lines"][..], &pair[..], &["-o", &at("x")]].concat()).ok();
    weights(&desk, &[&["lines"][..], &pair[..], &["-o", &at("x"), "--alpha", "0", "--overwrite"]].concat()).ok();
    assert!(tensors(&at("x")) != tensors(&tuned));
}
