//! The arrow test: rooms depend on one another as ARCHITECTURE.md draws it, and in no other way.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};

/// Who may see whom. Rooms that are not built yet have their line here already.
const ARROWS: &[(&str, &[&str])] = &[
    ("curate", &["curate-api", "curate-service"]),
    ("curate-service", &["curate-api"]),
    (
        "curate-api",
        &["curate-core", "curate-embed", "curate-ingest", "curate-scorers", "curate-selectors", "curate-trainer"],
    ),
    ("curate-ingest", &["curate-core"]),
    ("curate-embed", &["curate-core"]),
    ("curate-scorers", &["curate-core"]),
    ("curate-selectors", &["curate-core"]),
    ("curate-trainer", &["curate-core"]),
    ("curate-core", &["curate-kernels"]),
    ("curate-kernels", &[]),
    ("curate-datasets", &["curate-core"]),
    ("curate-tests", &[]),
];

/// What every room may see in its tests.
const IN_TESTS: &[&str] = &["curate-datasets"];

/// Heavy crates and the rooms that alone may use them.
const HOMES: &[(&str, &[&str])] = &[
    ("candle-core", &["curate-embed"]),
    ("tokenizers", &["curate-embed", "curate-trainer"]),
    ("ureq", &["curate-api", "curate-embed"]),
    ("cudarc", &["curate-kernels"]),
    ("gemm", &["curate-kernels"]),
    ("polars", &["curate-ingest"]),
    ("parquet", &["curate-ingest"]),
    ("object_store", &["curate-ingest"]),
    ("axum", &["curate-service"]),
    ("rusqlite", &["curate-service"]),
    ("postgres", &["curate-service"]),
    ("clap", &["curate"]),
    ("indicatif", &["curate"]),
    ("miette", &["curate"]),
];

fn house() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).no_deps().exec().expect("cargo metadata runs")
}

/// Names of what `package` depends on, in tests or otherwise.
fn seen(package: &Package, in_tests: bool) -> impl Iterator<Item = &str> {
    let kind = move |kind: DependencyKind| (kind == DependencyKind::Development) == in_tests;
    package.dependencies.iter().filter(move |d| kind(d.kind)).map(|d| d.name.as_str())
}

#[test]
fn rooms_see_what_the_drawing_says_and_nothing_else() {
    let house = house();
    let members: BTreeSet<&str> = house.packages.iter().map(|p| p.name.as_str()).collect();
    let drawing: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for package in &house.packages {
        let name = package.name.as_str();
        let drawn = drawing.get(name).unwrap_or_else(|| panic!("{name} is not in the drawing: add its line to ARROWS"));
        let allowed: BTreeSet<&str> = drawn.iter().copied().filter(|other| members.contains(other)).collect();
        let found: BTreeSet<&str> = seen(package, false).filter(|other| members.contains(other)).collect();
        assert_eq!(found, allowed, "{name} sees the left, should see the right");
        let stray: Vec<&str> = seen(package, true).filter(|o| members.contains(o) && !IN_TESTS.contains(o)).collect();
        assert!(stray.is_empty(), "the tests of {name} see {stray:?}");
    }
}

#[test]
fn heavy_crates_stay_in_their_rooms() {
    for package in &house().packages {
        for (krate, rooms) in HOMES {
            let used = seen(package, false).any(|name| name == *krate);
            assert!(
                !used || rooms.contains(&package.name.as_str()),
                "{} uses {krate}, which belongs to {rooms:?}",
                package.name
            );
        }
    }
}

#[test]
fn rooms_take_lints_and_versions_from_the_house() {
    for package in &house().packages {
        let text = std::fs::read_to_string(&package.manifest_path).expect("a manifest is there");
        assert!(text.contains("[lints]\nworkspace = true"), "{} has lints of its own", package.name);
        let own: Vec<&str> = text.lines().filter(|line| line.contains("version = \"")).collect();
        assert!(own.is_empty(), "{} has versions of its own: {own:?}", package.name);
    }
}
