//! A rule fitted to runs of one's own, written down, and used.

use crate::story::Story;
use serde_json::{Value, json};

/// Runs whose loss is `exp(0.5 - 0.25 reward + 0.125 tokens/100)` and a little more.
fn runs(count: u32) -> Vec<Value> {
    let run = |i: u32| {
        let (reward, tokens) = (f64::from(i * 7 % 11), f64::from(i * 5 % 13) * 100.0);
        let noise = f64::from(i * 3 % 5) * 0.001;
        let loss = (0.5 - 0.25 * reward + 0.00125 * tokens + noise).exp();
        json!({"reward": reward, "tokens": tokens, "loss": loss, "double": 2.0 * reward - 3.0 * tokens})
    };
    (0..count).map(run).collect()
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

fn csv(rows: &[Value]) -> String {
    let line = |row: &Value| format!("{},{},{}", row["reward"], row["tokens"], row["loss"]);
    format!("reward,tokens,loss\n{}\n", rows.iter().map(line).collect::<Vec<_>>().join("\n"))
}

const FIT: [&str; 7] = ["--response", "loss", "--indicators", "reward,tokens", "--log", "--json", "--quiet"];

fn fit(story: &Story, runs: &str, more: &[&str]) -> crate::story::Said {
    story.curate(&[&["fit-rule", runs], &FIT[..], more].concat())
}

#[test]
fn the_rule_is_found_written_and_used() {
    let story = Story::new();
    let rows = runs(40);
    let (table, text) = (story.file("runs.jsonl", lines(&rows)), story.file("runs.csv", csv(&rows)));
    let rule = story.at("rule.toml");
    let done = fit(&story, &table, &["-o", &rule]).json();
    let near = |at: usize, value: f64| {
        let found = done["terms"][at]["coefficient"].as_f64().expect("a coefficient");
        assert!((found - value).abs() < 2e-3, "{at}: {found} is not {value}");
    };
    near(0, 0.502);
    near(1, -0.25);
    near(2, 0.00125);
    assert!(done["r2"].as_f64().is_some_and(|r2| r2 > 0.9999), "{done}");
    assert_eq!((done["runs"].as_u64(), done["response"].as_str()), (Some(40), Some("log(loss)")));
    assert_eq!(fit(&story, &text, &[]).json(), done, "csv and jsonl differ");
    fit(&story, &table, &["-o", &rule]).refused("an existing rule", &[2]);

    let input = story.file(
        "rows.jsonl",
        lines(&[json!({"text": "a", "score.reward": 1.0}), json!({"text": "b", "score.reward": 4.0})]),
    );
    let (out, scorer) = (story.at("out.jsonl"), format!("instructmining:rule=@{rule}"));
    story.curate(&["score", &input, "--score", &scorer, "-o", &out, "--cache", &story.at("cache")]).ok();
    let answer = std::fs::read_to_string(&out).expect("an output");
    let score = |line: &str| serde_json::from_str::<Value>(line).expect("a row")["score.instructmining"].as_f64();
    let found: Vec<f64> = answer.lines().filter_map(score).collect();
    assert!((found[1] - found[0] - 0.75).abs() < 2e-3, "{answer}");
}

#[test]
fn people_read_a_table_with_what_speaks_against_it() {
    let story = Story::new();
    let table = story.file("runs.jsonl", lines(&runs(9)));
    let said = story.curate(&["fit-rule", &table, "--response", "loss", "--indicators", "reward,tokens", "--log"]).ok();
    for words in ["coefficient", "constant", "reward", "R2 ", "warning: 9 runs for 3 coefficients", "rule: 0.5"] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    let story = Story::new();
    let rows = runs(20);
    let whole = story.file("runs.jsonl", lines(&rows));
    let with = |name: &str, column: &str, value: Value| {
        let mut rows = rows.clone();
        rows[7][column] = value;
        story.file(name, lines(&rows))
    };
    let nan = with("nan.jsonl", "reward", Value::Null);
    let negative = with("negative.jsonl", "loss", json!(-1.0));
    let words = with("words.jsonl", "tokens", json!("many"));
    let few = story.file("few.jsonl", lines(&rows[..3]));
    let ask = |file: &str, indicators: &str| {
        story.curate(&["fit-rule", file, "--response", "loss", "--indicators", indicators, "--log"])
    };
    let collinear = ask(&whole, "reward,tokens,double");
    collinear.refused("a column that others fix", &[3]);
    let error = collinear.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(error.contains("'double' is fixed by 'reward', 'tokens'"), "{error}");
    let missing = ask(&nan, "reward,tokens");
    missing.refused("a null", &[3]);
    assert!(missing.stderr.contains("row 7") && missing.stderr.contains("reward"), "{}", missing.stderr);
    ask(&negative, "reward,tokens").refused("a loss below 0", &[3]);
    ask(&words, "reward,tokens").refused("a word among numbers", &[3]);
    ask(&few, "reward,tokens").refused("too few runs", &[2]);
    ask(&whole, "reward,nothing").refused("no such column", &[2]);
    ask(&whole, "reward,loss").refused("the response as indicator", &[2]);
    ask(&whole, "reward,reward").refused("twice", &[2]);
    ask(&story.at("none.csv"), "reward").refused("no file", &[3, 5]);
}
