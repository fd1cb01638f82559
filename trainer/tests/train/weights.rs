//! Weights of rows in the loss: a row that weighs 2 is a row that is there twice.

use super::learner::{column, pool, tokenizer};
use super::learning::{bits, config, log, trainer};
use super::toy::Toy;
use super::transformer::{rows, small};
use crate::model::distance;
use arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray};
use curate_core::{Column, Ctx, Learner, Pool};
use curate_trainer::data::{LossOn, SequenceOptions, sequences};
use curate_trainer::model::{Model, StepOptions};
use curate_trainer::sft::{SftConfig, SftLearner, Trainable, ids};
use curate_trainer::{Batch, Grads, Sequence};
use std::sync::Arc;

fn weighted(mut rows: Vec<Sequence>, weights: &[f32]) -> Vec<Sequence> {
    rows.iter_mut().zip(weights.iter().cycle()).for_each(|(row, weight)| row.weight = *weight);
    rows
}

/// Gradient and value of the mean loss over all labels.
fn mean(model: &Model, rows: &[Sequence], options: StepOptions) -> (Vec<f32>, f64) {
    let (batch, mut grads) = (Batch::of(rows), Grads::zeros(&model.params));
    let losses = model.gradients(&batch, (1.0 / batch.mass()) as f32, options, &mut grads, &Ctx::new(0)).unwrap();
    let flat = ids(&model.params).into_iter().flat_map(|id| grads.get(id).unwrap().to_vec()).collect();
    (flat, losses.weighted_total(&batch) / batch.mass())
}

#[test]
fn a_weight_of_two_is_the_row_twice() {
    let model = small(2);
    let twice: Vec<Sequence> = [0, 0, 1, 2, 2].map(|at: usize| rows(3)[at].clone()).to_vec();
    for gradient_checkpointing in [false, true] {
        let options = StepOptions { gradient_checkpointing };
        let (found, loss) = mean(&model, &weighted(rows(3), &[2.0, 1.0, 2.0]), options);
        let (expected, twice) = mean(&model, &twice, options);
        let (gap, top) = distance(&found, &expected);
        assert!(gap <= 1e-6 * top.max(1.0), "{gap} of {top}");
        assert!((loss - twice).abs() < 1e-6, "{loss} {twice}");
        let (plain, _) = mean(&model, &rows(3), options);
        assert!(distance(&plain, &expected).0 > 1e-3 * top);
    }
}

#[test]
fn the_weighted_gradient_agrees_with_finite_differences() {
    let rows = weighted(rows(5), &[0.3, 2.5, 1.0, 0.0]);
    let (mut model, ctx, batch) = (small(2), Ctx::new(0), Batch::of(&rows));
    let mut grads = Grads::zeros(&model.params);
    model.gradients(&batch, 1.0, StepOptions::default(), &mut grads, &ctx).unwrap();
    for id in ids(&model.params) {
        let grad = grads.get(id).unwrap();
        let top = grad.iter().fold(0.0f32, |top, g| top.max(g.abs()));
        let mut rng = ctx.rng("entry", id.0 as u64);
        for _ in 0..6 {
            let at = rng.below(grad.len() as u64) as usize;
            let before = model.params.get(id).data[at];
            let mut moved = |by: f32| {
                model.params.get_mut(id).data[at] = before + by;
                let losses = model.losses(&batch, &ctx).unwrap();
                (losses.weighted_total(&batch), f64::from(model.params.get(id).data[at]))
            };
            let ((high, to), (low, from)) = (moved(2e-3), moved(-2e-3));
            moved(0.0);
            let (slope, found) = ((high - low) / (to - from), f64::from(grad[at]));
            assert!((slope - found).abs() < 3e-3 * f64::from(top.max(1.0)), "{}[{at}]: {slope} is not {found}", id.0);
        }
    }
}

/// Weights of 1 take the path without weights; a power of two on all rows cancels without rounding.
#[test]
fn equal_weights_change_no_bit() {
    let run = |weights: &[f32]| {
        let (mut model, out) = (small(2), tempfile::tempdir().unwrap());
        trainer(config(6), &weighted(rows(10), weights), Some(out.path())).run(&mut model, &Ctx::new(1)).unwrap();
        (bits(&model.params), log(out.path()))
    };
    let plain = run(&[1.0]);
    assert!(run(&[0.25]) == plain && run(&[4.0]) == plain);
    let other = run(&[1.0, 3.0]);
    assert!(other.0 != plain.0 && other.1 != plain.1);
}

