//! A sentence encoder of random weights, laid down as a folder like any other: its vectors, and how many texts it takes a second.
//!
//! On a device its vectors are compared with the processor's; on the processor those of texts in company with those of texts alone. The
//! measured model has the shape of all-MiniLM-L6-v2, the texts have about the lengths of the Alpaca corpus, from text to vector.

use super::{Check, Figure, Size, Subject, worst};
use crate::Result;
use curate_core::Embedder;
use curate_core::kernels::cuda::net::Precision;
use curate_embed::SentenceEncoder;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Error allowed to the cosine between the vectors of a device and those of the processor, in f32 and bf16.
const WIDE: f64 = 1e-5;
const HALF: f64 = 2e-3;
/// Difference allowed between a text in company and alone.
const ALONE: f64 = 2e-5;
/// Tokens that are no words.
const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Words of a text: from, and up to so many more, short ones more often.
const WORDS: (f64, f64) = (8.0, 190.0);

/// Sizes of an encoder.
#[derive(Clone, Copy)]
struct Shape {
    hidden: usize,
    wide: usize,
    blocks: usize,
    heads: usize,
    words: usize,
}

const SMALL: Shape = Shape { hidden: 24, wide: 40, blocks: 2, heads: 3, words: 300 };
const MIDDLE: Shape = Shape { hidden: 128, wide: 512, blocks: 2, heads: 4, words: 3000 };
const MINI_LM: Shape = Shape { hidden: 384, wide: 1536, blocks: 6, heads: 12, words: 30_522 };

pub(super) fn checks(s: &Subject<'_>) -> Result<Vec<Check>> {
    let (shape, count) = if s.size == Size::Tiny { (SMALL, 6) } else { (MIDDLE, 64) };
    let folder = folder(s, shape)?;
    let texts = texts(s, count, shape, 0.2);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let cpu = SentenceEncoder::open(folder.path(), "cpu", None)?;
    let wanted = vectors(s, &cpu, &texts)?;
    let Some(device) = s.device() else {
        return Ok(vec![s.check("encoder: texts alone and in company", ALONE, || {
            let mut errors = Vec::new();
            for (text, wanted) in texts.iter().zip(wanted.chunks(shape.hidden)).take(8) {
                let alone = vectors(s, &cpu, &[text])?;
                errors.extend(alone.iter().zip(wanted).map(|(a, b)| f64::from((a - b).abs())));
            }
            Ok(worst(errors))
        })?]);
    };
    let mut all = Vec::new();
    for precision in s.precisions() {
        let (name, bound) = if precision == Precision::F32 { ("f32", WIDE) } else { ("bf16", HALF) };
        all.push(s.check(format!("encoder, {name}: 1 - cosine"), bound, || {
            let encoder = SentenceEncoder::open_on(folder.path(), vec![device.clone()], precision, None)?;
            let found = vectors(s, &encoder, &texts)?;
            let gaps = found.chunks(shape.hidden).zip(wanted.chunks(shape.hidden)).map(|(a, b)| 1.0 - cosine(a, b));
            Ok(worst(gaps).max(0.0))
        })?);
    }
    Ok(all)
}

pub(super) fn figures(s: &Subject<'_>) -> Result<Vec<Figure>> {
    let gpu = s.device().is_some();
    let (shape, count) = match (s.size, gpu) {
        (Size::Tiny, _) => (SMALL, 8),
        (Size::Quick, true) => (MINI_LM, 20_000),
        (Size::Full, true) => (MINI_LM, 100_000),
        (Size::Quick, false) => (MINI_LM, 64),
        (Size::Full, false) => (MINI_LM, 512),
    };
    let folder = folder(s, shape)?;
    let texts = texts(s, count, shape, 1.0);
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let encoder = match s.device() {
        Some(device) => {
            SentenceEncoder::open_on(folder.path(), vec![device.clone()], Precision::of(device), Some(256))?
        }
        None => SentenceEncoder::open(folder.path(), "cpu", Some(256))?,
    };
    let lengths = encoder.count_tokens(&texts, s.ctx)?;
    let tokens: f64 = lengths.iter().map(|length| f64::from((*length).min(256))).sum();
    let pairs: f64 = lengths.iter().map(|length| f64::from((*length).min(256)).powi(2)).sum();
    let size = format!("{count} texts of {:.0} tokens", tokens / count as f64);
    let mut best = 0.0;
    let tokenise = s.figure("encoder, tokeniser alone", size.clone(), |figure| {
        let seconds = s.seconds(|| encoder.count_tokens(&texts, s.ctx).map(drop))?;
        best = count as f64 / seconds;
        figure.seconds = Some(seconds);
        figure.rate = Some(best);
        "texts/s".clone_into(&mut figure.unit);
        Ok(())
    })?;
    let encode = s.figure("encoder, text to vector", size, |figure| {
        let seconds = s.seconds(|| vectors(s, &encoder, &texts).map(drop))?;
        let rate = count as f64 / seconds;
        figure.seconds = Some(seconds);
        figure.rate = Some(rate);
        "texts/s".clone_into(&mut figure.unit);
        figure.goal = gpu.then(|| "30000 texts/s".to_owned());
        let block = shape.hidden * (4 * shape.hidden + 2 * shape.wide);
        let done = 2.0 * (shape.blocks * block) as f64 * tokens + 4.0 * pairs * (shape.blocks * shape.hidden) as f64;
        let limit = if rate > 0.7 * best { "; the tokeniser is the limit" } else { "" };
        figure.note = Some(format!("{:.2} TFLOP/s{limit}", done / seconds / 1e12));
        Ok(())
    })?;
    Ok(vec![tokenise, encode])
}

