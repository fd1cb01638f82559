//! Reading turns out of a column: a chat list in Arrow or as JSON text, a list of user turns, or plain text.

use super::conversation::{Problem, Role, Turn};
use super::path::ColumnPath;
use crate::json::encode::value as json_of;
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use curate_core::Result;
use serde_json::Value;
use std::sync::Arc;

/// A column that plays a role.
pub(crate) struct Voice {
    name: String,
    kind: Kind,
}

enum Kind {
    Text(StringArray),
    Turns(ListArray, StringArray),
    Pairs(ArrayRef, FieldRef),
    Chat(Box<Chat>),
    JsonChat(StringArray),
    Other(ArrayRef, FieldRef),
}

struct Chat {
    list: ListArray,
    roles: StringArray,
    content: Content,
    weights: Option<Float64Array>,
    calls: Option<(ArrayRef, FieldRef)>,
}

enum Content {
    Text(StringArray),
    Json(StringArray),
    Parts(ArrayRef, FieldRef),
}

impl Voice {
    /// The column of `path`; `chat` says that text in it is a chat list written as JSON.
    pub(crate) fn new(path: &ColumnPath, batch: &RecordBatch, chat: bool) -> Result<Self> {
        let (array, json) = path.values(batch)?;
        let kind = match array.data_type() {
            DataType::Utf8 if chat || json => Kind::JsonChat(array.as_string::<i32>().clone()),
            DataType::Utf8 => Kind::Text(array.as_string::<i32>().clone()),
            DataType::List(item) => match item.data_type() {
                DataType::Utf8 => Kind::Turns(
                    array.as_list::<i32>().clone(),
                    array.as_list::<i32>().values().as_string::<i32>().clone(),
                ),
                DataType::Struct(_) => Chat::new(array.as_list::<i32>(), item)?
                    .map_or_else(|| other(&array), |chat| Kind::Chat(Box::new(chat))),
                DataType::List(_) => Kind::Pairs(Arc::clone(&array), field(&array)),
                _ => other(&array),
            },
            _ => other(&array),
        };
        Ok(Self { name: path.to_string(), kind })
    }

    fn problem(&self, code: &'static str, what: impl Into<String>) -> Problem {
        Problem { code, column: self.name.clone(), what: what.into() }
    }

    /// The plain text of a row; `None` for null.
    pub(crate) fn text(&self, row: usize) -> std::result::Result<Option<String>, Problem> {
        match &self.kind {
            Kind::Text(texts) | Kind::JsonChat(texts) => Ok(texts.is_valid(row).then(|| texts.value(row).to_owned())),
            Kind::Other(array, field) | Kind::Pairs(array, field) => {
                let value = json_of(array, field, row).map_err(|e| self.problem("messages/shape", e))?;
                Ok((!value.is_null()).then(|| value.to_string()))
            }
            Kind::Turns(..) | Kind::Chat(_) => {
                let turns = self.turns(row, Role::User)?;
                Ok(turns.map(|turns| turns.iter().map(|t| t.text.as_str()).collect::<Vec<_>>().join("\n")))
            }
        }
    }

    /// Whether the row is null, without reading it.
    pub(crate) fn is_null(&self, row: usize) -> bool {
        match &self.kind {
            Kind::Text(a) | Kind::JsonChat(a) => a.is_null(row),
            Kind::Turns(list, _) => list.is_null(row),
            Kind::Chat(chat) => chat.list.is_null(row),
            Kind::Pairs(a, _) | Kind::Other(a, _) => a.is_null(row),
        }
    }

    /// Whether a null check is all the checking this column needs.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self.kind, Kind::Text(_) | Kind::Turns(..))
    }

    /// Whether the column holds turns of its own roles.
    pub(crate) const fn is_chat(&self) -> bool {
        matches!(self.kind, Kind::Chat(_) | Kind::JsonChat(_) | Kind::Turns(..))
    }

    /// The turns of a row; `None` for null. `role` is that of turns which do not name their own.
    pub(crate) fn turns(&self, row: usize, role: Role) -> std::result::Result<Option<Vec<Turn>>, Problem> {
        if self.is_null(row) {
            return Ok(None);
        }
        match &self.kind {
            Kind::Text(texts) => Ok(Some(vec![Turn::new(role, texts.value(row))])),
            Kind::Turns(list, texts) => {
                let places = list.value_offsets()[row]..list.value_offsets()[row + 1];
                let text = |i: i32| usize::try_from(i).ok().filter(|&i| texts.is_valid(i)).map(|i| texts.value(i));
                Ok(Some(places.filter_map(text).map(|text| Turn::new(role, text)).collect()))
            }
            Kind::Chat(chat) => self.chat_turns(chat, row).map(Some),
            Kind::JsonChat(texts) => self.json_turns(texts.value(row)).map(Some),
            Kind::Pairs(array, field) => {
                let value = json_of(array, field, row).map_err(|e| self.problem("messages/shape", e))?;
                Ok(Some(pairs(&value)))
            }
            Kind::Other(..) => Err(self.problem("messages/shape", "not a list of turns")),
        }
    }

    fn chat_turns(&self, chat: &Chat, row: usize) -> std::result::Result<Vec<Turn>, Problem> {
        let (start, end) = (chat.list.value_offsets()[row], chat.list.value_offsets()[row + 1]);
        let mut turns = Vec::new();
        for i in (start..end).filter_map(|i| usize::try_from(i).ok()) {
            if chat.list.values().is_null(i) {
                continue;
            }
            let role = self.role(chat.roles.is_valid(i).then(|| chat.roles.value(i)))?;
            let mut text = chat.content.text(i).map_err(|e| self.problem("messages/content", e))?;
            if let (None, Some((calls, field))) = (text.as_ref().filter(|t| !t.is_empty()), &chat.calls)
                && calls.is_valid(i)
            {
                text = json_of(calls, field, i).ok().map(|calls| calls.to_string());
            }
            let weight = chat.weights.as_ref().and_then(|w| w.is_valid(i).then(|| w.value(i)));
            turns.push(Turn::weighted(role, text.unwrap_or_default(), weight));
        }
        Ok(turns)
    }

    fn json_turns(&self, text: &str) -> std::result::Result<Vec<Turn>, Problem> {
        let shape = |what: &str| self.problem("messages/shape", what);
        let value: Value = serde_json::from_str(text).map_err(|e| shape(&format!("not a chat list in JSON: {e}")))?;
        let list = value.as_array().ok_or_else(|| shape("JSON, but not a list of turns"))?;
        let mut turns = Vec::new();
        for turn in list {
            let member = |names: &[&str]| names.iter().find_map(|name| turn.get(*name));
            let role = self.role(member(&["role", "from"]).and_then(Value::as_str))?;
            let content = member(&["content", "value"]).cloned().unwrap_or(Value::Null);
            let mut text = content_text(&content).map_err(|e| self.problem("messages/content", e))?;
            if text.as_deref().is_none_or(str::is_empty)
                && let Some(calls) = turn.get("tool_calls").filter(|calls| !calls.is_null())
            {
                text = Some(calls.to_string());
            }
            let weight = member(&WEIGHTS).and_then(|w| w.as_f64().or_else(|| w.as_bool().map(f64::from)));
            turns.push(Turn::weighted(role, text.unwrap_or_default(), weight));
        }
        Ok(turns)
    }

    fn role(&self, name: Option<&str>) -> std::result::Result<Role, Problem> {
        let name = name.ok_or_else(|| self.problem("messages/role", "a turn without a role"))?;
        Role::from_name(name).ok_or_else(|| {
            let known = "system, user, human, assistant, gpt, tool, observation, function_call and the like";
            self.problem(
                "messages/role",
                format!(
                    "unknown role '{}'; known are {known}",
                    name.chars().take(40).flat_map(char::escape_debug).collect::<String>()
                ),
            )
        })
    }
}

