//! Judging: answers found, digits counted, intervals, tests and votes by hand.

use curate_core::{Ctx, Result};
use curate_trainer::eval::{
    EvalItem, EvalOptions, EvalReport, Generate, Judge, LossTotal, Rational, digit_score, evaluate, gsm8k_first,
    gsm8k_flexible, gsm8k_last, last_number, majority, majority_correct, mcnemar, numeric, paired_bootstrap, pass_at,
    wilson,
};
use curate_trainer::tokenizer::{BpeRecipe, TextTokenizer, train_bpe};
use proptest::prelude::*;
use std::path::Path;

fn text(answer: Option<String>) -> String {
    answer.unwrap_or_else(|| "none".to_owned())
}

#[test]
fn published_extractors_by_hand() {
    let cases = [
        ("so it is 72\n#### 72", "72", "72", "72"),
        ("#### 1,234.50 and #### -5", "1234.50", "-5", "-5"),
        ("#### $72", "none", "none", "72"),
        ("#### 72.", "72.", "72.", "72."),
        ("the answer is 12", "none", "none", "12"),
        ("no number. none", "none", "none", "."),
        ("##### 3", "3", "3", "3"),
        ("####5 #### - 6", "none", "none", "6"),
        ("", "none", "none", "none"),
        ("1,000 ducks", "none", "none", "1,000"),
    ];
    for (given, first, last, flexible) in cases {
        assert_eq!(text(gsm8k_first(given)), first, "{given}");
        assert_eq!(text(gsm8k_last(given)), last, "{given}");
        assert_eq!(text(gsm8k_flexible(given)), flexible, "{given}");
    }
    let far = format!("#### 7 {}", "\u{00e4}".repeat(300));
    assert_eq!((text(gsm8k_first(&far)), gsm8k_last(&far)), ("7".into(), None));
    let near = format!("#### 7 {}", "\u{00e4}".repeat(293));
    assert_eq!(text(gsm8k_last(&near)), "7", "300 characters, not bytes");
}

#[test]
fn numbers_are_compared_exactly() {
    let same = |a: &str, b: &str| numeric(a).is_some() && numeric(a) == numeric(b);
    for (a, b) in [
        ("#### 72", "so $72.00."),
        ("#### 1,234", "it is 1234"),
        ("#### 50%", "50"),
        ("#### 0.75", "that makes 3/4"),
        ("#### -3", "it is -3 degrees"),
        ("#### -$3", "x = -3"),
        ("#### 2500000", "2.5e6"),
        ("#### 5 apples\nmore 7", "5"),
    ] {
        assert!(same(a, b), "{a} | {b}: {:?} {:?}", numeric(a), numeric(b));
    }
    for (a, b) in [("#### 72", "7.2"), ("####", "0"), ("#### x", "#### x"), ("1/3", "0.333333")] {
        assert!(!same(a, b), "{a} | {b}");
    }
    let last = |text: &str| last_number(text).map(|n| n.to_string());
    assert_eq!(last("5-3"), Some("3".into()));
    assert_eq!(last("a list: 1,2,3"), Some("3".into()));
    assert_eq!(last("costs $1,250.50 in all."), Some("2501/2".into()));
    assert_eq!(last("version 1.2.3"), Some("3".into()));
    assert_eq!(last(&"9".repeat(60)), None);
    assert_eq!(last(".5 of it"), Some("1/2".into()));
    assert_eq!(Rational::parse("1/0"), None);
    for bad in ["", ".", "-", "1e", "e5", "1.2.3", "--1", "1e999"] {
        assert_eq!(Rational::parse(bad), None, "{bad}");
    }
}

#[test]
fn judges_differ_where_the_rules_do() {
    let correct = |judge: Judge, written: &str, label: &str| judge.judge(written, label).correct;
    assert!(correct(Judge::Gsm8kStrict, "8 * 9 = 72\n#### 72", "#### 72"));
    assert!(!correct(Judge::Gsm8kStrict, "#### 72.0", "#### 72"));
    assert!(correct(Judge::Numeric, "#### 72.0", "#### 72"));
    assert!(correct(Judge::Gsm8kFirst, "#### 1\n#### 2", "#### 1"));
    assert!(!correct(Judge::Gsm8kStrict, "#### 1\n#### 2", "#### 1"));
    assert!(correct(Judge::Exact, " 46\n", "46"));
    assert!(!correct(Judge::Exact, "046", "46"));
    assert!(!correct(Judge::Numeric, "none", "none"), "a label without an answer is never met");
    let partial = Judge::Number.judge("146", "246");
    assert_eq!((partial.correct, partial.digits.unwrap().dlength), (false, 0));
}

