//! Formats of plain columns: a prompt column, a response column, and what is joined to them.

use super::layout::Roles;
use super::path::{ColumnPath, is_text_list};
use super::rules::Columns;
use crate::spec::Format;
use arrow::datatypes::{DataType, Field};
use curate_core::Result;

/// A family of formats that share the name of the prompt column.
struct Family {
    format: Format,
    prompts: &'static [&'static str],
    /// Joined to the prompt when there.
    inputs: &'static [&'static str],
    /// The first that is there is the response.
    responses: &'static [&'static str],
    /// Put before the response when there.
    reasons: &'static [&'static str],
}

const FAMILIES: [Family; 5] = [
    Family {
        format: Format::Alpaca,
        prompts: &["instruction"],
        inputs: &["input"],
        responses: &["output"],
        reasons: &[],
    },
    Family {
        format: Format::InstructionResponse,
        prompts: &["instruction"],
        inputs: &["input", "context"],
        responses: &["response", "completion", "answer", "reply"],
        reasons: &[],
    },
    Family {
        format: Format::PromptCompletion,
        prompts: &["prompt"],
        inputs: &[],
        responses: &[
            "completion",
            "response",
            "output",
            "chosen",
            "canonical_solution",
            "answer",
            "solution",
            "target",
            "reply",
        ],
        reasons: &[],
    },
    Family {
        format: Format::QuestionAnswer,
        prompts: &["question", "problem", "query"],
        inputs: &[],
        responses: &["answer", "response", "output", "reply", "solution"],
        reasons: &["rationale", "solution"],
    },
    Family {
        format: Format::PromptCompletion,
        prompts: &["input", "turns"],
        inputs: &[],
        responses: &["target", "output", "response"],
        reasons: &[],
    },
];

/// Names of columns that are text in CSV files whatever they hold.
pub(crate) const TEXT_NAMES: [&str; 26] = [
    "instruction",
    "input",
    "output",
    "response",
    "prompt",
    "completion",
    "chosen",
    "rejected",
    "canonical_solution",
    "answer",
    "reply",
    "solution",
    "target",
    "question",
    "problem",
    "query",
    "rationale",
    "context",
    "system",
    "system_prompt",
    "text",
    "content",
    "messages",
    "conversations",
    "tools",
    "history",
];

/// Names of columns of answers, the likeliest first, for a prompt that no family knows.
const RESPONSES: [&str; 7] = ["completion", "response", "output", "answer", "reply", "solution", "target"];

impl Columns<'_> {
    /// The roles around a prompt column that the user named: those of its family where it is the family's own, else answers and
    /// system prompts by their names.
    pub(super) fn around(&self, prompt: &[ColumnPath], wanted: Format) -> (Format, Roles) {
        let found = self.family(wanted).ok().flatten();
        let own = found.filter(|(_, roles, _)| prompt.len() == 1 && roles.prompt.first() == prompt.first());
        if let Some((format, roles, _)) = own {
            return (format, roles);
        }
        let first =
            |names: &[&str]| names.iter().find(|name| self.is_plain_text(name)).map(|name| ColumnPath::of(name));
        let response = first(&RESPONSES).filter(|path| prompt.iter().all(|own| own.column() != path.column()));
        let roles = Roles {
            response: response.into_iter().collect(),
            system: first(&["system", "system_prompt"]),
            ..Roles::default()
        };
        (if wanted == Format::Auto { Format::PromptCompletion } else { wanted }, roles)
    }

    pub(super) fn family(&self, wanted: Format) -> Result<Option<(Format, Roles, String)>> {
        let fits = |family: &&Family| {
            (wanted == Format::Auto || wanted == family.format) && self.first(family.prompts).is_some()
        };
        let there: Vec<&Family> = FAMILIES.iter().filter(fits).collect();
        let complete: Vec<&Family> = there.iter().copied().filter(|f| self.response(f).is_some()).collect();
        let used = |f: &Family| self.first(f.inputs).or(self.first(f.prompts));
        match (complete.as_slice(), there.as_slice()) {
            ([one], _) | ([], [one]) => Ok(Some(self.roles(one))),
            ([], []) => Ok(None),
            ([first, rest @ ..], _)
                if rest.iter().all(|f| f.prompts == ["input", "turns"] && used(first) == Some("input")) =>
            {
                Ok(Some(self.roles(first)))
            }
            ([], [first, rest @ ..])
                if rest.iter().all(|f| {
                    self.first(f.prompts) == self.first(first.prompts) || self.first(f.prompts) == Some("input")
                }) =>
            {
                Ok(Some(self.roles(first)))
            }
            _ => Err(self.unknown("ambiguous: the columns make more than one format")),
        }
    }

    fn response(&self, family: &Family) -> Option<String> {
        if family.format == Format::Alpaca && self.instances() {
            return Some("instances[0].output".to_owned());
        }
        self.first(family.responses).map(str::to_owned)
    }

    /// Self-instruct: input and output stand in a list of instances.
    fn instances(&self) -> bool {
        !self.has("output") && ColumnPath::parse("instances[0].output", self.schema).is_some()
    }

    fn roles(&self, family: &Family) -> (Format, Roles, String) {
        let path = |text: &str| ColumnPath::parse(text, self.schema);
        let mut roles =
            Roles { system: self.first(&["system", "system_prompt"]).map(ColumnPath::of), ..Roles::default() };
        roles.prompt.extend(self.first(family.prompts).map(ColumnPath::of));
        if family.format == Format::Alpaca && self.instances() {
            roles.prompt.extend(path("instances[0].input"));
        }
        roles.prompt.extend(self.first(family.inputs).map(ColumnPath::of));
        let response = self.response(family);
        let reason = self.first(family.reasons).filter(|reason| response.as_deref().is_some_and(|r| r != *reason));
        roles.response.extend(reason.map(ColumnPath::of));
        roles.response.extend(response.as_deref().and_then(path));
        if family.format == Format::Alpaca {
            let nested = |f: &Field| matches!(f.data_type(), DataType::List(item) if is_text_list(item.data_type()));
            roles.history =
                self.schema.field_with_name("history").ok().filter(|f| nested(f)).map(|_| ColumnPath::of("history"));
        }
        let columns =
            roles.filled().into_iter().flat_map(|(_, p)| p).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (family.format, roles, format!("the columns {columns} are there"))
    }
}
