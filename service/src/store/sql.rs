//! Statements that both databases understand. Parameters are numbered in the order in which they first appear.

use super::Table;

/// One statement for each of the two kinds of records.
macro_rules! both {
    ($name:ident, $before:literal, $after:literal) => {
        #[doc = concat!($before, "TABLE", $after)]
        pub(super) const fn $name(table: Table) -> &'static str {
            match table {
                Table::Sessions => concat!($before, "sessions", $after),
                Table::Jobs => concat!($before, "jobs", $after),
            }
        }
    };
}

both!(create, "INSERT INTO ", " (id, spec, state, created) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING");
both!(get, "SELECT id, spec, state, created FROM ", " WHERE id = $1");
both!(list, "SELECT id, spec, state, created FROM ", " ORDER BY created, key");
both!(state, "SELECT state FROM ", " WHERE id = $1");
both!(set_state, "UPDATE ", " SET state = $1 WHERE id = $2");
both!(remove, "DELETE FROM ", " WHERE id = $1");

/// Columns of an event, in the order in which they are read.
macro_rules! event {
    ($rest:literal) => {
        concat!("SELECT n, kind, step, rank, digest, at, head, body FROM events WHERE session = ", $rest)
    };
}

pub(super) const EVENTS: &str = event!("(SELECT key FROM sessions WHERE id = $1) AND n > $2 ORDER BY n LIMIT $3");

/// The last one of its kind, step and rank. Where a later seek has undone that one, it has undone all before it too.
pub(super) const FIND: &str = "SELECT n, kind, step, rank, digest, at, head, body FROM (\
     SELECT * FROM events WHERE session = (SELECT key FROM sessions WHERE id = $1) AND kind = $2 AND step = $3 AND rank = $4 \
     ORDER BY n DESC LIMIT 1) AS e \
     WHERE NOT EXISTS (SELECT 1 FROM events s WHERE s.session = e.session AND s.kind = 'seek' AND s.step < e.step AND s.n > e.n)";

pub(super) const LAST: &str =
    "SELECT coalesce(max(n), 0) FROM events WHERE session = (SELECT key FROM sessions WHERE id = $1)";

pub(super) const POINTS: &str = "SELECT step, value FROM points \
     WHERE session = (SELECT key FROM sessions WHERE id = $1) AND step > $2 ORDER BY step LIMIT $3";

pub(super) const DROP_POINTS: &str = "DELETE FROM points WHERE session = $1 AND step > $2";
pub(super) const DROP_SNAPSHOTS: &str = "DELETE FROM snapshots WHERE session = $1 AND step > $2";

pub(super) const SNAPSHOT: &str = "SELECT step, after, body FROM snapshots \
     WHERE session = (SELECT key FROM sessions WHERE id = $1) AND step <= $2 ORDER BY step DESC LIMIT 1";

/// Whether a snapshot of `$2` events and `$3` steps was undone by a seek.
pub(super) const UNDONE: &str =
    "SELECT count(*) FROM events WHERE session = $1 AND kind = 'seek' AND n > $2 AND step < $3";

/// Of all snapshots but the last only the first of every ten stays. Comes after the new one was put.
pub(super) const THIN_SNAPSHOTS: &str = "DELETE FROM snapshots WHERE session = $1 AND place % 10 <> 0 \
     AND place < (SELECT max(place) FROM snapshots WHERE session = $1)";

pub(super) const PUT_SNAPSHOT: &str = "INSERT INTO snapshots (session, step, after, body, place) \
     VALUES ($1, $2, $3, $4, (SELECT coalesce(max(place), -1) + 1 FROM snapshots WHERE session = $1)) \
     ON CONFLICT (session, step) DO UPDATE SET after = excluded.after, body = excluded.body";

pub(super) const ADD_TOKEN: &str = "INSERT INTO tokens (name, hash, scopes, created, expires) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO NOTHING";
pub(super) const TOKENS: &str = "SELECT name, hash, scopes, created, expires FROM tokens ORDER BY name";
pub(super) const REMOVE_TOKEN: &str = "DELETE FROM tokens WHERE name = $1";
