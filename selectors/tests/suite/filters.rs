//! The contract of a filter.

use super::pools::{
    Row, chunked, interrupting, lazy, poison, pool, rows, shuffled, stopped, variants, with_threads, without,
};
use curate_core::{Ctx, Filter, Pool, Room, Verdict};
use curate_selectors::FILTERS;
use std::collections::BTreeMap;

fn each(check: impl Fn(&str, &dyn Filter)) {
    for (name, method) in variants(FILTERS) {
        check(&name, method.as_ref());
    }
}

fn judge(method: &dyn Filter, pool: &Pool) -> Verdict {
    method.judge(pool, &Ctx::new(17)).unwrap()
}

/// Row id to (kept, blocker).
fn by_id(rows: &[Row], verdict: &Verdict) -> BTreeMap<u64, (bool, u64)> {
    let told = verdict.keep.iter().copied().zip(verdict.blocker.iter().copied());
    rows.iter().map(|r| r.id).zip(told).collect()
}

fn check_contract(name: &str, verdict: &Verdict, rows: &[Row]) {
    assert_eq!((verdict.keep.len(), verdict.blocker.len()), (rows.len(), rows.len()), "{name}: one verdict a row");
    assert!(!verdict.reason.is_empty(), "{name}");
    let told = by_id(rows, verdict);
    for (id, (kept, blocker)) in &told {
        if *kept {
            assert_eq!(*blocker, u64::MAX, "{name}: nothing blocks the kept row {id}");
        } else if *blocker != u64::MAX {
            assert!(told[blocker].0, "{name}: row {id} was dropped for row {blocker}, which must be kept");
        }
    }
}

#[test]
fn verdicts_are_whole_and_independent_of_threads_chunks_and_order() {
    let rows = rows(230, 30);
    each(|name, method| {
        let one = with_threads(1, || judge(method, &pool(&rows)));
        check_contract(name, &one, &rows);
        for (what, other) in
            [("7 chunks", chunked(&rows, 7)), ("lazy", lazy(&rows, 5)), ("a row each", chunked(&rows, 230))]
        {
            assert_eq!(one, with_threads(4, || judge(method, &other)), "{name}: 4 threads, {what}");
        }
        let mixed = shuffled(&rows, 3);
        assert_eq!(by_id(&rows, &one), by_id(&mixed, &judge(method, &chunked(&mixed, 3))), "{name}: order");
    });
}

#[test]
fn few_and_equal_rows_are_no_trouble() {
    each(|name, method| {
        for n in [0, 1, 2] {
            let rows = rows(n, 31);
            check_contract(name, &judge(method, &pool(&rows)), &rows);
        }
        let model = rows(1, 32).remove(0);
        let equal: Vec<Row> = (0..40).map(|id| Row { id, ..model.clone() }).collect();
        let verdict = judge(method, &pool(&equal));
        check_contract(name, &verdict, &equal);
        assert!(verdict.keep.contains(&true), "{name}: one of equal rows stays");
    });
}

#[test]
fn stopping_stops_and_leaves_nothing_behind() {
    let pool = pool(&rows(100, 33));
    each(|name, method| {
        let before = judge(method, &pool);
        assert_eq!(method.judge(&pool, &stopped()).unwrap_err().code(), "cancelled", "{name}");
        assert_eq!(judge(method, &pool), before, "{name}");
        let (pool, ctx) = interrupting(&rows(100, 33));
        assert_eq!(method.judge(&pool, &ctx).unwrap_err().code(), "cancelled", "{name}");
    });
}

#[test]
fn bad_columns_are_named() {
    each(|name, method| {
        for column in method.needs() {
            let mut rows = rows(40, 34);
            let missing = method.judge(&without(&rows, &column), &Ctx::new(0)).unwrap_err();
            assert_eq!(missing.code(), "column/missing", "{name}: {column}");
            if poison(&mut rows, &column, 23) {
                let error = method.judge(&chunked(&rows, 3), &Ctx::new(0)).unwrap_err();
                assert!(
                    error.code().ends_with("/not-finite") && error.room() == Room::Data,
                    "{name}: {}",
                    error.code()
                );
                assert_eq!(error.location().unwrap().row, Some(rows[23].id), "{name}: the row's id");
            }
        }
    });
}

#[test]
fn planted_duplicates_are_found() {
    let rows = rows(230, 35);
    let method = curate_core::find(FILTERS, "semantic-dedup", "filter").unwrap();
    let exact = serde_json::Map::from_iter([("epsilon".to_owned(), serde_json::json!(0.0))]);
    let verdict = judge(method.build(&exact).unwrap().as_ref(), &pool(&rows));
    let dropped = verdict.keep.iter().filter(|&&kept| !kept).count();
    assert_eq!(dropped, 23, "every tenth row repeats the one before, nothing else is identical");
    assert_eq!(verdict.report["dropped_rows"], 23);
}
