//! Vectors against the Python references.

use crate::common::{distance, golden, minilm, numbers};
use curate_core::{Ctx, Embedder};
use curate_embed::{Encoding, SentenceEncoder, static_encoder};

fn text(row: &serde_json::Value) -> &str {
    row["text"].as_str().unwrap()
}

#[test]
fn the_static_encoder_gives_the_reference_vectors() {
    let Some(golden) = golden("static_encoder/static.json") else { return };
    let encoder = static_encoder().unwrap();
    let version = golden["model"]["version"].as_str().unwrap();
    if !encoder.name().ends_with(version) {
        eprintln!("SKIPPED: the goldens are of version {version}, the artefact is {}", encoder.name());
        return;
    }
    let rows = golden["rows"].as_array().unwrap();
    let texts: Vec<&str> = rows.iter().map(text).collect();
    let mut out = vec![0.0; rows.len() * encoder.dim()];
    encoder.embed(&texts, &mut out, &Ctx::new(0)).unwrap();
    let mut encoding = Encoding::default();
    for (row, vector) in rows.iter().zip(out.chunks_exact(encoder.dim())) {
        encoder.tokenizer().encode(text(row), usize::MAX, &mut encoding);
        let ids: Vec<u32> =
            row["ids"].as_array().unwrap().iter().map(|id| u32::try_from(id.as_u64().unwrap()).unwrap()).collect();
        assert_eq!(encoding.ids(), ids, "{:?}", text(row));
        let head = numbers(&row["head"]);
        assert!(distance(&vector[..head.len()], &head) < 1e-5, "{:?}", text(row));
        if row.get("embedding").is_some() {
            assert!(distance(vector, &numbers(&row["embedding"])) < 1e-5, "{:?}", text(row));
        }
    }
}

#[test]
fn minilm_gives_the_reference_vectors() {
    let (Some(golden), Some(folder)) = (golden("minilm/minilm.json"), minilm()) else { return };
    let encoder = SentenceEncoder::open(&folder, "cpu", None).unwrap();
    assert_eq!((encoder.dim(), encoder.max_tokens()), (384, 256));
    let rows = golden["rows"].as_array().unwrap();
    let texts: Vec<&str> = rows.iter().map(text).collect();
    let mut out = vec![0.0; rows.len() * encoder.dim()];
    encoder.embed(&texts, &mut out, &Ctx::new(0)).unwrap();
    let mut worst = 0.0f32;
    for (row, vector) in rows.iter().zip(out.chunks_exact(encoder.dim())) {
        worst = worst.max(distance(vector, &numbers(&row["embedding"])));
    }
    eprintln!("largest difference to the reference: {worst:e}");
    assert!(worst < 1e-4, "{worst}");
    let counts = encoder.count_tokens(&texts[..1], &Ctx::new(0)).unwrap();
    assert_eq!(counts[0] as usize + 2, rows[0]["ids"].as_array().unwrap().len());
}

#[test]
fn every_family_gives_the_vectors_of_transformers() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny");
    let expected: serde_json::Value =
        serde_json::from_slice(&std::fs::read(root.join("expected.json")).unwrap()).unwrap();
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    for (family, vectors) in expected["vectors"].as_object().unwrap() {
        let encoder = SentenceEncoder::open(&root.join(family), "cpu", None).unwrap();
        let mut out = vec![0.0; texts.len() * encoder.dim()];
        encoder.embed(&texts, &mut out, &Ctx::new(0)).unwrap();
        for (vector, expected) in out.chunks_exact(encoder.dim()).zip(vectors.as_array().unwrap()) {
            assert!(distance(vector, &numbers(expected)) < 1e-4, "{family}: {}", distance(vector, &numbers(expected)));
        }
    }
}
