//! The doctor, and what `--device` and `--vram` do, on a machine whose GPU, if it has one, is hidden.

use crate::story::{Said, Story, sample};
use serde_json::Value;

/// Run with no GPU to be seen: libraries of CUDA are found nowhere, and where the driver is one, it shows no device.
fn blind(story: &Story, args: &[&str]) -> Said {
    let mut command = story.command(args);
    command.env("CUDA_VISIBLE_DEVICES", "-1").env_remove("LD_LIBRARY_PATH");
    Said::of(command.output().expect("the binary starts"))
}

#[test]
fn without_a_gpu_the_processor_is_examined_and_it_says_why() {
    let story = Story::new();
    let found: Value = blind(&story, &["doctor", "--quick", "--json"]).json();
    assert_eq!(found["ok"], true, "{found}");
    assert!(found["no_gpu"].as_str().is_some_and(|why| !why.is_empty()), "{found}");
    assert_eq!(found["libraries"].as_array().map(Vec::len), Some(3));
    let patient = &found["patients"][0];
    assert!(patient["name"].as_str().is_some_and(|name| name.starts_with("cpu")), "{patient}");
    let each = |key: &str| patient[key].as_array().cloned().unwrap_or_default();
    assert!(each("checks").len() >= 10 && each("roofs").len() == 2 && each("figures").len() >= 5, "{patient}");
    for check in each("checks") {
        assert!(check["ok"] == true && check["error"].as_f64() <= check["bound"].as_f64(), "{check}");
    }
    for figure in each("figures") {
        assert!(figure["rate"].as_f64().is_some_and(|rate| rate > 0.0), "{figure}");
        assert!(figure["unit"].is_string() && figure["seconds"].is_f64(), "{figure}");
    }
}

#[test]
fn a_gpu_that_is_asked_for_and_missing_is_exit_code_four() {
    let story = Story::new();
    for device in ["cuda", "cuda:4095", "all"] {
        let said = blind(&story, &["doctor", "--device", device, "--json"]);
        said.refused(device, &[4]);
        let found: Value = serde_json::from_str(&said.stdout).expect("one JSON document");
        assert_eq!((&found["ok"], &found["error"]["exit_code"]), (&false.into(), &4.into()), "{found}");
        let missing = found["libraries"].as_array().expect("a list").iter().filter(|l| l["version"].is_null());
        assert!(missing.into_iter().all(|l| l["install"].is_string() || l["name"] == "compiler"), "{found}");
    }
    let said = blind(&story, &["doctor", "--device", "cuda"]);
    said.refused("in words", &[4]);
    assert!(said.stdout.contains("what a GPU needs") && said.stdout.contains("no GPU is used"), "{}", said.stdout);
}

#[test]
fn every_command_refuses_a_device_it_cannot_have() {
    let story = Story::new();
    let (input, out) = (sample(), story.at("out.parquet"));
    let model = story.at("tuned");
    let commands: [&[&str]; 5] = [
        &["select", &input, "--budget", "5%", "-o", &out],
        &["embed", &input, "-o", &out],
        &["cluster", &input, "-o", &out],
        &["score", &input, "--score", "perplexity", "-o", &out],
        &["train", &input, "--budget", "5%", "--model", "builtin", "-o", &model],
    ];
    let mut wrong = Vec::new();
    // A device that is not there is one thing, a word that is no device another.
    let devices = [("cuda", 4), ("cuda:4095", 4), ("cuda:all", 4), ("abacus", 2)];
    for (command, (device, code)) in commands.iter().flat_map(|c| devices.map(|d| (c, d))) {
        let args = [command, &["--device", device, "--no-cache"][..]].concat();
        let said = blind(&story, &args);
        wrong.extend(said.complaint(&[code]).map(|complaint| format!("{} {device}: {complaint}", command[0])));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(std::fs::metadata(&out).is_err() && std::fs::metadata(&model).is_err());
}

#[test]
fn auto_runs_on_the_processor_and_says_so_once() {
    let story = Story::new();
    let out = story.at("out.parquet");
    let said = blind(&story, &["select", &sample(), "--budget", "5%", "-o", &out, "--no-cache", "--vram", "4GiB"]).ok();
    assert_eq!(said.stderr.matches("device  cpu").count(), 1, "{}", said.stderr);
    let driver = std::path::Path::new("/proc/driver/nvidia/version").exists();
    assert!(driver || !said.stderr.contains("libcuda"), "the reasons are the doctor's: {}", said.stderr);
    let quiet = ["select", &sample(), "--budget", "5%", "-o", &out, "--no-cache", "--overwrite", "--device", "cpu"];
    assert!(!blind(&story, &quiet).ok().stderr.contains("device  cpu"));
    blind(&story, &["select", &sample(), "--budget", "5%", "-o", &out, "--vram", "lots"]).refused("vram", &[2]);
}

#[test]
fn help_teaches() {
    let help = Story::new().curate(&["doctor", "--help"]).ok().stdout;
    for word in ["--quick", "--device all", "exit code 4", "bound", "docs/gpu.md", "--vram"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}
