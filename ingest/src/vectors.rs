//! Bring your own vectors: list columns of any float type become fixed-size lists of `f32`.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type};
use curate_core::{Error, Location, Result};
use std::sync::Arc;

/// Normalise a column of vectors (`List`, `LargeList`, `FixedSizeList` of `f16`, `f32`, `f64`) to fixed-size lists of `f32`.
/// `dim` is the length every vector must have, if already known; `place` and `first_row` say where the array comes from.
///
/// # Errors
/// `embedding/type` for other columns, `embedding/shape` for vectors of another length, `embedding/null`, and
/// `embedding/not-finite`, each with file and row.
pub fn columns_f32_vector(
    array: &ArrayRef,
    dim: Option<usize>,
    place: &Location,
    first_row: u64,
) -> Result<FixedSizeListArray> {
    let at = |row: usize| place.clone().row(first_row + row as u64);
    let item = match array.data_type() {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if item.data_type().is_floating() =>
        {
            item
        }
        other => {
            return Err(Error::data(
                "embedding/type",
                format!("a column of vectors was expected, this one holds {other}"),
            )
            .hint("store embeddings as lists of float32")
            .at(place.clone()));
        }
    };
    let list = cast(array, &DataType::LargeList(Arc::clone(item)))?;
    let list = list.as_list::<i64>();
    let length = |row: usize| usize::try_from(list.value_length(row)).unwrap_or(0);
    let dim = dim.or_else(|| (0..list.len()).find(|&row| list.is_valid(row)).map(length)).unwrap_or(0);
    for row in 0..list.len() {
        if list.is_null(row) {
            return Err(Error::data("embedding/null", "the row has no vector")
                .hint("drop such rows with --where, or embed them")
                .at(at(row)));
        }
        if length(row) != dim {
            return Err(Error::data(
                "embedding/shape",
                format!("a vector of length {} where others have {dim}", length(row)),
            )
            .hint("all vectors of a column must have one length")
            .at(at(row)));
        }
    }
    let (start, end) =
        (list.value_offsets().first().copied().unwrap_or(0), list.value_offsets().last().copied().unwrap_or(0));
    let used = list.values().slice(usize::try_from(start).unwrap_or(0), usize::try_from(end - start).unwrap_or(0));
    let values = cast(&used, &DataType::Float32)?;
    check_finite(values.as_primitive::<Float32Type>(), dim).map_err(|(row, e)| e.at(at(row)))?;
    let size =
        i32::try_from(dim).map_err(|_| Error::data("embedding/shape", "vectors of more than 2147483647 numbers"))?;
    let field = Arc::new(Field::new("item", DataType::Float32, false));
    Ok(FixedSizeListArray::try_new_with_length(field, size, values, None, list.len())?)
}

fn check_finite(values: &Float32Array, dim: usize) -> std::result::Result<(), (usize, Error)> {
    let bad = (0..values.len()).find(|&i| values.is_null(i) || !values.value(i).is_finite());
    match bad {
        None => Ok(()),
        Some(i) => {
            let what = if values.is_null(i) { "null" } else { "a number that is not finite as float32" };
            let error =
                Error::data("embedding/not-finite", format!("{what} at place {} of the vector", i % dim.max(1)));
            Err((i / dim.max(1), error.hint("repair the vector, or drop the row with --where")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::ListArray;
    use arrow::datatypes::{Float16Type, Float64Type};

    fn list(rows: &[Option<Vec<Option<f64>>>]) -> ArrayRef {
        Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows.iter().cloned()))
    }

    fn code(rows: &[Option<Vec<Option<f64>>>]) -> (&'static str, u64) {
        let error = columns_f32_vector(&list(rows), None, &Location::file("x"), 10).unwrap_err();
        (error.code(), error.location().unwrap().row.unwrap())
    }

    #[test]
    fn lists_become_fixed_lists_of_f32() {
        let vectors = columns_f32_vector(
            &list(&[Some(vec![Some(1.0), Some(2.0)]), Some(vec![Some(3.0), Some(4.0)])]).slice(1, 1),
            None,
            &Location::file("x"),
            0,
        );
        assert_eq!(vectors.unwrap().values().as_primitive::<Float32Type>().values().as_ref(), &[3.0, 4.0]);
        let half: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float16Type, _, _>(
            vec![Some(vec![Some(half::f16::ONE)])],
            1,
        ));
        assert_eq!(columns_f32_vector(&half, Some(1), &Location::file("x"), 0).unwrap().value_length(), 1);
    }

    #[test]
    fn bad_vectors_are_named_by_row() {
        let good = || Some(vec![Some(1.0), Some(2.0)]);
        assert_eq!(code(&[good(), Some(vec![Some(1.0)])]), ("embedding/shape", 11));
        assert_eq!(code(&[good(), None]), ("embedding/null", 11));
        assert_eq!(code(&[good(), good(), Some(vec![Some(1.0), Some(f64::NAN)])]), ("embedding/not-finite", 12));
        assert_eq!(code(&[Some(vec![Some(1.0), None])]), ("embedding/not-finite", 10));
        assert_eq!(code(&[Some(vec![Some(1e300)])]), ("embedding/not-finite", 10));
        let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["x"]));
        assert_eq!(columns_f32_vector(&texts, None, &Location::file("x"), 0).unwrap_err().code(), "embedding/type");
    }
}