#[test]
fn a_step_logs_the_weighted_mean_and_evaluates_without_weights() {
    let (model, ctx) = (small(2), Ctx::new(1));
    let rows = weighted(rows(6), &[5.0, 0.5]);
    let run = trainer(SftConfig { batch_size: 3, gradient_accumulation_steps: 2, ..config(1) }, &rows, None);
    let eval: Vec<Sequence> = weighted(rows.clone(), &[1.0]);
    let judged = |rows: &[Sequence]| {
        let run = curate_trainer::sft::Trainer { eval: rows, ..run.clone() };
        run.run(&mut small(2), &ctx).unwrap()
    };
    let (one, other) = (judged(&rows), judged(&eval));
    assert!((one.losses[0] - mean(&model, &rows, StepOptions::default()).1).abs() < 1e-6);
    assert_eq!(one.eval, other.eval);
}

/// A checkpoint of a run with other weights is refused.
#[test]
fn weights_decide_what_run_it_is() {
    let out = tempfile::tempdir().unwrap();
    trainer(config(2), &rows(4), Some(out.path())).run(&mut small(1), &Ctx::new(1)).unwrap();
    let other = weighted(rows(4), &[1.0, 2.0]);
    let again = curate_trainer::sft::Trainer { resume: true, ..trainer(config(2), &other, Some(out.path())) };
    assert_eq!(again.run(&mut small(1), &Ctx::new(1)).unwrap_err().code(), "checkpoint/other-plan");
}

fn with_weights(texts: &[&str], weights: &[Option<f64>]) -> Pool {
    let texts = Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    let weights = Arc::new(Float64Array::from(weights.to_vec())) as ArrayRef;
    Pool::from_batch(
        RecordBatch::try_from_iter_with_nullable([("text", texts, true), ("weight", weights, true)]).unwrap(),
    )
}

#[test]
fn weights_come_with_the_rows_and_bad_ones_are_refused() {
    let options = SequenceOptions { loss_on: LossOn::All, ..SequenceOptions::new(16) };
    let read = |weights: [Option<f64>; 3]| {
        sequences(&with_weights(&["abcd", "bdh", "cd"], &weights), &tokenizer(), &options, &Ctx::new(0))
    };
    let plain = sequences(&pool(&["abcd", "bdh", "cd"]), &tokenizer(), &options, &Ctx::new(0)).unwrap();
    assert_eq!(read([Some(1.0); 3]).unwrap(), plain);
    let found = read([Some(0.5), Some(0.0), Some(3.0)]).unwrap();
    let weights: Vec<(u64, f32)> = found.sequences.iter().map(|row| (row.row, row.weight)).collect();
    assert_eq!((weights.as_slice(), found.report.weightless.as_slice()), (&[(0, 0.5), (2, 3.0)][..], &[1][..]));
    for bad in [Some(f64::NAN), Some(-1.0), Some(f64::INFINITY), Some(1e30), Some(1e-30), None] {
        let error = read([Some(1.0), bad, Some(1.0)]).unwrap_err();
        assert_eq!((error.code(), error.location().and_then(|place| place.row)), ("data/row-weight", Some(1)));
        assert!(error.hint_text().is_some());
    }
    assert_eq!(read([Some(0.0); 3]).unwrap_err().code(), "data/weightless");
    let texts = Arc::new(StringArray::from(vec!["abcd"])) as ArrayRef;
    let words = Pool::from_batch(RecordBatch::try_from_iter([("text", texts.clone()), ("weight", texts)]).unwrap());
    assert_eq!(sequences(&words, &tokenizer(), &options, &Ctx::new(0)).unwrap_err().code(), "column/type");
}

fn same_signals<M: Trainable + Send>(model: impl Fn() -> M, want: &[Column]) {
    let ctx = Ctx::new(0);
    let config = SftConfig { learning_rate: Some(0.05), loss_on: LossOn::All, ..SftConfig::default() };
    let learner = || SftLearner::new(model(), tokenizer(), config.clone(), 50, &ctx).unwrap();
    let (plain, heavy) = (pool(&["abcd", "bdh"]), with_weights(&["abcd", "bdh"], &[Some(7.0), Some(0.5)]));
    let (mut one, mut other) = (learner(), learner());
    let (a, b) = (one.step(&plain, want, &ctx).unwrap(), other.step(&heavy, want, &ctx).unwrap());
    for at in 0..want.len() {
        assert_eq!(column(&a.signals, at), column(&b.signals, at));
    }
    assert_eq!(a.signals.column(0).null_count(), 0);
    assert!(bits(one.model().params()) != bits(other.model().params()));
}

/// What a learner says of rows does not depend on their weights; what it learns does.
#[test]
fn signals_know_no_weights() {
    same_signals(|| Toy::new(1, 1), &["loss", "grad_norm"].map(Column::signal));
    same_signals(|| small(1), &["loss", "grad_norm", "grad_norm_last", "nuclear_norm"].map(Column::signal));
}
