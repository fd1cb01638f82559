//! The tables on the server, in a schema of their own; made once, however many servers begin at the same time.

use super::link::Link;
use crate::store::pack::{SCHEMA, judge};
use curate_api::Result;
use postgres::{Error, Transaction};

/// One key for all servers: who has it looks and makes, the others wait.
const LOCK: &str = "SELECT pg_advisory_xact_lock(478632587)";

const THERE: &str = "SELECT EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = 'curate' AND tablename = 'about')";

const TABLES: &str = r#"
CREATE SCHEMA IF NOT EXISTS curate;
CREATE TABLE about (version bigint NOT NULL);
CREATE TABLE sessions (key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE, spec text NOT NULL,
    state text NOT NULL, created double precision NOT NULL);
CREATE TABLE jobs (key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text COLLATE "C" NOT NULL UNIQUE, spec text NOT NULL,
    state text NOT NULL, created double precision NOT NULL);
CREATE TABLE events (session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE, n bigint NOT NULL, kind text NOT NULL, step bigint NOT NULL,
    rank bigint NOT NULL, digest text NOT NULL, at double precision NOT NULL, head text NOT NULL, body bytea NOT NULL, PRIMARY KEY (session, n));
CREATE INDEX events_by_step ON events (session, kind, step, rank, n);
CREATE TABLE points (session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE, step bigint NOT NULL, value text NOT NULL,
    PRIMARY KEY (session, step));
CREATE TABLE snapshots (session bigint NOT NULL REFERENCES sessions ON DELETE CASCADE, step bigint NOT NULL, after bigint NOT NULL,
    place bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (session, step));
CREATE TABLE tokens (name text COLLATE "C" PRIMARY KEY, hash text NOT NULL, scopes text NOT NULL, created double precision NOT NULL,
    expires double precision);
"#;

/// Make what is missing; refuse a newer version.
pub(super) fn make(link: &mut Link) -> Result<Result<()>, Error> {
    let mut tx = link.begin()?;
    tx.batch_execute(LOCK)?;
    if tx.query_one(THERE, &[])?.try_get(0)? {
        return version(&mut tx).map(judge);
    }
    tx.batch_execute(TABLES)?;
    tx.execute("INSERT INTO about (version) VALUES ($1)", &[&SCHEMA])?;
    tx.commit().map(Ok)
}

fn version(tx: &mut Transaction<'_>) -> Result<Option<i64>, Error> {
    tx.query_opt("SELECT version FROM about", &[])?.map(|row| row.try_get(0)).transpose()
}
