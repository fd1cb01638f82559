//! The contract of a selector.

use super::pools::{
    self, Row, chunked, ctx, interrupting, lazy, poison, pool, rows, shuffled, stopped, variants, with_threads, without,
};
use curate_core::{Budget, Pool, Room, Selection, Selector};
use curate_selectors::SELECTORS;
use proptest::prelude::*;
use std::collections::BTreeSet;

type Method = dyn Selector;

fn each(check: impl Fn(&str, &Method)) {
    for (name, method) in variants(SELECTORS) {
        check(&name, method.as_ref());
    }
}

fn select(method: &Method, pool: &Pool, rows: usize) -> Selection {
    method.select(pool, Budget::Rows(rows), &ctx(17)).unwrap()
}

fn code(method: &Method, pool: &Pool, budget: Budget) -> &'static str {
    method.select(pool, budget, &ctx(17)).map_or_else(|e| e.code(), |_| "no error")
}

/// Everything a selection promises, whatever was chosen.
fn check_contract(name: &str, selection: &Selection, rows: &[Row], budget: usize) {
    let ids: BTreeSet<u64> = rows.iter().map(|r| r.id).collect();
    let picked: BTreeSet<u64> = selection.rows().into_iter().collect();
    assert_eq!(selection.picks.len(), budget, "{name}: exact budget");
    assert_eq!(picked.len(), budget, "{name}: no row twice");
    assert!(picked.is_subset(&ids), "{name}: ids in range");
    for pick in &selection.picks {
        assert!(pick.score.is_finite() && pick.weight.is_finite() && pick.weight > 0.0, "{name}: {pick:?}");
        assert!(!pick.reason.is_empty(), "{name}: {pick:?}");
    }
    selection.to_batch().unwrap();
    check_groups(name, selection, rows.len());
    check_assessment(name, selection, rows);
}

fn check_groups(name: &str, selection: &Selection, n: usize) {
    if selection.groups.is_empty() {
        assert!(selection.picks.iter().all(|p| p.group.is_none()), "{name}: groups must be declared");
        return;
    }
    assert_eq!(selection.groups.iter().map(|g| g.size_rows).sum::<u64>(), n as u64, "{name}");
    assert!(selection.groups.windows(2).all(|w| w[0].id < w[1].id), "{name}: groups by id");
    for group in &selection.groups {
        let picked = selection.picks.iter().filter(|p| p.group == Some(group.id)).count();
        assert_eq!(group.picked_rows, picked as u64, "{name}: group {}", group.id);
    }
}

fn check_assessment(name: &str, selection: &Selection, rows: &[Row]) {
    let Some(told) = &selection.assessment else { return };
    let n = rows.len();
    assert_eq!(told.row, rows.iter().map(|r| r.id).collect::<Vec<_>>(), "{name}: one entry a row, in order");
    assert_eq!(told.score.len(), n, "{name}");
    for (what, len) in [("group", told.group.len()), ("place", told.place.len()), ("blocker", told.blocker.len())] {
        assert!(len == 0 || len == n, "{name}: {what}");
    }
    let picked: BTreeSet<u64> = selection.rows().into_iter().collect();
    for (i, row) in told.row.iter().enumerate() {
        let blocker = told.blocker.get(i).copied().unwrap_or(u64::MAX);
        assert!(blocker == u64::MAX || (picked.contains(&blocker) && !picked.contains(row)), "{name}: row {row}");
        assert!(!picked.contains(row) || told.place.get(i) != Some(&0), "{name}: a picked row has a place");
    }
    told.to_batch().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn budgets_are_met_exactly_without_repeats(n in 1usize..90, share in 0.0f64..1.0, seed in any::<u64>()) {
        let (rows, budget) = (rows(n, seed), ((share * n as f64) as usize).max(1));
        let pool = pool(&rows);
        each(|name, method| check_contract(name, &select(method, &pool, budget), &rows, budget));
    }

    #[test]
    fn the_order_of_rows_does_not_matter(n in 1usize..90, seed in any::<u64>()) {
        let rows = rows(n, seed);
        let (straight, other) = (pool(&rows), chunked(&shuffled(&rows, seed), 3));
        let budget = n.div_ceil(3);
        each(|name, method| assert_eq!(select(method, &straight, budget).picks, select(method, &other, budget).picks, "{name}"));
    }
}

#[test]
fn threads_and_chunks_do_not_matter() {
    let rows = rows(230, 1);
    each(|name, method| {
        let one = with_threads(1, || select(method, &pool(&rows), 60));
        check_contract(name, &one, &rows, 60);
        for (what, other) in
            [("7 chunks", chunked(&rows, 7)), ("lazy", lazy(&rows, 5)), ("a row each", chunked(&rows, 230))]
        {
            assert_eq!(one, with_threads(4, || select(method, &other, 60)), "{name}: 4 threads, {what}");
        }
    });
}

