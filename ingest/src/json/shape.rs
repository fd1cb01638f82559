//! One shape for all rows of all JSON files: what every column holds, and where it first held something else.

use super::JSON_TEXT;
use super::parser::{Broken, Head, Parser};
use arrow::datatypes::{DataType, Field, Fields};
use std::collections::HashMap;
use std::sync::Arc;

/// An object inside a row with more different keys than this is a dictionary, not a record: it is kept as JSON text.
const MAX_MEMBERS: usize = 64;
/// A file with more columns than this is not a table.
const MAX_COLUMNS: usize = 4096;
/// Integers up to here are exact as `f64`.
const EXACT: u64 = 1 << 53;

/// Where a row stands: file number, row and line (from 1) in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) file: usize,
    pub(crate) row: u64,
    pub(crate) line: u64,
}

/// Two kinds that no type holds both, and where the second was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clash {
    pub(crate) spot: Spot,
    pub(crate) was: &'static str,
    pub(crate) now: &'static str,
}

/// What a column or member holds.
#[derive(Debug, Default)]
pub(crate) enum Shape {
    #[default]
    Nothing,
    Bool,
    /// Whether an integer was too large to be exact as a float.
    Int(bool),
    Float,
    Text,
    List(Box<Self>),
    Record(Vec<Member>),
    Mixed(Clash),
}

/// A key of a record.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    seen: u64,
}

/// Learns the shape of rows one by one.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    columns: Vec<Member>,
    objects: u64,
    spot: Spot,
}

impl Learner {
    /// Learn from one row, which must be a valid JSON object.
    pub(crate) fn observe(&mut self, row: &str, spot: Spot) -> Result<(), Broken> {
        self.spot = spot;
        let mut parser = Parser::new(row);
        parser.head()?;
        let mut columns = std::mem::take(&mut self.columns);
        let outcome = self.members(&mut columns, &mut parser, MAX_COLUMNS);
        self.columns = columns;
        if outcome? { Ok(()) } else { parser.fail("more than 4096 different keys") }
    }

    /// The columns, in the order they were first met.
    pub(crate) fn columns(&self) -> &[Member] {
        &self.columns
    }

    /// Read the members of an open object; `false` when there are too many different keys.
    fn members(&mut self, members: &mut Vec<Member>, parser: &mut Parser<'_>, most: usize) -> Result<bool, Broken> {
        self.objects += 1;
        let object = self.objects;
        let (mut first, mut hint, mut fits) = (true, 0, true);
        while let Some(key) = parser.key(first)? {
            first = false;
            let Some(at) = find_or_add(members, &key, hint, most) else {
                parser.skip()?;
                fits = false;
                continue;
            };
            hint = at + 1;
            if std::mem::replace(&mut members[at].seen, object) == object {
                return parser.fail("a key stands twice in one object");
            }
            self.value(&mut members[at].shape, parser)?;
        }
        Ok(fits)
    }

    fn value(&mut self, shape: &mut Shape, parser: &mut Parser<'_>) -> Result<(), Broken> {
        let head = parser.head()?;
        match (&mut *shape, &head) {
            (_, Head::Null) => Ok(()),
            (Shape::Mixed(_), _) => parser.skip_rest(&head),
            (Shape::List(item), Head::Array) => self.items(item, parser),
            (Shape::Nothing, Head::Array) => {
                let mut item = Box::default();
                self.items(&mut item, parser)?;
                *shape = Shape::List(item);
                Ok(())
            }
            (Shape::Record(members), Head::Object) => {
                if !self.members(members, parser, MAX_MEMBERS)? {
                    *shape = self.clash("a record", "a dictionary of many keys");
                }
                Ok(())
            }
            (Shape::Nothing, Head::Object) => {
                let mut members = Vec::new();
                let fits = self.members(&mut members, parser, MAX_MEMBERS)?;
                *shape =
                    if fits { Shape::Record(members) } else { self.clash("a record", "a dictionary of many keys") };
                Ok(())
            }
            _ => {
                self.scalar(shape, &head);
                parser.skip_rest(&head)
            }
        }
    }

    fn items(&mut self, item: &mut Shape, parser: &mut Parser<'_>) -> Result<(), Broken> {
        let mut first = true;
        while parser.element(first)? {
            first = false;
            self.value(item, parser)?;
        }
        Ok(())
    }

    fn scalar(&self, shape: &mut Shape, head: &Head<'_>) {
        let now = scalar_shape(head);
        let joined = match (&*shape, &now) {
            (Shape::Nothing, Some(_)) => now,
            (Shape::Bool, Some(Shape::Bool))
            | (Shape::Text, Some(Shape::Text))
            | (Shape::Float, Some(Shape::Float)) => return,
            (Shape::Int(a), Some(Shape::Int(b))) => Some(Shape::Int(*a || *b)),
            (Shape::Int(false), Some(Shape::Float)) | (Shape::Float, Some(Shape::Int(false))) => Some(Shape::Float),
            _ => None,
        };
        *shape = joined.unwrap_or_else(|| self.clash(shape.name(), head_name(head)));
    }

    const fn clash(&self, was: &'static str, now: &'static str) -> Shape {
        Shape::Mixed(Clash { spot: self.spot, was, now })
    }
}

