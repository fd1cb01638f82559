//! Rows of the tables as values.

use crate::store::pack::{kind, number as unsigned, value};
use crate::store::{Event, Record, Snapshot, TokenRecord};
use curate_api::Error;
use rusqlite::Row;
use rusqlite::types::Type;
use serde_json::Value;

type Read<T> = rusqlite::Result<T>;

/// What is in this column cannot be understood.
fn odd(column: usize) -> impl Fn(Error) -> rusqlite::Error {
    move |error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}

fn json(row: &Row<'_>, column: usize) -> Read<Value> {
    value(row.get_ref(column)?.as_str()?).map_err(odd(column))
}

pub(super) fn number(row: &Row<'_>) -> Read<u64> {
    row.get(0).map(unsigned)
}

pub(super) fn record(row: &Row<'_>) -> Read<Record> {
    Ok(Record { id: row.get(0)?, spec: json(row, 1)?, state: json(row, 2)?, created: row.get(3)? })
}

pub(super) fn event(row: &Row<'_>) -> Read<(u64, Event)> {
    let event = Event {
        kind: kind(row.get_ref(1)?.as_str()?).map_err(odd(1))?,
        step: row.get(2).map(unsigned)?,
        rank: row.get(3)?,
        digest: row.get(4)?,
        at: row.get(5)?,
        head: json(row, 6)?,
        body: row.get(7)?,
    };
    Ok((number(row)?, event))
}

pub(super) fn point(row: &Row<'_>) -> Read<(u64, Value)> {
    Ok((number(row)?, json(row, 1)?))
}

pub(super) fn snapshot(row: &Row<'_>) -> Read<Snapshot> {
    Ok(Snapshot { step: number(row)?, after: row.get(1).map(unsigned)?, body: row.get(2)? })
}

pub(super) fn token(row: &Row<'_>) -> Read<TokenRecord> {
    let scopes = row.get_ref(2)?.as_str()?.split_whitespace().map(str::to_owned).collect();
    Ok(TokenRecord { name: row.get(0)?, hash: row.get(1)?, scopes, created: row.get(3)?, expires: row.get(4)? })
}
