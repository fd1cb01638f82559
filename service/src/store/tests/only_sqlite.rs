//! What only files can do to us: be full, be damaged, be read by others.

use super::{Desk, Event, Kind, StoreOptions, add, code, event, open, record, with_session};
use crate::store::sqlite::Sqlite;
use crate::store::{Snapshot, Store, Table};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn desk() -> (TempDir, Desk) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("deep/data").display().to_string();
    (folder, Desk { place })
}

fn file(desk: &Desk) -> PathBuf {
    PathBuf::from(&desk.place).join("curate.db")
}

fn refusal(desk: &Desk) -> &'static str {
    code(open(&desk.place, &StoreOptions::default()).map(drop))
}

fn large(step: u64) -> Event {
    Event { body: vec![0xA5; 20_000], ..event(Kind::Propose, step) }
}

#[test]
fn one_server_has_a_folder() {
    let (_folder, desk) = desk();
    let store = desk.open();
    let error = open(&desk.place, &StoreOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "store/locked");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    let beside = open(&desk.place, &StoreOptions { beside: true, ..StoreOptions::default() }).unwrap();
    assert!(beside.create(Table::Sessions, &record("s")).unwrap());
    drop(beside);
    assert_eq!(add(&*store, 0, Kind::Propose, 1), 1);
    drop(store);
    assert_eq!(desk.open().last("s").unwrap(), 1);
}

