//! Sessions, jobs and tokens.

use super::{Desk, Kind, add, record, with_session};
use crate::store::{Record, Snapshot, Table, TokenRecord};
use serde_json::json;

pub(super) fn are_kept(desk: &Desk) {
    let store = desk.open();
    for table in [Table::Sessions, Table::Jobs] {
        let late = Record { created: 9.0, ..record("a") };
        let early = [record("z"), record("b")];
        assert!(store.create(table, &late).unwrap());
        assert!(early.iter().all(|one| store.create(table, one).unwrap()));
        assert!(!store.create(table, &Record { spec: json!(null), ..late.clone() }).unwrap());
        // Oldest first; of the same age, the first one made.
        assert_eq!(store.list(table).unwrap(), [early[0].clone(), early[1].clone(), late.clone()]);
        assert_eq!(store.get(table, "a").unwrap(), Some(late));
        assert_eq!(store.get(table, "A").unwrap(), None);
        assert!(store.remove(table, "z").unwrap());
        assert!(!store.remove(table, "z").unwrap());
        assert_eq!(store.get(table, "z").unwrap(), None);
    }
}

pub(super) fn change_where_they_are_what_was_said(desk: &Desk) {
    let store = desk.open();
    for table in [Table::Sessions, Table::Jobs] {
        let odd = json!({"status": "queued", "at": 1_790_000_000.123_456_7_f64, "share": 0.1 + 0.2});
        store.create(table, &Record { state: odd.clone(), ..record("j") }).unwrap();
        let running = json!({"status": "running"});
        assert!(!store.set_state(table, "j", Some(&running), &running).unwrap());
        assert_eq!(store.get(table, "j").unwrap().unwrap().state, odd);
        assert!(store.set_state(table, "j", Some(&odd), &running).unwrap());
        assert!(store.set_state(table, "j", None, &odd).unwrap());
        let read = store.get(table, "j").unwrap().unwrap();
        assert!(store.set_state(table, "j", Some(&read.state), &running).unwrap());
        assert_eq!(store.get(table, "j").unwrap(), Some(Record { state: running.clone(), ..record("j") }));
        assert!(!store.set_state(table, "none", None, &running).unwrap());
        assert!(!store.set_state(table, "none", Some(&running), &running).unwrap());
    }
}

pub(super) fn tokens_are_kept(desk: &Desk) {
    let store = desk.open();
    let scopes = vec!["read".to_owned(), "feed".to_owned()];
    let short = TokenRecord { name: "b".into(), hash: "00ff".into(), scopes, created: 1.0, expires: Some(2.5) };
    let long = TokenRecord { name: "B".into(), scopes: vec![], expires: None, ..short.clone() };
    assert!(store.add_token(&short).unwrap());
    assert!(store.add_token(&long).unwrap());
    assert!(!store.add_token(&TokenRecord { hash: "other".into(), ..short.clone() }).unwrap());
    assert_eq!(store.tokens().unwrap(), [long.clone(), short]);
    assert!(store.remove_token("b").unwrap());
    assert!(!store.remove_token("b").unwrap());
    assert_eq!(store.tokens().unwrap(), [long]);
}

pub(super) fn outlive_the_server(desk: &Desk) {
    let store = with_session(desk);
    let last = (1..=20).fold(0, |last, step| add(&*store, last, Kind::Propose, step));
    let snapshot = Snapshot { step: 20, after: last, body: vec![7; 100_000] };
    store.put_snapshot("s", &snapshot).unwrap();
    let before =
        (store.list(Table::Sessions).unwrap(), store.events("s", 0, 99).unwrap(), store.points("s", 0, 99).unwrap());
    drop(store);
    let store = desk.open();
    let after =
        (store.list(Table::Sessions).unwrap(), store.events("s", 0, 99).unwrap(), store.points("s", 0, 99).unwrap());
    assert_eq!(before, after);
    assert_eq!(after.1.len(), 20);
    assert_eq!(store.snapshot("s", 99).unwrap(), Some(snapshot));
    assert_eq!(add(&*store, last, Kind::Feedback, 20), 21);
}
