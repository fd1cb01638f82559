//! Where a text stands in a row: a column, or a member of a record or an element of a list within it.

use crate::json::JSON_TEXT;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt32Array, new_null_array};
use arrow::compute::{cast, nullif, take};
use arrow::datatypes::{DataType, Field, Schema};
use curate_core::{Error, Location, Result};
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// A column, or a path such as `reward_model.ground_truth` or `instances[0].output`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPath {
    column: String,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Member(String),
    Element(usize),
}

impl fmt::Display for ColumnPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.column)?;
        self.steps.iter().try_for_each(|step| match step {
            Step::Member(name) => write!(f, ".{name}"),
            Step::Element(i) => write!(f, "[{i}]"),
        })
    }
}

impl Serialize for ColumnPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl ColumnPath {
    /// A whole column.
    pub(crate) fn of(column: &str) -> Self {
        Self { column: column.to_owned(), steps: Vec::new() }
    }

    /// Read a path; a column of exactly this name comes first.
    pub(crate) fn parse(text: &str, schema: &Schema) -> Option<Self> {
        if schema.field_with_name(text).is_ok() {
            return Some(Self::of(text));
        }
        let split = text.find(['.', '['])?;
        let mut path = Self::of(&text[..split]);
        let mut rest = &text[split..];
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('[') {
                let (index, next) = after.split_once(']')?;
                path.steps.push(Step::Element(index.parse().ok()?));
                rest = next;
            } else {
                let after = rest.strip_prefix('.')?;
                let end = after.find(['.', '[']).unwrap_or(after.len());
                path.steps.push(Step::Member(after[..end].to_owned()));
                rest = &after[end..];
            }
        }
        path.field(schema).is_some().then_some(path)
    }

    /// The top-level column.
    #[must_use]
    pub fn column(&self) -> &str {
        &self.column
    }

    /// The field the path leads to; paths into JSON text lead to text.
    pub(crate) fn field(&self, schema: &Schema) -> Option<Field> {
        let mut field = schema.field_with_name(&self.column).ok()?.clone();
        for step in &self.steps {
            if field.metadata().contains_key(JSON_TEXT) {
                return Some(Field::new("text", DataType::Utf8, true));
            }
            field = match (field.data_type(), step) {
                (DataType::Struct(members), Step::Member(name)) => {
                    members.iter().find(|f| f.name() == name)?.as_ref().clone()
                }
                (
                    DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _),
                    Step::Element(_),
                ) => item.as_ref().clone(),
                _ => return None,
            };
        }
        Some(field)
    }

    /// The values the path leads to, in plain types: text as `Utf8`, lists as `List`; and whether they are JSON text.
    pub(crate) fn values(&self, batch: &RecordBatch) -> Result<(ArrayRef, bool)> {
        let schema = batch.schema();
        let missing = || {
            Error::data("column/missing", format!("the column '{self}' was not read"))
                .at(Location::default().column(&self.column))
        };
        let mut field = schema.field_with_name(&self.column).map_err(|_| missing())?.clone();
        let mut array = plain(batch.column_by_name(&self.column).ok_or_else(missing)?)?;
        for (i, step) in self.steps.iter().enumerate() {
            if field.metadata().contains_key(JSON_TEXT) {
                return Ok((inside_json(&array, &self.steps[i..]), false));
            }
            (array, field) = Self::step(&array, step).transpose().ok_or_else(missing)??;
        }
        Ok((array, field.metadata().contains_key(JSON_TEXT)))
    }

    /// The member or element that one step leads to; `None` when there is no such thing.
    fn step(array: &ArrayRef, step: &Step) -> Result<Option<(ArrayRef, Field)>> {
        Ok(match (array.data_type(), step) {
            (DataType::Struct(members), Step::Member(name)) => {
                let record = array.as_struct();
                let found = members.iter().find(|f| f.name() == name).zip(record.column_by_name(name));
                let Some((field, values)) = found else { return Ok(None) };
                let values = match record.nulls() {
                    Some(nulls) => nullif(values, &(!nulls.inner()).into())?,
                    None => Arc::clone(values),
                };
                Some((values, field.as_ref().clone()))
            }
            (DataType::List(item), Step::Element(at)) => {
                let list = array.as_list::<i32>();
                let place = |row: usize| {
                    let (start, end) = (list.value_offsets()[row], list.value_offsets()[row + 1]);
                    let place = u32::try_from(start).ok()?.checked_add(u32::try_from(*at).ok()?)?;
                    (list.is_valid(row) && i64::from(place) < i64::from(end)).then_some(place)
                };
                let places: UInt32Array = (0..list.len()).map(place).collect();
                Some((take(list.values(), &places, None)?, item.as_ref().clone()))
            }
            _ => None,
        })
    }
}