#[test]
fn digits_by_hand() {
    let score = |written: &str, label: &str| {
        let score = digit_score(written, label);
        ((score.digit_match * 1000.0).round() / 1000.0, score.dlength)
    };
    assert_eq!(score("123", "123"), (1.0, 0));
    assert_eq!(score("23", "123"), (0.667, 1), "whole numbers from the right");
    assert_eq!(score("1123", "123"), (1.0, 1));
    assert_eq!(score("1.25", "1.5"), (0.5, 1), "decimals from the left");
    assert_eq!(score("0.5", "0.55"), (0.667, 1));
    assert_eq!(score("1/2", "11/2"), (0.667, 1));
    assert_eq!(score("11", "11/22"), (0.5, 2), "a missing part");
    assert_eq!(score("1.5e10", "1.5e12"), (0.75, 0));
    assert_eq!(score("nonsense", "123"), (0.0, 3));
    assert_eq!(score("", "12.5"), (0.0, 3));
}

#[test]
fn intervals_and_tests_by_hand() {
    let close = |a: f64, b: f64| assert!((a - b).abs() < 5e-5, "{a} {b}");
    let half = wilson(660, 1319);
    close(half.high - half.low, 2.0 * 0.02694);
    // 8 of 10: the textbook's 0.4902 to 0.9433
    close(wilson(8, 10).low, 0.4902);
    close(wilson(8, 10).high, 0.9433);
    assert_eq!((wilson(0, 10).low, wilson(10, 10).high, wilson(0, 0).high), (0.0, 1.0, 1.0));
    close(wilson(0, 10).high, 0.2775);
    // 2 * (C(10,0) + C(10,1) + C(10,2)) / 2^10
    close(mcnemar(2, 8), 2.0 * 56.0 / 1024.0);
    close(mcnemar(8, 2), mcnemar(2, 8));
    assert_eq!((mcnemar(0, 0), mcnemar(5, 5)), (1.0, 1.0));
    close(mcnemar(0, 5), 2.0 / 32.0);
    let large = mcnemar(900, 1100);
    assert!(large > 1e-6 && large < 1e-5, "{large}");
}

#[test]
fn the_bootstrap_finds_what_is_there_and_repeats() {
    let first: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
    let better: Vec<f64> = (0..200).map(|i| if i % 10 < 3 { 1.0 } else { f64::from(i % 2) }).collect();
    let ctx = Ctx::new(11);
    let found = paired_bootstrap(&first, &better, 2000, &ctx).unwrap();
    assert!(found.low > 0.0 && found.p < 0.01 && (found.difference - 0.2).abs() < 1e-12, "{found:?}");
    // the normal approximation: sd of the gain 0.4 over sqrt(200), 1.96 of it on either side
    assert!((found.high - found.low - 2.0 * 1.96 * 0.4 / 200f64.sqrt()).abs() < 0.01);
    let same = paired_bootstrap(&first, &first, 500, &ctx).unwrap();
    assert_eq!((same.difference, same.low, same.high, same.p), (0.0, 0.0, 0.0, 1.0));
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    assert_eq!(one.install(|| paired_bootstrap(&first, &better, 2000, &ctx).unwrap()), found);
    assert_eq!(paired_bootstrap(&first, &better[1..], 10, &ctx).unwrap_err().code(), "eval/pairs");
}

#[test]
fn votes_by_hand() {
    let answers = [Some("7"), None, Some("5"), Some("5"), Some("7"), None, None];
    assert_eq!(majority(&answers), Some("7"), "a tie goes to the first");
    assert!(majority_correct(&answers, 4, "5") && !majority_correct(&answers, 100, "5"));
    assert_eq!(majority::<&str>(&[None, None]), None);
    assert_eq!(pass_at(1, 3, 10), Some(0.3f64).map(|p| 1.0 - (1.0 - p)));
    assert!((pass_at(2, 3, 10).unwrap() - (1.0 - 21.0 / 45.0)).abs() < 1e-12);
    assert_eq!((pass_at(5, 6, 10), pass_at(11, 1, 10), pass_at(0, 1, 10)), (Some(1.0), None, None));
    assert_eq!(pass_at(3, 0, 10), Some(0.0));
}

proptest! {
    #[test]
    fn pass_at_is_the_quotient_of_binomials(n in 1u32..20, c in 0u32..20, k in 1u32..20) {
        prop_assume!(c <= n && k <= n);
        let choose = |n: u32, k: u32| (0..k).fold(1.0, |r, i| r * f64::from(n.saturating_sub(i)) / f64::from(i + 1));
        let found = pass_at(k.into(), c.into(), n.into()).unwrap();
        prop_assert!((found - (1.0 - choose(n - c, k) / choose(n, k))).abs() < 1e-9);
    }

    #[test]
    fn rationals_read_what_they_write(above in -1_000_000i128..1_000_000, below in 1i128..1_000_000) {
        let value = Rational::new(above, below).unwrap();
        prop_assert_eq!(Rational::parse(&value.to_string()), Some(value));
        prop_assert_eq!(Rational::new(above * 6, below * 6), Some(value));
    }

    #[test]
    fn extractors_survive_anything(text in ".{0,400}") {
        let _ = (gsm8k_first(&text), gsm8k_last(&text), gsm8k_flexible(&text), numeric(&text), last_number(&text));
        let _ = digit_score(&text, &text);
    }
}

