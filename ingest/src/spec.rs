//! What to read and how: the input section of a plan.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// What to read and how; part of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InputSpec {
    /// Files, folders, globs, object-store URLs; `-` reads JSON lines from standard input.
    pub paths: Vec<String>,
    /// Shape of a row.
    pub format: Format,
    /// Role (`prompt`, `input`, `response`, `system`, `history`, `messages`, `tools`, `text`) to column. A column may be a path
    /// (`reward_model.ground_truth`, `instances[0].output`) or several joined by `+`.
    pub map: BTreeMap<String, String>,
    /// SQL predicate a row must satisfy, such as `source = 'gsm8k' AND length(output) > 20`; it may look at one row only.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub where_: Option<String>,
    /// What becomes of rows that cannot be read or lack the required text.
    pub on_bad_row: OnBadRow,
    /// Longest row accepted, in bytes.
    pub max_row_bytes: u64,
    /// Chat template: a `.jinja` file, a `tokenizer_config.json`, or a model folder that holds one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<String>,
    /// Which part of a row is embedded.
    pub embed_text: EmbedText,
}

impl Default for InputSpec {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            format: Format::Auto,
            map: BTreeMap::new(),
            where_: None,
            on_bad_row: OnBadRow::Fail,
            max_row_bytes: 64 << 20,
            chat_template: None,
            embed_text: EmbedText::Prompt,
        }
    }
}

impl InputSpec {
    /// The defaults for one path.
    #[must_use]
    pub fn of(path: impl Into<String>) -> Self {
        Self { paths: vec![path.into()], ..Self::default() }
    }
}

/// Shape of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Look at the columns and say what was found.
    #[default]
    Auto,
    /// `instruction`, `input`, `output`, optionally `system` and `history`.
    Alpaca,
    /// `conversations: [{from, value}]`.
    Sharegpt,
    /// `messages: [{role, content}]`.
    Messages,
    /// `prompt` with `completion` (or `chosen`, `response` and the like).
    PromptCompletion,
    /// `question` or `problem` with `answer`, optionally `rationale` or `solution`.
    QuestionAnswer,
    /// `instruction` with `response`.
    InstructionResponse,
    /// `data_source`, `prompt` (a chat list), `reward_model`, `extra_info`.
    Verl,
    /// `text` or `content`: one document a row.
    Text,
    /// Columns without text, such as numbers, vectors or lists of items.
    Table,
}

impl Format {
    /// The name as written in plans and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Alpaca => "alpaca",
            Self::Sharegpt => "sharegpt",
            Self::Messages => "messages",
            Self::PromptCompletion => "prompt-completion",
            Self::QuestionAnswer => "question-answer",
            Self::InstructionResponse => "instruction-response",
            Self::Verl => "verl",
            Self::Text => "text",
            Self::Table => "table",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What becomes of rows that cannot be read or lack the required text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadRow {
    /// Stop at the first one and say where it is.
    #[default]
    Fail,
    /// Leave it out and count it.
    Skip,
}

/// Which part of a row is embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EmbedText {
    /// System and user turns, joined by a newline.
    #[default]
    #[serde(rename = "prompt")]
    Prompt,
    /// All turns in their order, joined by a newline.
    #[serde(rename = "prompt+response")]
    PromptResponse,
}