/// The member of JSON texts that `steps` lead to: texts as they are, anything else as JSON.
fn inside_json(array: &ArrayRef, steps: &[Step]) -> ArrayRef {
    let Some(texts) = array.as_string_opt::<i32>() else { return new_null_array(&DataType::Utf8, array.len()) };
    let inside = |text: Option<&str>| {
        let mut value: serde_json::Value = serde_json::from_str(text?).ok()?;
        for step in steps {
            value = match step {
                Step::Member(name) => value.get_mut(name)?.take(),
                Step::Element(at) => value.get_mut(*at)?.take(),
            };
        }
        match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    };
    Arc::new(texts.iter().map(inside).collect::<StringArray>())
}

/// The same values in plain types.
fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = plain_type(array.data_type());
    if wanted == *array.data_type() { Ok(Arc::clone(array)) } else { Ok(cast(array, &wanted)?) }
}

fn plain_type(data_type: &DataType) -> DataType {
    use DataType as D;
    let plain_field = |f: &Field| f.clone().with_data_type(plain_type(f.data_type()));
    match data_type {
        D::LargeUtf8 | D::Utf8View => D::Utf8,
        D::Dictionary(_, value) => plain_type(value),
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) | D::ListView(item) | D::LargeListView(item) => {
            D::List(Arc::new(plain_field(item)))
        }
        D::Struct(members) => D::Struct(members.iter().map(|f| plain_field(f)).collect()),
        other => other.clone(),
    }
}

/// Whether values of this type are text.
pub(crate) fn is_text(data_type: &DataType) -> bool {
    plain_type(data_type) == DataType::Utf8
}

/// Whether values of this type are lists of text.
pub(crate) fn is_text_list(data_type: &DataType) -> bool {
    matches!(plain_type(data_type), DataType::List(item) if *item.data_type() == DataType::Utf8)
}

/// Whether values of this type are lists of records with these two members.
pub(crate) fn is_chat(data_type: &DataType, role: &str, content: &str) -> bool {
    let DataType::List(item) = plain_type(data_type) else { return false };
    let DataType::Struct(members) = item.data_type() else { return false };
    members.iter().any(|f| f.name() == role && is_text(f.data_type())) && members.iter().any(|f| f.name() == content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::decode::Decoder;
    use crate::json::shape::{Learner, Spot, fields};

    #[test]
    fn paths_lead_into_records_lists_and_json() {
        let rows = [r#"{"a.b":"x","r":{"g":"y"},"l":[{"o":"z"}],"j":1}"#, r#"{"r":null,"l":[],"j":{"k":[1]}}"#];
        let mut learner = Learner::default();
        for row in rows {
            learner.observe(row, Spot::default()).unwrap();
        }
        let mut decoder = Decoder::new(Arc::new(Schema::new(fields(learner.columns()))));
        for row in rows {
            decoder.push(row).unwrap();
        }
        let batch = decoder.finish().unwrap();
        let read = |text: &str| {
            let path = ColumnPath::parse(text, &batch.schema()).unwrap();
            assert_eq!(path.to_string(), text);
            let (array, _) = path.values(&batch).unwrap();
            array.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(read("a.b"), [Some("x".into()), None]);
        assert_eq!(read("r.g"), [Some("y".into()), None]);
        assert_eq!(read("l[0].o"), [Some("z".into()), None]);
        assert_eq!(read("j.k[0]"), [None, Some("1".into())]);
        for bad in ["", "q", "r.h", "l[x]", "l[0", "r.", "a.b.c", "l[0]o"] {
            assert!(ColumnPath::parse(bad, &batch.schema()).is_none(), "{bad}");
        }
    }
}
