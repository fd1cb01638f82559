//! Number tasks made from rules: 17 operations on integers, decimals, fractions and powers of ten, 41 pairs in all.
//!
//! Rules: Yang et al. 2024, Number Cookbook (arXiv 2411.03766), written anew. Ours where the paper leaves it open: decimals
//! have d whole digits and 1 to d decimals; a decimal or mantissa always has a point with a digit behind it (`1.0`); a
//! fraction always has a bar (`3/1`); digit-wise results keep their zeros; `sig` rounds halves up; `to_float` of a
//! fraction draws denominators 2^a 5^b, so that the answer ends. The second operand has at least half the digits of the first.
//! Cost: O(digits) an item, apart from drawing again until an item lies on the wanted side.

mod apply;
mod decimal;
mod draw;
mod task;

pub use task::{Kind, Op, Task};

use super::rows::{Side, TaskRow, Truth, side_of};
use crate::SplitMix;
use curate_core::{Error, Result};
use std::ops::RangeInclusive;

/// Draws before giving up on a side.
const TRIES: usize = 10_000;

/// How a question is put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// `add 12 34=`: few characters, for small models.
    #[default]
    Compact,
    /// `What is 12 + 34? Answer: `.
    Words,
}

/// Which items to make.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberTasks {
    /// Tasks, drawn evenly.
    pub tasks: Vec<Task>,
    /// Digits of the longer operand, drawn evenly.
    pub digits: RangeInclusive<usize>,
    /// Side of the split.
    pub side: Side,
    /// Share of all questions that is held out.
    pub test_share: f64,
    /// Whether the second operand is cut to 3 digits.
    pub easy: bool,
    /// How questions are put.
    pub style: Style,
}

impl Default for NumberTasks {
    fn default() -> Self {
        let (tasks, side, style) = (Task::first_set(), Side::Train, Style::Compact);
        Self { tasks, digits: 1..=8, side, test_share: 0.1, easy: false, style }
    }
}

/// A question and its exact answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What is done.
    pub task: Task,
    /// Digits of the longer operand.
    pub digits: usize,
    /// The numbers, and for some operations a position or a digit behind them.
    pub operands: Vec<String>,
    /// The answer.
    pub answer: String,
}

impl Item {
    /// The length band: S to 4 digits, M to 8, L to 14, XL above.
    #[must_use]
    pub const fn band(&self) -> &'static str {
        match self.digits {
            0..=4 => "S",
            5..=8 => "M",
            9..=14 => "L",
            _ => "XL",
        }
    }

    /// The side of the split, from the numbers alone.
    #[must_use]
    pub fn side(&self, test_share: f64) -> Side {
        let numbers: Vec<&str> = self.operands[..self.task.op.numbers()].iter().map(String::as_str).collect();
        side_of(&numbers, test_share)
    }

    /// The item as a row.
    #[must_use]
    pub fn row(&self, style: Style) -> TaskRow {
        TaskRow {
            prompt: self.task.op.prompt(style, &self.operands),
            completion: self.answer.clone(),
            task: self.task.name(),
            band: self.band().to_owned(),
            difficulty: u32::try_from(self.digits).unwrap_or(u32::MAX),
            truth: Truth::Clean,
            right: self.answer.clone(),
        }
    }
}

/// `rows` items. An item depends on seed and place only, so that a longer set begins with the shorter one.
///
/// # Errors
/// `tasks/digits` when a task cannot be computed exactly with so many digits, `tasks/none` without tasks or lengths,
/// `tasks/side` when no question lies on the wanted side.
pub fn numbers(rows: usize, options: &NumberTasks, seed: u64) -> Result<Vec<Item>> {
    if options.tasks.is_empty() || options.digits.is_empty() || *options.digits.start() == 0 {
        return Err(Error::usage("tasks/none", "no task, or no length to draw from").hint("digits run from 1 upwards"));
    }
    let longest = *options.digits.end();
    if let Some(task) = options.tasks.iter().find(|task| task.max_digits() < longest) {
        let (name, most) = (task.name(), task.max_digits());
        return Err(Error::usage("tasks/digits", format!("{name} is exact up to {most} digits, not {longest}"))
            .hint("ask for fewer digits, or leave the task out"));
    }
    (0..rows).map(|row| item(options, &mut SplitMix::of(seed, row as u64))).collect()
}

fn item(options: &NumberTasks, rng: &mut SplitMix) -> Result<Item> {
    let task = options.tasks[rng.below(options.tasks.len())];
    let (shortest, longest) = (*options.digits.start(), *options.digits.end());
    let digits = shortest + rng.below(longest - shortest + 1);
    for _ in 0..TRIES {
        let operands = draw::operands(task, digits, options.easy, rng);
        let Some(answer) = apply::answer(task, &operands) else { continue };
        let item = Item { task, digits, operands, answer };
        if item.side(options.test_share) == options.side {
            return Ok(item);
        }
    }
    let (name, side) = (task.name(), options.side);
    Err(Error::usage("tasks/side", format!("{name} with {digits} digits has no question on the side {side:?}"))
        .hint("ask for more digits, or change test_share"))
}
