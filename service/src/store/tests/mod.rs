//! One suite over both databases, and what only one of them can do.

mod full_server;
mod killed;
mod log;
mod only_postgres;
mod only_sqlite;
mod records;
mod seek;
mod server;

use super::{Appended, Event, Kind, Record, Store, StoreOptions, Table, open};
use serde_json::{Value, json};
use std::sync::Arc;

/// A place for a store, empty at first.
pub(super) struct Desk {
    place: String,
}

impl Desk {
    fn open(&self) -> Arc<dyn Store> {
        open(&self.place, &StoreOptions::default()).expect("a store")
    }
}

/// A promise of the store.
type Case = (&'static str, fn(&Desk));

/// All promises that both databases keep.
const CASES: &[Case] = &[
    ("records", records::are_kept),
    ("states", records::change_where_they_are_what_was_said),
    ("tokens", records::tokens_are_kept),
    ("reopen", records::outlive_the_server),
    ("log", log::is_read_as_it_was_written),
    ("behind", log::takes_an_event_only_behind_the_last),
    ("numbers", log::survives_odd_numbers),
    ("removed", log::ends_with_its_session),
    ("race", log::lets_one_author_win),
    ("points", log::points_are_replaced_by_step),
    ("seek", seek::drops_what_came_later),
    ("find", seek::hides_what_it_has_undone),
    ("snapshots", seek::snapshots_are_thinned),
    ("stale", seek::an_undone_snapshot_is_not_kept),
    ("killed", killed::keeps_what_was_answered),
];

#[test]
fn sqlite_keeps_every_promise() {
    for (name, case) in CASES {
        let folder = tempfile::tempdir().expect("a folder");
        eprintln!("sqlite: {name}");
        case(&Desk { place: folder.path().join("data").display().to_string() });
    }
}

#[test]
fn postgres_keeps_every_promise() {
    let Some(server) = server::Server::start() else { return };
    for (name, case) in CASES {
        eprintln!("postgres: {name}");
        case(&Desk { place: server.database(name) });
    }
}

fn record(id: &str) -> Record {
    Record { id: id.to_owned(), spec: json!({"batch": 8}), state: json!({"status": "ready"}), created: 1.5 }
}

/// A store with one session, `s`.
fn with_session(desk: &Desk) -> Arc<dyn Store> {
    let store = desk.open();
    assert!(store.create(Table::Sessions, &record("s")).expect("created"));
    store
}

fn event(kind: Kind, step: u64) -> Event {
    let head = json!({"step": step, "picks": [1, 2.5, "\u{e9}\u{0}"]});
    Event { kind, step, rank: 0, digest: format!("d{step}"), at: 17.25, head, body: vec![0, 1, 255] }
}

/// Append behind event `last`; it must succeed.
fn add(store: &dyn Store, last: u64, kind: Kind, step: u64) -> u64 {
    let points: &[(u64, Value)] = if kind == Kind::Propose { &[(step, json!({"step": step}))] } else { &[] };
    let done = store.append("s", last, &event(kind, step), points).expect("appended");
    assert_eq!(done, Appended::At(last + 1));
    last + 1
}

/// The code of the error there must be.
fn code<T: std::fmt::Debug>(done: curate_api::Result<T>) -> &'static str {
    done.expect_err("must be refused").code()
}