/// `None` for containers and for integers beyond 64 bits, which only their text keeps whole.
fn scalar_shape(head: &Head<'_>) -> Option<Shape> {
    match head {
        Head::Bool(_) => Some(Shape::Bool),
        Head::Text(_) => Some(Shape::Text),
        Head::Number("-0") => Some(Shape::Float),
        Head::Number(number) if number.bytes().any(|b| matches!(b, b'.' | b'e' | b'E')) => Some(Shape::Float),
        Head::Number(number) => number.parse::<i64>().ok().map(|value| Shape::Int(value.unsigned_abs() > EXACT)),
        _ => None,
    }
}

const fn head_name(head: &Head<'_>) -> &'static str {
    match head {
        Head::Null => "null",
        Head::Bool(_) => "true/false",
        Head::Number(_) => "a number",
        Head::Text(_) => "text",
        Head::Object => "a record",
        Head::Array => "a list",
    }
}

fn find_or_add(members: &mut Vec<Member>, key: &str, hint: usize, most: usize) -> Option<usize> {
    if members.get(hint).is_some_and(|member| member.name == key) {
        return Some(hint);
    }
    if let Some(at) = members.iter().position(|member| member.name == key) {
        return Some(at);
    }
    (members.len() < most).then(|| {
        members.push(Member { name: key.to_owned(), shape: Shape::Nothing, seen: 0 });
        members.len() - 1
    })
}

impl Shape {
    const fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "null",
            Self::Bool => "true/false",
            Self::Int(_) | Self::Float => "a number",
            Self::Text => "text",
            Self::List(_) => "a list",
            Self::Record(_) => "a record",
            Self::Mixed(_) => "mixed",
        }
    }

    /// The Arrow field of this shape.
    pub(crate) fn field(&self, name: &str) -> Field {
        match self {
            Self::Nothing | Self::Text => Field::new(name, DataType::Utf8, true),
            Self::Bool => Field::new(name, DataType::Boolean, true),
            Self::Int(_) => Field::new(name, DataType::Int64, true),
            Self::Float => Field::new(name, DataType::Float64, true),
            Self::List(item) => Field::new(name, DataType::List(Arc::new(item.field("item"))), true),
            Self::Record(members) if !members.is_empty() => Field::new(name, DataType::Struct(fields(members)), true),
            Self::Record(_) | Self::Mixed(_) => json_field(name),
        }
    }
}

/// The Arrow fields of columns or members.
pub(crate) fn fields(members: &[Member]) -> Fields {
    members.iter().map(|member| member.shape.field(&member.name)).collect()
}

/// A text field whose values are JSON text.
pub(crate) fn json_field(name: &str) -> Field {
    Field::new(name, DataType::Utf8, true).with_metadata(HashMap::from([(JSON_TEXT.to_owned(), "text".to_owned())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(rows: &[&str]) -> Learner {
        let mut learner = Learner::default();
        for (i, row) in rows.iter().enumerate() {
            learner.observe(row, Spot { file: 0, row: i as u64, line: i as u64 + 1 }).unwrap();
        }
        learner
    }

    fn types(rows: &[&str]) -> Vec<String> {
        fields(learn(rows).columns())
            .iter()
            .map(|f| format!("{}:{}{}", f.name(), f.data_type(), if f.metadata().is_empty() { "" } else { " json" }))
            .collect()
    }

    #[test]
    fn kinds_widen_or_become_json_text() {
        assert_eq!(types(&[r#"{"a":1,"b":null}"#, r#"{"a":2.5,"c":true}"#]), ["a:Float64", "b:Utf8", "c:Boolean"]);
        assert_eq!(types(&[r#"{"a":1}"#, r#"{"a":"x"}"#]), ["a:Utf8 json"]);
        assert_eq!(types(&[r#"{"a":18446744073709551615}"#]), ["a:Utf8 json"]);
        assert_eq!(types(&[r#"{"a":9007199254740993}"#, r#"{"a":0.5}"#]), ["a:Utf8 json"]);
        assert_eq!(types(&[r#"{"a":{}}"#]), ["a:Utf8 json"]);
        assert_eq!(types(&[r#"{"a":[]}"#, r#"{"a":[1]}"#]), ["a:List(Int64)"]);
        assert_eq!(types(&[r#"{"m":[{"r":"u"},{"r":"a","w":0}]}"#]), [r#"m:List(Struct("r": Utf8, "w": Int64))"#]);
    }

    #[test]
    fn a_clash_names_its_row() {
        let learner = learn(&[r#"{"a":"x"}"#, r#"{"a":"y"}"#, r#"{"a":7}"#]);
        let Shape::Mixed(clash) = &learner.columns()[0].shape else { panic!() };
        assert_eq!((clash.spot.line, clash.was, clash.now), (3, "text", "a number"));
    }

    #[test]
    fn double_keys_are_refused() {
        let mut learner = Learner::default();
        assert!(learner.observe(r#"{"a":1,"b":2,"a":3}"#, Spot::default()).is_err());
        assert!(learner.observe(r#"{"m":[{"x":1},{"x":1}]}"#, Spot::default()).is_ok());
    }

    #[test]
    fn dictionaries_are_kept_as_text() {
        let row = format!("{{\"d\":{{{}}}}}", (0..100).map(|i| format!("\"k{i}\":{i}")).collect::<Vec<_>>().join(","));
        assert_eq!(types(&[&row]), ["d:Utf8 json"]);
    }
}
