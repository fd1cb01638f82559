//! The layout of rows: which column plays which role, how that was found out, and how it is printed.

use super::path::ColumnPath;
use crate::spec::Format;
use serde::Serialize;
use std::fmt;

/// Which column plays which role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Shape of a row; never `auto`.
    pub format: Format,
    /// How the shape was found.
    pub origin: Origin,
    /// The roles and their columns.
    pub roles: Roles,
    /// Why this shape and no other, in words.
    pub why: String,
}

/// How a layout was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// From the columns.
    Detected,
    /// The user named the format.
    Given,
    /// The user named the columns.
    Mapped,
}

/// The columns of each role; texts of several columns are joined by a newline, empty ones left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Roles {
    /// System turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<ColumnPath>,
    /// Earlier turns as `[[user, assistant], ...]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<ColumnPath>,
    /// User turn: text, a list of user turns, or a chat list. The first column is required.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompt: Vec<ColumnPath>,
    /// Assistant turn. The last column is required.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response: Vec<ColumnPath>,
    /// A chat list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<ColumnPath>,
    /// Descriptions of tools.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tools: Option<ColumnPath>,
    /// A whole document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<ColumnPath>,
}

impl Roles {
    /// Roles that are filled, with their columns, in the order they are printed.
    pub(crate) fn filled(&self) -> Vec<(&'static str, Vec<&ColumnPath>)> {
        let all = [
            ("text", self.text.iter().collect()),
            ("messages", self.messages.iter().collect()),
            ("system", self.system.iter().collect()),
            ("history", self.history.iter().collect()),
            ("prompt", self.prompt.iter().collect()),
            ("response", self.response.iter().collect::<Vec<_>>()),
            ("tools", self.tools.iter().collect()),
        ];
        all.into_iter().filter(|(_, paths)| !paths.is_empty()).collect()
    }
}

impl Layout {
    /// Top-level columns that play a role, each once.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let mut names = Vec::new();
        for path in self.roles.filled().into_iter().flat_map(|(_, paths)| paths) {
            if !names.iter().any(|name| name == path.column()) {
                names.push(path.column().to_owned());
            }
        }
        names
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = |(role, paths): (&str, Vec<&ColumnPath>)| {
            let paths = paths.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
            format!("{role}={paths}")
        };
        let roles = self.roles.filled().into_iter().map(role).collect::<Vec<_>>().join(", ");
        let origin = match self.origin {
            Origin::Detected => "detected",
            Origin::Given => "as given",
            Origin::Mapped => "mapped",
        };
        write!(f, "{}: {roles} ({origin})", self.format)
    }
}
