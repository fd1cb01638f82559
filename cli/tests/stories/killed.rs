//! A training run that is killed outright, while it learns and while it saves, goes on to the same bits.

use crate::train::{Desk, FRESH};
use std::fs;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const STEPS: &str = "40";

/// What a run was doing when it was killed.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Learning,
    Saving,
}

fn start(desk: &Desk, base: &str) -> Child {
    let out = desk.story.at("broken");
    let args = [&["train", &desk.rows, "--model", base, "-o", &out, "--cache", &desk.cache][..], &OPTIONS[..]].concat();
    desk.story.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

const OPTIONS: [&str; 11] = [
    "--lr",
    "3e-3",
    "--batch-size",
    "16",
    "--max-steps",
    STEPS,
    "-O",
    "save_steps=1",
    "-O",
    "save_total_limit=3",
    "--resume",
];

/// Whether something lies there that is not whole yet.
fn half_saved(desk: &Desk) -> bool {
    desk.story.names("broken").iter().any(|name| name.starts_with(".partial-"))
}

/// The newest step that has a folder.
fn newest(desk: &Desk) -> u64 {
    let names = desk.story.names("broken");
    names.iter().filter_map(|name| name.strip_prefix("checkpoint-")?.parse().ok()).max().unwrap_or(0)
}

/// Kill the run once it has gone beyond what it began with: what it was doing, or nothing when it had ended by itself.
fn kill(desk: &Desk, child: &mut Child, when: At, millis: u64) -> Option<At> {
    let (before, begun) = (newest(desk), Instant::now());
    while begun.elapsed() < Duration::from_mins(1) {
        if child.try_wait().expect("a child").is_some() {
            return None;
        }
        let beyond = newest(desk) > before;
        if when == At::Saving && beyond && half_saved(desk) {
            break;
        }
        if when == At::Learning && beyond {
            sleep(Duration::from_millis(millis));
            break;
        }
        sleep(Duration::from_micros(200));
    }
    child.kill().expect("the child can be killed");
    child.wait().expect("the child ends");
    let saving = half_saved(desk);
    Some(if saving { At::Saving } else { At::Learning })
}

#[test]
fn killed_while_learning_and_while_saving() {
    let desk = Desk::new();
    desk.train("fresh", &FRESH).ok();
    let base = desk.story.at("fresh/model");
    let calm = desk.story.at("calm");
    let whole =
        [&["train", &desk.rows, "--model", &base, "-o", &calm, "--cache", &desk.cache][..], &OPTIONS[..]].concat();
    desk.story.curate(&whole).ok();
    let mut kills = Vec::new();
    for (turn, millis) in [0, 3, 7, 1, 13, 5, 2, 11].into_iter().enumerate() {
        let when = if turn % 2 == 0 { At::Saving } else { At::Learning };
        let (before, mut child) = (newest(&desk), start(&desk, &base));
        let Some(at) = kill(&desk, &mut child, when, millis) else { break };
        assert!(newest(&desk) > before, "a kill takes checkpoints away");
        kills.push(at);
    }
    assert!(kills.len() > 3 && kills.contains(&At::Saving), "the run ended too soon to be killed often enough");
    let again = start(&desk, &base).wait().expect("the child ends");
    assert!(again.success());
    let bytes = |name: &str| fs::read(desk.story.at(name)).expect("a file");
    for file in ["model/model.safetensors", "checkpoint-40/optimizer.safetensors", "checkpoint-40/trainer_state.json"] {
        assert!(bytes(&format!("calm/{file}")) == bytes(&format!("broken/{file}")), "{file} differs");
    }
    let losses = |out: &str| -> Vec<serde_json::Value> {
        let log = String::from_utf8(bytes(&format!("{out}/log.jsonl"))).expect("text");
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["loss"].clone()).collect()
    };
    assert_eq!(losses("calm"), losses("broken"));
    assert!(!half_saved(&desk), "what a killed run left behind is still there");
}
