//! The same question gives the same answer, bit for bit: whatever the threads, the cache and the cut of the files.

use crate::story::{Story, digest, sample, selected};
use crate::tables;
use std::fs;

fn bytes(path: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn one_thread_and_two() {
    let story = Story::new();
    let run = |threads: &str| {
        let (out, cache) = (story.at(&format!("{threads}.parquet")), story.at(&format!("cache-{threads}")));
        let summary = story.select(&sample(), &out, &["--budget", "5%", "--cache", &cache, "--threads", threads]);
        assert_eq!(selected(&summary), 100);
        (digest(&summary), summary["outputs"][0]["blake3"].clone(), bytes(&out))
    };
    assert!(run("1") == run("2"), "the number of threads changed the result");
}

#[test]
fn with_a_warm_cache_and_after_it_was_deleted() {
    let story = Story::new();
    let run = |name: &str| {
        let out = story.at(name);
        let summary = story.select(&sample(), &out, &["--budget", "5%"]);
        (digest(&summary), bytes(&out))
    };
    let cold = run("cold.parquet");
    assert!(cold == run("warm.parquet"), "the cache changed the result");
    fs::remove_dir_all(story.at("cache")).expect("the cache is where --cache says");
    assert!(cold == run("again.parquet"), "deleting the cache changed the result");
}

#[test]
fn one_file_and_seven() {
    let story = Story::new();
    let rows = tables::read(&sample());
    tables::write(&story.at("one.parquet"), &rows);
    fs::create_dir(story.at("seven")).expect("a new folder");
    for (i, cut) in [0, 1, 8, 300, 777, 1000, 1999, rows.num_rows()].windows(2).enumerate() {
        tables::write(&story.at(&format!("seven/part-{i}.parquet")), &rows.slice(cut[0], cut[1] - cut[0]));
    }
    for method in ["kmeans-quality", "k-center", "random"] {
        let run = |input: &str| {
            let (input, out) = (story.at(input), story.at(&format!("{method}-{input}.out.parquet")));
            let summary = story.select(&input, &out, &["--budget", "5%", "--method", method]);
            (digest(&summary), bytes(&out))
        };
        assert!(run("one.parquet") == run("seven"), "{method}: cutting the input changed the result");
    }
}

#[test]
fn a_file_and_standard_input() {
    let story = Story::new();
    let text = tables::lines(&curate_datasets::planted(200, 4, 1).expect("a corpus").batch);
    let file = story.file("rows.jsonl", &text);
    let from_file = story.select(&file, &story.at("file.jsonl"), &["--budget", "20"]);
    let args = story.select_args("-", &story.at("pipe.jsonl"), &["--budget", "20"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let from_pipe = story.curate_reading(&args, &text).json();
    assert_eq!(digest(&from_file), digest(&from_pipe));
    assert!(bytes(&story.at("file.jsonl")) == bytes(&story.at("pipe.jsonl")));
}

#[test]
fn another_seed_is_another_draw() {
    let story = Story::new();
    let run = |name: &str, seed: &str| {
        digest(&story.select(&sample(), &story.at(name), &["--budget", "5%", "--method", "random", "--seed", seed]))
    };
    let first = run("a.parquet", "1");
    assert_eq!(first, run("b.parquet", "1"));
    assert_ne!(first, run("c.parquet", "2"));
}