#[test]
fn nobody_else_may_read_it() {
    let (_folder, desk) = desk();
    let store = with_session(&desk);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let names = fs::read_dir(&desk.place).unwrap().map(|entry| entry.unwrap().path());
    let modes: Vec<_> = names.map(|path| (path.clone(), mode(path))).collect();
    assert!(modes.len() >= 3 && modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
    assert_eq!(mode(PathBuf::from(&desk.place)), 0o700);
    drop(store);
    fs::set_permissions(file(&desk), fs::Permissions::from_mode(0o644)).unwrap();
    drop(desk.open());
    assert_eq!(mode(file(&desk)), 0o600);
}

#[test]
fn a_full_disk_can_still_be_read() {
    let (_folder, desk) = desk();
    let store = Sqlite::open(desk.place.as_ref(), &StoreOptions::default()).unwrap();
    store.create(Table::Sessions, &record("s")).unwrap();
    store.limit_pages(60);
    let mut last = 0;
    let refused = loop {
        match store.append("s", last, &large(last + 1), &[(last + 1, 1.into())]) {
            Ok(_) => last += 1,
            Err(error) => break error,
        }
        assert!(last < 60, "the limit holds");
    };
    assert_eq!(refused.code(), "store/full");
    // Nothing of the refused call is there, and all before it is.
    assert_eq!((store.last("s").unwrap(), store.events("s", 0, 99).unwrap().len() as u64), (last, last));
    assert_eq!(store.points("s", 0, 99).unwrap().len() as u64, last);
    store.limit_pages(10_000);
    assert_eq!(add(&store, last, Kind::Propose, last + 1), last + 1);
}

#[test]
fn a_damaged_file_is_said_to_be_damaged() {
    let (_folder, desk) = desk();
    fs::create_dir_all(&desk.place).unwrap();
    fs::write(file(&desk), "not a database, but long enough to be taken for one".repeat(99)).unwrap();
    assert_eq!(refusal(&desk), "store/broken");
    fs::remove_file(file(&desk)).unwrap();
    let store = with_session(&desk);
    for last in 0..40 {
        store.append("s", last, &large(last + 1), &[]).unwrap();
    }
    drop(store);
    let size = fs::metadata(file(&desk)).unwrap().len();
    assert!(size > 40 * 20_000, "the journal was carried over");
    let damaged = fs::OpenOptions::new().write(true).open(file(&desk)).unwrap();
    damaged.write_all_at(&vec![0xEE; usize::try_from(size).unwrap() - 8192], 8192).unwrap();
    let read = open(&desk.place, &StoreOptions::default()).and_then(|store| store.events("s", 0, 99));
    assert_eq!(code(read), "store/broken");
    damaged.set_len(5000).unwrap();
    let read = open(&desk.place, &StoreOptions::default()).and_then(|store| store.events("s", 0, 99));
    assert_eq!(code(read), "store/broken");
}

#[test]
fn other_tables_are_left_alone() {
    let (_folder, desk) = desk();
    drop(desk.open());
    Connection::open(file(&desk)).unwrap().execute("UPDATE about SET version = 99", []).unwrap();
    assert_eq!(refusal(&desk), "store/newer");
    fs::remove_file(file(&desk)).unwrap();
    Connection::open(file(&desk)).unwrap().execute("CREATE TABLE theirs (x)", []).unwrap();
    assert_eq!(refusal(&desk), "store/broken");
}

#[test]
fn a_place_that_cannot_be_used_is_named() {
    let (folder, _) = desk();
    let place = folder.path().join("a-file");
    fs::write(&place, "x").unwrap();
    let desk = Desk { place: place.join("data").display().to_string() };
    let error = open(&desk.place, &StoreOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "store/unavailable");
    assert!(error.to_string().contains("a-file/data"), "{error}");
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_a_session_leaves_is_cleared_away() {
    let (_folder, desk) = desk();
    let store = with_session(&desk);
    store.create(Table::Sessions, &record("t")).unwrap();
    store.append("t", 0, &large(1), &[(1, 1.into())]).unwrap();
    (0..500).for_each(|last| assert_eq!(add(&*store, last, Kind::Propose, last + 1), last + 1));
    store.put_snapshot("s", &Snapshot { step: 9, after: 9, body: vec![1] }).unwrap();
    store.remove(Table::Sessions, "s").unwrap();
    let db = Connection::open(file(&desk)).unwrap();
    let count =
        |table: &str| -> i64 { db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap() };
    wait("it is not cleared away", || count("gone") == 0);
    assert_eq!(["events", "points"].map(count), [1, 1]);
    let snapshots = Connection::open(PathBuf::from(&desk.place).join("snapshots.db")).unwrap();
    let count = || -> i64 { snapshots.query_row("SELECT count(*) FROM snapshots", [], |row| row.get(0)).unwrap() };
    wait("its snapshots are not cleared away", || count() == 0);
}

#[test]
fn snapshots_are_a_cache() {
    let (_folder, desk) = desk();
    let store = with_session(&desk);
    (0..9).for_each(|last| assert_eq!(add(&*store, last, Kind::Propose, last + 1), last + 1));
    let snapshot = Snapshot { step: 9, after: 9, body: vec![7; 3_000_000] };
    store.put_snapshot("s", &snapshot).unwrap();
    drop(store);
    let store = desk.open();
    assert!(store.snapshot("s", 9).unwrap() == Some(snapshot.clone()));
    // One that was damaged is passed over.
    let earlier = Snapshot { step: 4, after: 4, body: vec![1; 100] };
    store.put_snapshot("s", &earlier).unwrap();
    let snapshots = Connection::open(PathBuf::from(&desk.place).join("snapshots.db")).unwrap();
    snapshots.execute("UPDATE snapshots SET body = $1 WHERE step = 9", [vec![7u8; 3_000_032]]).unwrap();
    drop(snapshots);
    assert!(store.snapshot("s", 9).unwrap() == Some(earlier));
    // Another session of the same name has none of it.
    store.remove(Table::Sessions, "s").unwrap();
    store.create(Table::Sessions, &record("s")).unwrap();
    assert!(store.snapshot("s", 9).unwrap().is_none());
    drop(store);
    // A file that cannot be read is made anew.
    fs::write(PathBuf::from(&desk.place).join("snapshots.db"), vec![0xEE; 50_000]).unwrap();
    let store = desk.open();
    assert!(store.snapshot("s", 9).unwrap().is_none());
    store.put_snapshot("s", &snapshot).unwrap();
    assert!(store.snapshot("s", 10).unwrap() == Some(snapshot));
}

#[test]
fn the_journal_is_carried_over_while_appends_go_on() {
    let (_folder, desk) = desk();
    let store = with_session(&desk);
    (0..50).for_each(|last| assert!(store.append("s", last, &large(last + 1), &[]).is_ok()));
    wait("the file does not grow", || fs::metadata(file(&desk)).unwrap().len() > 50 * 20_000);
    assert_eq!(store.events("s", 0, 99).unwrap().len(), 50);
}

#[test]
fn waiting_appends_are_committed_together() {
    const SESSIONS: u64 = 8;
    const STEPS: u64 = 30;
    let (_folder, desk) = desk();
    let store = open(&desk.place, &StoreOptions { fsync: true, ..StoreOptions::default() }).unwrap();
    scope(|scope| {
        for session in 0..SESSIONS {
            let (store, name) = (&store, format!("s{session}"));
            scope.spawn(move || {
                store.create(Table::Sessions, &record(&name)).unwrap();
                for last in 0..STEPS {
                    let none = store.append("none", last, &event(Kind::Propose, 1), &[]);
                    assert_eq!(code(none), "session/unknown");
                    store.append(&name, last, &event(Kind::Propose, last + 1), &[(last + 1, session.into())]).unwrap();
                }
            });
        }
    });
    for session in 0..SESSIONS {
        let name = format!("s{session}");
        let points = store.points(&name, 0, 99).unwrap();
        assert!(points.into_iter().eq((1..=STEPS).map(|step| (step, session.into()))));
        assert_eq!(store.last(&name).unwrap(), STEPS);
    }
}
