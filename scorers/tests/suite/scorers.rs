//! The contract of a scorer.

use super::pools::{DIM, Row, chunked, lazy, poison, pool, rows, shuffled, variants, without};
use arrow::array::{Array, ArrayRef, StringArray};
use curate_core::{Column, Ctx, Memory, Pool, Room, Scorer};
use curate_scorers::{Expression, text_column};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn each(check: impl Fn(&str, &dyn Scorer)) {
    for (name, scorer) in variants() {
        check(&name, scorer.as_ref());
    }
    for text in ["0.5*z(ifd) + 2*rank(mtld) - clip(log(reward), -1, 1)", "minmax(ifd) - 0.3*tokens"] {
        check(text, &Expression::parse(text, None).unwrap());
    }
}

fn bits(scorer: &dyn Scorer, pool: &Pool) -> Vec<u32> {
    let found = scorer.score(pool, &Ctx::new(17)).unwrap();
    assert_eq!((found.null_count(), found.len()), (0, pool.rows()));
    assert!(found.values().iter().all(|v| v.is_finite()));
    found.values().iter().map(|v| v.to_bits()).collect()
}

fn by_id(rows: &[Row], bits: &[u32]) -> BTreeMap<u64, u32> {
    rows.iter().map(|row| row.id).zip(bits.iter().copied()).collect()
}

fn code(scorer: &dyn Scorer, pool: &Pool) -> &'static str {
    scorer.score(pool, &Ctx::new(17)).map_or_else(|e| e.code(), |_| "no error")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_rows_does_not_matter(n in 1usize..70, seed in any::<u64>()) {
        let rows = rows(n, seed);
        let other = shuffled(&rows, seed);
        each(|name, scorer| {
            let straight = by_id(&rows, &bits(scorer, &pool(&rows)));
            assert_eq!(straight, by_id(&other, &bits(scorer, &chunked(&other, 3))), "{name}");
        });
    }
}

#[test]
fn threads_and_chunks_do_not_matter() {
    let rows = rows(230, 1);
    let with_threads = |threads: usize, scorer: &dyn Scorer, pool: &Pool| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| bits(scorer, pool))
    };
    each(|name, scorer| {
        let one = with_threads(1, scorer, &pool(&rows));
        for (what, other) in
            [("7 chunks", chunked(&rows, 7)), ("lazy", lazy(&rows, 5, None)), ("a row each", chunked(&rows, 230))]
        {
            assert_eq!(one, with_threads(4, scorer, &other), "{name}: 4 threads, {what}");
        }
    });
}

#[test]
fn nothing_and_one_row_are_no_trouble() {
    each(|name, scorer| {
        for pool in [pool(&[]), chunked(&[], 3)] {
            assert!(bits(scorer, &pool).is_empty(), "{name}");
        }
        assert_eq!(bits(scorer, &pool(&rows(1, 5))).len(), 1, "{name}");
    });
}

#[test]
fn equal_rows_score_equal() {
    let model = rows(1, 6).remove(0);
    let rows: Vec<Row> = (0..40).map(|id| Row { id, ..model.clone() }).collect();
    let zeros: Vec<Row> =
        rows.iter().map(|row| Row { vector: vec![0.0; DIM], text: String::new(), ..row.clone() }).collect();
    each(|name, scorer| {
        for rows in [&rows, &zeros] {
            let bits = bits(scorer, &pool(rows));
            assert!(name.starts_with("influence") || bits.windows(2).all(|w| w[0] == w[1]), "{name}");
        }
    });
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    each(|name, scorer| {
        for column in scorer.needs() {
            let mut rows = rows(40, 7);
            if poison(&mut rows, &column, 23) {
                let error = scorer.score(&chunked(&rows, 3), &Ctx::new(0)).unwrap_err();
                assert!(error.code().ends_with("/not-finite"), "{name}: {}", error.code());
                assert_eq!(error.room(), Room::Data, "{name}");
                assert_eq!(error.location().unwrap().row, Some(rows[23].id), "{name}: the row's id");
            }
        }
    });
}

#[test]
fn texts_that_are_null_are_named() {
    let rows = rows(3, 8);
    let texts = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")])) as ArrayRef;
    let pool = pool(&rows).with(&text_column(), texts).unwrap();
    each(|name, scorer| {
        if scorer.needs().contains(&text_column()) {
            let error = scorer.score(&pool, &Ctx::new(0)).unwrap_err();
            assert_eq!((error.code(), error.location().unwrap().row), ("text/null", Some(rows[1].id)), "{name}");
        }
    });
}

#[test]
fn missing_columns_are_named() {
    let rows = rows(10, 9);
    each(|name, scorer| {
        assert!(!scorer.needs().is_empty(), "{name}");
        for column in scorer.needs() {
            assert_eq!(code(scorer, &without(&rows, &column)), "column/missing", "{name}: {column}");
        }
    });
}

#[test]
fn columns_of_another_type_are_refused() {
    let rows = rows(4, 10);
    let (text, numbers) = (batch_column(&rows, &text_column()), batch_column(&rows, &Column::TOKENS));
    each(|name, scorer| {
        for column in scorer.needs() {
            let other = if column == text_column() { &numbers } else { &text };
            let pool = pool(&rows).with(&column, other.clone()).unwrap();
            assert!(code(scorer, &pool).ends_with("/type"), "{name}: {column}: {}", code(scorer, &pool));
        }
    });
}

fn batch_column(rows: &[Row], column: &Column) -> ArrayRef {
    pool(rows).column(column).unwrap()
}

#[test]
fn stopping_is_heard() {
    let rows = rows(100, 3);
    each(|name, scorer| {
        let ctx = Ctx::new(17);
        ctx.cancel().cancel();
        assert_eq!(scorer.score(&pool(&rows), &ctx).unwrap_err().code(), "cancelled", "{name}");
        let ctx = Ctx::new(17);
        let error = scorer.score(&lazy(&rows, 3, Some(ctx.cancel())), &ctx).unwrap_err();
        assert_eq!(error.code(), "cancelled", "{name}: during the work");
    });
}

#[test]
fn little_memory_gives_the_same_scores_or_says_so() {
    let rows = rows(230, 2);
    each(|name, scorer| {
        let ctx = Ctx::new(17).with_memory(Memory::limited(4096));
        match scorer.score(&lazy(&rows, 5, None), &ctx) {
            Ok(scores) => {
                let bits_of = scores.values().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits_of, bits(scorer, &pool(&rows)), "{name}");
            }
            Err(e) => assert_eq!(e.code(), "memory/too-small", "{name}"),
        }
    });
}
