//! The parser against `serde_json`.

use super::parser::{Head, Parser};
use proptest::prelude::*;

fn ours(text: &str) -> bool {
    let mut parser = Parser::new(text);
    parser.skip().and_then(|()| parser.end()).is_ok()
}

fn theirs(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

#[test]
fn accepts_what_serde_json_accepts() {
    for text in [
        "{}",
        "[]",
        "1",
        "-0",
        "01",
        "1.",
        ".5",
        "1e5",
        "1E+05",
        "1e400",
        "-",
        "\"a\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00\"",
        "\"\t\"",
        "{\"a\":1,}",
        "[1,]",
        "[,1]",
        "{\"a\" 1}",
        "nul",
        "null ",
        " true",
        "{\"a\":{\"b\":[1,2,{}]}}",
        "\"\\x\"",
        "\"",
        "[1 2]",
        "{'a':1}",
        "NaN",
        "\"\\u12\"",
        "\u{feff}1",
    ] {
        assert_eq!(ours(text), theirs(text), "{text}");
    }
    for depth in [126, 127, 128, 129] {
        let text = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(ours(&text), theirs(&text), "{depth}");
    }
}

#[test]
fn raw_gives_the_original_text() {
    let mut parser = Parser::new(r#"{"a": [1e5, "x\u0041"] , "b":2}"#);
    parser.head().unwrap();
    assert_eq!(parser.key(true).unwrap().unwrap(), "a");
    assert_eq!(parser.raw().unwrap(), r#"[1e5, "x\u0041"]"#);
    assert_eq!(parser.key(false).unwrap().unwrap(), "b");
}

proptest! {
    #[test]
    fn agrees_with_serde_json(text in "[\\[\\]{}\",:0-9eE.\\-+a-z\\\\ ]{0,24}") {
        prop_assert_eq!(ours(&text), theirs(&text));
    }

    #[test]
    fn strings_read_back(text in any::<String>()) {
        let quoted = serde_json::to_string(&text).unwrap();
        match Parser::new(&quoted).head().unwrap() {
            Head::Text(back) => prop_assert_eq!(back.as_ref(), text.as_str()),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
