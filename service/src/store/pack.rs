//! How values lie in the columns of either database.

use super::{Event, Kind};
use curate_api::{Error, Result};
use serde_json::Value;

/// Version of the tables. A store of a higher one is refused.
pub(super) const SCHEMA: i64 = 1;

/// All kinds, in their order.
const KINDS: [(Kind, &str); 6] = [
    (Kind::Propose, "propose"),
    (Kind::Feedback, "feedback"),
    (Kind::Seek, "seek"),
    (Kind::Steer, "steer"),
    (Kind::Pause, "pause"),
    (Kind::Resume, "resume"),
];

/// The word for a kind.
pub(super) fn word(kind: Kind) -> &'static str {
    KINDS.iter().find(|known| known.0 == kind).map_or("propose", |known| known.1)
}

/// The kind for a word.
pub(super) fn kind(word: &str) -> Result<Kind> {
    let found = KINDS.iter().find(|known| known.1 == word).map(|known| known.0);
    found.ok_or_else(|| broken(&format!("'{word}' is not a kind of event")))
}

/// A number for a question: what is too large to be kept is larger than all that is.
pub(super) fn bound(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A length for a question.
pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A number to be kept.
pub(super) fn kept(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| {
        Error::usage("step/too-large", format!("{number} is too large a number to be kept")).hint("count steps from 1")
    })
}

/// A kept number.
pub(super) fn number(kept: i64) -> u64 {
    u64::try_from(kept).unwrap_or(0)
}

/// A kept value.
pub(super) fn value(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| broken(&format!("a record is not JSON: {error}")))
}

/// What is there cannot be understood.
pub(super) fn broken(what: &str) -> Error {
    Error::io("store/broken", format!("the store is damaged: {what}"))
        .hint("put a copy from a backup in its place; begin with an empty one only if the sessions in it may be lost")
}

/// The session of an append is not there (any more).
pub(super) fn unknown(session: &str) -> Error {
    Error::usage("session/unknown", format!("there is no session '{session}'")).hint("GET /v1/sessions lists them")
}

/// The author of an append knows more events than there are: it speaks of another session of the same name.
pub(super) fn shorter(session: &str, last: u64, said: u64) -> Error {
    let what = format!("the log of session '{session}' ends at event {last}, and event {said} was said to be there");
    Error::io("store/history", what).hint("the session was removed and made anew; read it again from its first event")
}

/// Whether a kept state is what `was` says. Read back, a float may differ in its last bit from the one that was written, so
/// equal text is enough too.
pub(super) fn same(kept: &str, was: &Value) -> Result<bool> {
    let said = was.to_string();
    Ok(kept == said || value(kept)? == *was)
}

/// An append as it is written, made before anything is locked.
pub(super) struct Line {
    pub(super) session: String,
    pub(super) last: u64,
    pub(super) kind: Kind,
    pub(super) step: i64,
    pub(super) rank: i64,
    pub(super) digest: String,
    pub(super) at: f64,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    pub(super) steps: Vec<i64>,
    pub(super) values: Vec<String>,
}

impl Line {
    pub(super) fn new(session: &str, last: u64, event: &Event, points: &[(u64, Value)]) -> Result<Self> {
        kept(last)?;
        let mut by_step = std::collections::BTreeMap::new();
        for (step, point) in points {
            by_step.insert(kept(*step)?, point.to_string());
        }
        let (steps, values) = by_step.into_iter().unzip();
        Ok(Self {
            session: session.to_owned(),
            last,
            kind: event.kind,
            step: kept(event.step)?,
            rank: i64::from(event.rank),
            digest: event.digest.clone(),
            at: event.at,
            head: event.head.to_string(),
            body: event.body.clone(),
            steps,
            values,
        })
    }

    /// Number of the event, once it is stored.
    pub(super) fn n(&self) -> i64 {
        bound(self.last.saturating_add(1))
    }
}

/// Whether this version of the tables can be used.
pub(super) fn judge(version: Option<i64>) -> Result<()> {
    match version {
        Some(SCHEMA) => Ok(()),
        Some(newer) if newer > SCHEMA => Err(Error::usage(
            "store/newer",
            format!("the store was written by a newer version (tables {newer}, and this one knows {SCHEMA})"),
        )
        .hint("use that version, or another place for the store")),
        _ => Err(broken("it does not say which version wrote it")),
    }
}
