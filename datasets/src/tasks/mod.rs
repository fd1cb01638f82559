//! Tasks whose answers are computed, not collected: numbers, Countdown, invented facts, and the same with planted errors.
//! A selector or a trainer that claims an effect is tried on these, because the truth about every row is known.

mod countdown;
mod facts;
mod noise;
mod numbers;
mod ratio;
mod rows;

pub use countdown::{Puzzle, Puzzles, puzzles, solve};
pub use facts::{FactBook, Probe, fact_book};
pub use noise::{Noise, spoil};
pub use numbers::{Item, Kind, NumberTasks, Op, Style, Task, numbers};
pub use ratio::Ratio;
pub use rows::{Side, TaskRow, Truth, side_of, task_pool, task_rows};
