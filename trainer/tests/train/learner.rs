//! The trainer behind the interface of online selection.

use super::learning::bits;
use super::toy::Toy;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use curate_core::{Column, Ctx, Learner, Pool};
use curate_trainer::data::LossOn;
use curate_trainer::sft::{Differentiable, LtSftConfig, SftConfig, SftLearner, Tuning};
use curate_trainer::tokenizer::TextTokenizer;
use std::sync::Arc;

/// Eleven letters: one for every token of the toy model.
pub(super) fn tokenizer() -> TextTokenizer {
    let vocab: serde_json::Map<_, _> =
        "abcdefghijk".chars().zip(0..).map(|(c, i): (char, u32)| (c.to_string(), i.into())).collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    TextTokenizer::from_json(file.to_string().as_bytes(), Some("k")).unwrap()
}

fn learner() -> SftLearner<Toy> {
    let config =
        SftConfig { learning_rate: Some(0.05), loss_on: LossOn::All, warmup_ratio: 0.0, ..SftConfig::default() };
    SftLearner::new(Toy::new(1, 1), tokenizer(), config, 50, &Ctx::new(0)).unwrap()
}

pub(super) fn pool(texts: &[&str]) -> Pool {
    let texts = Arc::new(StringArray::from(texts.to_vec())) as ArrayRef;
    Pool::from_batch(RecordBatch::try_from_iter([("text", texts)]).unwrap())
}

fn want() -> Vec<Column> {
    ["loss", "grad_norm", "tokens"].map(Column::signal).to_vec()
}

pub(super) fn column(batch: &RecordBatch, at: usize) -> Vec<Option<f32>> {
    batch.column(at).as_primitive::<Float32Type>().iter().collect()
}

#[test]
fn signals_are_aligned_and_a_probe_changes_nothing() {
    let (mut learner, ctx) = (learner(), Ctx::new(0));
    let before = bits(learner.model().params());
    let signals = learner.probe(&pool(&["abcd", "  ", "bdh"]), &want(), &ctx).unwrap();
    assert_eq!(before, bits(learner.model().params()));
    let (loss, norm, tokens) = (column(&signals, 0), column(&signals, 1), column(&signals, 2));
    assert!(loss[0].unwrap() > 0.0 && loss[1].is_none() && norm[2].unwrap() > 0.0);
    assert_eq!(tokens, [Some(5.0), None, Some(4.0)]);
    assert_eq!(signals.column(0).null_count(), 1);
    let alone = learner.probe(&pool(&["bdh"]), &[Column::signal("loss")], &ctx).unwrap();
    assert!((column(&alone, 0)[0].unwrap() - loss[2].unwrap()).abs() < 1e-6);
}

#[test]
fn steps_learn_and_norms_do_not_change_the_update() {
    let (mut with, mut without, ctx) = (learner(), learner(), Ctx::new(0));
    let pool = pool(&["abcd", "bdh"]);
    let first = with.step(&pool, &want(), &ctx).unwrap();
    without.step(&pool, &[], &ctx).unwrap();
    assert_eq!((first.step, first.rows.as_slice(), first.signals.num_rows()), (1, &[0, 1][..], 2));
    for ((_, a), (_, b)) in with.model().params.iter().zip(without.model().params.iter()) {
        assert!(a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() < 1e-5));
    }
    let mut last = first.clone();
    for _ in 0..30 {
        last = with.step(&pool, &want(), &ctx).unwrap();
    }
    assert!(column(&last.signals, 0)[0].unwrap() < 0.5 * column(&first.signals, 0)[0].unwrap());
    assert_eq!(last.step, 31);
}

#[test]
fn what_cannot_be_given_is_refused() {
    let refused = |signal| learner().probe(&pool(&["abc"]), &[Column::signal(signal)], &Ctx::new(0)).unwrap_err();
    assert_eq!(refused("mood").code(), "column/unknown-signal");
    assert_eq!(refused("sketch").code(), "signal/unsupported");
    let config =
        SftConfig { learning_rate: Some(0.1), tuning: Tuning::LtSft(LtSftConfig::default()), ..SftConfig::default() };
    let error = SftLearner::new(Toy::new(1, 1), tokenizer(), config, 5, &Ctx::new(0)).err().unwrap();
    assert_eq!(error.code(), "train/config");
}
