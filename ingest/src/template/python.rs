//! What Python does in Hugging Face's templates: `json.dumps` and `strftime`.

use minijinja::value::{Kwargs, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::fmt::Write;
use std::sync::Arc;

/// The day `strftime_now` believes it is: the one that widely used templates fall back to, so that a run gives the same text
/// whenever it is repeated.
const TODAY: Date = Date { year: 2024, month: 7, day: 26, weekday: "Friday" };

struct Date {
    year: u32,
    month: usize,
    day: u32,
    weekday: &'static str,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// `strftime` of the fixed day at midnight.
pub(super) fn strftime(format: &str) -> String {
    let (mut out, mut chars) = (String::new(), format.chars());
    let month = MONTHS[TODAY.month - 1];
    while let Some(c) = chars.next() {
        let field = match (c, c == '%') {
            (_, true) => chars.next(),
            (c, false) => {
                out.push(c);
                continue;
            }
        };
        let text = match field {
            Some('Y') => TODAY.year.to_string(),
            Some('y') => format!("{:02}", TODAY.year % 100),
            Some('m') => format!("{:02}", TODAY.month),
            Some('d') => format!("{:02}", TODAY.day),
            Some('B') => month.to_owned(),
            Some('b' | 'h') => month[..3].to_owned(),
            Some('A') => TODAY.weekday.to_owned(),
            Some('a') => TODAY.weekday[..3].to_owned(),
            Some('H' | 'M' | 'S') => "00".to_owned(),
            Some('F') => format!("{}-{:02}-{:02}", TODAY.year, TODAY.month, TODAY.day),
            Some('%') | None => "%".to_owned(),
            Some(other) => format!("%{other}"),
        };
        out.push_str(&text);
    }
    out
}

/// A JSON object that keeps the order of its keys.
#[derive(Debug)]
struct Ordered(Vec<(String, Value)>);

impl Object for Ordered {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let key = key.as_str()?;
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> minijinja::value::Enumerator {
        minijinja::value::Enumerator::Values(self.0.iter().map(|(name, _)| Value::from(name.as_str())).collect())
    }
}

/// A JSON value for a template.
pub(super) fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(b) => Value::from(*b),
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_u64()) {
            (Some(i), _) => Value::from(i),
            (None, Some(u)) => Value::from(u),
            (None, None) => Value::from(n.as_f64().unwrap_or(0.0)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => Value::from(items.iter().map(value).collect::<Vec<_>>()),
        serde_json::Value::Object(map) => {
            Value::from_object(Ordered(map.iter().map(|(k, v)| (k.clone(), value(v))).collect()))
        }
    }
}

/// How `json.dumps` lays out its text.
struct Style {
    indent: Option<usize>,
    ascii: bool,
    sorted: bool,
    comma: String,
    colon: String,
}

/// `json.dumps(value, ensure_ascii=False)` with Python's separators and its other keywords.
#[expect(clippy::needless_pass_by_value, reason = "the signature minijinja asks of a filter")]
pub(super) fn tojson(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let default = if indent.is_some() { [",", ": "] } else { [", ", ": "] };
    let [comma, colon] = match separators.as_deref() {
        Some([comma, colon]) => [comma.clone(), colon.clone()],
        _ => default.map(str::to_owned),
    };
    let style = Style {
        indent,
        ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        comma,
        colon,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    style.dump(&value, 0, &mut out)?;
    Ok(Value::from_safe_string(out))
}

impl Style {
    fn dump(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        if depth > 64 {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested too deeply"));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&value.to_string()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.container('[', ']', items.len(), depth, out, |i, out| self.dump(&items[i], depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort_by_key(ToString::to_string);
                }
                self.container('{', '}', keys.len(), depth, out, |i, out| {
                    self.quote(&keys[i].to_string(), out);
                    out.push_str(&self.colon);
                    self.dump(&value.get_item(&keys[i])?, depth + 1, out)
                })?;
            }
            _ => self.quote(&value.to_string(), out),
        }
        Ok(())
    }

    fn container(
        &self,
        open: char,
        close: char,
        items: usize,
        depth: usize,
        out: &mut String,
        each: impl Fn(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for i in 0..items {
            if i > 0 {
                out.push_str(&self.comma);
            }
            self.line(depth + 1, out);
            each(i, out)?;
        }
        if items > 0 {
            self.line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = self.indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent.min(16) * depth));
        }
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        // Writing to a String cannot fail.
                        let _ = write!(out, "\\u{unit:04x}");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}
