//! Opening the database: its tables, its version, its settings.

use super::fault::{reading, writing};
use super::files::{Folder, own};
use crate::store::pack::{SCHEMA, broken, judge};
use curate_api::Result;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::time::Duration;

/// Waits this long for a lock of the database.
const BUSY: Duration = Duration::from_secs(10);

/// Tells our files from other people's databases.
const MARK: i64 = 0x6375_7261;

const TABLES: &str = "
CREATE TABLE about (version INTEGER NOT NULL);
CREATE TABLE sessions (key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE jobs (key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, state TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE events (session INTEGER NOT NULL, n INTEGER NOT NULL, kind TEXT NOT NULL, step INTEGER NOT NULL, rank INTEGER NOT NULL,
    digest TEXT NOT NULL, at REAL NOT NULL, head TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (session, n));
CREATE INDEX events_by_step ON events (session, kind, step, rank, n);
CREATE TABLE points (session INTEGER NOT NULL, step INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (session, step)) WITHOUT ROWID;
CREATE TABLE tokens (name TEXT PRIMARY KEY, hash TEXT NOT NULL, scopes TEXT NOT NULL, created REAL NOT NULL, expires REAL) WITHOUT ROWID;
CREATE TABLE gone (session INTEGER PRIMARY KEY);
";

/// The connection that writes, with the tables there.
pub(super) fn open(folder: &Folder, fsync: bool) -> Result<Connection> {
    own(&folder.database())?;
    let mut db = Connection::open_with_flags(
        folder.database(),
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| reading(&error))?;
    settings(&db, fsync).map_err(|error| writing(&error))?;
    tables(&mut db).map_err(|error| writing(&error))??;
    Ok(db)
}

/// A connection that reads.
pub(super) fn reader(folder: &Folder) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(folder.database(), flags).map_err(|error| reading(&error))?;
    db.busy_timeout(BUSY).map_err(|error| reading(&error))?;
    db.set_prepared_statement_cache_capacity(32);
    Ok(db)
}

/// A connection that carries the journal over into the database.
pub(super) fn carrier(folder: &Folder) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(folder.database(), flags).map_err(|error| reading(&error))?;
    db.pragma_update(None, "synchronous", "NORMAL").map_err(|error| writing(&error))?;
    Ok(db)
}

fn settings(db: &Connection, fsync: bool) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY)?;
    db.set_prepared_statement_cache_capacity(32);
    db.pragma_update(None, "page_size", 8192)?;
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", if fsync { "FULL" } else { "NORMAL" })?;
    // The janitor does it, so that no call waits for the disk.
    db.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Make the tables in an empty file; refuse what is not ours or too new.
fn tables(db: &mut Connection) -> rusqlite::Result<Result<()>> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if found == 0 {
        tx.execute_batch(TABLES)?;
        tx.execute("INSERT INTO about (version) VALUES ($1)", [SCHEMA])?;
        tx.pragma_update(None, "application_id", MARK)?;
        return tx.commit().map(Ok);
    }
    let mark: i64 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if mark != MARK {
        return Ok(Err(broken("curate.db is a database of another program")));
    }
    let version: Option<i64> = tx.query_row("SELECT version FROM about", [], |row| row.get(0)).optional()?;
    Ok(judge(version))
}
