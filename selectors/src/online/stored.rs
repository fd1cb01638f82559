//! Reading and writing saved states: whole numbers by name, columns by table.

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type};
use curate_core::{Error, Result, State};
use std::sync::Arc;

/// A saved state as it is read.
pub(crate) struct Stored<'a>(&'a State);

impl<'a> Stored<'a> {
    pub(crate) const fn new(state: &'a State) -> Self {
        Self(state)
    }

    /// A whole number.
    pub(crate) fn whole(&self, key: &str) -> Result<u64> {
        self.0.scalars.get(key).and_then(serde_json::Value::as_u64).ok_or_else(|| broken(&format!("there is no {key}")))
    }

    fn array(&self, table: &str, column: &str) -> Option<&'a ArrayRef> {
        let (_, batch) = self.0.tables.iter().find(|(name, _)| name == table)?;
        batch.column_by_name(column)
    }

    /// A column without nulls.
    pub(crate) fn column<T: ArrowPrimitiveType>(&self, table: &str, column: &str) -> Result<Vec<T::Native>> {
        let array = self.array(table, column).filter(|array| array.null_count() == 0);
        let values = array.and_then(|array| array.as_primitive_opt::<T>()).map(|values| values.values().to_vec());
        values.ok_or_else(|| broken(&format!("there is no column '{column}' in the table '{table}'")))
    }

    /// A column of vectors of finite numbers, and their length; nothing where the table is missing.
    pub(crate) fn vectors(&self, table: &str, column: &str) -> Result<(Vec<f32>, usize)> {
        let Some(array) = self.array(table, column) else { return Ok((Vec::new(), 0)) };
        let lists = array.as_fixed_size_list_opt().filter(|lists| array.null_count() == 0 && lists.value_length() > 0);
        let parts = lists.and_then(|lists| {
            let dim = usize::try_from(lists.value_length()).ok()?;
            let first = usize::try_from(lists.value_offset(0)).ok()?;
            let values = lists.values().as_primitive_opt::<Float32Type>()?;
            Some((values.values().get(first..first + array.len() * dim)?.to_vec(), dim))
        });
        let whole = parts.filter(|(values, _)| values.iter().all(|v| v.is_finite()));
        whole.ok_or_else(|| broken(&format!("the column '{column}' of the table '{table}' holds no vectors")))
    }
}

/// A state that cannot be read.
pub(crate) fn broken(what: &str) -> Error {
    Error::data("state/broken", format!("the saved state cannot be used: {what}"))
        .hint("take the state that the same method wrote with the same parameters, or start anew")
}

/// Check that columns of one table belong together.
pub(crate) fn same_length(lengths: &[usize]) -> Result<()> {
    if lengths.windows(2).all(|w| w[0] == w[1]) { Ok(()) } else { Err(broken("its columns differ in length")) }
}

/// Add a table of columns of one length.
///
/// # Panics
/// When the lengths differ, which no input can bring about.
pub(crate) fn put<const N: usize>(state: &mut State, name: &str, columns: [(&str, ArrayRef); N]) {
    let batch = RecordBatch::try_from_iter(columns).expect("the columns are of one length");
    state.tables.push((name.to_owned(), batch));
}

/// Vectors of `dim` numbers as a column.
///
/// # Panics
/// When `values` are no whole vectors, which no input can bring about.
pub(crate) fn vectors(values: &[f32], dim: usize) -> ArrayRef {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let width = i32::try_from(dim).expect("the vectors came out of such a column");
    Arc::new(FixedSizeListArray::new(item, width, Arc::new(Float32Array::from(values.to_vec())), None))
}
