//! The log of a session, and its points.

use super::{Appended, Desk, Event, Kind, Store, add, code, event, record, with_session};
use crate::store::{Snapshot, Table};
use serde_json::json;
use std::collections::BTreeSet;
use std::thread::scope;

pub(super) fn is_read_as_it_was_written(desk: &Desk) {
    let store = with_session(desk);
    let kinds = [Kind::Propose, Kind::Feedback, Kind::Steer, Kind::Pause, Kind::Resume, Kind::Seek];
    let written: Vec<(u64, Event)> = (1..).zip(kinds.map(|kind| Event { rank: 3, ..event(kind, 9) })).collect();
    for (n, event) in &written {
        assert_eq!(store.append("s", n - 1, event, &[]).unwrap(), Appended::At(*n));
    }
    assert_eq!(store.events("s", 0, 99).unwrap(), written);
    assert_eq!(store.events("s", 2, 2).unwrap(), written[2..4]);
    assert_eq!(store.events("s", 6, 2).unwrap(), []);
    assert_eq!(store.events("other", 0, 9).unwrap(), []);
    assert_eq!((store.last("s").unwrap(), store.last("other").unwrap()), (6, 0));
}

pub(super) fn takes_an_event_only_behind_the_last(desk: &Desk) {
    let store = with_session(desk);
    assert_eq!(code(store.append("other", 0, &event(Kind::Propose, 1), &[])), "session/unknown");
    let last = add(&*store, 0, Kind::Propose, 1);
    let last = add(&*store, last, Kind::Propose, 2);
    for kind in [Kind::Feedback, Kind::Seek] {
        let late = store.append("s", 1, &event(kind, 1), &[(7, json!("late"))]).unwrap();
        assert_eq!(late, Appended::Behind);
        assert_eq!(code(store.append("s", 3, &event(kind, 1), &[(7, json!("early"))])), "store/history");
    }
    assert_eq!((store.last("s").unwrap(), store.points("s", 0, 9).unwrap().len()), (last, 2));
}

pub(super) fn survives_odd_numbers(desk: &Desk) {
    let store = with_session(desk);
    let far = Event { step: u64::MAX, ..event(Kind::Propose, 1) };
    assert_eq!(code(store.append("s", 0, &far, &[])), "step/too-large");
    assert_eq!(code(store.append("s", u64::MAX, &event(Kind::Propose, 1), &[])), "step/too-large");
    assert_eq!(code(store.append("s", 0, &event(Kind::Propose, 1), &[(u64::MAX, json!(1))])), "step/too-large");
    assert_eq!(
        store.append("s", 0, &Event { rank: u32::MAX, ..event(Kind::Propose, 1) }, &[]).unwrap(),
        Appended::At(1)
    );
    assert!(store.find("s", Kind::Propose, 1, u32::MAX).unwrap().is_some());
    assert!(store.find("s", Kind::Propose, u64::MAX, 0).unwrap().is_none());
    assert_eq!(store.events("s", u64::MAX, usize::MAX).unwrap(), []);
    assert_eq!(store.events("s", 0, usize::MAX).unwrap().len(), 1);
    assert_eq!(store.points("s", u64::MAX, 1).unwrap(), []);
    assert_eq!(store.snapshot("s", u64::MAX).unwrap(), None);
}

pub(super) fn ends_with_its_session(desk: &Desk) {
    let store = with_session(desk);
    store.create(Table::Sessions, &record("t")).unwrap();
    store.append("t", 0, &event(Kind::Propose, 1), &[]).unwrap();
    let last = (1..=5).fold(0, |last, step| add(&*store, last, Kind::Propose, step));
    let snapshot = Snapshot { step: 5, after: last, body: vec![1] };
    store.put_snapshot("s", &snapshot).unwrap();
    assert!(store.remove(Table::Sessions, "s").unwrap());
    assert_eq!(code(store.append("s", last, &event(Kind::Feedback, 5), &[])), "session/unknown");
    assert_eq!(code(store.append("s", last, &event(Kind::Seek, 5), &[])), "session/unknown");
    assert_eq!(code(store.put_snapshot("s", &snapshot)), "session/unknown");
    // One of the same name begins empty, and does not take what was meant for the old one.
    store.create(Table::Sessions, &record("s")).unwrap();
    assert_eq!((store.last("s").unwrap(), store.points("s", 0, 9).unwrap().len()), (0, 0));
    assert_eq!(store.snapshot("s", 9).unwrap(), None);
    assert_eq!(code(store.append("s", last, &event(Kind::Feedback, 5), &[])), "store/history");
    assert_eq!(add(&*store, 0, Kind::Propose, 1), 1);
    assert_eq!(store.last("t").unwrap(), 1);
}

/// Append `wins` events, each behind what this author has read.
fn author(store: &dyn Store, name: u32, wins: usize) -> Vec<u64> {
    let mut won = Vec::new();
    while won.len() < wins {
        let last = store.last("s").unwrap();
        let mine = Event { rank: name, ..event(Kind::Propose, last + 1) };
        if let Appended::At(n) = store.append("s", last, &mine, &[(last + 1, json!(name))]).unwrap() {
            assert_eq!(n, last + 1);
            won.push(n);
        }
    }
    won
}

pub(super) fn lets_one_author_win(desk: &Desk) {
    const AUTHORS: u32 = 6;
    const WINS: usize = 25;
    // A server's database is shared by several servers.
    let stores = [with_session(desk)];
    let more = desk.place.starts_with("postgres").then(|| desk.open());
    let stores: Vec<_> = stores.into_iter().chain(more).collect();
    let won: Vec<(u32, Vec<u64>)> = scope(|scope| {
        let run = |name: u32| {
            let store = &stores[name as usize % stores.len()];
            scope.spawn(move || (name, author(&**store, name, WINS)))
        };
        let running: Vec<_> = (0..AUTHORS).map(run).collect();
        running.into_iter().map(|author| author.join().unwrap()).collect()
    });
    let all: BTreeSet<u64> = won.iter().flat_map(|(_, numbers)| numbers.iter().copied()).collect();
    let count = u64::from(AUTHORS) * WINS as u64;
    assert_eq!(all, (1..=count).collect());
    let events = stores[0].events("s", 0, usize::MAX).unwrap();
    let points = stores[0].points("s", 0, usize::MAX).unwrap();
    assert_eq!((events.len() as u64, points.len() as u64), (count, count));
    for (name, numbers) in won {
        for n in numbers {
            let at = usize::try_from(n).unwrap() - 1;
            assert_eq!((events[at].1.rank, &points[at].1), (name, &json!(name)));
        }
    }
}

pub(super) fn points_are_replaced_by_step(desk: &Desk) {
    let store = with_session(desk);
    let put =
        |last, points: &[(u64, serde_json::Value)]| store.append("s", last, &event(Kind::Propose, 1), points).unwrap();
    put(0, &[(2, json!("b")), (1, json!("a")), (5, json!({"e": 0.5}))]);
    put(1, &[(2, json!("first")), (2, json!("B"))]);
    let all = [(1, json!("a")), (2, json!("B")), (5, json!({"e": 0.5}))];
    assert_eq!(store.points("s", 0, 99).unwrap(), all);
    assert_eq!(store.points("s", 1, 1).unwrap(), all[1..2]);
    assert_eq!(store.points("other", 0, 99).unwrap(), []);
}
