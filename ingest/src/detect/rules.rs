//! The rules by which columns make a format.

use super::layout::{Layout, Origin, Roles};
use super::path::{ColumnPath, is_chat, is_text, is_text_list};
use crate::json::JSON_TEXT;
use crate::spec::{Format, InputSpec};
use arrow::datatypes::{Field, Schema};
use curate_core::{Error, Location, Result};

const ROLES: [&str; 8] = ["prompt", "input", "response", "system", "history", "messages", "tools", "text"];
const HINT: &str = "say which column plays which role, for example --map prompt=COLUMN --map response=COLUMN, --map messages=COLUMN or --map text=COLUMN";

/// Looks at one schema.
pub(super) struct Columns<'a> {
    pub(super) schema: &'a Schema,
    file: &'a str,
}

/// Find the layout of rows with these columns.
pub(crate) fn detect(schema: &Schema, spec: &InputSpec, file: &str) -> Result<Layout> {
    let columns = Columns { schema, file };
    columns.check_map(spec)?;
    let mut layout = match columns.mapped(spec)? {
        Some(layout) => layout,
        None => columns.by_rules(spec.format)?,
    };
    columns.overlay(&mut layout, spec)?;
    columns.check_types(&layout)?;
    Ok(layout)
}

impl Columns<'_> {
    fn names(&self) -> String {
        let name = |f: &std::sync::Arc<Field>| {
            format!(
                "{} ({})",
                f.name(),
                if f.metadata().contains_key(JSON_TEXT) { "JSON of mixed kinds".into() } else { short_type(f) }
            )
        };
        self.schema.fields().iter().map(name).collect::<Vec<_>>().join(", ")
    }

    pub(super) fn unknown(&self, why: &str) -> Error {
        Error::usage("format/unknown", format!("{why}; columns: {}", self.names()))
            .hint(HINT)
            .at(Location::file(self.file))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.schema.field_with_name(name).is_ok()
    }

    pub(super) fn first(&self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| self.has(name))
    }

    fn check_map(&self, spec: &InputSpec) -> Result<()> {
        for (role, text) in &spec.map {
            if !ROLES.contains(&role.as_str()) {
                return Err(Error::usage(
                    "map/unknown-role",
                    format!("--map {role}={text}: there is no role '{role}'"),
                )
                .hint(format!("roles: {}", ROLES.join(", "))));
            }
            self.paths(role, text)?;
        }
        Ok(())
    }

    /// The columns that `--map role=text` means.
    fn paths(&self, role: &str, text: &str) -> Result<Vec<ColumnPath>> {
        if let Some(path) = ColumnPath::parse(text, self.schema) {
            return Ok(vec![path]);
        }
        let missing = |part: &str| {
            Error::usage("map/unknown-column", format!("--map {role}={text}: there is no column '{part}'"))
                .hint(format!("columns: {}", self.names()))
        };
        text.split('+').map(|part| ColumnPath::parse(part, self.schema).ok_or_else(|| missing(part))).collect()
    }

    /// A layout that the map alone decides.
    fn mapped(&self, spec: &InputSpec) -> Result<Option<Layout>> {
        if spec.format == Format::Table {
            let why = "a table needs no text".to_owned();
            return Ok(Some(Layout { format: spec.format, origin: Origin::Given, roles: Roles::default(), why }));
        }
        let format = match (spec.format, &spec.map) {
            (Format::Auto, map) if map.contains_key("messages") => {
                let path = self.paths("messages", &map["messages"])?;
                let field = path.first().and_then(|p| p.field(self.schema));
                if field.is_some_and(|f| is_chat(f.data_type(), "from", "value")) {
                    Format::Sharegpt
                } else {
                    Format::Messages
                }
            }
            (Format::Auto, map) if map.contains_key("text") => Format::Text,
            (Format::Sharegpt | Format::Messages, map) if map.contains_key("messages") => spec.format,
            (Format::Text, map) if map.contains_key("text") => Format::Text,
            (format @ (Format::Sharegpt | Format::Messages | Format::Verl | Format::Text), map)
                if map.contains_key("prompt") =>
            {
                format
            }
            (_, map) if map.contains_key("prompt") => {
                let (format, roles) = self.around(&self.paths("prompt", &map["prompt"])?, spec.format);
                return Ok(Some(mapped_as(format, roles)));
            }
            _ => return Ok(None),
        };
        Ok(Some(mapped_as(format, Roles::default())))
    }

    /// Put the columns of the map in place of those found by rule.
    fn overlay(&self, layout: &mut Layout, spec: &InputSpec) -> Result<()> {
        let mut input = Vec::new();
        for (role, text) in &spec.map {
            let paths = self.paths(role, text)?;
            let one = || paths.first().cloned();
            match role.as_str() {
                "prompt" if paths.len() == 1 && layout.roles.prompt.first() == paths.first() => {}
                "prompt" => layout.roles.prompt = paths,
                "input" => input = paths,
                "response" => layout.roles.response = paths,
                "system" => layout.roles.system = one(),
                "history" => layout.roles.history = one(),
                "messages" => layout.roles.messages = one(),
                "tools" => layout.roles.tools = one(),
                _ => layout.roles.text = one(),
            }
            layout.origin = Origin::Mapped;
        }
        if !input.is_empty() {
            let named = spec.map.get("prompt").map(|text| self.paths("prompt", text)).transpose()?;
            layout.roles.prompt.truncate(named.map_or(1, |paths| paths.len()));
            layout.roles.prompt.extend(input);
        }
        Ok(())
    }

    fn by_rules(&self, wanted: Format) -> Result<Layout> {
        let origin = if wanted == Format::Auto { Origin::Detected } else { Origin::Given };
        let mut chats = self.chats(wanted);
        if chats.len() > 1 {
            return Err(self.unknown("ambiguous: more than one column holds a conversation"));
        }
        let (format, roles, why) = if let Some(found) = self.verl(wanted) {
            found
        } else if let Some(found) = chats.pop() {
            found
        } else if let Some(found) = self.family(wanted)? {
            found
        } else if let Some(found) = self.text(wanted) {
            found
        } else {
            return Err(self.unknown(&match wanted {
                Format::Auto => "no known format fits these columns".to_owned(),
                format => format!("the columns are not those of the format {format}"),
            }));
        };
        Ok(Layout { format, origin, roles, why })
    }

    fn verl(&self, wanted: Format) -> Option<(Format, Roles, String)> {
        let chat = |f: &Field| is_chat(f.data_type(), "role", "content") || f.metadata().contains_key(JSON_TEXT);
        let fits = self.schema.field_with_name("prompt").is_ok_and(chat)
            && (self.has("data_source") || self.has("reward_model"));
        let asked = wanted == Format::Verl || (wanted == Format::Auto && fits);
        (asked && self.has("prompt")).then(|| {
            let roles = Roles { prompt: vec![ColumnPath::of("prompt")], ..Roles::default() };
            (Format::Verl, roles, "prompt is a chat list beside data_source or reward_model".to_owned())
        })
    }

    /// Columns that hold whole conversations.
    fn chats(&self, wanted: Format) -> Vec<(Format, Roles, String)> {
        let mut found = Vec::new();
        for field in self.schema.fields() {
            let named = |names: &[&str]| names.contains(&field.name().as_str());
            let text = is_text(field.data_type());
            let format = if is_chat(field.data_type(), "from", "value")
                && named(&["conversations", "conversation", "messages", "dialog", "dialogue"])
            {
                Format::Sharegpt
            } else if is_chat(field.data_type(), "role", "content")
                && named(&["messages", "conversations", "conversation", "dialog", "dialogue"])
            {
                Format::Messages
            } else if text && named(&["conversations"]) {
                Format::Sharegpt
            } else if text && named(&["messages"]) {
                Format::Messages
            } else {
                continue;
            };
            if wanted != Format::Auto && wanted != format {
                continue;
            }
            let roles = Roles {
                messages: Some(ColumnPath::of(field.name())),
                tools: self.first(&["tools"]).map(ColumnPath::of),
                system: self.first(&["system"]).filter(|name| self.is_plain_text(name)).map(ColumnPath::of),
                ..Roles::default()
            };
            let keys = if format == Format::Sharegpt { "from/value" } else { "role/content" };
            found.push((format, roles, format!("{} is a list of {keys} turns", field.name())));
        }
        found
    }

    pub(super) fn is_plain_text(&self, name: &str) -> bool {
        self.schema.field_with_name(name).is_ok_and(|f| is_text(f.data_type()) && !f.metadata().contains_key(JSON_TEXT))
    }

    fn text(&self, wanted: Format) -> Option<(Format, Roles, String)> {
        let name = self.first(&["text", "content"])?;
        matches!(wanted, Format::Auto | Format::Text).then(|| {
            let roles = Roles { text: Some(ColumnPath::of(name)), ..Roles::default() };
            (Format::Text, roles, format!("{name} is there and no column of another format"))
        })
    }

    /// Every role's column must hold what the role needs.
    fn check_types(&self, layout: &Layout) -> Result<()> {
        let filled = layout.roles.filled();
        let named = filled.iter().any(|(role, _)| matches!(*role, "prompt" | "messages" | "text"));
        if !named && layout.format != Format::Table {
            return Err(self.unknown("neither prompt nor messages nor text is mapped"));
        }
        for (role, paths) in filled {
            for path in paths {
                let field =
                    path.field(self.schema).ok_or_else(|| self.unknown(&format!("there is no column '{path}'")))?;
                self.check_type(role, path, &field)?;
            }
        }
        Ok(())
    }

    fn check_type(&self, role: &str, path: &ColumnPath, field: &Field) -> Result<()> {
        let (t, json) = (field.data_type(), field.metadata().contains_key(JSON_TEXT));
        let chat = is_chat(t, "role", "content") || is_chat(t, "from", "value");
        let fits = match role {
            "tools" => true,
            "messages" => chat || is_text(t),
            "prompt" | "response" => (is_text(t) && !json) || is_text_list(t) || chat,
            "history" => matches!(t, arrow::datatypes::DataType::List(item) if is_text_list(item.data_type())),
            _ => is_text(t) && !json,
        };
        if fits {
            return Ok(());
        }
        let (code, holds) = if json {
            ("column/mixed", "values of mixed kinds".to_owned())
        } else {
            ("column/type", short_type(field))
        };
        let skip = if json {
            ", since the type is the whole column's (--on-bad-row skip leaves out rows, and does not help here)"
        } else {
            ""
        };
        Err(Error::data(code, format!("the role '{role}' needs text, but the column holds {holds}"))
            .hint(format!(
                "write every value of the column as text{skip}; or choose another column with --map {role}=COLUMN"
            ))
            .at(Location::file(self.file).column(path.to_string())))
    }
}

fn mapped_as(format: Format, roles: Roles) -> Layout {
    Layout { format, origin: Origin::Mapped, roles, why: "the columns were named with --map".to_owned() }
}

fn short_type(field: &Field) -> String {
    let text = field.data_type().to_string();
    if text.len() > 80 { format!("{}...", text.chars().take(77).collect::<String>()) } else { text }
}
