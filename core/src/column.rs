//! Names of the columns that the rooms hand on.

use std::borrow::Cow;
use std::fmt;

/// Name of a column: one of the well-known ones below, `score.<name>` or `signal.<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Column(Cow<'static, str>);

impl Column {
    /// Source row id, `u64`: position of the row in the concatenated input.
    pub const ROW: Self = Self(Cow::Borrowed("row"));
    /// Embedding, fixed-size list of `f32`.
    pub const EMBEDDING: Self = Self(Cow::Borrowed("embedding"));
    /// Cluster label, `u32`.
    pub const CLUSTER: Self = Self(Cow::Borrowed("cluster"));
    /// Tokens of the rendered row, `u32`; what a token budget counts.
    pub const TOKENS: Self = Self(Cow::Borrowed("tokens"));
    /// Characters of the rendered row, `u32`.
    pub const CHARS: Self = Self(Cow::Borrowed("chars"));
    /// The quality score of the plan (`--quality`), `f32`, higher = rather keep.
    pub const QUALITY: Self = Self(Cow::Borrowed("score.quality"));

    /// `score.<name>`: one number a row, higher = rather keep.
    #[must_use]
    pub fn score(name: &str) -> Self {
        Self(Cow::Owned(format!("score.{name}")))
    }

    /// `signal.<name>`: what a model says of a row.
    #[must_use]
    pub fn signal(name: &str) -> Self {
        Self(Cow::Owned(format!("signal.{name}")))
    }

    /// Any other name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self(Cow::Owned(name.into()))
    }

    /// The name as it stands in the schema.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
