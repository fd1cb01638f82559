//! The rules that judge answers, against an independent oracle and against answers that mean harm.

use curate_datasets::SplitMix;
use curate_datasets::tasks::{Puzzles, Side, puzzles, solve};
use curate_trainer::eval::{Judge, Rational};
use curate_trainer::verify::{self, Refusal, Verifier, extract};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn check(text: &str, numbers: &[u32], target: u32) -> Result<(), Refusal> {
    verify::check(text, numbers, Rational::whole(i128::from(target)))
}

#[test]
fn every_puzzle_is_solved_by_its_own_solution() {
    let options = Puzzles { count: 2..=4, ..Puzzles::default() };
    let made = puzzles(2000, &options, 5).unwrap();
    let keys: BTreeSet<(Vec<u32>, u32)> = made
        .iter()
        .map(|p| {
            let mut numbers = p.numbers.clone();
            numbers.sort_unstable();
            (numbers, p.target)
        })
        .collect();
    assert_eq!(keys.len(), 2000, "no puzzle twice");
    for puzzle in &made {
        assert_eq!(check(&puzzle.solution, &puzzle.numbers, puzzle.target), Ok(()), "{puzzle:?}");
        assert_eq!(extract(&puzzle.row().completion), Some(puzzle.solution.as_str()));
    }
    for puzzle in &made[..300] {
        let found = solve(&puzzle.numbers, puzzle.target).unwrap();
        assert_eq!(check(&found, &puzzle.numbers, puzzle.target), Ok(()), "{found}");
    }
    let test = puzzles(500, &Puzzles { side: Side::Test, ..options }, 5).unwrap();
    assert!(test.iter().all(|p| {
        let mut numbers = p.numbers.clone();
        numbers.sort_unstable();
        !keys.contains(&(numbers, p.target))
    }));
}

#[test]
fn exploits_are_refused() {
    let refused = |text: &str, numbers: &[u32], target: u32| check(text, numbers, target).unwrap_err();
    assert_eq!(check("(8 - 5) * 3", &[3, 5, 8], 9), Ok(()));
    assert_eq!(check(" 8/ (3-8/3) ", &[8, 8, 3, 3], 24), Ok(()));
    assert_eq!(refused("2**3", &[2, 3], 8), Refusal::Syntax(2));
    assert_eq!(refused("7//2", &[7, 2], 3), Refusal::Syntax(2));
    assert_eq!(refused("1.5*2", &[1, 5, 2], 3), Refusal::Syntax(1));
    assert_eq!(refused("-2+5", &[2, 5], 3), Refusal::Syntax(0));
    assert_eq!(refused("5+-2", &[5, 2], 3), Refusal::Syntax(2));
    assert_eq!(refused("9**9**9", &[9, 9, 9], 1), Refusal::Syntax(2));
    assert_eq!(refused("1 2 + 3", &[1, 2, 3], 15), Refusal::Syntax(2));
    assert_eq!(refused("12+3", &[1, 2, 3], 15), Refusal::Numbers);
    assert_eq!(refused("3+3", &[3], 6), Refusal::Numbers);
    assert_eq!(refused("03+3", &[3, 3], 6), Refusal::Syntax(0));
    assert_eq!(refused("2*3 = 6", &[2, 3], 6), Refusal::Syntax(4));
    assert_eq!(refused("2/(3-3)", &[2, 3, 3], 1), Refusal::ZeroDivision);
    assert_eq!(refused("2+3", &[2, 3], 6), Refusal::Value);
    assert_eq!(refused("", &[], 0), Refusal::Syntax(0));
    assert_eq!(refused("(2+3", &[2, 3], 5), Refusal::Syntax(4));
    assert_eq!(refused(&"(".repeat(100), &[1], 1), Refusal::TooDeep);
    assert_eq!(refused(&"1+".repeat(200), &[1], 1), Refusal::TooLong);
    assert_eq!(refused(&["999999999"; 5].join("*"), &[999_999_999; 5], 1), Refusal::Overflow);
    assert_eq!(refused("__import__('os')", &[1], 1), Refusal::Syntax(0));
    assert_eq!(refused("\u{0661}+1", &[1, 1], 2), Refusal::Syntax(0));
    assert_eq!(extract("<answer>1+1</answer> no <answer> 2 + 3 </answer> end"), Some("2 + 3"));
    assert_eq!((extract("<answer>1"), extract("1</answer>"), extract("")), (None, None, None));
}

