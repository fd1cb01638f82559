//! What a learner says back, what an online selector asks for, and its state between calls.

use crate::Column;
use arrow::array::RecordBatch;

/// Signals of rows a learner has just seen; one record-batch row per id, in order.
#[derive(Clone, Debug)]
pub struct Feedback {
    /// Step of the learner that produced the signals.
    pub step: u64,
    /// Source row ids.
    pub rows: Vec<u64>,
    /// `signal.*` columns.
    pub signals: RecordBatch,
}

/// Columns an online selector needs: on candidates before it proposes, and in feedback after a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Columns on the candidates.
    pub before: Vec<Column>,
    /// Columns in the feedback.
    pub after: Vec<Column>,
}

/// Everything an online selector must remember to go on elsewhere: flat columns and a few named numbers.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Format version of this state.
    pub version: u32,
    /// Scalars, as JSON.
    pub scalars: serde_json::Map<String, serde_json::Value>,
    /// Named tables, such as one posterior a prompt.
    pub tables: Vec<(String, RecordBatch)>,
}
