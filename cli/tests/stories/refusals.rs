//! What cannot be done is refused: with the right exit code, in words, with a hint, and without leaving a file.

use crate::story::{Story, sample};
use crate::tables;
use std::fs;

const USAGE: &[i32] = &[2];
const DATA: &[i32] = &[3];
const USAGE_OR_DATA: &[i32] = &[2, 3];

/// Try each case; none may leave anything in the folder of outputs. All that is wrong is said at once.
fn refuse(story: &Story, cases: &[(&str, &str, &[&str], &[i32])]) {
    fs::create_dir_all(story.at("out")).expect("a new folder");
    let mut wrong = Vec::new();
    for (name, input, more, codes) in cases {
        let said = story.try_select(input, &story.at("out/picks.parquet"), more);
        wrong.extend(said.complaint(codes).map(|complaint| format!("{name}: {complaint}")));
        wrong.extend(story.names("out").iter().map(|left| format!("{name}: left {left}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn bad_budgets() {
    let all = [
        "0",
        "-1",
        "NaN",
        "5 percent",
        "",
        "0%",
        "101%",
        "-5%",
        "inf%",
        "NaN%",
        "1.5",
        "2001",
        "0tok",
        "99999999999999999999999",
    ];
    let story = Story::new();
    for budget in all {
        let flag = format!("--budget={budget}");
        refuse(&story, &[(&flag, &sample(), &[&flag], USAGE)]);
    }
}

#[test]
fn bad_inputs() {
    let story = Story::new();
    let whole = fs::read(sample()).expect("the sample");
    let missing = story.at("missing.parquet");
    let no_bytes = story.file("empty.parquet", "");
    let no_lines = story.file("empty.jsonl", "");
    let truncated = story.file("truncated.parquet", &whole[..whole.len() / 2]);
    let headless = story.file("text.parquet", "this is not a parquet file");
    let broken = story.file("broken.jsonl", "{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \n");
    let no_data = story.file("notes/readme.md", "nothing here").replace("/readme.md", "");
    let shapeless = story.file("shapeless.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    let five = ["--budget", "1"].as_slice();
    refuse(
        &story,
        &[
            ("missing file", &missing, five, &[3, 5]),
            ("empty parquet", &no_bytes, five, DATA),
            ("empty jsonl", &no_lines, five, DATA),
            ("truncated parquet", &truncated, five, &[3, 5]),
            ("not a parquet file", &headless, five, DATA),
            ("broken line", &broken, five, DATA),
            ("folder without data", &no_data, five, DATA),
            ("no text in the rows", &shapeless, five, USAGE_OR_DATA),
        ],
    );
}

#[test]
fn bad_settings() {
    let story = Story::new();
    let nan = story.at("nan.parquet");
    tables::write(&nan, &tables::with_quality(&tables::read(&sample()), f32::NAN));
    let sample = sample();
    let nowhere = story.at("no-such-model");
    refuse(
        &story,
        &[
            ("no budget", &sample, &[], USAGE),
            ("unknown method", &sample, &["--budget", "5%", "--method", "kmeans-qualty"], USAGE),
            ("unknown filter", &sample, &["--budget", "5%", "--filter", "nothing"], USAGE),
            ("unknown parameter", &sample, &["--budget", "5%", "--set", "no_such_thing=1"], USAGE),
            ("parameter without value", &sample, &["--budget", "5%", "--set", "k"], USAGE),
            ("parameter of another type", &sample, &["--budget", "5%", "--set", "k=many"], USAGE),
            ("unknown flag", &sample, &["--budget", "5%", "--bugdet"], USAGE),
            ("unknown format", &sample, &["--budget", "5%", "--format", "alpacca"], USAGE),
            ("predicate over a missing column", &sample, &["--budget", "5%", "--where", "nothing = 1"], USAGE),
            ("predicate that is no SQL", &sample, &["--budget", "5%", "--where", "source ="], USAGE),
            ("predicate that keeps nothing", &sample, &["--budget", "5", "--where", "source = 'none'"], USAGE_OR_DATA),
            (
                "quality from a missing column",
                &sample,
                &["--budget", "5%", "--quality", "column:nothing"],
                USAGE_OR_DATA,
            ),
            ("quality from text", &sample, &["--budget", "5%", "--quality", "column:source"], USAGE_OR_DATA),
            ("quality that is no number", &nan, &["--budget", "5%", "--quality", "column:quality"], DATA),
            (
                "embeddings from a missing column",
                &sample,
                &["--budget", "5%", "--embedder", "column:nothing"],
                USAGE_OR_DATA,
            ),
            ("no such model", &sample, &["--budget", "5%", "--embedder", &nowhere], &[2, 3, 4, 5]),
            ("no such card", &sample, &["--budget", "5%", "--device", "cuda:99"], &[2, 4]),
            ("no threads", &sample, &["--budget", "5%", "--threads", "0"], USAGE),
            ("memory in words", &sample, &["--budget", "5%", "--memory", "lots"], USAGE),
        ],
    );
}

#[test]
fn bad_outputs() {
    let story = Story::new();
    let out = story.file("mine.parquet", "my own work");
    story.try_select(&sample(), &out, &["--budget", "5%"]).refused("existing output", &[2, 5]);
    assert_eq!(fs::read(&out).expect("the file"), b"my own work", "an existing output was touched");
    story.select(&sample(), &out, &["--budget", "5%", "--overwrite"]);
    assert_eq!(tables::read(&out).num_rows(), 100);
    story.try_select(&sample(), &story.at("picks.xyz"), &["--budget", "5%"]).refused("unknown extension", USAGE);
    assert!(fs::metadata(story.at("picks.xyz")).is_err());
}

#[test]
fn bad_commands_and_plans() {
    let story = Story::new();
    story.curate(&["slect"]).refused("unknown command", USAGE);
    let plan = story.file("plan.toml", "sead = 1\n");
    story.curate(&["run", &plan, "--cache", &story.at("cache")]).refused("unknown key", USAGE);
    let plan = story.file("broken.toml", "seed = [\n");
    story.curate(&["run", &plan, "--cache", &story.at("cache")]).refused("broken plan", USAGE);
    story.curate(&["run", &story.at("none.toml"), "--cache", &story.at("cache")]).refused("no plan", &[2, 3, 5]);
}
