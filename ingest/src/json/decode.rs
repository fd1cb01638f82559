//! Column builders that are filled straight from JSON rows.

use super::JSON_TEXT;
use super::parser::{Broken, Head, Parser};
use arrow::array::{
    ArrayRef, BooleanBuilder, Float64Builder, Int64Builder, ListArray, NullBufferBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use curate_core::{Error, Result};
use std::sync::Arc;

/// Fills a batch of the wanted columns, row by row; other keys are passed over.
pub(crate) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Build>,
    rows: usize,
}

impl Decoder {
    /// A decoder for a schema made by the shape learner.
    pub(crate) fn new(schema: SchemaRef) -> Self {
        let columns = schema.fields().iter().map(|field| Build::new(field)).collect();
        Self { schema, columns, rows: 0 }
    }

    /// Append one row; it must have been learnt from, so an error means that the file has changed.
    pub(crate) fn push(&mut self, row: &str) -> std::result::Result<(), Broken> {
        let mut parser = Parser::new(row);
        parser.head()?;
        self.rows += 1;
        fill(&mut self.columns, self.schema.fields(), &mut parser, self.rows)
    }

    /// The batch.
    pub(crate) fn finish(self) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let columns =
            self.columns.into_iter().zip(self.schema.fields()).map(|(b, f)| b.finish(f)).collect::<Result<_>>()?;
        Ok(RecordBatch::try_new_with_options(self.schema, columns, &options)?)
    }
}

enum Build {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Json(StringBuilder),
    List { offsets: Vec<i32>, nulls: NullBufferBuilder, item: Box<Self>, field: FieldRef },
    Record { nulls: NullBufferBuilder, members: Vec<Self>, fields: Fields, rows: usize },
}

/// Read the members of an open object into `columns`, then bring all of them to `rows` rows.
fn fill(
    columns: &mut [Build],
    fields: &Fields,
    parser: &mut Parser<'_>,
    rows: usize,
) -> std::result::Result<(), Broken> {
    let (mut first, mut hint) = (true, 0);
    while let Some(key) = parser.key(first)? {
        first = false;
        let at = match fields.get(hint) {
            Some(field) if field.name() == key.as_ref() => Some(hint),
            _ => fields.iter().position(|field| field.name() == key.as_ref()),
        };
        let Some(at) = at else {
            parser.skip()?;
            continue;
        };
        hint = at + 1;
        if columns[at].len() >= rows {
            return parser.fail("a key stands twice in one object");
        }
        columns[at].push(parser)?;
    }
    columns.iter_mut().filter(|column| column.len() < rows).for_each(Build::push_null);
    Ok(())
}

