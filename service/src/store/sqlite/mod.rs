//! The embedded database: one file, `curate.db`, in the server's folder. One connection writes, a few read beside it.
//!
//! Journal: write-ahead. What a process wrote survives its death; a power cut may take the last moments, never parts of a call, unless
//! `fsync` is asked for. Appends that wait for one another are committed together.

mod fault;
mod files;
mod janitor;
mod kept;
mod rows;
mod schema;
mod writer;

use super::open::StoreOptions;
use super::pack::{Line, bound, limit, word};
use super::pool::Pool;
use super::{Appended, Event, Kind, Record, Snapshot, Store, Table, TokenRecord, pack, sql};
use curate_api::Result;
use fault::reading;
use files::{Folder, Lock};
use janitor::Janitor;
use kept::Kept;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use writer::Writer;

/// The embedded store. The order of the fields is the order in which they are let go: the lock last.
pub struct Sqlite {
    _janitor: Option<Janitor>,
    kept: Arc<Kept>,
    readers: Pool<Connection>,
    writer: Arc<Writer>,
    folder: Folder,
    _lock: Option<Lock>,
}

impl Sqlite {
    /// Open the store in `folder`, which is made when missing.
    ///
    /// # Errors
    /// `store/locked`, `store/newer`, `store/full`, `store/broken`, `store/unavailable`.
    pub fn open(folder: &Path, options: &StoreOptions) -> Result<Self> {
        let folder = Folder::make(folder)?;
        let own = !options.beside;
        let lock = own.then(|| folder.lock()).transpose()?;
        let kept = Arc::new(Kept::open(&folder)?);
        let writer = Arc::new(Writer::new(schema::open(&folder, options.fsync)?));
        let janitor = own.then(|| Janitor::start(&folder, Arc::clone(&writer), Arc::clone(&kept))).transpose()?;
        Ok(Self { _janitor: janitor, kept, readers: Pool::new(options.connections), writer, folder, _lock: lock })
    }

