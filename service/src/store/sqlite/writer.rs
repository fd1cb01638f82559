//! The one connection that writes. Whoever gets it next commits the appends of all who wait for it as well.

use super::fault::writing;
use crate::store::pack::{Line, bound, number, shorter, unknown, word};
use crate::store::{Appended, Kind, held, sql};
use curate_api::{Error, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A change that failed in the database (outside), or was refused (inside).
pub(super) type Changed<T> = rusqlite::Result<Result<T>>;

/// Where the answer to an append is left.
type Answer = Arc<Mutex<Option<Result<Appended>>>>;

/// Bytes of the journal that any change takes besides its own: some pages.
const PAGES: u64 = 16 << 10;

pub(super) struct Writer {
    /// About the bytes written since they were last asked for.
    written: AtomicU64,
    waiting: Mutex<Vec<(Line, Answer)>>,
    db: Mutex<Connection>,
}

impl Writer {
    pub(super) fn new(db: Connection) -> Self {
        Self { written: AtomicU64::new(0), waiting: Mutex::default(), db: Mutex::new(db) }
    }

    /// Change something, whole or not at all. A refusal must have changed nothing.
    pub(super) fn change<T>(&self, work: impl FnOnce(&Connection) -> Changed<T>) -> Result<T> {
        self.written.fetch_add(PAGES, Ordering::Relaxed);
        whole(&mut held(&self.db), work).unwrap_or_else(|fault| Err(writing(&fault)))
    }

    /// Have the connection to oneself, outside of any change.
    pub(super) fn alone<T>(&self, work: impl FnOnce(&Connection) -> T) -> T {
        work(&held(&self.db))
    }

    /// About the bytes that lie in the journal and were not yet carried over.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// So many bytes are carried over now.
    pub(super) fn carried(&self, bytes: u64) {
        self.written.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Append a line, alone or together with those of others.
    pub(super) fn append(&self, line: Line) -> Result<Appended> {
        self.written.fetch_add(PAGES + (line.head.len() + line.body.len()) as u64, Ordering::Relaxed);
        let answer = Answer::default();
        held(&self.waiting).push((line, Arc::clone(&answer)));
        let mut db = held(&self.db);
        if let Some(done) = held(&answer).take() {
            return done;
        }
        let lines = take(&mut *held(&self.waiting));
        commit(&mut db, &lines);
        drop(db);
        let done = held(&answer).take();
        done.unwrap_or_else(|| {
            Err(Error::io("store/unavailable", "the append was not carried out").hint("send it again"))
        })
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.alone(|db| db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))).expect("a number");
    }
}

/// One transaction.
fn whole<T>(db: &mut Connection, work: impl FnOnce(&Connection) -> Changed<T>) -> Changed<T> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&tx)?;
    tx.commit()?;
    Ok(done)
}

/// All lines in one transaction; each in its own when one of them fails, so that none falls with another.
fn commit(db: &mut Connection, lines: &[(Line, Answer)]) {
    let together =
        whole(db, |tx| lines.iter().map(|(line, _)| append(tx, line)).collect::<rusqlite::Result<Vec<_>>>().map(Ok));
    if let Ok(Ok(done)) = together {
        for ((_, answer), done) in lines.iter().zip(done) {
            *held(answer) = Some(done);
        }
        return;
    }
    for (line, answer) in lines {
        let done = whole(db, |tx| append(tx, line));
        *held(answer) = Some(done.unwrap_or_else(|fault| Err(writing(&fault))));
    }
}

/// The number by which a session's rows are found.
pub(super) fn key(db: &Connection, session: &str) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT key FROM sessions WHERE id = $1")?.query_row([session], |row| row.get(0)).optional()
}

const INSERT: &str = "INSERT INTO events (session, n, kind, step, rank, digest, at, head, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const TAIL: &str = "SELECT coalesce(max(n), 0) FROM events WHERE session = $1";
const PUT_POINT: &str = "INSERT INTO points (session, step, value) VALUES ($1, $2, $3) ON CONFLICT (session, step) DO UPDATE SET value = excluded.value";

fn append(db: &Connection, line: &Line) -> Changed<Appended> {
    let Some(key) = key(db, &line.session)? else { return Ok(Err(unknown(&line.session))) };
    let last: i64 = db.prepare_cached(TAIL)?.query_row([key], |row| row.get(0))?;
    if last < bound(line.last) {
        return Ok(Err(shorter(&line.session, number(last), line.last)));
    }
    if last > bound(line.last) {
        return Ok(Ok(Appended::Behind));
    }
    put(db, key, line)?;
    Ok(Ok(Appended::At(number(line.n()))))
}

fn put(db: &Connection, key: i64, line: &Line) -> rusqlite::Result<()> {
    let kind = word(line.kind);
    let values = params![key, line.n(), kind, line.step, line.rank, line.digest, line.at, line.head, line.body];
    db.prepare_cached(INSERT)?.execute(values)?;
    if line.kind == Kind::Seek {
        db.prepare_cached(sql::DROP_POINTS)?.execute([key, line.step])?;
    }
    let mut point = db.prepare_cached(PUT_POINT)?;
    for (step, value) in line.steps.iter().zip(&line.values) {
        point.execute(params![key, step, value])?;
    }
    Ok(())
}
