//! The report of a selection: as data, as a page, the same for the same plan, and refused before any work where it cannot be.

use crate::story::{Story, sample, selected};
use crate::tables;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::Value;
use std::fs;
use std::sync::Arc;

fn read(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the report")).expect("JSON")
}

/// The report as data, without what differs between equal runs.
fn told(story: &Story, out: &str, more: &[&str]) -> Value {
    let (picks, report) = (story.at(&format!("{out}.parquet")), story.at(&format!("{out}.json")));
    let more: Vec<&str> = more.iter().copied().chain(["--report", &report]).collect();
    story.select(&sample(), &picks, &more);
    let mut said = read(&report);
    assert!(said["cost"]["stages"].as_array().is_some_and(|stages| !stages.is_empty()));
    said.as_object_mut().expect("an object").remove("cost");
    said
}

fn sum(parts: &Value, key: &str) -> u64 {
    parts.as_array().expect("parts").iter().map(|part| part[key].as_u64().expect("a count")).sum()
}

#[test]
fn a_report_adds_up() {
    let story = Story::new();
    let said = told(&story, "a", &["--budget", "5%", "--filter", "semantic-dedup", "--quality", "length"]);
    let removed = said["head"]["counts"]["dropped_rows"].as_u64().expect("a count");
    let picks = said["head"]["counts"]["selected_rows"].as_u64().expect("a count");
    let shares = said["shares"].as_array().expect("shares");
    assert_eq!(
        shares.iter().map(|s| s["by"].as_str().unwrap_or("")).collect::<Vec<_>>(),
        ["source", "length", "cluster"]
    );
    for share in &shares[..2] {
        assert_eq!(
            (sum(&share["parts"], "rows"), sum(&share["parts"], "picked_rows")),
            (2000 - removed, picks),
            "{share}"
        );
    }
    assert_eq!(said["head"]["counts"]["pool_rows"].as_u64(), Some(2000 - removed));
    assert_eq!(said["filters"][0]["removed_rows"].as_u64(), Some(removed));
    assert!(removed > 0 && !said["filters"][0]["blockers"][0]["text"].as_str().expect("a text").is_empty());
    let map = &said["map"];
    let count =
        |state: u64| map["state"].as_array().expect("states").iter().filter(|s| s.as_u64() == Some(state)).count();
    assert_eq!((count(1) as u64, count(2) as u64, count(0) as u64), (picks, removed, 2000 - picks - removed));
    assert_eq!(
        (said["best"].as_array().map(Vec::len), said["rejected"]["rows"].as_array().map(Vec::len)),
        (Some(10), Some(10))
    );
    for score in said["scores"].as_array().expect("scores") {
        let all = |side: &str| score[side].as_array().expect("bins").iter().filter_map(Value::as_u64).sum::<u64>();
        assert_eq!(all("kept"), picks, "{score}");
        assert!(all("rest") <= 2000 - removed - picks, "{score}");
    }
}

#[test]
fn the_same_plan_gives_the_same_report() {
    let story = Story::new();
    let one = told(&story, "a", &["--budget", "3%", "--threads", "1"]);
    let four = told(&story, "b", &["--budget", "3%", "--threads", "4", "--no-cache"]);
    assert!(one == four, "the report depends on threads or on the cache");
    let plain = story.select(&sample(), &story.at("c.parquet"), &["--budget", "3%"]);
    let digest = |report: &Value| {
        let all = report["head"]["digests"].as_array().expect("digests").clone();
        all.iter().find(|d| d[0] == "selection").map(|d| d[1].clone()).expect("the digest of the selection")
    };
    assert_eq!(digest(&one), plain["selection_digest"], "asking for a report changed the choice");
}

#[test]
fn chance_is_no_better_than_chance() {
    let story = Story::new();
    let measures = |method: &str| {
        let said = told(&story, method, &["--budget", "5%", "--method", method]);
        let all = said["objective"].as_array().expect("measures").clone();
        let figure = |m: &Value, key: &str| m[key].as_f64().expect("a number");
        let apart =
            |m: &Value| (figure(m, "chosen") - figure(m, "random_mean")) / figure(m, "random_deviation").max(1e-12);
        all.iter().filter(|m| m["better"] != "").map(apart).collect::<Vec<f64>>()
    };
    assert!(measures("random").iter().all(|apart| apart.abs() < 5.0));
    assert!(measures("facility-location")[0] < -5.0, "facility location lowers the distance to the nearest pick");
}

#[test]
fn hostile_rows_stay_text() {
    let story = Story::new();
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u{2028}<!--";
    let texts: Vec<String> = (0..40).map(|i| format!("{evil} {i}")).collect();
    let column = || Arc::new(StringArray::from(texts.clone())) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("source", column()), ("prompt", column()), ("completion", column())]);
    let input = story.at("evil.parquet");
    tables::write(&input, &batch.expect("columns of one length"));
    let page = story.at("evil.html");
    story.select(&input, &story.at("picks.parquet"), &["--budget", "4", "--report", &page]);
    let page = fs::read_to_string(page).expect("the page");
    assert_eq!(page.matches("</script>").count(), 2, "a row ended the script");
    assert!(!page.contains("<img") && !page.contains("https:"));
}

#[test]
fn reports_that_cannot_be_are_refused_before_the_work() {
    let story = Story::new();
    let (out, taken) = (story.at("picks.parquet"), story.file("taken.html", "my own work"));
    let below_a_file = format!("{taken}/report.html");
    for (name, report, code) in [
        ("extension", story.at("report.pdf"), 2),
        ("no extension", story.at("report"), 2),
        ("existing", taken.clone(), 2),
        ("below a file", below_a_file, 5),
        ("the output itself", out.clone(), 2),
    ] {
        story.try_select(&sample(), &out, &["--budget", "5%", "--report", &report]).refused(name, &[code]);
        if name != "below a file" {
            let dry = ["--budget", "5%", "--dry-run", "--report", &report];
            story.try_select(&sample(), &out, &dry).refused(name, &[code]);
        }
        assert!(fs::metadata(&out).is_err(), "{name}: work was done");
    }
    assert_eq!(fs::read(&taken).expect("the file"), b"my own work");
    let page = story.at("new.html");
    story.try_select(&sample(), &out, &["--budget", "5%", "--dry-run", "--report", &page]).ok();
    assert!(fs::metadata(&page).is_err() && story.names(".").iter().all(|name| !name.contains(".part")));
    assert_eq!(selected(&story.select(&sample(), &out, &["--budget", "1", "--overwrite", "--report", &taken])), 1);
    assert!(fs::read_to_string(&taken).expect("the page").starts_with("<!doctype html>"));
}

#[test]
fn every_row_and_one_row() {
    let story = Story::new();
    let all = told(&story, "all", &["--budget", "100%", "--method", "random"]);
    assert_eq!(all["rejected"]["rows"].as_array().map(Vec::len), Some(0));
    let lines = "{\"instruction\": \"say it\", \"output\": \"so\"}\n";
    let (input, report) = (story.file("one.jsonl", lines), story.at("one.json"));
    story.select(&input, &story.at("one.parquet"), &["--budget", "1", "--report", &report]);
    let one = read(&report);
    assert_eq!((one["map"]["row"].as_array().map(Vec::len), one["best"].as_array().map(Vec::len)), (Some(1), Some(1)));
}
