//! Score expressions: what they mean, what they refuse, and that no text brings the reader down.

use curate_scorers::expression::{MAX_BYTES, MAX_DEPTH};
use curate_scorers::{Expression, names};
use proptest::prelude::*;

fn value(text: &str, columns: &[Vec<f64>]) -> Vec<f64> {
    let rows = columns.first().map_or(1, Vec::len);
    Expression::parse(text, None).unwrap_or_else(|e| panic!("{text}: {e}")).values(columns, rows)
}

fn code(text: &str) -> &'static str {
    Expression::parse(text, Some(&names())).map_or_else(|e| e.code(), |_| "no error")
}

#[test]
fn arithmetic_by_hand() {
    for (text, expected) in [
        ("1 + 2*3", 7.0),
        ("(1 + 2)*3", 9.0),
        ("8/4/2", 1.0),
        ("5 - 3 - 1", 1.0),
        ("-2*-3", 6.0),
        ("--1.5e1", 15.0),
        ("clip(5, 0, 2) + clip(-5, 0, 2)", 2.0),
        ("log(1)", 0.0),
        ("z(3) + rank(3) + minmax(3)", 0.5),
    ] {
        assert_eq!(value(text, &[]), [expected], "{text}");
    }
}

#[test]
fn functions_of_the_pool_by_hand() {
    let a = vec![1.0, 3.0, 3.0, 5.0];
    let columns = std::slice::from_ref(&a);
    assert_eq!(value("rank(a)", columns), [0.0, 0.5, 0.5, 1.0]);
    assert_eq!(value("minmax(a)", columns), [0.0, 0.5, 0.5, 1.0]);
    assert_eq!(value("z(2*a) - 1", &[vec![1.0, 5.0]]), [-2.0, 0.0]);
    assert_eq!(value("(a - 3)*(a-3)", columns), [4.0, 0.0, 0.0, 4.0]);
    assert_eq!(value("z(0*a) + minmax(0*a) + rank(0*a)", columns), [0.5; 4]);
    assert_eq!(value("2 - a*a", columns), [1.0, -7.0, -7.0, -23.0]);
}

#[test]
fn names_are_columns() {
    let known = names();
    let parsed = Expression::parse("0.5*z(ifd) - knn-distance*score.mine + tokens + ifd", Some(&known)).unwrap();
    let columns: Vec<String> = parsed.columns().iter().map(ToString::to_string).collect();
    assert_eq!(columns, ["score.ifd", "score.knn-distance", "score.mine", "tokens"]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    for (text, expected) in [
        ("", "expression/syntax"),
        ("1 +", "expression/syntax"),
        ("(ifd", "expression/syntax"),
        ("ifd)", "expression/syntax"),
        ("ifd mtld", "expression/syntax"),
        ("clip(ifd, 1)", "expression/syntax"),
        ("z(ifd, 1)", "expression/syntax"),
        ("ifd ^ 2", "expression/syntax"),
        ("1.2.3", "expression/number"),
        ("1e999", "expression/number"),
        (".", "expression/number"),
        ("sqrt(ifd)", "expression/function"),
        ("idf", "expression/name"),
        ("ifd-mtld", "expression/name"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
    let error = Expression::parse("z(ifd) + é(1)", Some(&names())).unwrap_err();
    assert!(error.to_string().contains("character 10"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(code(&nested(MAX_DEPTH)), "no error");
    assert_eq!(code(&nested(MAX_DEPTH + 1)), "expression/too-deep");
    assert_eq!(code(&"z(".repeat(1000)), "expression/too-deep");
    assert_eq!(code(&"-".repeat(MAX_BYTES)), "expression/syntax");
    assert_eq!(code(&"1".repeat(MAX_BYTES + 1)), "expression/too-long");
    let long = vec!["1"; MAX_BYTES / 2].join("+");
    assert_eq!(value(&long, &[]), [(MAX_BYTES / 2) as f64]);
}

/// An expression as text, and its value for one row where `a` is 2 and `b` is 3.
fn expressions() -> impl Strategy<Value = (String, f64)> {
    let leaf = prop_oneof![
        (0u32..100).prop_map(|n| (format!("{}", f64::from(n) / 4.0), f64::from(n) / 4.0)),
        Just(("score.a".to_owned(), 2.0)),
        Just(("b".to_owned(), 3.0)),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (format!("({}) + ({})", a.0, b.0), a.1 + b.1)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (format!("({})-({})", a.0, b.0), a.1 - b.1)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| (format!("({}) * ({})", a.0, b.0), a.1 * b.1)),
            inner.clone().prop_map(|a| (format!("-({})", a.0), 0.0 - a.1)),
            inner.prop_map(|a| (format!("clip({}, -1, 4)", a.0), a.1.clamp(-1.0, 4.0))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused(text in "[ -~é√\u{0}]{0,60}") {
        let _ = Expression::parse(&text, Some(&names()));
        let _ = text.parse::<curate_scorers::Rule>();
    }

    #[test]
    fn texts_of_the_right_letters_are_read_or_refused(text in "[()0-9.e+*/, zabifd-]{0,80}") {
        if let Ok(parsed) = Expression::parse(&text, None) {
            let columns = vec![vec![1.0, -2.0, 0.0]; parsed.columns().len()];
            prop_assert_eq!(parsed.values(&columns, 3).len(), 3);
        }
    }

    #[test]
    fn what_is_written_is_computed((text, expected) in expressions()) {
        let parsed = Expression::parse(&text, None).unwrap();
        let columns: Vec<Vec<f64>> =
            parsed.columns().iter().map(|c| vec![if c.as_str() == "score.a" { 2.0 } else { 3.0 }]).collect();
        prop_assert_eq!(parsed.values(&columns, 1), vec![expected], "{}", text);
    }
}
