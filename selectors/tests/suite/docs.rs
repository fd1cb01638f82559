//! What users read about a method.

use curate_core::{Entry, params_table};
use curate_selectors::{FILTERS, ONLINE, SELECTORS};
use serde_json::{Map, json};

fn check<T: ?Sized>(table: &[Entry<T>]) {
    let mut names: Vec<&str> = table.iter().map(|entry| entry.info.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), table.len(), "names are unique");
    for entry in table {
        let (info, defaults) = (entry.info, (entry.defaults)());
        for text in [info.name, info.summary, info.source, info.cost] {
            assert!(!text.trim().is_empty(), "{}: an empty field", info.name);
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(info.name.chars().all(plain), "{}: lower case and dashes", info.name);
        assert!(info.summary.ends_with('.') && !info.summary.contains('\n'), "{}: one sentence", info.name);
        for param in params_table(&(entry.schema)()) {
            let what = format!("{} {}", info.name, param.name);
            assert!(!param.doc.trim().is_empty(), "{what}: no doc line");
            assert!(param.choices.iter().all(|(_, doc)| !doc.is_empty()), "{what}: a choice without a doc line");
            assert!(defaults.get(&param.name).is_some(), "{what}: no default");
            let number = matches!(param.kind.as_str(), "integer" | "number");
            assert!(!number || param.min.is_some(), "{what}: no lower bound");
        }
        assert!(entry.build(defaults.as_object().unwrap()).is_ok(), "{}: defaults must build", info.name);
        let unknown = Map::from_iter([("no-such-parameter".to_owned(), json!(1))]);
        assert_eq!(entry.build(&unknown).err().map(|e| e.code()), Some("params/unknown"), "{}", info.name);
    }
}

#[test]
fn every_selector_is_documented() {
    check(SELECTORS);
}

#[test]
fn every_filter_is_documented() {
    check(FILTERS);
}

#[test]
fn every_online_selector_is_documented() {
    check(ONLINE);
}