/// All values by brute force: every order, every way to bracket, every operation, in floating point over the exact tree.
fn reachable(numbers: &[u32], target: u32) -> bool {
    fn values(numbers: &[f64]) -> Vec<f64> {
        if let [one] = numbers {
            return vec![*one];
        }
        let mut out = Vec::new();
        for cut in 1..numbers.len() {
            for a in values(&numbers[..cut]) {
                for b in values(&numbers[cut..]) {
                    out.extend([a + b, a - b, a * b]);
                    if b.abs() > 1e-9 {
                        out.push(a / b);
                    }
                }
            }
        }
        out
    }
    fn orders(rest: &[f64], chosen: &mut Vec<f64>, target: f64) -> bool {
        if rest.is_empty() {
            return values(chosen).iter().any(|value| (value - target).abs() < 1e-7);
        }
        (0..rest.len()).any(|at| {
            let mut left = rest.to_vec();
            chosen.push(left.remove(at));
            let found = orders(&left, chosen, target);
            chosen.pop();
            found
        })
    }
    orders(&numbers.iter().map(|n| f64::from(*n)).collect::<Vec<_>>(), &mut Vec::new(), f64::from(target))
}

#[test]
fn the_solver_finds_what_brute_force_finds() {
    let mut solvable = 0;
    for case in 0..250 {
        let mut rng = SplitMix::of(77, case);
        let count = 2 + rng.below(3);
        let numbers: Vec<u32> = (0..count).map(|_| u32::try_from(1 + rng.below(12)).unwrap()).collect();
        let target = u32::try_from(1 + rng.below(60)).unwrap();
        let found = solve(&numbers, target);
        assert_eq!(found.is_some(), reachable(&numbers, target), "{numbers:?} {target}");
        if let Some(text) = found {
            assert_eq!(check(&text, &numbers, target), Ok(()));
            solvable += 1;
        }
    }
    assert!((25..225).contains(&solvable), "{solvable}");
    assert_eq!((solve(&[], 1), solve(&[1; 7], 7)), (None, None));
}

const JUDGES: [Judge; 6] =
    [Judge::Exact, Judge::Number, Judge::Gsm8kFirst, Judge::Gsm8kStrict, Judge::Numeric, Judge::Countdown];

#[test]
fn names_are_those_of_the_command_line() {
    for judge in JUDGES {
        let name = serde_json::to_value(judge).unwrap();
        let known: Judge = serde_json::from_value(name).unwrap();
        assert_eq!(known, judge);
        assert!(!Verifier::name(&judge).is_empty());
    }
}

/// Long answers made of what parsers stumble over.
#[test]
fn hostile_answers_end_soon() {
    let pieces =
        ["(", "1/", "9**", "#### ", "<answer>", "</answer>", "1,000", "1e9", "-", ".", "\u{2212}", "9", "\u{1F600}"];
    let start = Instant::now();
    for piece in pieces {
        for size in [1 << 10, 1 << 20, 3 << 20] {
            let text = piece.repeat(size / piece.len());
            for judge in JUDGES {
                let marked = format!("<answer>{text}</answer>");
                assert!(!judge.verify(&text, "1 + 2").correct && !judge.verify(&marked, "1 + 2").correct, "{piece}");
            }
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

proptest! {
    #[test]
    fn no_answer_makes_a_rule_panic(text in "[-+*/() 0-9.,#<>answer\u{2212}e=]{0,80}", label in "[-+*/() 0-9.,#=]{0,20}") {
        for judge in JUDGES {
            judge.verify(&text, &label);
        }
    }
}