    /// Ask on a connection that only reads.
    fn read<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let lent = self.readers.take(|| schema::reader(&self.folder))?;
        ask(&lent).map_err(|error| reading(&error))
    }

    fn rows<T>(&self, sql: &str, params: impl Params, make: fn(&Row<'_>) -> rusqlite::Result<T>) -> Result<Vec<T>> {
        self.read(|db| db.prepare_cached(sql)?.query_map(params, make)?.collect())
    }

    fn row<T>(&self, sql: &str, params: impl Params, make: fn(&Row<'_>) -> rusqlite::Result<T>) -> Result<Option<T>> {
        self.read(|db| db.prepare_cached(sql)?.query_row(params, make).optional())
    }

    /// Key of a session, and the name of its snapshots.
    fn name(&self, session: &str) -> Result<(i64, String)> {
        let sql = "SELECT key, created FROM sessions WHERE id = $1";
        let found = self.row(sql, [session], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (key, created) = found.ok_or_else(|| pack::unknown(session))?;
        Ok((key, janitor::name(key, created)))
    }

    /// Whether a snapshot of so many events at this step was undone by a seek.
    fn undone(&self, key: i64, after: i64, step: i64) -> Result<bool> {
        let count = self.row(sql::UNDONE, [key, after, step], |row| row.get::<_, i64>(0))?;
        Ok(count.unwrap_or(0) > 0)
    }

    /// Whether a statement changed anything.
    fn change(&self, sql: &str, params: impl Params) -> Result<bool> {
        self.writer.change(|db| Ok(Ok(db.prepare_cached(sql)?.execute(params)? > 0)))
    }

    /// From now on the database may not grow beyond so many pages: a full disk.
    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        self.writer.limit_pages(pages);
    }
}

impl Store for Sqlite {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn create(&self, table: Table, record: &Record) -> Result<bool> {
        let (spec, state) = (record.spec.to_string(), record.state.to_string());
        self.change(sql::create(table), params![record.id, spec, state, record.created])
    }

    fn get(&self, table: Table, id: &str) -> Result<Option<Record>> {
        self.row(sql::get(table), [id], rows::record)
    }

    fn list(&self, table: Table) -> Result<Vec<Record>> {
        self.rows(sql::list(table), [], rows::record)
    }

    fn set_state(&self, table: Table, id: &str, was: Option<&Value>, state: &Value) -> Result<bool> {
        let text = state.to_string();
        self.writer.change(|db| {
            if let Some(was) = was {
                let kept: Option<String> =
                    db.prepare_cached(sql::state(table))?.query_row([id], |row| row.get(0)).optional()?;
                match kept.as_deref().map(|kept| pack::same(kept, was)) {
                    Some(Ok(true)) => {}
                    Some(Err(error)) => return Ok(Err(error)),
                    _ => return Ok(Ok(false)),
                }
            }
            Ok(Ok(db.prepare_cached(sql::set_state(table))?.execute(params![text, id])? > 0))
        })
    }

    fn remove(&self, table: Table, id: &str) -> Result<bool> {
        if table == Table::Jobs {
            return self.change(sql::remove(table), [id]);
        }
        let gone = self.writer.change(|db| Ok(Ok(janitor::give_up(db, id)?)))?;
        self.kept.litter();
        Ok(gone)
    }

    fn append(&self, session: &str, last: u64, event: &Event, points: &[(u64, Value)]) -> Result<Appended> {
        let done = self.writer.append(Line::new(session, last, event, points)?)?;
        if event.kind == Kind::Seek && matches!(done, Appended::At(_)) {
            // They are passed over in any case.
            let _ = self.name(session).and_then(|(_, name)| self.kept.forget(&name, bound(event.step)));
        }
        Ok(done)
    }

    fn events(&self, session: &str, after: u64, most: usize) -> Result<Vec<(u64, Event)>> {
        self.rows(sql::EVENTS, params![session, bound(after), limit(most)], rows::event)
    }

    fn find(&self, session: &str, kind: Kind, step: u64, rank: u32) -> Result<Option<(u64, Event)>> {
        self.row(sql::FIND, params![session, word(kind), bound(step), rank], rows::event)
    }

    fn last(&self, session: &str) -> Result<u64> {
        Ok(self.row(sql::LAST, [session], rows::number)?.unwrap_or(0))
    }

    fn points(&self, session: &str, after: u64, most: usize) -> Result<Vec<(u64, Value)>> {
        self.rows(sql::POINTS, params![session, bound(after), limit(most)], rows::point)
    }

    fn put_snapshot(&self, session: &str, snapshot: &Snapshot) -> Result<()> {
        let (step, after) = (pack::kept(snapshot.step)?, pack::kept(snapshot.after)?);
        let (key, name) = self.name(session)?;
        if self.undone(key, after, step)? {
            return Ok(());
        }
        self.kept.put(&name, (step, after), &snapshot.body)
    }

    fn snapshot(&self, session: &str, step: u64) -> Result<Option<Snapshot>> {
        let Ok((key, name)) = self.name(session) else { return Ok(None) };
        let mut below = bound(step);
        while let Some(found) = self.kept.last(&name, below)? {
            if !self.undone(key, bound(found.after), bound(found.step))? {
                return Ok(Some(found));
            }
            below = bound(found.step) - 1;
        }
        Ok(None)
    }

    fn add_token(&self, token: &TokenRecord) -> Result<bool> {
        let scopes = token.scopes.join(" ");
        self.change(sql::ADD_TOKEN, params![token.name, token.hash, scopes, token.created, token.expires])
    }

    fn tokens(&self) -> Result<Vec<TokenRecord>> {
        self.rows(sql::TOKENS, [], rows::token)
    }

    fn remove_token(&self, name: &str) -> Result<bool> {
        self.change(sql::REMOVE_TOKEN, [name])
    }
}