/// Names under which data sets say how much a turn counts in training.
const WEIGHTS: [&str; 4] = ["loss_weight", "weight", "train", "training"];

fn field(array: &ArrayRef) -> FieldRef {
    Arc::new(arrow::datatypes::Field::new("value", array.data_type().clone(), true))
}

fn other(array: &ArrayRef) -> Kind {
    Kind::Other(Arc::clone(array), field(array))
}

impl Chat {
    fn new(list: &ListArray, item: &FieldRef) -> Result<Option<Self>> {
        let DataType::Struct(members) = item.data_type() else { return Ok(None) };
        let turns = list.values().as_struct();
        let member = |name: &str| members.iter().find(|f| f.name() == name).zip(turns.column_by_name(name));
        let Some((_, roles)) = member("role").or_else(|| member("from")) else { return Ok(None) };
        let Some((field, content)) = member("content").or_else(|| member("value")) else { return Ok(None) };
        let (Some(roles), Some(json)) =
            (roles.as_string_opt::<i32>(), Some(field.metadata().contains_key(crate::json::JSON_TEXT)))
        else {
            return Ok(None);
        };
        let content = match content.as_string_opt::<i32>() {
            Some(texts) if json => Content::Json(texts.clone()),
            Some(texts) => Content::Text(texts.clone()),
            None => Content::Parts(Arc::clone(content), Arc::clone(field)),
        };
        let weights =
            WEIGHTS.iter().find_map(|name| member(name)).map(|(_, w)| cast(w, &DataType::Float64)).transpose()?;
        let weights = weights.map(|w| w.as_primitive::<arrow::datatypes::Float64Type>().clone());
        let calls = member("tool_calls").map(|(field, calls)| (Arc::clone(calls), Arc::clone(field)));
        Ok(Some(Self { list: list.clone(), roles: roles.clone(), content, weights, calls }))
    }
}

impl Content {
    fn text(&self, i: usize) -> std::result::Result<Option<String>, String> {
        match self {
            Self::Text(texts) => Ok(texts.is_valid(i).then(|| texts.value(i).to_owned())),
            Self::Json(texts) if texts.is_null(i) => Ok(None),
            Self::Json(texts) => content_text(&serde_json::from_str(texts.value(i)).map_err(|e| e.to_string())?),
            Self::Parts(array, field) => content_text(&json_of(array, field, i)?),
        }
    }
}

/// The text of a turn's content: text as it is, typed parts one after another.
fn content_text(content: &Value) -> std::result::Result<Option<String>, String> {
    match content {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Array(parts) => {
            let texts = parts.iter().map(content_text).collect::<std::result::Result<Vec<_>, _>>()?;
            Ok(Some(texts.into_iter().flatten().collect::<String>()))
        }
        Value::Object(part) => match ["text", "value", "content"].iter().find_map(|name| part.get(*name)) {
            Some(inner @ (Value::String(_) | Value::Null)) => content_text(inner),
            _ if part.contains_key("type") => Ok(None),
            _ => Err("a part of the content without text".to_owned()),
        },
        Value::Bool(_) | Value::Number(_) => Err("a number or true/false where text is needed".to_owned()),
    }
}

/// History pairs: user, assistant.
fn pairs(value: &Value) -> Vec<Turn> {
    let mut turns = Vec::new();
    for pair in value.as_array().into_iter().flatten() {
        for (text, role) in pair.as_array().into_iter().flatten().zip([Role::User, Role::Assistant]) {
            turns.extend(text.as_str().map(|text| Turn::new(role, text)));
        }
    }
    turns
}
