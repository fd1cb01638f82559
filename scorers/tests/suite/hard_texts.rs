//! Texts that give little to count: empty, one word, one sign, and a language that is written without spaces.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use curate_core::{Ctx, Pool, Scorer};
use curate_scorers::length::{Length, Unit};
use curate_scorers::mtld::Mtld;
use std::sync::Arc;

const TEXTS: [&str; 8] =
    ["", " \n\t", "Yes", "?!", "我喜欢在港口散步然后喝一杯茶", "the the the the", "\u{200b}", "🙂🙂🙂"];

fn scores(scorer: &dyn Scorer) -> Vec<f32> {
    let texts = Arc::new(StringArray::from(TEXTS.to_vec())) as ArrayRef;
    let pool = Pool::from_batch(RecordBatch::try_from_iter([("text", texts)]).unwrap());
    scorer.score(&pool, &Ctx::new(0)).unwrap().values().to_vec()
}

#[test]
fn little_text_gets_a_finite_score() {
    let words = scores(&Length { unit: Unit::Words, ..Length::default() });
    assert_eq!(words[..6], [0.0, 0.0, 1.0, 0.0, 1.0, 4.0]);
    let chars = scores(&Length { unit: Unit::Chars, ..Length::default() });
    assert_eq!((chars[0], chars[2], chars[4]), (0.0, 3.0, 14.0));
    let variety = scores(&Mtld::default());
    assert!(variety.iter().all(|v| v.is_finite() && *v >= 0.0), "{variety:?}");
    assert_eq!((variety[0], variety[2], variety[4]), (0.0, 1.0, 1.0), "a text of one word has no variety to measure");
}
