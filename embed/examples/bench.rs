//! Throughput of the room, one JSON object on stdout. CPU seconds are user and system time of the whole process.
//!
//! `RAYON_NUM_THREADS=1 cargo run --release -p curate-embed --example bench -- TEXTS.json [MODEL_FOLDER]`
//!
//! TEXTS.json is a list or lines of instruction rows (`instruction`, `input`, `output`); `MODEL_FOLDER` a `MiniLM` folder, whose
//! tokenizer.json also drives the comparison with the `tokenizers` crate.
#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss, reason = "a measuring tool")]

use curate_core::{Ctx, Embedder};
use curate_embed::{Encoding, SentenceEncoder, StaticEncoder, static_encoder};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;

fn main() {
    let mut args = std::env::args().skip(1);
    let texts = read(&args.next().unwrap());
    let model = args.next();
    let views: Vec<&str> = texts.iter().map(String::as_str).collect();
    let encoder = static_encoder().unwrap();
    let mut report = json!({
        "texts": texts.len(),
        "bytes": views.iter().map(|t| t.len()).sum::<usize>(),
        "threads": rayon::current_num_threads(),
        "wordpiece": wordpiece(&encoder, &views),
        "static": embed(&encoder, &views),
    });
    if let Some(folder) = model {
        report["tokenizers"] = reference(Path::new(&folder), &views);
        report["sentence"] =
            embed(&SentenceEncoder::open(Path::new(&folder), "cpu", None).unwrap(), &views[..views.len().min(300)]);
    }
    println!("{}", serde_json::to_string_pretty(&report).unwrap());
}

fn read(path: &str) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().map(Result::unwrap);
    let rows = values.flat_map(|value| match value {
        Value::Array(rows) => rows,
        row => vec![row],
    });
    let field = |row: &Value, key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    rows.map(|row| ["instruction", "input", "output"].map(|key| field(&row, key)).join("\n")).collect()
}

/// Median wall and CPU seconds of a few runs.
fn time(mut work: impl FnMut()) -> (f64, f64) {
    work();
    let mut runs = Vec::new();
    let begin = Instant::now();
    while runs.len() < 3 || (begin.elapsed().as_secs_f64() < 3.0 && runs.len() < 200) {
        let (start, cpu) = (Instant::now(), cpu_secs());
        work();
        runs.push((start.elapsed().as_secs_f64(), cpu_secs() - cpu));
    }
    let total_cpu: f64 = runs.iter().map(|run| run.1).sum();
    let mean_cpu = total_cpu / runs.len() as f64;
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    (runs[runs.len() / 2].0, mean_cpu)
}

/// User and system seconds of this process; the kernel counts in hundredths.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // The state letter is not a number: field 14 of the manual stands at 10.
    (fields.get(10).unwrap_or(&0.0) + fields.get(11).unwrap_or(&0.0)) / 100.0
}

fn rates(texts: &[&str], tokens: usize, (wall, cpu): (f64, f64)) -> Value {
    let bytes: usize = texts.iter().map(|t| t.len()).sum();
    let per = |n: usize, secs: f64| (n as f64 / secs).round();
    json!({
        "wall_secs": wall, "cpu_secs": cpu, "tokens": tokens,
        "texts_per_sec": per(texts.len(), wall), "texts_per_cpu_sec": per(texts.len(), cpu),
        "tokens_per_cpu_sec": per(tokens, cpu), "mb_per_cpu_sec": bytes as f64 / cpu / 1e6,
    })
}

fn wordpiece(encoder: &StaticEncoder, texts: &[&str]) -> Value {
    let (mut encoding, mut tokens) = (Encoding::default(), 0);
    let secs = time(|| {
        tokens = 0;
        for text in texts {
            encoder.tokenizer().encode(text, usize::MAX, &mut encoding);
            tokens += encoding.ids().len();
        }
    });
    rates(texts, tokens, secs)
}

fn reference(folder: &Path, texts: &[&str]) -> Value {
    let mut tokenizer = tokenizers::Tokenizer::from_file(folder.join("tokenizer.json")).unwrap();
    tokenizer.with_padding(None).with_truncation(None).unwrap();
    let mut tokens = 0;
    let secs = time(|| {
        tokens = texts.iter().map(|text| tokenizer.encode_fast(*text, false).unwrap().len()).sum();
    });
    rates(texts, tokens, secs)
}

fn embed(encoder: &dyn Embedder, texts: &[&str]) -> Value {
    let ctx = Ctx::new(0);
    let mut out = vec![0.0; texts.len() * encoder.dim()];
    let tokens = encoder.count_tokens(texts, &ctx).unwrap().iter().map(|n| *n as usize).sum();
    let secs = time(|| encoder.embed(texts, &mut out, &ctx).unwrap());
    rates(texts, tokens, secs)
}
