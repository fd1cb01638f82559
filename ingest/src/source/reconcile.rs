//! One schema for all files: columns meet by name, missing ones are null, narrow types widen, and what cannot be widened is
//! refused with file and column.

use crate::json::JSON_TEXT;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use curate_core::{Error, Location, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// Check that no column name stands twice.
pub(crate) fn refuse_duplicates(schema: &Schema, file: &str) -> Result<()> {
    let mut names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Error::data("schema/duplicate-column", format!("the column '{}' stands twice", pair[0]))
            .hint("rename one of them")
            .at(Location::file(file).column(pair[0]))),
    }
}

/// The common schema of files, in the order of the first file, further columns after it.
pub(crate) fn unify<'a>(files: &(impl Iterator<Item = (&'a SchemaRef, &'a str)> + Clone)) -> Result<SchemaRef> {
    let mut all = files.clone();
    let Some((first, _)) = all.next() else { return Ok(Arc::new(Schema::empty())) };
    if all.all(|(schema, _)| schema == first) {
        return Ok(Arc::clone(first));
    }
    let mut fields: Vec<Field> = first.fields().iter().map(|f| f.as_ref().clone()).collect();
    for (schema, file) in files.clone().skip(1) {
        for field in schema.fields() {
            match fields.iter_mut().find(|known| known.name() == field.name()) {
                None => fields.push(field.as_ref().clone().with_nullable(true)),
                Some(known) => *known = join(known, field).ok_or_else(|| clash(known, field, file))?,
            }
        }
    }
    for field in &mut fields {
        if files.clone().any(|(schema, _)| schema.field_with_name(field.name()).is_err()) {
            field.set_nullable(true);
        }
    }
    let metadata = if files.clone().all(|(s, _)| s.metadata() == first.metadata()) {
        first.metadata().clone()
    } else {
        HashMap::new()
    };
    Ok(Arc::new(Schema::new_with_metadata(fields, metadata)))
}

fn clash(known: &Field, field: &Field, file: &str) -> Error {
    let name = |f: &Field| if is_json(f) { "JSON of mixed kinds".to_owned() } else { f.data_type().to_string() };
    Error::data(
        "schema/incompatible",
        format!("the column is {} here and {} in files before", name(field), name(known)),
    )
    .hint("convert one side, rename the column, or read the files apart")
    .at(Location::file(file).row_group(0).column(field.name()))
}

fn is_json(field: &Field) -> bool {
    field.metadata().contains_key(JSON_TEXT)
}

/// The field that holds both.
fn join(a: &Field, b: &Field) -> Option<Field> {
    if is_json(a) != is_json(b) {
        return None;
    }
    let nullable = a.is_nullable() || b.is_nullable();
    let metadata = if a.metadata() == b.metadata() || is_json(a) { a.metadata().clone() } else { HashMap::new() };
    Some(Field::new(a.name(), widen(a.data_type(), b.data_type())?, nullable).with_metadata(metadata))
}

/// The narrowest type that holds both.
fn widen(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType as D;
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (D::Null, other) | (other, D::Null) => Some(other.clone()),
        (D::Dictionary(_, value), other) | (other, D::Dictionary(_, value)) => widen(value, other),
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::Utf8 | D::LargeUtf8 | D::Utf8View) => Some(D::Utf8),
        (D::Binary | D::LargeBinary | D::BinaryView, D::Binary | D::LargeBinary | D::BinaryView) => Some(D::Binary),
        _ if a.is_integer() && b.is_integer() => Some(wider_integer(a, b)),
        _ if a.is_floating() && b.is_floating() => {
            Some(if matches!((a, b), (D::Float64, _) | (_, D::Float64)) { D::Float64 } else { D::Float32 })
        }
        _ if a.is_numeric()
            && b.is_numeric()
            && (a.is_floating() || b.is_floating())
            && (a.is_integer() || b.is_integer()) =>
        {
            Some(D::Float64)
        }
        (
            D::List(x) | D::LargeList(x) | D::FixedSizeList(x, _),
            D::List(y) | D::LargeList(y) | D::FixedSizeList(y, _),
        ) => Some(D::List(Arc::new(join(x, &y.as_ref().clone().with_name(x.name()))?.with_name(x.name())))),
        (D::Struct(x), D::Struct(y)) => Some(D::Struct(join_members(x, y)?)),
        _ => None,
    }
}

