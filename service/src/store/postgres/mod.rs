//! A `PostgreSQL` server: the same store for several servers at once.
//!
//! Every call is one transaction. An append is one statement that writes only where the log still ends as its author knows it, and the unique number of an
//! event lets exactly one of two authors through. The connection is not encrypted: keep the database on the same machine or in a
//! network one trusts.

mod append;
mod fault;
mod link;
mod rows;
mod schema;

use super::open::StoreOptions;
use super::pack::{Line, bound, limit, word};
use super::{Appended, Event, Kind, Record, Snapshot, Store, Table, TokenRecord, pack, sql};
use curate_api::Result;
use link::{Link, Links, Params};
use serde_json::Value;

/// A store on a `PostgreSQL` server.
pub struct Postgres {
    links: Links,
}

impl Postgres {
    /// Open the store at `url`; the tables are made when missing.
    ///
    /// # Errors
    /// `store/refused`, `store/newer`, `store/unavailable`.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Self> {
        let links = Links::new(url, options)?;
        links.wait(options.patience)?;
        links.with(schema::make)??;
        Ok(Self { links })
    }

    fn rows<T>(&self, sql: &'static str, params: Params<'_>, make: fn(&postgres::Row) -> Result<T>) -> Result<Vec<T>> {
        self.links.with(|link| link.query(sql, params))?.iter().map(make).collect()
    }

    fn row<T>(
        &self,
        sql: &'static str,
        params: Params<'_>,
        make: fn(&postgres::Row) -> Result<T>,
    ) -> Result<Option<T>> {
        self.links.with(|link| link.query(sql, params))?.first().map(make).transpose()
    }

    /// Whether a statement changed anything.
    fn change(&self, sql: &'static str, params: Params<'_>) -> Result<bool> {
        self.links.with(|link| Ok(link.execute(sql, params)? > 0))
    }
}

/// Keep a snapshot of the session with this key, unless a seek has undone it.
fn put(link: &mut Link, session: &str, params: (i64, i64, &[u8])) -> Result<Result<()>, postgres::Error> {
    let (step, after, body) = params;
    let [undone, put, thin] = [sql::UNDONE, sql::PUT_SNAPSHOT, sql::THIN_SNAPSHOTS].map(|sql| link.statement(sql));
    let (undone, put, thin) = (undone?, put?, thin?);
    let mut tx = link.begin()?;
    let Some(key) = append::lock(&mut tx, session)? else { return Ok(Err(pack::unknown(session))) };
    if tx.query_one(&undone, &[&key, &after, &step])?.try_get::<_, i64>(0)? == 0 {
        tx.execute(&put, &[&key, &step, &after, &body])?;
        tx.execute(&thin, &[&key])?;
    }
    tx.commit().map(Ok)
}

/// Replace a state where it is still what it was.
fn replace(link: &mut Link, table: Table, id: &str, states: (&Value, &str)) -> Result<Result<bool>, postgres::Error> {
    let (read, write) = (link.statement(append::locked_state(table))?, link.statement(sql::set_state(table))?);
    let mut tx = link.begin()?;
    let Some(row) = tx.query_opt(&read, &[&id])? else { return Ok(Ok(false)) };
    match pack::same(row.try_get(0)?, states.0) {
        Ok(true) => {}
        other => return Ok(other),
    }
    tx.execute(&write, &[&states.1, &id])?;
    tx.commit().map(|()| Ok(true))
}

impl Store for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn create(&self, table: Table, record: &Record) -> Result<bool> {
        let (spec, state) = (record.spec.to_string(), record.state.to_string());
        self.change(sql::create(table), &[&record.id, &spec, &state, &record.created])
    }

    fn get(&self, table: Table, id: &str) -> Result<Option<Record>> {
        self.row(sql::get(table), &[&id], rows::record)
    }

    fn list(&self, table: Table) -> Result<Vec<Record>> {
        self.rows(sql::list(table), &[], rows::record)
    }

    fn set_state(&self, table: Table, id: &str, was: Option<&Value>, state: &Value) -> Result<bool> {
        let text = state.to_string();
        match was {
            Some(was) => self.links.with(|link| replace(link, table, id, (was, &text)))?,
            None => self.change(sql::set_state(table), &[&text, &id]),
        }
    }

    fn remove(&self, table: Table, id: &str) -> Result<bool> {
        self.change(sql::remove(table), &[&id])
    }

    fn append(&self, session: &str, last: u64, event: &Event, points: &[(u64, Value)]) -> Result<Appended> {
        let line = Line::new(session, last, event, points)?;
        self.links.with(|link| append::append(link, &line))?
    }

    fn events(&self, session: &str, after: u64, most: usize) -> Result<Vec<(u64, Event)>> {
        self.rows(sql::EVENTS, &[&session, &bound(after), &limit(most)], rows::event)
    }

    fn find(&self, session: &str, kind: Kind, step: u64, rank: u32) -> Result<Option<(u64, Event)>> {
        self.row(sql::FIND, &[&session, &word(kind), &bound(step), &i64::from(rank)], rows::event)
    }

    fn last(&self, session: &str) -> Result<u64> {
        Ok(self.row(sql::LAST, &[&session], rows::number)?.unwrap_or(0))
    }

    fn points(&self, session: &str, after: u64, most: usize) -> Result<Vec<(u64, Value)>> {
        self.rows(sql::POINTS, &[&session, &bound(after), &limit(most)], rows::point)
    }

    fn put_snapshot(&self, session: &str, snapshot: &Snapshot) -> Result<()> {
        let (step, after) = (pack::kept(snapshot.step)?, pack::kept(snapshot.after)?);
        self.links.with(|link| put(link, session, (step, after, &snapshot.body)))?
    }

    fn snapshot(&self, session: &str, step: u64) -> Result<Option<Snapshot>> {
        self.row(sql::SNAPSHOT, &[&session, &bound(step)], rows::snapshot)
    }

    fn add_token(&self, token: &TokenRecord) -> Result<bool> {
        let scopes = token.scopes.join(" ");
        self.change(sql::ADD_TOKEN, &[&token.name, &token.hash, &scopes, &token.created, &token.expires])
    }

    fn tokens(&self) -> Result<Vec<TokenRecord>> {
        self.rows(sql::TOKENS, &[], rows::token)
    }

    fn remove_token(&self, name: &str) -> Result<bool> {
        self.change(sql::REMOVE_TOKEN, &[&name])
    }
}
