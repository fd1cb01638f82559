//! Rows of the tables as values.

use crate::store::pack::{broken, kind, number as unsigned, value};
use crate::store::{Event, Record, Snapshot, TokenRecord};
use curate_api::Result;
use postgres::Row;
use postgres::types::FromSql;
use serde_json::Value;

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T> {
    row.try_get(column).map_err(|error| broken(&error.to_string()))
}

fn json(row: &Row, column: usize) -> Result<Value> {
    value(get(row, column)?)
}

fn counted(row: &Row, column: usize) -> Result<u64> {
    get(row, column).map(unsigned)
}

pub(super) fn number(row: &Row) -> Result<u64> {
    counted(row, 0)
}

pub(super) fn record(row: &Row) -> Result<Record> {
    Ok(Record { id: get(row, 0)?, spec: json(row, 1)?, state: json(row, 2)?, created: get(row, 3)? })
}

pub(super) fn event(row: &Row) -> Result<(u64, Event)> {
    let event = Event {
        kind: kind(get(row, 1)?)?,
        step: counted(row, 2)?,
        rank: u32::try_from(counted(row, 3)?).map_err(|error| broken(&error.to_string()))?,
        digest: get(row, 4)?,
        at: get(row, 5)?,
        head: json(row, 6)?,
        body: get(row, 7)?,
    };
    Ok((number(row)?, event))
}

pub(super) fn point(row: &Row) -> Result<(u64, Value)> {
    Ok((number(row)?, json(row, 1)?))
}

pub(super) fn snapshot(row: &Row) -> Result<Snapshot> {
    Ok(Snapshot { step: number(row)?, after: counted(row, 1)?, body: get(row, 2)? })
}

pub(super) fn token(row: &Row) -> Result<TokenRecord> {
    let scopes = get::<&str>(row, 2)?.split_whitespace().map(str::to_owned).collect();
    Ok(TokenRecord { name: get(row, 0)?, hash: get(row, 1)?, scopes, created: get(row, 3)?, expires: get(row, 4)? })
}
