//! Input that is wrong: a typed error with a hint, and a state as if nothing had been asked.

use super::stream::{Method, candidates, chunked, each, feedback, floats, ids, lists, method, steps, written};
use arrow::array::{ArrayRef, AsArray, NullArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use curate_core::{Column, Ctx, Feedback, Pool, Result, State};
use serde_json::json;
use std::sync::Arc;

/// Run some steps, do what is wrong, and say the code of the error; the state must not have changed.
fn refused<T>(
    name: &str,
    run: &mut Method,
    wrong: impl FnOnce(&mut Method) -> Result<T>,
) -> (&'static str, Option<u64>) {
    let before = written(&run.state());
    let error = wrong(run).err().unwrap_or_else(|| panic!("{name}: no error"));
    assert_eq!(written(&run.state()), before, "{name}: {error} changed the state");
    assert!(
        error.code() == "cancelled" || error.hint_text().is_some_and(|h| !h.is_empty()),
        "{name}: {error}: no hint"
    );
    (error.code(), error.location().and_then(|l| l.row))
}

fn begun(build: &dyn Fn() -> Method) -> Method {
    let mut run = build();
    steps(&mut run, 0..2, 1);
    run
}

fn propose(pool: Pool, k: usize) -> impl FnOnce(&mut Method) -> Result<()> {
    move |run| run.propose(&pool, k, &Ctx::new(17)).map(drop)
}

fn observe(feedback: Feedback) -> impl FnOnce(&mut Method) -> Result<()> {
    move |run| run.observe(&feedback, &Ctx::new(17))
}

/// The batch with another column of this name.
fn with(batch: &RecordBatch, name: &str, column: &ArrayRef) -> RecordBatch {
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, old)| {
        let new = if field.name() == name { column.clone() } else { old.clone() };
        (field.name().clone(), new)
    });
    RecordBatch::try_from_iter(columns.collect::<Vec<_>>()).unwrap()
}

fn without(batch: &RecordBatch, name: &str) -> RecordBatch {
    let kept = (0..batch.num_columns()).filter(|&i| batch.schema_ref().field(i).name() != name);
    batch.project(&kept.collect::<Vec<_>>()).unwrap()
}

/// The column with NaN in the row at `at`; None if it cannot hold it.
fn poisoned(batch: &RecordBatch, column: &Column, at: usize) -> Option<RecordBatch> {
    let array = batch.column_by_name(column.as_str())?;
    let spoil = |mut values: Vec<f32>, place: usize| {
        values[place] = f32::NAN;
        values
    };
    let spoiled = if let Some(list) = array.as_fixed_size_list_opt() {
        let (values, dim) =
            (list.values().as_primitive::<Float32Type>().values().to_vec(), list.value_length() as usize);
        lists(spoil(values, at * dim), dim)
    } else {
        floats(spoil(array.as_primitive_opt::<Float32Type>()?.values().to_vec(), at))
    };
    Some(with(batch, column.as_str(), &spoiled))
}

#[test]
fn candidates_that_make_no_sense_are_refused() {
    each(|name, build| {
        let mut run = begun(build);
        let good = candidates(&ids(2, 24));
        let code = |run: &mut Method, pool, k| refused(name, run, propose(pool, k)).0;
        assert_eq!(code(&mut run, chunked(&candidates(&[]), 1), 5), "candidates/empty");
        assert_eq!(code(&mut run, Pool::new(good.schema(), Vec::new()).unwrap(), 5), "candidates/empty");
        assert_eq!(code(&mut run, chunked(&good, 1), 0), "budget/invalid");
        assert_eq!(code(&mut run, chunked(&candidates(&[8, 5, 9, 5]), 1), 2), "candidates/repeated");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"; 24]));
        assert_eq!(code(&mut run, chunked(&with(&good, "row", &text), 1), 2), "column/type");
    });
}

#[test]
fn missing_columns_are_named() {
    each(|name, build| {
        let mut run = begun(build);
        for column in run.needs().before {
            let pool = chunked(&without(&candidates(&ids(2, 24)), column.as_str()), 1);
            assert_eq!(refused(name, &mut run, propose(pool, 5)).0, "column/missing", "{name}: {column}");
        }
        for column in run.needs().after {
            let mut feedback = feedback(2, &[11]);
            feedback.signals = without(&feedback.signals, column.as_str());
            assert_eq!(refused(name, &mut run, observe(feedback)).0, "column/missing", "{name}: {column}");
        }
    });
}

#[test]
fn numbers_that_are_not_finite_are_named_by_row() {
    each(|name, build| {
        let mut run = begun(build);
        let ids = ids(2, 24);
        for column in run.needs().before {
            let Some(batch) = poisoned(&candidates(&ids), &column, 13) else { continue };
            let (code, row) = refused(name, &mut run, propose(chunked(&batch, 3), 5));
            assert!(code.ends_with("/not-finite") && row == Some(ids[13]), "{name}: {column}: {code} {row:?}");
        }
        let drawn = run.propose(&chunked(&candidates(&ids), 1), 5, &Ctx::new(17)).unwrap().rows();
        for column in run.needs().after {
            let mut feedback = feedback(2, &drawn);
            feedback.signals = poisoned(&feedback.signals, &column, 3).unwrap();
            let told = refused(name, &mut run, observe(feedback));
            assert_eq!(told, ("signal/not-finite", Some(drawn[3])), "{name}: {column}");
        }
    });
}

