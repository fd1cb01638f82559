//! Appending to a log that others append to as well.

use super::link::Link;
use crate::store::pack::{Line, number, shorter, unknown, word};
use crate::store::{Appended, Kind, Table, sql};
use curate_api::Result;
use postgres::error::SqlState;
use postgres::types::ToSql;
use postgres::{Error, Transaction};

/// Writes the event and its points where the log ends at `$2`; answers where it ended, and whether it wrote.
const APPEND: &str = "\
WITH s AS (SELECT key FROM sessions WHERE id = $1),
     l AS (SELECT s.key, coalesce((SELECT max(n) FROM events WHERE session = s.key), 0) AS n FROM s),
     e AS (INSERT INTO events (session, n, kind, step, rank, digest, at, head, body)
           SELECT key, n + 1, $3, $4, $5, $6, $7, $8, $9 FROM l WHERE n = $2
           ON CONFLICT (session, n) DO NOTHING RETURNING session),
     p AS (INSERT INTO points (session, step, value)
           SELECT e.session, x.step, x.value FROM e, unnest($10::bigint[], $11::text[]) AS x (step, value)
           ON CONFLICT (session, step) DO UPDATE SET value = excluded.value)
SELECT l.n, EXISTS (SELECT 1 FROM e) FROM l";

/// A row of the table, with the right to change it.
pub(super) const fn locked_state(table: Table) -> &'static str {
    match table {
        Table::Sessions => "SELECT state FROM sessions WHERE id = $1 FOR NO KEY UPDATE",
        Table::Jobs => "SELECT state FROM jobs WHERE id = $1 FOR NO KEY UPDATE",
    }
}

/// The key of a session; snapshots and seeks hold it while they work, so that neither misses the other.
pub(super) fn lock(tx: &mut Transaction<'_>, session: &str) -> Result<Option<i64>, Error> {
    let row = tx.query_opt("SELECT key FROM sessions WHERE id = $1 FOR NO KEY UPDATE", &[&session])?;
    row.map(|row| row.try_get(0)).transpose()
}

/// Append a line.
pub(super) fn append(db: &mut Link, line: &Line) -> Result<Result<Appended>, Error> {
    let tail = if line.kind == Kind::Seek { seek(db, line) } else { plain(db, line) };
    match tail {
        Ok(tail) => Ok(judge(line, tail)),
        // The session was removed in between.
        Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => Ok(Err(unknown(&line.session))),
        Err(error) => Err(error),
    }
}

/// Where the log ended, and whether the line was written; nothing when there is no such session.
type Tail = Option<(i64, bool)>;

fn judge(line: &Line, tail: Tail) -> Result<Appended> {
    match tail {
        None => Err(unknown(&line.session)),
        Some((_, true)) => Ok(Appended::At(number(line.n()))),
        Some((last, false)) if number(last) < line.last => Err(shorter(&line.session, number(last), line.last)),
        Some((_, false)) => Ok(Appended::Behind),
    }
}

/// Give the parameters of `APPEND` to `ask`.
fn with_params<T>(line: &Line, points: bool, ask: impl FnOnce(&[&(dyn ToSql + Sync)]) -> T) -> T {
    let (steps, values) = if points { (&line.steps[..], &line.values[..]) } else { (&[][..], &[][..]) };
    let (last, kind) = (line.n() - 1, word(line.kind));
    ask(&[
        &line.session,
        &last,
        &kind,
        &line.step,
        &line.rank,
        &line.digest,
        &line.at,
        &line.head,
        &line.body,
        &steps,
        &values,
    ])
}

fn tail(row: Option<&postgres::Row>) -> Result<Tail, Error> {
    row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
}

fn plain(db: &mut Link, line: &Line) -> Result<Tail, Error> {
    let rows = with_params(line, true, |params| db.query(APPEND, params))?;
    tail(rows.first())
}

const PUT_POINTS: &str = "INSERT INTO points (session, step, value) \
     SELECT $1, x.step, x.value FROM unnest($2::bigint[], $3::text[]) AS x (step, value) \
     ON CONFLICT (session, step) DO UPDATE SET value = excluded.value";

fn seek(db: &mut Link, line: &Line) -> Result<Tail, Error> {
    let append = db.statement(APPEND)?;
    let mut tx = db.begin()?;
    let Some(key) = lock(&mut tx, &line.session)? else { return Ok(None) };
    let row = with_params(line, false, |params| tx.query_opt(&append, params))?;
    let tail = tail(row.as_ref())?;
    if tail.is_some_and(|tail| tail.1) {
        tx.execute(sql::DROP_POINTS, &[&key, &line.step])?;
        tx.execute(sql::DROP_SNAPSHOTS, &[&key, &line.step])?;
        tx.execute(PUT_POINTS, &[&key, &line.steps, &line.values])?;
    }
    tx.commit()?;
    Ok(tail)
}
