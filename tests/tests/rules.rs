//! Rules of the house that no compiler knows.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file.
const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("the folder is readable").path());
    paths
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|ext| ext == "rs"))
        .collect()
}

fn all_sources() -> Vec<PathBuf> {
    let rooms =
        ["kernels", "core", "ingest", "embed", "scorers", "selectors", "trainer", "api", "cli", "datasets", "tests"];
    let parts = ["src", "tests", "benches", "examples"];
    rooms
        .iter()
        .flat_map(|room| parts.map(|part| root().join(room).join(part)))
        .flat_map(|folder| sources(&folder))
        .collect()
}

#[test]
fn files_stay_short_and_say_what_they_are_for() {
    let files = all_sources();
    assert!(files.len() > 50, "only {} source files were found", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file is text");
        assert!(text.lines().count() <= MAX_LINES, "{} has more than {MAX_LINES} lines", file.display());
        assert!(text.starts_with("//!"), "{} does not begin with a line that says what it is for", file.display());
    }
}

#[test]
fn every_golden_folder_has_an_origin() {
    let readme = fs::read_to_string(curate_datasets::fixture("README.md")).expect("the README is there");
    for entry in fs::read_dir(curate_datasets::fixture("golden")).expect("the folder is there") {
        let name = entry.expect("the folder is readable").file_name().to_string_lossy().into_owned();
        assert!(
            readme.contains(&format!("| `{name}/` |")),
            "datasets/README.md does not say where golden/{name} comes from"
        );
    }
}

#[test]
fn every_file_of_an_algorithm_says_its_source_and_cost() {
    for (table, folder) in [
        ("scorers/src/lib.rs", "scorers/src"),
        ("selectors/src/lib.rs", "selectors/src"),
        ("selectors/src/online.rs", "selectors/src/online"),
    ] {
        let text = fs::read_to_string(root().join(table)).expect("the table is there");
        let (_, lines) = text.split_once("register!").expect("algorithms are registered");
        let mut seen = 0;
        for module in lines.lines().filter_map(|line| line.trim().split_once("::")).map(|(module, _)| module) {
            let file = root().join(format!("{folder}/{module}.rs"));
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let head: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            let at = file.display();
            assert!(head.contains("Source:") && head.contains("Cost:"), "{at}: head without Source or Cost");
            seen += 1;
        }
        assert!(seen >= 8, "only {seen} algorithms of {table} were looked at");
    }
}
