//! Countdown: reach a target with given numbers, each used once, and + - * / and brackets.
//!
//! Every puzzle is made from a random expression, so that it can be solved. The task is that of `TinyZero` (`Jiayi-Pan/TinyZero`,
//! `countdown.py`); answers are judged by the trainer's rule `countdown`. Cost: O(k) a puzzle; the solver looks at all ways to combine, a few thousand for 4 numbers.

mod solve;

pub use solve::solve;

use super::ratio::Ratio;
use super::rows::{Side, TaskRow, Truth, side_of};
use crate::SplitMix;
use curate_core::{Error, Result};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

/// Draws before giving up.
const TRIES: usize = 10_000;

/// Which puzzles to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Puzzles {
    /// How many numbers, drawn evenly.
    pub count: RangeInclusive<usize>,
    /// Numbers are drawn from 1 to this.
    pub largest: u32,
    /// Targets lie between 1 and this.
    pub largest_target: u32,
    /// Operations in the expression a puzzle is made from, of `+-*/`.
    pub operations: &'static str,
    /// Side of the split.
    pub side: Side,
    /// Share of all puzzles that is held out.
    pub test_share: f64,
}

impl Default for Puzzles {
    fn default() -> Self {
        let (side, operations) = (Side::Train, "+-*/");
        Self { count: 3..=4, largest: 99, largest_target: 999, operations, side, test_share: 0.1 }
    }
}

/// A puzzle that can be solved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// The numbers, in the order shown.
    pub numbers: Vec<u32>,
    /// What to reach.
    pub target: u32,
    /// The expression it was made from.
    pub solution: String,
}

impl Puzzle {
    /// The question.
    #[must_use]
    pub fn prompt(&self) -> String {
        let numbers: Vec<String> = self.numbers.iter().map(u32::to_string).collect();
        let (list, target) = (numbers.join(", "), self.target);
        format!(
            "Make {target} from the numbers {list}. Use each number once, with + - * / and brackets. Write the expression as <answer> expression </answer>.\n"
        )
    }

    /// The puzzle as a row; difficulty is the number of numbers.
    #[must_use]
    pub fn row(&self) -> TaskRow {
        let completion = format!("<answer> {} </answer>", self.solution);
        TaskRow {
            prompt: self.prompt(),
            right: completion.clone(),
            completion,
            task: "countdown".to_owned(),
            band: format!("{} numbers", self.numbers.len()),
            difficulty: u32::try_from(self.numbers.len()).unwrap_or(u32::MAX),
            truth: Truth::Clean,
        }
    }

    /// What makes two puzzles the same.
    fn key(&self) -> (Vec<u32>, u32) {
        let mut numbers = self.numbers.clone();
        numbers.sort_unstable();
        (numbers, self.target)
    }

    fn side(&self, test_share: f64) -> Side {
        let (numbers, target) = self.key();
        let words: Vec<String> = numbers.iter().map(u32::to_string).chain([format!("={target}")]).collect();
        side_of(&words.iter().map(String::as_str).collect::<Vec<_>>(), test_share)
    }
}

/// `rows` different puzzles; a longer set begins with the shorter one.
///
/// # Errors
/// `tasks/none` for an empty range or no operation, `tasks/few` when there are not so many puzzles.
pub fn puzzles(rows: usize, options: &Puzzles, seed: u64) -> Result<Vec<Puzzle>> {
    let valid = !options.operations.is_empty() && options.operations.bytes().all(|op| b"+-*/".contains(&op));
    if options.count.is_empty() || *options.count.start() == 0 || options.largest == 0 || !valid {
        return Err(Error::usage("tasks/none", "no numbers or no operations to draw from")
            .hint("count and largest are at least 1, operations are some of + - * /"));
    }
    let mut known = BTreeSet::new();
    (0..rows).map(|row| new_puzzle(options, &mut SplitMix::of(seed, row as u64), &mut known)).collect()
}

fn new_puzzle(options: &Puzzles, rng: &mut SplitMix, seen: &mut BTreeSet<(Vec<u32>, u32)>) -> Result<Puzzle> {
    for _ in 0..TRIES {
        let Some(puzzle) = draw(options, rng) else { continue };
        if puzzle.side(options.test_share) == options.side && seen.insert(puzzle.key()) {
            return Ok(puzzle);
        }
    }
    let found = seen.len();
    Err(Error::usage("tasks/few", format!("only {found} different puzzles were found"))
        .hint("ask for fewer, or allow more or larger numbers"))
}

/// One draw: numbers, and a random way to combine them; `None` when the value is no target.
fn draw(options: &Puzzles, rng: &mut SplitMix) -> Option<Puzzle> {
    let (least, most) = (*options.count.start(), *options.count.end());
    let count = least + rng.below(most - least + 1);
    let largest = usize::try_from(options.largest).ok()?;
    let numbers: Vec<u32> = (0..count).map(|_| u32::try_from(1 + rng.below(largest)).unwrap_or(1)).collect();
    let mut parts: Vec<(Ratio, String)> =
        numbers.iter().map(|n| (Ratio::whole(i128::from(*n)), n.to_string())).collect();
    let operations = options.operations.as_bytes();
    while parts.len() > 1 {
        let (left, right) = (take(&mut parts, rng), take(&mut parts, rng));
        let op = operations[rng.below(operations.len())];
        parts.push((combine(op, left.0, right.0)?, format!("({} {} {})", left.1, char::from(op), right.1)));
    }
    let (value, text) = parts.pop()?;
    let target = u32::try_from(value.above()).ok().filter(|target| value.below() == 1 && *target > 0)?;
    let solution = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(&text).to_owned();
    (target <= options.largest_target).then_some(Puzzle { numbers, target, solution })
}

fn take(parts: &mut Vec<(Ratio, String)>, rng: &mut SplitMix) -> (Ratio, String) {
    let at = rng.below(parts.len());
    parts.swap_remove(at)
}

/// One of the four operations.
fn combine(op: u8, a: Ratio, b: Ratio) -> Option<Ratio> {
    match op {
        b'+' => a.plus(b),
        b'-' => a.minus(b),
        b'*' => a.times(b),
        _ => a.over(b),
    }
}
