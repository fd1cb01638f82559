//! Which store: a folder with an embedded database, or a `PostgreSQL` server by its URL.

use super::Store;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use curate_api::Result;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Embedded: wait for the disk at every append, so that a power cut loses nothing that was answered either. A killed
    /// process loses nothing in any case.
    pub fsync: bool,
    /// Embedded: come in beside the server that has the folder, for a short change such as a token.
    pub beside: bool,
    /// Connections at most: readers of the embedded database, or all to a server.
    pub connections: usize,
    /// Longest time one statement may take on a server.
    pub statement_timeout: Duration,
    /// How long `open` tries to reach a server before it gives up.
    pub patience: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { fsync: false, beside: false, connections: 8, statement_timeout: seconds(10), patience: seconds(10) }
    }
}

/// Open the store at `place`: `postgres://...`, or a folder, made when missing.
///
/// # Errors
/// `store/locked` when another process has the folder, `store/newer` when a newer version wrote it, `store/refused` when a server
/// does not let us in, and `store/*` as everywhere.
pub fn open(place: &str, options: &StoreOptions) -> Result<Arc<dyn Store>> {
    if is_server(place) {
        return Ok(Arc::new(Postgres::open(place, options)?));
    }
    Ok(Arc::new(Sqlite::open(Path::new(place), options)?))
}

/// Whether `place` is the URL of a server.
#[must_use]
pub fn is_server(place: &str) -> bool {
    place.starts_with("postgres://") || place.starts_with("postgresql://")
}