#[test]
fn little_memory_gives_the_same_choice_or_says_so() {
    let rows = rows(230, 2);
    each(|name, method| {
        let ctx = ctx(17).with_memory(curate_core::Memory::limited(4096));
        match method.select(&lazy(&rows, 5), Budget::Rows(20), &ctx) {
            Ok(selection) => assert_eq!(selection.picks, select(method, &pool(&rows), 20).picks, "{name}"),
            Err(e) => assert_eq!(e.code(), "memory/too-small", "{name}"),
        }
    });
}

#[test]
fn stopping_stops_and_leaves_nothing_behind() {
    let pool = pool(&rows(100, 3));
    each(|name, method| {
        let before = select(method, &pool, 30);
        let error = method.select(&pool, Budget::Rows(30), &stopped()).unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("cancelled", 130), "{name}");
        assert_eq!(select(method, &pool, 30), before, "{name}");
    });
}

#[test]
fn stopping_is_heard_during_the_work() {
    let rows = rows(100, 3);
    each(|name, method| {
        let (pool, ctx) = interrupting(&rows);
        let error = method.select(&pool, Budget::Rows(30), &ctx).unwrap_err();
        assert_eq!(error.code(), "cancelled", "{name}");
    });
}

#[test]
fn smaller_choices_begin_larger_ones_where_claimed() {
    let rows = rows(120, 4);
    let pool = pool(&rows);
    each(|name, method| {
        if method.nested() {
            let all = select(method, &pool, 120).rows();
            for budget in [1, 2, 7, 60, 119] {
                assert_eq!(select(method, &pool, budget).rows(), all[..budget], "{name}: {budget}");
            }
        }
    });
}

#[test]
fn nothing_can_be_chosen_of_nothing() {
    for pool in [pool(&[]), chunked(&[], 3)] {
        each(|name, method| {
            for budget in [Budget::Fraction(0.5), Budget::Tokens(100)] {
                assert!(method.select(&pool, budget, &ctx(0)).unwrap().picks.is_empty(), "{name}: {budget}");
            }
            assert_eq!(code(method, &pool, Budget::Rows(1)), "budget/too-large", "{name}");
        });
    }
}

#[test]
fn everything_can_be_chosen() {
    for n in [1, 2, 50] {
        let rows = rows(n, 5);
        each(|name, method| check_contract(name, &select(method, &pool(&rows), n), &rows, n));
    }
}

#[test]
fn equal_rows_are_no_trouble() {
    let model = rows(1, 6).remove(0);
    let rows: Vec<Row> = (0..40).map(|id| Row { id, ..model.clone() }).collect();
    each(|name, method| {
        check_contract(name, &select(method, &pool(&rows), 13), &rows, 13);
        assert_eq!(
            select(method, &pool(&shuffled(&rows, 1)), 13).picks,
            select(method, &pool(&rows), 13).picks,
            "{name}"
        );
    });
    let zeros: Vec<Row> =
        rows.into_iter().map(|row| Row { vector: vec![0.0; pools::DIM], quality: 0.0, ..row }).collect();
    each(|name, method| check_contract(name, &select(method, &pool(&zeros), 13), &zeros, 13));
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    each(|name, method| {
        for column in method.needs() {
            let mut rows = rows(40, 7);
            if poison(&mut rows, &column, 23) {
                let error = method.select(&chunked(&rows, 3), Budget::Rows(5), &ctx(0)).unwrap_err();
                assert!(error.code().ends_with("/not-finite"), "{name}: {}", error.code());
                assert_eq!(error.room(), Room::Data, "{name}");
                assert_eq!(error.location().unwrap().row, Some(rows[23].id), "{name}: the row's id");
            }
        }
    });
}

#[test]
fn budgets_that_make_no_sense_are_refused() {
    let pool = pool(&rows(10, 8));
    each(|name, method| {
        assert_eq!(code(method, &pool, Budget::Rows(11)), "budget/too-large", "{name}");
        let (zero, over) = (Budget::Fraction(0.0), Budget::Fraction(1.5));
        for budget in [Budget::Rows(0), Budget::Tokens(0), zero, over, Budget::Fraction(f64::NAN)] {
            assert_eq!(code(method, &pool, budget), "budget/invalid", "{name}: {budget}");
        }
    });
}

#[test]
fn missing_columns_are_named() {
    let rows = rows(10, 9);
    each(|name, method| {
        for column in method.needs() {
            assert_eq!(code(method, &without(&rows, &column), Budget::Rows(2)), "column/missing", "{name}: {column}");
        }
    });
}

#[test]
fn another_seed_is_another_draw_where_chance_is_involved() {
    let pool = pool(&rows(200, 10));
    let random = curate_core::find(SELECTORS, "random", "method").unwrap().build(&serde_json::Map::new()).unwrap();
    let with_seed = |seed| random.select(&pool, Budget::Rows(20), &ctx(seed)).unwrap().rows();
    assert_ne!(with_seed(1), with_seed(2));
}
