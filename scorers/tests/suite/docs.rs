//! What users read about a scorer.

use curate_core::params_table;
use curate_scorers::{SCORERS, names};
use serde_json::{Map, json};

#[test]
fn every_scorer_is_documented() {
    let mut sorted = names();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), SCORERS.len(), "names are unique");
    for entry in SCORERS {
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
fn a_rule_that_cannot_be_read_is_refused_when_built() {
    let entry = curate_core::find(SCORERS, "instructmining", "scorer").unwrap();
    let build = |rule: &str| entry.build(&Map::from_iter([("rule".to_owned(), json!(rule))])).map(|s| s.needs().len());
    assert_eq!(build("1 - 2*score.reward").unwrap(), 1);
    assert_eq!(build("1 -").unwrap_err().code(), "expression/syntax");
}
