//! Snapshots, in a file of their own: `snapshots.db`. They are large, and a call that appends to the journal must not wait for them.
//!
//! The file is a cache: without it a restart takes longer, nothing else. So it need not agree with the journal at every moment: a snapshot
//! is named by key and time of its session, and one that a seek has undone is passed over when it is read. Nor is it waited for until
//! the disk has it: a body begins with its digest, and one that a power cut has damaged is passed over as well.

use super::fault::{reading, writing};
use super::files::{Folder, own};
use crate::store::pack::bound;
use crate::store::{Snapshot, held, sql};
use curate_api::Result;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS snapshots (session TEXT NOT NULL, step INTEGER NOT NULL, after INTEGER NOT NULL, \
    place INTEGER NOT NULL, body BLOB NOT NULL, UNIQUE (session, step))";

const LAST: &str =
    "SELECT step, after, body FROM snapshots WHERE session = $1 AND step <= $2 ORDER BY step DESC LIMIT 1";

/// Bytes of a body's digest.
const DIGEST: usize = blake3::OUT_LEN;

/// Rows cleared away at once.
const PORTION: i64 = 8;

pub(super) struct Kept {
    db: Mutex<Connection>,
    /// Whether there may be snapshots of sessions that are gone.
    littered: AtomicBool,
}

impl Kept {
    /// Open the file; one that cannot be read is made anew.
    pub(super) fn open(folder: &Folder) -> Result<Self> {
        let path = folder.snapshots();
        let made = || {
            own(&path)?;
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(&path, flags).map_err(|error| reading(&error))?;
            let settle = || {
                db.busy_timeout(Duration::from_secs(10))?;
                db.pragma_update(None, "page_size", 16384)?;
                db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
                db.pragma_update(None, "synchronous", "OFF")?;
                db.execute(TABLE, [])?;
                db.prepare(LAST).map(drop)
            };
            settle().map_err(|error| writing(&error))?;
            Ok(db)
        };
        let db = made().or_else(|error: curate_api::Error| {
            if error.code() != "store/broken" {
                return Err(error);
            }
            folder.forget_snapshots()?;
            made()
        })?;
        Ok(Self { db: Mutex::new(db), littered: AtomicBool::new(true) })
    }

    /// Keep one.
    pub(super) fn put(&self, session: &str, (step, after): (i64, i64), body: &[u8]) -> Result<()> {
        let body = [blake3::hash(body).as_bytes(), body].concat();
        let mut db = held(&self.db);
        let mut whole = || {
            let tx = db.transaction()?;
            tx.prepare_cached(sql::PUT_SNAPSHOT)?.execute(params![session, step, after, body])?;
            tx.prepare_cached(sql::THIN_SNAPSHOTS)?.execute([session])?;
            tx.commit()
        };
        whole().map_err(|error| writing(&error))
    }

    /// The last whole one up to a step.
    pub(super) fn last(&self, session: &str, mut step: i64) -> Result<Option<Snapshot>> {
        let db = held(&self.db);
        loop {
            let found = || db.prepare_cached(LAST)?.query_row(params![session, step], super::rows::snapshot).optional();
            let Some(mut found) = found().map_err(|error| reading(&error))? else { return Ok(None) };
            let whole = found.body.split_first_chunk::<DIGEST>();
            if whole.is_some_and(|(digest, body)| blake3::hash(body).as_bytes() == digest) {
                found.body.drain(..DIGEST);
                return Ok(Some(found));
            }
            step = bound(found.step) - 1;
        }
    }

    /// Forget those behind a step.
    pub(super) fn forget(&self, session: &str, step: i64) -> Result<()> {
        let db = held(&self.db);
        let done = db.prepare_cached(sql::DROP_SNAPSHOTS).and_then(|mut drop| drop.execute(params![session, step]));
        done.map(|_| ()).map_err(|error| writing(&error))
    }

    /// A session was removed: what it leaves can be cleared away.
    pub(super) fn litter(&self) {
        self.littered.store(true, Ordering::Relaxed);
    }

    /// Clear away a portion of what belongs to none of the sessions that `alive` names; whether there may be more.
    pub(super) fn clear(&self, alive: impl FnOnce() -> rusqlite::Result<Vec<String>>) -> bool {
        if !self.littered.swap(false, Ordering::Relaxed) {
            return false;
        }
        let sweep = || -> rusqlite::Result<bool> {
            let db = held(&self.db);
            let known: Vec<String> = db
                .prepare("SELECT DISTINCT session FROM snapshots")?
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            // Asked afterwards: a session that is new in between has no snapshot among the known.
            let alive = alive()?;
            let Some(gone) = known.iter().find(|session| !alive.contains(session)) else { return Ok(false) };
            let rows = "DELETE FROM snapshots WHERE rowid IN (SELECT rowid FROM snapshots WHERE session = $1 LIMIT $2)";
            db.execute(rows, params![gone, PORTION]).map(|_| true)
        };
        let more = sweep().unwrap_or(false);
        self.littered.fetch_or(more, Ordering::Relaxed);
        more
    }
}
