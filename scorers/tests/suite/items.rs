//! Influence on interaction data keeps the contract of every scorer: order, chunks and threads leave no trace, bad rows are named.

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::Int64Type;
use curate_core::{Column, Ctx, Memory, Pool, Scorer};
use curate_scorers::influence::Influence;
use std::sync::Arc;

type Row = (u64, Option<Vec<Option<i64>>>, i64);

fn rows(n: u64) -> Vec<Row> {
    let stream = Ctx::new(3).stream("items");
    let row = |i: u64| {
        let mut rng = stream(i);
        let mut item = || i64::try_from(rng.below(9)).unwrap() * 1_000 - 1_000;
        (5 * i + 2, Some((0..i % 6).map(|_| Some(item())).collect()), item())
    };
    (0..n).map(row).collect()
}

fn pool(rows: &[Row], chunks: usize) -> Pool {
    let batch = |rows: &[Row]| {
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>(rows.iter().map(|row| row.1.clone()));
        RecordBatch::try_from_iter_with_nullable([
            ("row", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<UInt64Array>()) as ArrayRef, false),
            ("history", Arc::new(lists) as ArrayRef, true),
            ("target", Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>()) as ArrayRef, false),
        ])
        .unwrap()
    };
    let cut = |i: usize| batch(&rows[i * rows.len() / chunks..(i + 1) * rows.len() / chunks]);
    let batches: Vec<RecordBatch> = (0..chunks).map(cut).collect();
    Pool::new(batches[0].schema(), batches).unwrap()
}

fn scorer() -> Influence {
    let name = |name: &str| Some(name.to_owned());
    Influence { items: name("history"), next: name("target"), width: 4, epochs: 3, ..Influence::default() }
}

fn scores(rows: &[Row], chunks: usize) -> Vec<(u64, u32)> {
    let found = scorer().score(&pool(rows, chunks), &Ctx::new(17)).unwrap();
    let mut all: Vec<(u64, u32)> =
        rows.iter().map(|row| row.0).zip(found.values().iter().map(|v| v.to_bits())).collect();
    all.sort_unstable();
    all
}

#[test]
fn order_chunks_and_threads_leave_no_trace() {
    let rows = rows(150);
    let mut turned = rows.clone();
    turned.reverse();
    let threads = |n: usize| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let straight = threads(1).install(|| scores(&rows, 1));
    assert_eq!(straight, threads(4).install(|| scores(&turned, 7)));
    let still: Vec<u64> = straight.iter().filter(|(_, bits)| *bits == 0).map(|(id, _)| *id).collect();
    let short: Vec<u64> =
        rows.iter().filter(|row| row.1.as_ref().is_some_and(Vec::is_empty)).map(|row| row.0).collect();
    assert_eq!(still, short, "only rows with nothing before the item have no influence");
}

#[test]
fn what_is_no_interaction_data_is_refused() {
    let code = |pool: &Pool| {
        let error = scorer().score(pool, &Ctx::new(0)).unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        (error.code(), error.location().and_then(|at| at.row))
    };
    let whole = rows(20);
    let mut null = whole.clone();
    null[6].1 = None;
    assert_eq!(code(&pool(&null, 3)), ("items/null", Some(32)));
    null[6].1 = Some(vec![Some(1), None]);
    assert_eq!(code(&pool(&null, 1)), ("items/null", Some(32)));
    let words = Arc::new(StringArray::from(vec!["a"; 20])) as ArrayRef;
    let with = |name: &'static str, array: ArrayRef| pool(&whole, 2).with(&Column::named(name), array).unwrap();
    assert_eq!(code(&with("history", words.clone())), ("column/type", None));
    assert_eq!(code(&with("target", words)), ("column/type", None));
    let large = Arc::new(arrow::array::Float32Array::from(vec![2e7; 20])) as ArrayRef;
    assert_eq!(code(&with("target", large)), ("items/too-large", Some(2)));
    let (ctx, stopped) = (Ctx::new(0).with_memory(Memory::limited(1000)), Ctx::new(0));
    assert_eq!(scorer().score(&pool(&whole, 1), &ctx).unwrap_err().code(), "memory/too-small");
    stopped.cancel().cancel();
    assert_eq!(scorer().score(&pool(&whole, 1), &stopped).unwrap_err().code(), "cancelled");
    assert!(scores(&rows(0), 1).is_empty());
}
