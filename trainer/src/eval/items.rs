//! Questions with known answers, read from a pool.

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use curate_core::{Column, Error, Pool, Result};
use serde::{Deserialize, Serialize};

/// A question with its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvalItem {
    /// Row id.
    pub row: u64,
    /// What the model reads.
    pub prompt: String,
    /// What it should answer.
    pub label: String,
    /// Task; empty when there is one only.
    pub task: String,
    /// Group within the task.
    pub group: String,
}

impl EvalItem {
    /// The rows of a pool: columns `prompt` and `completion`, and `task` and `band` where they are there.
    ///
    /// # Errors
    /// `column/missing`, `column/type`.
    pub fn read(pool: &Pool) -> Result<Vec<Self>> {
        pool.require(&[Column::named("prompt"), Column::named("completion")], "the evaluation")?;
        let (prompts, labels) = (texts(pool, "prompt")?, texts(pool, "completion")?);
        let (tasks, groups) = (texts(pool, "task")?, texts(pool, "band")?);
        let ids = pool.ids()?.into_iter();
        let cells = prompts.into_iter().zip(labels).zip(tasks.into_iter().zip(groups));
        let item = |(row, ((prompt, label), (task, group)))| Self { row, prompt, label, task, group };
        Ok(ids.zip(cells).map(item).collect())
    }
}

/// A column of text; nulls, and a column that is not there, are empty texts.
fn texts(pool: &Pool, name: &str) -> Result<Vec<String>> {
    let column = Column::named(name);
    if !pool.has(&column) {
        return Ok(vec![String::new(); pool.rows()]);
    }
    let array = pool.column(&column)?;
    let found = array.data_type().clone();
    if !matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(..)) {
        return Err(Error::data("column/type", format!("the column '{name}' holds {found}, not text"))
            .hint("name the columns prompt, completion, task and band, all text"));
    }
    let array = cast(&array, &DataType::Utf8)?;
    let array = array.as_string::<i32>();
    Ok((0..array.len()).map(|at| if array.is_null(at) { String::new() } else { array.value(at).to_owned() }).collect())
}
