//! `curate bench WORKLOAD`: one kernel or stage on generated or given data, timed, with its quality figure and peak memory,
//! so that anyone can set it beside another tool's run on the same machine.

use crate::host::peak_rss_bytes;
use curate_core::kernels::kmeans::{Init, KMeansParams, fit};
use curate_core::kernels::{MatRef, Metric};
use curate_core::{Ctx, Embedder, Error, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

/// What to run.
#[derive(Clone, Debug)]
pub struct Workload {
    /// `kmeans`, `knn`, `embed` or `tokenize`.
    pub name: String,
    /// Rows, unless data is given.
    pub rows: usize,
    /// Dimension, unless data is given.
    pub dim: usize,
    /// Clusters or neighbours.
    pub k: usize,
    /// Lloyd iterations.
    pub iterations: u32,
    /// Repetitions; the median is reported.
    pub repeats: usize,
    /// Vectors as `.npy` (f32, C order), or texts, one a line.
    pub data: Option<String>,
    /// Seed of generated data.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// The workload.
    pub workload: String,
    /// Device.
    pub backend: String,
    /// Worker threads.
    pub threads: usize,
    /// Median wall seconds.
    pub median_seconds: f64,
    /// Fastest wall seconds.
    pub min_seconds: f64,
    /// Peak resident bytes of the process.
    pub peak_rss_bytes: u64,
    /// Sizes and quality figures.
    pub figures: Map<String, Value>,
}

/// Names of the workloads with a sentence each.
pub const WORKLOADS: [(&str, &str); 4] = [
    ("kmeans", "k-means from k random rows, a fixed number of iterations; figure: inertia"),
    ("knn", "exact nearest neighbours of 1000 queries by inner product"),
    ("embed", "the built-in static encoder; figure: texts a second"),
    ("tokenize", "the built-in tokenizer; figure: megabytes a second"),
];

/// Run a workload.
///
/// # Errors
/// `bench/unknown`, `bench/data`, and what the kernels give.
pub fn bench(work: &Workload, ctx: &Ctx) -> Result<Measured> {
    match work.name.as_str() {
        "kmeans" => kmeans(work, ctx),
        "knn" => knn(work, ctx),
        "embed" => texts(work, ctx, true),
        "tokenize" => texts(work, ctx, false),
        other => Err(Error::usage("bench/unknown", format!("there is no workload '{other}'"))
            .hint(format!("known: {}", WORKLOADS.map(|w| w.0).join(", ")))),
    }
}

fn measured(work: &Workload, ctx: &Ctx, mut seconds: Vec<f64>, figures: &Value) -> Measured {
    seconds.sort_by(f64::total_cmp);
    Measured {
        workload: work.name.clone(),
        backend: ctx.backend().name().to_owned(),
        threads: rayon::current_num_threads(),
        median_seconds: seconds.get(seconds.len() / 2).copied().unwrap_or_default(),
        min_seconds: seconds.first().copied().unwrap_or_default(),
        peak_rss_bytes: peak_rss_bytes(),
        figures: figures.as_object().cloned().unwrap_or_default(),
    }
}

fn timed<T>(repeats: usize, mut run: impl FnMut() -> Result<T>) -> Result<(Vec<f64>, T)> {
    let mut seconds = Vec::new();
    loop {
        let start = Instant::now();
        let result = run()?;
        seconds.push(start.elapsed().as_secs_f64());
        if seconds.len() >= repeats.max(1) {
            return Ok((seconds, result));
        }
    }
}

fn kmeans(work: &Workload, ctx: &Ctx) -> Result<Measured> {
    let (data, dim) = vectors(work, ctx)?;
    let x = MatRef::new(&data, dim)?;
    if work.k == 0 || work.k > x.rows() {
        return Err(Error::usage("bench/data", format!("k = {} does not fit {} rows", work.k, x.rows())));
    }
    let start: Vec<f32> = (0..work.k).flat_map(|j| x.row(j * x.rows() / work.k).to_vec()).collect();
    let params = KMeansParams {
        max_iters: work.iterations,
        tol: 0.0,
        init: Init::Given(start),
        ..KMeansParams::new(work.k, work.seed)
    };
    let (seconds, found) = timed(work.repeats, || Ok(fit(ctx.backend(), x, None, &params, &|n| ctx.tick(n).is_ok())?))?;
    let figures =
        json!({"n": x.rows(), "d": dim, "k": work.k, "iterations": found.iterations, "inertia": found.inertia});
    Ok(measured(work, ctx, seconds, &figures))
}

fn knn(work: &Workload, ctx: &Ctx) -> Result<Measured> {
    let (data, dim) = vectors(work, ctx)?;
    let x = MatRef::new(&data, dim)?;
    let queries = x.slice(0..x.rows().min(1000));
    let k = work.k.min(x.rows());
    let (seconds, found) = timed(work.repeats, || Ok(ctx.backend().top_k(queries, x, k, Metric::Dot, None)?))?;
    let sum: f64 = found.value.iter().map(|&v| f64::from(v)).sum();
    let figures = json!({"n": x.rows(), "d": dim, "k": k, "queries": queries.rows(), "sum_of_values": sum});
    Ok(measured(work, ctx, seconds, &figures))
}

fn texts(work: &Workload, ctx: &Ctx, embed: bool) -> Result<Measured> {
    let encoder = curate_embed::static_encoder()?;
    let lines: Vec<String> = match &work.data {
        Some(path) => std::fs::read_to_string(path)?.lines().map(str::to_owned).collect(),
        None => (0..work.rows as u64).map(|row| sentence(ctx, row)).collect(),
    };
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let bytes: usize = lines.iter().map(|l| l.len()).sum();
    let mut out = vec![0.0; lines.len() * encoder.dim()];
    let (seconds, tokens) = timed(work.repeats, || {
        if embed {
            encoder.embed(&lines, &mut out, ctx).map(|()| 0)
        } else {
            Ok(encoder.count_tokens(&lines, ctx)?.iter().map(|&t| u64::from(t)).sum())
        }
    })?;
    let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let figures = json!({
        "texts": lines.len(), "bytes": bytes, "tokens": tokens,
        "texts_per_second": lines.len() as f64 / best, "megabytes_per_second": bytes as f64 / best / 1e6,
    });
    Ok(measured(work, ctx, seconds, &figures))
}

/// A made-up sentence of 20 to 220 words out of a small vocabulary, the same for the same seed and row.
fn sentence(ctx: &Ctx, row: u64) -> String {
    const WORDS: [&str; 24] = [
        "the",
        "model",
        "answers",
        "a",
        "question",
        "about",
        "rivers",
        "and",
        "explains",
        "how",
        "to",
        "solve",
        "equations",
        "with",
        "two",
        "unknown",
        "numbers,",
        "then",
        "writes",
        "short",
        "Python",
        "code;",
        "summarise",
        "recipe.",
    ];
    let mut rng = ctx.rng("sentence", row);
    let words = 20 + rng.below(200);
    let picked: Vec<&str> = (0..words).map(|_| WORDS[usize::try_from(rng.below(24)).unwrap_or(0)]).collect();
    picked.join(" ")
}

fn vectors(work: &Workload, ctx: &Ctx) -> Result<(Vec<f32>, usize)> {
    match &work.data {
        Some(path) => read_npy(Path::new(path)),
        None => Ok((planted(work, ctx), work.dim)),
    }
}

/// Unit vectors around `rows / 500` planted centres.
fn planted(work: &Workload, ctx: &Ctx) -> Vec<f32> {
    let normal = |rng: &mut curate_core::Rng| {
        ((-2.0 * rng.uniform().ln()).sqrt() * (std::f64::consts::TAU * rng.uniform()).cos()) as f32
    };
    let centres = (work.rows / 500).max(1);
    let row = |label: &str, i: u64| -> Vec<f32> {
        let mut rng = ctx.rng(label, i);
        (0..work.dim).map(|_| normal(&mut rng)).collect()
    };
    let means: Vec<Vec<f32>> = (0..centres as u64).map(|c| row("centre", c)).collect();
    let mut data = Vec::with_capacity(work.rows * work.dim);
    for i in 0..work.rows as u64 {
        let mean = &means[usize::try_from(ctx.rng("label", i).below(centres as u64)).unwrap_or(0)];
        let noisy: Vec<f32> = row("noise", i).iter().zip(mean).map(|(noise, mean)| mean + noise).collect();
        let norm = noisy.iter().map(|v| v * v).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        data.extend(noisy.iter().map(|v| v / norm));
    }
    data
}

/// Read a little-endian f32 C-order matrix in `NumPy`'s format.
fn read_npy(path: &Path) -> Result<(Vec<f32>, usize)> {
    let bytes = std::fs::read(path)?;
    let bad = |why: &str| {
        Error::data("bench/data", format!("{}: {why}", path.display()))
            .hint("save a C-order float32 matrix with numpy.save")
    };
    if bytes.len() < 12 || &bytes[..6] != b"\x93NUMPY" {
        return Err(bad("not a .npy file"));
    }
    let (start, length) = match bytes[6] {
        1 => (10, usize::from(u16::from_le_bytes([bytes[8], bytes[9]]))),
        _ => (12, u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize),
    };
    let header =
        bytes.get(start..start + length).map(String::from_utf8_lossy).ok_or_else(|| bad("its header is cut off"))?;
    if !header.contains("'<f4'") || header.contains("'fortran_order': True") {
        return Err(bad("not float32 in C order"));
    }
    let shape = header.split('(').nth(1).and_then(|s| s.split(')').next()).unwrap_or_default();
    let sizes: Vec<usize> = shape.split(',').filter_map(|s| s.trim().parse().ok()).collect();
    let [rows, dim] = sizes[..] else { return Err(bad("not a matrix")) };
    let numbers: Vec<f32> = bytes[start + length..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if rows.checked_mul(dim) != Some(numbers.len()) || dim == 0 {
        return Err(bad("its size does not fit its shape"));
    }
    Ok((numbers, dim))
}
