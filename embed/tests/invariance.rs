//! A text's vector does not depend on its neighbours or on the number of threads, to the last bit.

use crate::common::minilm;
use curate_core::{Ctx, Embedder};
use curate_embed::{EmbedderChoice, OpenOptions, SentenceEncoder, open, static_encoder};

/// Texts of very different lengths, in no order.
fn texts() -> Vec<String> {
    let word = |i: usize| ["river", "copper", "the", "Bread", "überall", "北京", "17", "a"][i * i % 8];
    (0..24).map(|n| (0..(n * 37) % 140).map(|i| word(i + n)).collect::<Vec<_>>().join(" ")).collect()
}

fn embed(encoder: &dyn Embedder, texts: &[&str]) -> Vec<f32> {
    let mut out = vec![0.0; texts.len() * encoder.dim()];
    encoder.embed(texts, &mut out, &Ctx::new(0)).unwrap();
    out
}

fn check(encoder: &dyn Embedder) {
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = embed(encoder, &texts);
    for (i, (text, vector)) in texts.iter().zip(together.chunks_exact(encoder.dim())).enumerate() {
        assert!(embed(encoder, &[text]) == vector, "text {i} alone and among others");
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut turned, mut expected) = (texts.clone(), together.clone());
        turned.rotate_left(7 * threads);
        expected.rotate_left(7 * threads * encoder.dim());
        assert!(pool.install(|| embed(encoder, &turned)) == expected, "{threads} threads, another order");
    }
}

#[test]
fn static_vectors_stand_alone() {
    check(&static_encoder().unwrap());
}

#[test]
fn minilm_vectors_stand_alone() {
    let Some(folder) = minilm() else { return };
    check(&SentenceEncoder::open(&folder, "cpu", None).unwrap());
}

#[test]
fn options_reach_the_encoder() {
    let options = OpenOptions { max_tokens: Some(1), ..OpenOptions::default() };
    let choice: EmbedderChoice = "static".parse().unwrap();
    let short = open(&choice, &options, &Ctx::new(0)).unwrap();
    let full = open(&choice, &OpenOptions::default(), &Ctx::new(0)).unwrap();
    assert_eq!(embed(&*short, &["river bank"]), embed(&*full, &["river"]));
    assert_ne!(short.digest(), full.digest());
    assert_eq!(short.count_tokens(&["river bank"], &Ctx::new(0)).unwrap(), [2]);
    let missing = open(&"./nowhere".parse().unwrap(), &options, &Ctx::new(0)).err().unwrap();
    assert_eq!(missing.exit_code(), 4);
}

#[test]
fn a_static_file_can_be_opened_by_path() {
    let path = crate::common::root().join("datasets/models/static-minilm-256.safetensors");
    let choice: EmbedderChoice = path.to_str().unwrap().parse().unwrap();
    let encoder = open(&choice, &OpenOptions::default(), &Ctx::new(0)).unwrap();
    assert_eq!(encoder.digest(), static_encoder().unwrap().digest());
}

#[test]
fn cancelled_means_cancelled() {
    let ctx = Ctx::new(0);
    ctx.cancel().cancel();
    let encoder = static_encoder().unwrap();
    let error = encoder.embed(&["a"], &mut vec![0.0; encoder.dim()], &ctx).unwrap_err();
    assert_eq!(error.exit_code(), 130);
}