impl Build {
    fn new(field: &Field) -> Self {
        match field.data_type() {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::Int64 => Self::Int(Int64Builder::new()),
            DataType::Float64 => Self::Float(Float64Builder::new()),
            DataType::List(item) => Self::List {
                offsets: vec![0],
                nulls: NullBufferBuilder::new(0),
                item: Box::new(Self::new(item)),
                field: Arc::clone(item),
            },
            DataType::Struct(fields) => Self::Record {
                nulls: NullBufferBuilder::new(0),
                members: fields.iter().map(|field| Self::new(field)).collect(),
                fields: fields.clone(),
                rows: 0,
            },
            _ if field.metadata().contains_key(JSON_TEXT) => Self::Json(StringBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    fn len(&self) -> usize {
        use arrow::array::ArrayBuilder;
        match self {
            Self::Bool(b) => b.len(),
            Self::Int(b) => b.len(),
            Self::Float(b) => b.len(),
            Self::Text(b) | Self::Json(b) => b.len(),
            Self::List { offsets, .. } => offsets.len() - 1,
            Self::Record { rows, .. } => *rows,
        }
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Float(b) => b.append_null(),
            Self::Text(b) | Self::Json(b) => b.append_null(),
            Self::List { offsets, nulls, .. } => {
                offsets.push(offsets[offsets.len() - 1]);
                nulls.append_null();
            }
            Self::Record { nulls, members, rows, .. } => {
                *rows += 1;
                nulls.append_null();
                members.iter_mut().for_each(Self::push_null);
            }
        }
    }

    fn push(&mut self, parser: &mut Parser<'_>) -> std::result::Result<(), Broken> {
        if let Self::Json(b) = self {
            let raw = parser.raw()?;
            b.append_option((raw != "null").then_some(raw));
            return Ok(());
        }
        let head = parser.head()?;
        match (self, head) {
            (this, Head::Null) => this.push_null(),
            (Self::Bool(b), Head::Bool(value)) => b.append_value(value),
            (Self::Text(b), Head::Text(value)) => b.append_value(value),
            (Self::Int(b), Head::Number(number)) => match number.parse() {
                Ok(value) => b.append_value(value),
                Err(_) => return parser.fail("an integer was expected"),
            },
            (Self::Float(b), Head::Number(number)) => match number.parse() {
                Ok(value) => b.append_value(value),
                Err(_) => return parser.fail("a number was expected"),
            },
            (Self::List { offsets, nulls, item, .. }, Head::Array) => {
                let mut first = true;
                while parser.element(first)? {
                    first = false;
                    item.push(parser)?;
                }
                let Ok(end) = i32::try_from(item.len()) else {
                    return parser.fail("too many list elements in one unit");
                };
                offsets.push(end);
                nulls.append_non_null();
            }
            (Self::Record { nulls, members, fields, rows }, Head::Object) => {
                *rows += 1;
                nulls.append_non_null();
                fill(members, fields, parser, *rows)?;
            }
            _ => return parser.fail("another kind of value than before"),
        }
        Ok(())
    }

    fn finish(self, field: &Field) -> Result<ArrayRef> {
        Ok(match self {
            Self::Bool(mut b) => Arc::new(b.finish()),
            Self::Int(mut b) => Arc::new(b.finish()),
            Self::Float(mut b) => Arc::new(b.finish()),
            Self::Text(mut b) | Self::Json(mut b) => Arc::new(b.finish()),
            Self::List { offsets, mut nulls, item, field: item_field } => {
                let values = item.finish(&item_field)?;
                Arc::new(ListArray::try_new(item_field, OffsetBuffer::new(offsets.into()), values, nulls.finish())?)
            }
            Self::Record { mut nulls, members, fields, .. } => {
                let arrays = members.into_iter().zip(&fields).map(|(m, f)| m.finish(f)).collect::<Result<Vec<_>>>()?;
                Arc::new(StructArray::try_new(fields, arrays, nulls.finish()).map_err(|error| {
                    Error::data("arrow", format!("column '{}': {error}", field.name())).because(error)
                })?)
            }
        })
    }
}

/// The columns of `schema` named in `wanted`, in the order of the schema; all of them for `None`.
pub(crate) fn narrow(schema: &SchemaRef, wanted: Option<&[String]>) -> SchemaRef {
    match wanted {
        None => Arc::clone(schema),
        Some(names) => {
            let kept: Vec<FieldRef> = schema.fields().iter().filter(|f| names.contains(f.name())).cloned().collect();
            Arc::new(Schema::new_with_metadata(kept, schema.metadata().clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{Learner, Spot, fields};
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::{Float64Type, Int64Type};

    fn decode(rows: &[&str]) -> RecordBatch {
        let mut learner = Learner::default();
        for row in rows {
            learner.observe(row, Spot::default()).unwrap();
        }
        let mut decoder = Decoder::new(Arc::new(Schema::new(fields(learner.columns()))));
        for row in rows {
            decoder.push(row).unwrap();
        }
        decoder.finish().unwrap()
    }

    #[test]
    fn rows_become_columns() {
        let batch = decode(&[
            r#"{"a":1,"t":"x","f":1,"l":[{"k":"v"},null],"j":1}"#,
            r#"{"l":[],"f":0.1,"t":null,"j":{"z":[1.50]}}"#,
        ]);
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        assert_eq!(batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("x"), None]);
        assert_eq!(batch.column(2).as_primitive::<Float64Type>().values().as_ref(), &[1.0, 0.1]);
        let list = batch.column(3).as_list::<i32>();
        assert_eq!((list.value(0).len(), list.value(1).len(), list.value(0).null_count()), (2, 0, 1));
        assert_eq!(batch.column(4).as_string::<i32>().value(1), r#"{"z":[1.50]}"#);
    }
}
