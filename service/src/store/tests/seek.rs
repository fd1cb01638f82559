//! Going back, and snapshots.

use super::{Desk, Kind, add, event, with_session};
use crate::store::{Event, Snapshot, Store};
use serde_json::json;

fn snap(step: u64, after: u64) -> Snapshot {
    Snapshot { step, after, body: format!("{step} after {after}").into_bytes() }
}

fn snapshots(store: &dyn Store) -> Vec<u64> {
    let mut below = Some(1000);
    let mut steps = Vec::new();
    while let Some(found) = below.and_then(|below| store.snapshot("s", below).unwrap()) {
        steps.push(found.step);
        below = found.step.checked_sub(1);
    }
    steps.reverse();
    steps
}

fn steps(store: &dyn Store) -> Vec<u64> {
    store.points("s", 0, 99).unwrap().iter().map(|point| point.0).collect()
}

pub(super) fn drops_what_came_later(desk: &Desk) {
    let store = with_session(desk);
    let mut last = 0;
    for step in 1..=6 {
        last = add(&*store, last, Kind::Propose, step);
        if step % 2 == 0 {
            store.put_snapshot("s", &snap(step, last)).unwrap();
        }
    }
    // The second snapshot was the first's follower, and was thinned out; steps 2 and 6 are left.
    assert_eq!(snapshots(&*store), [2, 6]);
    let back = Event { ..event(Kind::Seek, 3) };
    let points = [(3, json!("again")), (9, json!("new"))];
    store.append("s", last, &back, &points).unwrap();
    assert_eq!(steps(&*store), [1, 2, 3, 9]);
    assert_eq!(store.points("s", 2, 1).unwrap(), points[..1]);
    assert_eq!(snapshots(&*store), [2]);
    // The log itself forgets nothing.
    assert_eq!(store.events("s", 0, 99).unwrap().len(), 7);
}

pub(super) fn hides_what_it_has_undone(desk: &Desk) {
    let store = with_session(desk);
    let find = |step| store.find("s", Kind::Propose, step, 0).unwrap().map(|found| found.0);
    let last = (1..=4).fold(0, |last, step| add(&*store, last, Kind::Propose, step));
    let last = add(&*store, last, Kind::Feedback, 2);
    let last = add(&*store, last, Kind::Feedback, 2);
    assert_eq!(store.find("s", Kind::Feedback, 2, 0).unwrap(), Some((6, event(Kind::Feedback, 2))));
    assert_eq!(store.find("s", Kind::Feedback, 2, 1).unwrap(), None);
    assert_eq!(store.find("other", Kind::Feedback, 2, 0).unwrap(), None);
    let last = add(&*store, last, Kind::Seek, 2);
    assert_eq!([1, 2, 3, 4].map(find), [Some(1), Some(2), None, None]);
    assert!(store.find("s", Kind::Feedback, 2, 0).unwrap().is_some());
    let last = add(&*store, last, Kind::Propose, 3);
    assert_eq!([2, 3, 4].map(find), [Some(2), Some(8), None]);
    let last = add(&*store, last, Kind::Seek, 0);
    assert_eq!([1, 2, 3].map(find), [None; 3]);
    assert_eq!(store.find("s", Kind::Feedback, 2, 0).unwrap(), None);
    add(&*store, last, Kind::Propose, 1);
    assert_eq!([1, 2].map(find), [Some(10), None]);
}

pub(super) fn snapshots_are_thinned(desk: &Desk) {
    let store = with_session(desk);
    for step in 1..=25 {
        store.put_snapshot("s", &snap(step * 10, step)).unwrap();
    }
    // Numbers 1, 11 and 21 begin a ten; 25 is the last.
    assert_eq!(snapshots(&*store), [10, 110, 210, 250]);
    assert_eq!(store.snapshot("s", 249).unwrap(), Some(snap(210, 21)));
    assert_eq!(store.snapshot("s", 9).unwrap(), None);
    store.put_snapshot("s", &snap(250, 77)).unwrap();
    assert_eq!(store.snapshot("s", 250).unwrap(), Some(snap(250, 77)));
}

pub(super) fn an_undone_snapshot_is_not_kept(desk: &Desk) {
    let store = with_session(desk);
    let last = (1..=4).fold(0, |last, step| add(&*store, last, Kind::Propose, step));
    let back = add(&*store, last, Kind::Seek, 2);
    // Made by somebody who had not heard of the seek.
    store.put_snapshot("s", &snap(4, last)).unwrap();
    assert_eq!(snapshots(&*store), [0_u64; 0]);
    store.put_snapshot("s", &snap(2, last)).unwrap();
    store.put_snapshot("s", &snap(3, back)).unwrap();
    assert_eq!(snapshots(&*store), [2, 3]);
}
