//! The conversation a row holds: turns with roles, whichever columns they came from.

use super::chat::Voice;
use super::layout::Layout;
use super::path::ColumnPath;
use arrow::array::RecordBatch;
use curate_core::{Error, Location, Result};
use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sets the scene.
    System,
    /// Asks.
    User,
    /// Answers; what a model is trained on.
    Assistant,
    /// What a tool gave back.
    Tool,
}

impl Role {
    /// The name chat templates use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role behind the names that data sets use.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "system" | "developer" => Self::System,
            "user" | "human" | "prompter" | "instruction" => Self::User,
            "assistant" | "gpt" | "bot" | "model" | "chatgpt" | "ai" | "function_call" | "tool_call" => Self::Assistant,
            "tool" | "observation" | "function" | "function_response" | "tool_response" | "ipython" | "environment" => {
                Self::Tool
            }
            _ => return None,
        })
    }
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub text: String,
    /// Whether a model is trained on it.
    pub trained: bool,
}

impl Turn {
    /// A turn; assistants' turns are trained on.
    #[must_use]
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into(), trained: role == Role::Assistant }
    }

    /// A turn whose weight in the loss is given: none is trained on at weight 0.
    pub(crate) fn weighted(role: Role, text: String, weight: Option<f64>) -> Self {
        Self { role, text, trained: role == Role::Assistant && weight.is_none_or(|w| w > 0.0) }
    }
}

/// The turns of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// The turns, in order.
    pub turns: Vec<Turn>,
    /// Descriptions of tools, as JSON text.
    pub tools: Option<String>,
    /// Whether the row is one plain document, to which no chat template applies.
    pub plain: bool,
}

impl Conversation {
    /// The non-empty texts of the turns that `wanted` picks, joined by a newline.
    #[must_use]
    pub fn join(&self, wanted: impl Fn(Role) -> bool) -> String {
        let texts = self.turns.iter().filter(|t| !t.text.is_empty() && wanted(t.role)).map(|t| t.text.as_str());
        texts.collect::<Vec<_>>().join("\n")
    }
}

/// Why a row holds no conversation.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) column: String,
    pub(crate) what: String,
}

impl Problem {
    /// The error for a row at `place`.
    pub(crate) fn error(self, place: Location) -> Error {
        Error::data(self.code, self.what)
            .hint("repair the row, drop it with --where, or leave such rows out with --on-bad-row skip")
            .at(place.column(self.column))
    }
}

/// Reads conversations out of one batch.
pub(crate) struct Extractor {
    text: Option<Voice>,
    messages: Option<Voice>,
    system: Option<Voice>,
    history: Option<Voice>,
    prompt: Vec<Voice>,
    response: Vec<Voice>,
    tools: Option<Voice>,
    names: Vec<String>,
    /// Whether a row without nulls cannot be wrong.
    plain: bool,
}

impl Extractor {
    pub(crate) fn new(layout: &Layout, batch: &RecordBatch) -> Result<Self> {
        let voice = |path: &ColumnPath| Voice::new(path, batch, false);
        let one = |path: &Option<ColumnPath>| path.as_ref().map(voice).transpose();
        let many = |paths: &[ColumnPath]| paths.iter().map(voice).collect::<Result<Vec<_>>>();
        let roles = &layout.roles;
        let required = [roles.prompt.first(), roles.response.last(), roles.messages.as_ref(), roles.text.as_ref()];
        let mut this = Self {
            text: one(&roles.text)?,
            messages: roles.messages.as_ref().map(|path| Voice::new(path, batch, true)).transpose()?,
            system: one(&roles.system)?,
            history: one(&roles.history)?,
            prompt: many(&roles.prompt)?,
            response: many(&roles.response)?,
            tools: one(&roles.tools)?,
            names: required.into_iter().flatten().map(ToString::to_string).collect(),
            plain: false,
        };
        let single = [&this.text, &this.messages, &this.system, &this.history, &this.tools].into_iter().flatten();
        this.plain = single.chain(&this.prompt).chain(&this.response).all(Voice::is_plain);
        Ok(this)
    }

    /// The required text that a row lacks.
    fn lack(&self, row: usize) -> Option<Problem> {
        let required = [self.prompt.first(), self.response.last(), self.messages.as_ref(), self.text.as_ref()];
        let at = required.into_iter().flatten().position(|voice| voice.is_null(row))?;
        Some(Problem {
            code: "row/no-text",
            column: self.names[at].clone(),
            what: "the required text is null".to_owned(),
        })
    }

    /// What is wrong with a row, if anything.
    pub(crate) fn check(&self, row: usize) -> Option<Problem> {
        if self.plain { self.lack(row) } else { self.conversation(row).err() }
    }

    /// The conversation of a row that has the required text.
    pub(crate) fn conversation(&self, row: usize) -> std::result::Result<Conversation, Problem> {
        self.lack(row).map_or_else(|| self.row(row), Err)
    }

    fn row(&self, row: usize) -> std::result::Result<Conversation, Problem> {
        if let Some(text) = &self.text {
            let turn = Turn::new(Role::Assistant, text.text(row)?.unwrap_or_default());
            return Ok(Conversation { turns: vec![turn], tools: None, plain: true });
        }
        let mut turns = Vec::new();
        if let Some(system) = self.system.as_ref().map(|s| s.text(row)).transpose()?.flatten().filter(|s| !s.is_empty())
        {
            turns.push(Turn::new(Role::System, system));
        }
        for voice in [&self.history, &self.messages].into_iter().flatten() {
            turns.extend(voice.turns(row, Role::User)?.unwrap_or_default());
        }
        side(&self.prompt, Role::User, row, &mut turns)?;
        side(&self.response, Role::Assistant, row, &mut turns)?;
        let tools = self.tools.as_ref().map(|t| t.text(row)).transpose()?.flatten();
        Ok(Conversation { turns, tools: tools.filter(|t| !t.is_empty() && t != "[]"), plain: false })
    }
}

/// One side of the conversation: a chat list brings its own turns, texts make one turn together.
fn side(voices: &[Voice], role: Role, row: usize, turns: &mut Vec<Turn>) -> std::result::Result<(), Problem> {
    if let [only] = voices
        && only.is_chat()
    {
        turns.extend(only.turns(row, role)?.unwrap_or_default());
        return Ok(());
    }
    if voices.is_empty() {
        return Ok(());
    }
    let mut parts = Vec::new();
    for voice in voices {
        parts.extend(voice.text(row)?.filter(|text| !text.is_empty()));
    }
    turns.push(Turn::new(role, parts.join("\n")));
    Ok(())
}

impl Layout {
    /// The conversations of all rows of a batch that holds the columns of this layout.
    ///
    /// # Errors
    /// `row/no-text`, `messages/*` for a row that holds none, counted from the beginning of the batch.
    pub fn conversations(&self, batch: &RecordBatch) -> Result<Vec<Conversation>> {
        let extractor = Extractor::new(self, batch)?;
        (0..batch.num_rows())
            .map(|i| extractor.conversation(i).map_err(|problem| problem.error(Location::default().row(i as u64))))
            .collect()
    }
}