#[test]
fn feedback_comes_once_a_step_and_in_order() {
    each(|name, build| {
        let mut run = begun(build);
        if run.needs().after.is_empty() {
            let before = written(&run.state());
            run.observe(&feedback(0, &[1, 2]), &Ctx::new(17)).unwrap();
            assert_eq!(written(&run.state()), before, "{name}: nothing is learnt");
            return;
        }
        assert_eq!(refused(name, &mut run, observe(feedback(1, &[11]))).0, "feedback/repeated", "{name}");
        assert_eq!(refused(name, &mut run, observe(feedback(0, &[11]))).0, "feedback/out-of-order", "{name}");
        let short = Feedback { rows: vec![11], ..feedback(2, &[11, 14]) };
        assert_eq!(refused(name, &mut run, observe(short)).0, "feedback/length", "{name}");
    });
}

#[test]
fn rows_never_offered() {
    each(|name, build| {
        let mut run = begun(build);
        if name.starts_with("kmeans-refine") {
            let told = refused(name, &mut run, observe(feedback(2, &[987_654])));
            assert_eq!(told, ("feedback/unknown-row", Some(987_654)), "{name}");
        } else {
            run.observe(&feedback(2, &[987_654]), &Ctx::new(17)).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    });
}

#[test]
fn impossible_counts_are_refused() {
    let counts = |successes: f32, trials: f32| {
        let columns =
            [("signal.successes", floats(vec![4.0, successes])), ("signal.trials", floats(vec![8.0, trials]))];
        Feedback { step: 9, rows: vec![3, 4], signals: RecordBatch::try_from_iter(columns).unwrap() }
    };
    let mut run = method("mopps", &json!({}));
    let mut told = |successes, trials| refused("mopps", &mut run, observe(counts(successes, trials)));
    assert_eq!(told(9.0, 8.0), ("feedback/successes", Some(4)));
    assert_eq!(told(-1.0, 8.0), ("feedback/successes", Some(4)));
    assert_eq!(told(0.0, 0.0), ("feedback/no-trials", Some(4)));
}

#[test]
fn stopping_stops_and_leaves_nothing_behind() {
    let stopped = || {
        let ctx = Ctx::new(17);
        ctx.cancel().cancel();
        ctx
    };
    each(|name, build| {
        let mut run = begun(build);
        let pool = chunked(&candidates(&ids(2, 24)), 1);
        assert_eq!(refused(name, &mut run, |r| r.propose(&pool, 5, &stopped())).0, "cancelled", "{name}");
        assert_eq!(refused(name, &mut run, |r| r.observe(&feedback(2, &[11]), &stopped())).0, "cancelled", "{name}");
    });
}

#[test]
fn states_of_others_are_refused() {
    each(|name, build| {
        let mut run = begun(build);
        let restore = |state: State| move |run: &mut Method| run.restore(state);
        let good = run.state();
        let code = |run: &mut Method, state| refused(name, run, restore(state)).0;
        assert_eq!(code(&mut run, State { version: 99, ..good.clone() }), "state/version", "{name}");
        assert_eq!(code(&mut run, State { version: 1, ..State::default() }), "state/method", "{name}");
        for key in good.scalars.keys().filter(|key| *key != "method") {
            let mut state = good.clone();
            state.scalars.insert(key.clone(), json!("x"));
            assert_eq!(code(&mut run, state), "state/broken", "{name}: {key}");
        }
        for (at, (table, batch)) in good.tables.iter().enumerate() {
            for field in batch.schema_ref().fields() {
                let mut state = good.clone();
                let nulls: ArrayRef = Arc::new(NullArray::new(batch.num_rows()));
                state.tables[at].1 = with(batch, field.name(), &nulls);
                assert_eq!(code(&mut run, state), "state/broken", "{name}: {table}.{}", field.name());
            }
        }
    });
}

/// The head of the model, or the sketch, was changed between stop and resume.
#[test]
fn a_changed_sketch_is_noticed() {
    let mut run = begun(&|| method("uds", &json!({})));
    let batch = with(&candidates(&ids(2, 24)), "signal.sketch", &lists(vec![0.5; 24 * 3], 3));
    assert_eq!(refused("uds", &mut run, propose(chunked(&batch, 1), 5)).0, "signal/shape");
    let mut small = method("uds", &json!({"memory_slots": 4}));
    let state = run.state();
    assert_eq!(refused("uds", &mut small, |r| r.restore(state)).0, "state/broken", "10 sketches do not fit 4 slots");
}

#[test]
fn inner_products_of_another_batch_are_noticed() {
    let mut run = method("greats", &json!({}));
    let batch = with(&candidates(&ids(0, 24)), "signal.ghost", &lists(vec![0.5; 24 * 3], 3));
    assert_eq!(refused("greats", &mut run, propose(chunked(&batch, 1), 5)).0, "signal/shape");
}

#[test]
fn drawing_on_after_the_last_row_is_refused() {
    let mut run = method("kmeans-refine", &json!({"clusters": "column"}));
    let pool = || chunked(&candidates(&ids(0, 6)), 1);
    assert_eq!(run.propose(&pool(), 4, &Ctx::new(1)).unwrap().picks.len(), 4);
    assert_eq!(run.propose(&pool(), 4, &Ctx::new(1)).unwrap().picks.len(), 2, "what is left");
    assert_eq!(refused("kmeans-refine", &mut run, propose(pool(), 4)).0, "candidates/drawn");
}