/// Signed as soon as one side is; 64 bits where signs differ.
fn wider_integer(a: &DataType, b: &DataType) -> DataType {
    if a.is_signed_integer() != b.is_signed_integer() {
        return DataType::Int64;
    }
    if a.primitive_width() >= b.primitive_width() { a.clone() } else { b.clone() }
}

fn join_members(x: &Fields, y: &Fields) -> Option<Fields> {
    let mut members: Vec<Field> = x.iter().map(|f| f.as_ref().clone()).collect();
    for field in y {
        match members.iter_mut().find(|known| known.name() == field.name()) {
            None => members.push(field.as_ref().clone().with_nullable(true)),
            Some(known) => *known = join(known, field)?,
        }
    }
    for member in &mut members {
        if !y.iter().any(|f| f.name() == member.name()) {
            member.set_nullable(true);
        }
    }
    Some(members.into())
}

/// The batch of one file in the common schema.
pub(crate) fn adapt(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
        Some(array) => fit(array, field),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn fit(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if array.data_type() == field.data_type() {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), field.data_type()) {
        (DataType::Struct(_), DataType::Struct(members)) => {
            let old = array.as_struct();
            let column = |member: &FieldRef| match old.column_by_name(member.name()) {
                Some(array) => fit(array, member),
                None => Ok(new_null_array(member.data_type(), old.len())),
            };
            let columns = members.iter().map(column).collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(members.clone(), columns, old.nulls().cloned(), old.len())?))
        }
        (DataType::List(_), DataType::List(item)) => {
            let old = array.as_list::<i32>();
            let values = fit(old.values(), item)?;
            Ok(Arc::new(ListArray::try_new(Arc::clone(item), old.offsets().clone(), values, old.nulls().cloned())?))
        }
        (DataType::LargeList(inner) | DataType::FixedSizeList(inner, _), DataType::List(_)) => {
            let list = plain_cast(array, &DataType::List(Arc::clone(inner)))?;
            fit(&list, field)
        }
        _ => plain_cast(array, field.data_type()),
    }
}

fn plain_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    Ok(cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray, StringViewArray};

    fn schema(fields: Vec<Field>) -> SchemaRef {
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn columns_meet_by_name_and_widen() {
        let member = |name: &str, t| Field::new(name, t, false);
        let a = schema(vec![
            member("i", DataType::Int32),
            member("t", DataType::Utf8View),
            member("s", DataType::Struct(vec![member("x", DataType::Float32)].into())),
        ]);
        let b = schema(vec![
            member("s", DataType::Struct(vec![member("y", DataType::Utf8), member("x", DataType::Float64)].into())),
            member("i", DataType::Int64),
            member("t", DataType::LargeUtf8),
            member("n", DataType::Null),
        ]);
        let both = unify(&[(&a, "a"), (&b, "b")].into_iter()).unwrap();
        let types: Vec<String> = both.fields().iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect();
        assert_eq!(types, ["i:Int64", "t:Utf8", r#"s:Struct("x": non-null Float64, "y": Utf8)"#, "n:Null"]);
        let x: ArrayRef = Arc::new(arrow::array::Float32Array::from(vec![1.5, 2.5]));
        let batch = RecordBatch::try_new(
            a,
            vec![
                Arc::new(Int32Array::from(vec![1, 2])),
                Arc::new(StringViewArray::from(vec!["a", "b"])),
                Arc::new(StructArray::from(vec![(Arc::new(member("x", DataType::Float32)), x)])),
            ],
        );
        let out = adapt(&batch.unwrap(), &both).unwrap();
        assert_eq!(out.column(1).as_ref(), &StringArray::from(vec!["a", "b"]) as &dyn Array);
        assert_eq!(out.column(3).len(), 2);
    }

    #[test]
    fn what_cannot_widen_is_refused() {
        let a = schema(vec![Field::new("i", DataType::Int32, false)]);
        let b = schema(vec![Field::new("i", DataType::Utf8, false)]);
        let error = unify(&[(&a, "a"), (&b, "b.parquet")].into_iter()).unwrap_err();
        assert_eq!(error.code(), "schema/incompatible");
        assert_eq!(error.location().unwrap().file.as_deref(), Some("b.parquet"));
        let twice = Schema::new(vec![Field::new("i", DataType::Int32, false), Field::new("i", DataType::Utf8, false)]);
        assert_eq!(refuse_duplicates(&twice, "x").unwrap_err().code(), "schema/duplicate-column");
    }
}