/// Answers with what stands in the prompt behind `say `, then the end, then rubbish.
struct Parrot(TextTokenizer);

impl Generate for Parrot {
    fn generate(&self, prompts: &[Vec<u32>], max_new: usize, stop: &[u32], _: &Ctx) -> Result<Vec<Vec<u32>>> {
        assert!(prompts.len() <= 2, "no more than batch_size at once");
        let answer = |prompt: &Vec<u32>| -> Result<Vec<u32>> {
            let text = self.0.decode(prompt)?;
            let mut ids = self.0.ids(text.trim_start_matches("say "))?;
            ids.truncate(max_new);
            Ok([ids, stop.to_vec(), vec![40, 41]].concat())
        };
        prompts.iter().map(answer).collect()
    }
}

#[test]
fn a_run_is_judged_in_order_and_reported() {
    let file =
        train_bpe(&["say 1 2 3 4"], &BpeRecipe { vocab_size: 270, ..BpeRecipe::default() }, &Ctx::new(0)).unwrap();
    let tokenizer = TextTokenizer::from_json(&file, Some("<|endoftext|>")).unwrap();
    let item = |row, prompt: &str, label: &str, task: &str, group: &str| EvalItem {
        row,
        prompt: prompt.into(),
        label: label.into(),
        task: task.into(),
        group: group.into(),
    };
    let items = [
        item(4, "say 12", "12", "echo", "S"),
        item(5, "say 123456", "123456", "echo", "M"),
        item(6, "say 15", "16", "echo", "S"),
        item(7, "say 9", "9", "other", ""),
    ];
    let options = EvalOptions { max_new_tokens: 8, batch_size: 2, judge: Judge::Number };
    let judged = evaluate(&Parrot(tokenizer.clone()), &tokenizer, &items, &options, &Ctx::new(0)).unwrap();
    assert_eq!(judged.iter().map(|one| one.row).collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert_eq!(judged.iter().map(|one| one.completion.as_str()).collect::<Vec<_>>(), ["12", "123456", "15", "9"]);
    let report = EvalReport::of(&judged, "exact");
    assert_eq!(report.value("", "", "exact"), Some(0.75));
    assert_eq!(report.value("echo", "S", "exact"), Some(0.5));
    assert_eq!(report.value("echo", "S", "digit-match"), Some(0.75));
    assert_eq!(report.value("other", "", "exact"), Some(1.0));
    assert_eq!(report.rows()[0][..4], ["all", "all", "exact", "4"]);
    let back: EvalReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
    assert_eq!(back.rows(), report.rows());
    let empty = [item(1, "", "1", "", "")];
    let error = evaluate(&Parrot(tokenizer.clone()), &tokenizer, &empty, &options, &Ctx::new(0)).unwrap_err();
    assert_eq!((error.code(), error.location().unwrap().row), ("eval/empty-prompt", Some(1)));
}

#[test]
fn losses_add_up() {
    let mut total = LossTotal::default();
    assert_eq!((total.mean(), total.perplexity(), total.accuracy()), (None, None, None));
    for (nll, correct) in [(2f64.ln(), true), (8f64.ln(), false)] {
        total.token(nll, correct);
    }
    assert!((total.perplexity().unwrap() - 4.0).abs() < 1e-12);
    assert_eq!((total.accuracy(), total.measures("t", "").len()), (Some(0.5), 3));
    let total = LossTotal { nll: 8.0 * std::f64::consts::LN_2, tokens: 3, correct: 0 };
    assert_eq!((total.bits_per_byte(4), total.bits_per_byte(0)), (Some(2.0), None));
}

/// Every label of the GSM8K test split is met by itself, by all three rules. The file is named when the tests are built:
/// `GSM8K_TEST=path/to/test.jsonl cargo test`.
#[test]
fn gsm8k_answers_meet_themselves() {
    let Some(path) = option_env!("GSM8K_TEST") else { return };
    let file = std::fs::read_to_string(Path::new(path)).unwrap();
    let answers: Vec<String> = file
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["answer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(answers.len(), 1319);
    for answer in &answers {
        let stated = answer.rsplit_once("#### ").unwrap().1.replace(',', "");
        assert_eq!(gsm8k_first(answer).as_ref(), Some(&stated), "{answer}");
        assert_eq!(gsm8k_last(answer).as_ref(), Some(&stated), "{answer}");
        assert_eq!(numeric(answer), Rational::parse(&stated), "{answer}");
        assert!(Judge::Numeric.judge(&format!("It is ${stated}.00."), answer).correct || stated.contains('.'));
    }
}
