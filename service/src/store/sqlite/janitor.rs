//! A thread beside the store: carries the journal over into the database, so that no call waits for the disk, and clears away what
//! removed sessions leave behind, a little at a time.

use super::files::Folder;
use super::kept::Kept;
use super::schema;
use super::writer::{Writer, key};
use curate_api::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(500);

/// Time left to others between two portions.
const BREATH: Duration = Duration::from_millis(2);

/// A journal that grows is carried over when about so much has come; one that rests, at the next round.
const CARRY_BYTES: u64 = 16 << 20;

/// A journal larger than this is emptied while the writer waits.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Rows cleared away at once.
const PORTION: i64 = 200;

/// The thread; it ends when this is dropped.
pub(super) struct Janitor {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Janitor {
    pub(super) fn start(folder: &Folder, writer: Arc<Writer>, kept: Arc<Kept>) -> Result<Self> {
        let (stop, stopped) = channel();
        let (folder, carrier) = (folder.clone(), schema::carrier(folder)?);
        let work = move || {
            let mut before = 0;
            while stopped.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
                let written = writer.written();
                let rests = written == before;
                before = written;
                if written >= CARRY_BYTES || (rests && written > 0) {
                    carry(&carrier, &folder, &writer);
                    writer.carried(written);
                    before = 0;
                }
                let more = || clear(&writer) | kept.clear(|| alive(&carrier));
                while more() && stopped.recv_timeout(BREATH) == Err(RecvTimeoutError::Timeout) {}
            }
        };
        let thread = Builder::new().name("curate-store".to_owned()).spawn(work).map_err(Error::from)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carry the journal over. What fails here is tried again in the next round; a call that cannot be written says so itself.
fn carry(carrier: &Connection, folder: &Folder, writer: &Writer) {
    let ask = |db: &Connection, sql: &str| db.query_row(sql, [], |_| Ok(()));
    let _ = ask(carrier, "PRAGMA wal_checkpoint(PASSIVE)");
    if folder.journal().metadata().is_ok_and(|file| file.len() > JOURNAL_BYTES) {
        let _ = writer.alone(|db| ask(db, "PRAGMA wal_checkpoint(TRUNCATE)"));
    }
}

/// Names of the snapshots of all sessions.
fn alive(db: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut sessions = db.prepare_cached("SELECT key, created FROM sessions")?;
    sessions.query_map([], |row| Ok(name(row.get(0)?, row.get(1)?)))?.collect()
}

/// Name of a session's snapshots: keys are never used again in a database, and another database has other times.
pub(super) fn name(key: i64, created: f64) -> String {
    format!("{key}@{created}")
}

/// Take a session out of sight; its rows are cleared away later. Keys are never used again.
pub(super) fn give_up(db: &Connection, session: &str) -> rusqlite::Result<bool> {
    let Some(key) = key(db, session)? else { return Ok(false) };
    db.execute("DELETE FROM sessions WHERE key = $1", [key])?;
    db.execute("INSERT INTO gone (session) VALUES ($1)", [key])?;
    Ok(true)
}

/// Clear away a portion; whether there may be more.
fn clear(writer: &Writer) -> bool {
    let any = |db: &Connection| db.query_row("SELECT session FROM gone LIMIT 1", [], |_| Ok(())).optional();
    match writer.alone(any) {
        Ok(None) => false,
        _ => writer.change(|db| Ok(Ok(portion(db)?))).unwrap_or(false),
    }
}

fn portion(db: &Connection) -> rusqlite::Result<bool> {
    let Some(key) = db.query_row("SELECT session FROM gone LIMIT 1", [], |row| row.get::<_, i64>(0)).optional()? else {
        return Ok(false);
    };
    let mut cleared = 0;
    for sql in [
        "DELETE FROM events WHERE rowid IN (SELECT rowid FROM events WHERE session = $1 LIMIT $2)",
        "DELETE FROM points WHERE session = $1 AND step IN (SELECT step FROM points WHERE session = $1 LIMIT $2)",
    ] {
        cleared += db.prepare_cached(sql)?.execute(params![key, PORTION])?;
    }
    if cleared == 0 {
        db.execute("DELETE FROM gone WHERE session = $1", [key])?;
    }
    Ok(true)
}