fn vectors(s: &Subject<'_>, encoder: &SentenceEncoder, texts: &[&str]) -> Result<Vec<f32>> {
    let mut out = vec![0.0; texts.len() * encoder.dim()];
    encoder.embed(texts, &mut out, s.ctx)?;
    Ok(out)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Texts of random words; `part` shortens them.
fn texts(s: &Subject<'_>, count: usize, shape: Shape, part: f64) -> Vec<String> {
    let one = |row: u64| {
        let mut rng = s.ctx.rng("texts", row);
        let length = (part * (WORDS.0 + WORDS.1 * rng.uniform().powi(3))) as usize;
        let words: Vec<String> =
            (0..length.max(1)).map(|_| word(rng.below((shape.words - SPECIAL.len()) as u64))).collect();
        words.join(" ")
    };
    (0..count as u64).map(one).collect()
}

/// The word of a number: its digits to the base of 26.
fn word(mut number: u64) -> String {
    let mut letters = String::from("q");
    while number > 0 {
        letters.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    letters
}

/// A model folder of this shape in a temporary place.
fn folder(s: &Subject<'_>, shape: Shape) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(path, bytes)
    };
    let config = json!({
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": shape.hidden,
        "intermediate_size": shape.wide, "num_hidden_layers": shape.blocks, "num_attention_heads": shape.heads,
        "vocab_size": shape.words, "max_position_embeddings": 512, "layer_norm_eps": 1e-12
    });
    let modules = json!([
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}
    ]);
    let words = SPECIAL.iter().map(|s| (*s).to_owned()).chain((0..).map(word));
    let words: Vec<String> = words.take(shape.words).collect();
    write("config.json", config.to_string().as_bytes())?;
    write("modules.json", modules.to_string().as_bytes())?;
    write("1_Pooling/config.json", br#"{"pooling_mode_mean_tokens": true}"#)?;
    write("vocab.txt", words.join("\n").as_bytes())?;
    write("model.safetensors", &weights(s, shape))?;
    Ok(folder)
}

/// Random weights in the safetensors format: length of the header, header, numbers.
fn weights(s: &Subject<'_>, shape: Shape) -> Vec<u8> {
    let (h, w) = (shape.hidden, shape.wide);
    let mut tensors: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![shape.words, h]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![512, h]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, h]),
        ("embeddings.LayerNorm.weight".to_owned(), vec![h]),
        ("embeddings.LayerNorm.bias".to_owned(), vec![h]),
    ];
    for block in 0..shape.blocks {
        let maps = [
            ("attention.self.query", [h, h]),
            ("attention.self.key", [h, h]),
            ("attention.self.value", [h, h]),
            ("attention.output.dense", [h, h]),
            ("intermediate.dense", [w, h]),
            ("output.dense", [h, w]),
        ];
        for (name, [out, input]) in maps {
            tensors.push((format!("encoder.layer.{block}.{name}.weight"), vec![out, input]));
            tensors.push((format!("encoder.layer.{block}.{name}.bias"), vec![out]));
        }
        for name in ["attention.output.LayerNorm", "output.LayerNorm"] {
            tensors.push((format!("encoder.layer.{block}.{name}.weight"), vec![h]));
            tensors.push((format!("encoder.layer.{block}.{name}.bias"), vec![h]));
        }
    }
    let (mut header, mut numbers) = (Map::new(), Vec::new());
    for (row, (name, shape)) in (0..).zip(tensors) {
        let (mut rng, start) = (s.ctx.rng("encoder", row), numbers.len());
        let gain = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        let spread = if shape.len() == 2 { (3.0 / shape[1] as f64).sqrt() } else { 0.1 };
        for _ in 0..shape.iter().product() {
            let number = (gain + spread * (2.0 * rng.uniform() - 1.0)) as f32;
            numbers.extend(number.to_le_bytes());
        }
        header.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [start, numbers.len()]}));
    }
    let header = Value::Object(header).to_string();
    let header = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &numbers].concat()
}
