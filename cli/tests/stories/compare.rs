//! Methods side by side, with random rows as the measure.

use crate::story::Said;
use crate::train::Desk;
use serde_json::Value;
use std::fs;

fn compare(desk: &Desk, out: &str, more: &[&str]) -> Said {
    let out = desk.story.at(out);
    let fixed = ["compare", &desk.rows, "--model", &desk.model, "-o", &out, "--json", "--cache", &desk.cache];
    desk.story.curate(&[&fixed[..], &["--from-scratch", "--lr", "3e-3", "--batch-size", "8"], more].concat())
}

const SMALL: [&str; 10] =
    ["--methods", "k-center,max-loss", "--seeds", "1,2", "--budget", "20%", "--max-steps", "6", "--eval-share", "0.2"];

/// Figures of the arms that do not depend on the machine.
fn figures(done: &Value) -> Vec<Value> {
    let still = |arm: &Value| {
        let mut arm = arm.clone();
        arm.as_object_mut().expect("an arm").retain(|key, _| !key.ends_with("_s"));
        arm
    };
    done["arms"].as_array().expect("arms").iter().map(still).collect()
}

#[test]
fn a_table_a_plot_and_arms_that_are_kept() {
    let desk = Desk::new();
    let judged = [&SMALL[..], &["--judge", "number", "--max-new-tokens", "4"]].concat();
    let done = compare(&desk, "all", &judged).json();
    let names: Vec<&str> =
        done["lines"].as_array().expect("lines").iter().filter_map(|l| l["method"].as_str()).collect();
    for name in ["random", "length-matched-random", "k-center", "max-loss"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert_eq!(figures(&done).len(), 8);
    for arm in figures(&done) {
        assert_eq!(arm["steps"], 6, "{arm}");
        assert!(arm["exact"].is_number() && arm["train_flop"].as_f64() > Some(0.0), "{arm}");
        assert_eq!(arm["online"] == true, arm["select_flop"].as_f64() > Some(0.0), "{arm}");
    }
    let plot = fs::read_to_string(desk.story.at("all/compare.svg")).expect("a plot");
    assert!(names.iter().all(|name| plot.contains(name)) && plot.ends_with("</svg>\n"));
    let table = fs::read_to_string(desk.story.at("all/compare.md")).expect("a table");
    assert!(names.iter().all(|name| table.contains(&format!("| {name} |"))), "{table}");

    let forecast = compare(&desk, "all", &[&judged[..], &["--dry-run"]].concat()).json();
    let arms = forecast["arms"].as_array().expect("arms");
    assert!(arms.len() == 8 && arms.iter().all(|arm| arm["done"] == true), "{forecast}");

    // As if the comparison had been killed before two arms were finished: the others are not run again.
    let kept =
        fs::metadata(desk.story.at("all/arms/random/seed-1/arm.json")).expect("an arm").modified().expect("a time");
    for lost in ["random/seed-2", "max-loss/seed-1"] {
        fs::remove_file(desk.story.at(&format!("all/arms/{lost}/arm.json"))).expect("an arm");
    }
    let again = compare(&desk, "all", &judged).json();
    assert_eq!(figures(&again), figures(&done));
    let now =
        fs::metadata(desk.story.at("all/arms/random/seed-1/arm.json")).expect("an arm").modified().expect("a time");
    assert_eq!(kept, now, "a finished arm was run again");
}

#[test]
fn unequal_or_nameless_comparisons_are_refused() {
    let desk = Desk::new();
    let but = |flag: &str, instead: &[&'static str]| -> Vec<&'static str> {
        let at = SMALL.iter().position(|a| *a == flag).expect("a flag");
        SMALL[..at].iter().chain(instead).chain(&SMALL[at + 2..]).copied().collect()
    };
    let cases = [
        ("no steps", but("--max-steps", &[])),
        ("nothing to judge by", but("--eval-share", &[])),
        ("an unknown method", but("--methods", &["--methods", "k-centre"])),
        ("an unknown parameter", but("--methods", &["--methods", "k-center:kk=1"])),
        ("a method twice", but("--methods", &["--methods", "random,random"])),
        ("a seed twice", but("--seeds", &["--seeds", "1,1"])),
        ("one method's flag", [&SMALL[..], &["--method", "random"]].concat()),
        ("a budget that is none", but("--budget", &["--budget", "much"])),
    ];
    let wrong: Vec<String> = cases
        .into_iter()
        .filter_map(|(name, args)| compare(&desk, "bad", &args).complaint(&[2, 3]).map(|c| format!("{name}: {c}")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn adapters_on_fresh_weights_rounds_and_a_reference() {
    let desk = Desk::new();
    desk.train("reference", &["--from-scratch", "--lr", "3e-3", "--max-steps", "8"]).ok();
    let reference = desk.story.at("reference/model");
    let methods = "kmeans-refine:k=3,rounds=2,rho-loss";
    let args = [
        "--methods",
        methods,
        "--reference",
        &reference,
        "--seeds",
        "1",
        "--budget",
        "32",
        "--max-steps",
        "6",
        "--eval-share",
        "0.2",
        "--lora",
        "4",
        "--judge",
        "number",
        "--max-new-tokens",
        "4",
    ];
    let done = compare(&desk, "all", &args).json();
    let arms = figures(&done);
    assert_eq!(arms.len(), 4);
    assert!(arms.iter().all(|arm| arm["steps"] == 6 && arm["exact"].is_number()), "{arms:?}");
    let rounds = arms.iter().find(|arm| arm["method"] == "kmeans-refine:k=3,rounds=2").expect("an arm");
    assert_eq!((&rounds["rows"], &rounds["curve"][0][0]), (&32.into(), &3.into()));
    // The same comparison as a plan: nothing is run again.
    let again =
        desk.story.curate(&["run", &desk.story.at("all/compare.json"), "--json", "--cache", &desk.cache]).json();
    assert_eq!(figures(&again), arms);
    let without = args.iter().copied().filter(|arg| ![reference.as_str(), "--reference"].contains(arg));
    compare(&desk, "bad", &without.collect::<Vec<_>>()).refused("no reference", &[2]);
}

#[test]
fn a_dry_run_names_the_arms_and_writes_nothing() {
    let desk = Desk::new();
    let said = compare(&desk, "dry", &[&SMALL[..], &["--dry-run"]].concat()).json();
    let arms = said["arms"].as_array().expect("arms");
    assert_eq!((arms.len(), said["steps"].as_u64()), (8, Some(6)));
    assert!(arms.iter().all(|arm| arm["done"] == false && arm["begun"] == false), "{said}");
    assert!(fs::metadata(desk.story.at("dry")).is_err(), "a dry run wrote something");
}

#[test]
fn what_an_arm_lacks_is_said_before_the_first_one() {
    let desk = Desk::new();
    let of = |methods: &'static str| {
        let mut args = SMALL;
        args[1] = methods;
        args
    };
    for (methods, lacks) in
        [("k-center,deita", "column/missing"), ("max-loss,rho-loss", "reference"), ("gotd", "target/missing")]
    {
        let said = compare(&desk, "bad", &of(methods));
        said.refused(methods, &[2]);
        assert!(said.stderr.contains(lacks), "{methods}: {}", said.stderr);
        assert!(fs::metadata(desk.story.at("bad/arms")).is_err(), "{methods}: an arm was begun");
    }
}
