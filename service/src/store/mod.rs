//! What survives: sessions with the log of every accepted call, jobs, tokens. The log is the truth; everything a session
//! holds in memory can be made again from it.
//!
//! A call is answered only after its event was appended. An append names the number of the last event its author knows: if
//! another server appended meanwhile it is refused, the author reads what it missed and decides again. Thus any number
//! of servers share one database, and a server that dies at any moment loses nothing that was answered.

mod open;
mod pack;
mod pool;
pub mod postgres;
mod sql;
pub mod sqlite;
#[cfg(test)]
mod tests;

pub use open::{StoreOptions, is_server, open};

use curate_api::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock, also after a thread died that held it: what it guards is whole at any time.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One accepted call of a session.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What was called.
    pub kind: Kind,
    /// Step it belongs to.
    pub step: u64,
    /// Rank of the trainer that called.
    pub rank: u32,
    /// Digest of what decides whether a repeated call is the same.
    pub digest: String,
    /// Seconds since 1970 when it was accepted; tells people, decides nothing.
    pub at: f64,
    /// Small facts, such as the picks.
    pub head: Value,
    /// Signals as an Arrow IPC stream, where there are any.
    pub body: Vec<u8>,
}

/// Kinds of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A batch was handed out.
    #[default]
    Propose,
    /// Signals came.
    Feedback,
    /// The session went back to an earlier step.
    Seek,
    /// The weight of a cluster was changed by hand.
    Steer,
    /// The session was paused.
    Pause,
    /// The session goes on.
    Resume,
}

/// The selector between two steps, so that a restart need not begin at the first event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Steps proposed.
    pub step: u64,
    /// Events with a number above this are replayed over it.
    pub after: u64,
    /// The session's machine, packed.
    pub body: Vec<u8>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Stored; the number of the new event.
    At(u64),
    /// Another server appended first; read on and decide again.
    Behind,
}

/// A session or a job as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// What was asked for, as it came.
    pub spec: Value,
    /// Where it stands: status, times, error, result.
    pub state: Value,
    /// Seconds since 1970.
    pub created: f64,
}

/// Two kinds of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Sessions.
    Sessions,
    /// Jobs.
    Jobs,
}

/// A token as it is kept: only its hash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Name people know it by.
    pub name: String,
    /// SHA-256 of the token, in hex.
    pub hash: String,
    /// Scopes: `read`, `feed`, `admin`.
    pub scopes: Vec<String>,
    /// Seconds since 1970 when it was made.
    pub created: f64,
    /// Seconds since 1970 when it ends; never when absent.
    pub expires: Option<f64>,
}

/// The embedded database or a server's. Errors: `store/full` (disk full; reading goes on), `store/unavailable` (try again), `store/broken`.
pub trait Store: Send + Sync {
    /// `sqlite` or `postgres`.
    fn name(&self) -> &'static str;

    /// Add a record; false when one of this name is there.
    ///
    /// # Errors
    /// `store/*`.
    fn create(&self, table: Table, record: &Record) -> Result<bool>;

    /// One record.
    ///
    /// # Errors
    /// `store/*`.
    fn get(&self, table: Table, id: &str) -> Result<Option<Record>>;

    /// All records, oldest first.
    ///
    /// # Errors
    /// `store/*`.
    fn list(&self, table: Table) -> Result<Vec<Record>>;

    /// Replace where a record stands, if it still stands where `was` says (any, when `None`); false otherwise.
    ///
    /// # Errors
    /// `store/*`.
    fn set_state(&self, table: Table, id: &str, was: Option<&Value>, state: &Value) -> Result<bool>;

    /// Remove a record with everything that belongs to it; false when there is none.
    ///
    /// # Errors
    /// `store/*`.
    fn remove(&self, table: Table, id: &str) -> Result<bool>;

    /// Append an event behind event number `last` (0 for none), with the points of the history it changes (by step, replaced). A `Seek` event also drops points
    /// and snapshots of later steps.
    ///
    /// # Errors
    /// `store/*`; then nothing was stored.
    fn append(&self, session: &str, last: u64, event: &Event, points: &[(u64, Value)]) -> Result<Appended>;

    /// Events numbered above `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// `store/*`.
    fn events(&self, session: &str, after: u64, limit: usize) -> Result<Vec<(u64, Event)>>;

    /// The last living event of this kind, step and rank: none that a seek has undone.
    ///
    /// # Errors
    /// `store/*`.
    fn find(&self, session: &str, kind: Kind, step: u64, rank: u32) -> Result<Option<(u64, Event)>>;

    /// Number of the last event, 0 for none.
    ///
    /// # Errors
    /// `store/*`.
    fn last(&self, session: &str) -> Result<u64>;

    /// Points of the history with a step above `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// `store/*`.
    fn points(&self, session: &str, after: u64, limit: usize) -> Result<Vec<(u64, Value)>>;

    /// Keep a snapshot; older ones but the first of every tenth are dropped.
    ///
    /// # Errors
    /// `store/*`.
    fn put_snapshot(&self, session: &str, snapshot: &Snapshot) -> Result<()>;

    /// The newest snapshot of at most `step` steps.
    ///
    /// # Errors
    /// `store/*`.
    fn snapshot(&self, session: &str, step: u64) -> Result<Option<Snapshot>>;

    /// Add a token; false when the name is taken.
    ///
    /// # Errors
    /// `store/*`.
    fn add_token(&self, token: &TokenRecord) -> Result<bool>;

    /// All tokens, by name.
    ///
    /// # Errors
    /// `store/*`.
    fn tokens(&self) -> Result<Vec<TokenRecord>>;

    /// Remove a token; false when there is none.
    ///
    /// # Errors
    /// `store/*`.
    fn remove_token(&self, name: &str) -> Result<bool>;
}
