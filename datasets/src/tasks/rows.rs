//! The rows that all tasks give, their columns, and the split into training and test.

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt32Array};
use curate_core::{Pool, Result};
use std::sync::Arc;

/// What was done to a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Truth {
    /// Nothing: its answer is right.
    #[default]
    Clean,
    /// Its answer was replaced by a wrong one.
    Wrong,
    /// It is a copy of another row.
    Duplicate,
    /// It belongs to another task.
    OffTask,
}

impl Truth {
    /// The name in the column `truth.kind`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Wrong => "wrong",
            Self::Duplicate => "duplicate",
            Self::OffTask => "off-task",
        }
    }
}

/// One row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRow {
    /// What the model reads.
    pub prompt: String,
    /// What it is taught.
    pub completion: String,
    /// Task.
    pub task: String,
    /// Group within the task: a length band, a kind of question.
    pub band: String,
    /// Difficulty, higher = harder, comparable within a task.
    pub difficulty: u32,
    /// Hidden: what was done to the row.
    pub truth: Truth,
    /// Hidden: the right completion.
    pub right: String,
}

/// The rows as columns `id`, `prompt`, `completion`, `task`, `band`, `difficulty`, and the hidden `truth.kind` and
/// `truth.completion`, which no selector may read.
///
/// # Errors
/// What Arrow gives.
pub fn task_rows(rows: &[TaskRow]) -> Result<RecordBatch> {
    let text = |cell: fn(&TaskRow) -> &str| Arc::new(StringArray::from_iter_values(rows.iter().map(cell))) as ArrayRef;
    let ids = StringArray::from_iter_values((0..rows.len()).map(|at| format!("task-{at:06}")));
    let difficulty = UInt32Array::from_iter_values(rows.iter().map(|row| row.difficulty));
    Ok(RecordBatch::try_from_iter([
        ("id", Arc::new(ids) as ArrayRef),
        ("prompt", text(|row| &row.prompt)),
        ("completion", text(|row| &row.completion)),
        ("task", text(|row| &row.task)),
        ("band", text(|row| &row.band)),
        ("difficulty", Arc::new(difficulty)),
        ("truth.kind", text(|row| row.truth.name())),
        ("truth.completion", text(|row| &row.right)),
    ])?)
}

/// The rows as a pool of one chunk.
///
/// # Errors
/// What Arrow gives.
pub fn task_pool(rows: &[TaskRow]) -> Result<Pool> {
    Ok(Pool::from_batch(task_rows(rows)?))
}

/// On which side of the split a question lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// Trained on.
    #[default]
    Train,
    /// Held out.
    Test,
}

/// The side of a question, from what is asked about alone (in any order), never from a draw: a question that occurs twice, or
/// in two tasks, is on one side.
#[must_use]
pub fn side_of(operands: &[&str], test_share: f64) -> Side {
    let mut sorted = operands.to_vec();
    sorted.sort_unstable();
    // FNV-1a, mixed once more since its high bits are weak
    let bytes = sorted.iter().flat_map(|operand| operand.bytes().chain([b' ']));
    let hash = bytes.fold(0xCBF2_9CE4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01B3));
    let place = crate::SplitMix::of(hash, 0).below(1 << 30);
    let share = f64::from(u32::try_from(place).unwrap_or(u32::MAX)) / f64::from(1u32 << 30);
    if share < test_share { Side::Test } else { Side::Train }
}
