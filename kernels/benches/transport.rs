//! Transport on two clouds of points, squared Euclidean over the largest cost, equal weights: one JSON line.
//!
//! ```text
//! cargo bench -p curate-kernels --bench transport -- exact x.npy y.npy [threads]
//! cargo bench -p curate-kernels --bench transport -- sinkhorn x.npy y.npy [threads] [eps] [tolerance]
//! ```

#![allow(clippy::cast_precision_loss, clippy::many_single_char_names, clippy::needless_for_each)] // reason: rates, names of the theory

use curate_kernels::MatRef;
use curate_kernels::transport::{Costs, Dense, Entropic, Ground, Points, exact, sinkhorn};
use std::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A two-dimensional little-endian f32 array of `NumPy`'s format 1, C order.
fn read_npy(path: &str) -> Result<(Vec<f32>, usize), Failure> {
    let bytes = std::fs::read(path)?;
    let header =
        std::str::from_utf8(bytes.get(10..).ok_or("short file")?.split(|b| *b == b'\n').next().unwrap_or(&[]))?;
    let shape = header.split("'shape': (").nth(1).and_then(|s| s.split(')').next()).ok_or("no shape")?;
    let dim = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse()?;
    let body = bytes[11 + header.len()..].as_chunks::<4>().0;
    Ok((body.iter().map(|b| f32::from_le_bytes(*b)).collect(), dim))
}

fn scaled(points: &Points<'_>) -> Vec<f64> {
    let m = points.cols();
    let mut all = vec![0.0; points.rows() * m];
    for (i, row) in all.chunks_exact_mut(m).enumerate() {
        points.row(i, row);
    }
    let top = all.iter().fold(0.0f64, |a, &b| a.max(b));
    all.iter_mut().for_each(|c| *c /= top);
    all
}

fn run(words: &[String]) -> Result<String, Failure> {
    let text = |i: usize| words.get(i).map(String::as_str).ok_or("too few words");
    let number = |i: usize, default: f64| words.get(i).and_then(|w| w.parse().ok()).unwrap_or(default);
    let ((x, d), (y, _)) = (read_npy(text(1)?)?, read_npy(text(2)?)?);
    let points = Points::new(MatRef::new(&x, d)?, MatRef::new(&y, d)?, Ground::SqEuclidean)?;
    let (n, m) = (points.rows(), points.cols());
    let (a, b, cost) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m], scaled(&points));
    let dense = Dense::new(&cost, m)?;
    let start = Instant::now();
    if text(0)? == "exact" {
        let found = exact(&dense, &a, &b, &|_| true)?;
        let (secs, slack) = (start.elapsed().as_secs_f64(), found.slack);
        return Ok(format!(
            "\"s\":{secs:.4},\"cost\":{:.12},\"pivots\":{},\"slack\":{slack:e}",
            found.cost, found.pivots
        ));
    }
    let params = Entropic { tolerance: number(5, 1e-5), ..Entropic::new(number(4, 0.02)) };
    let found = sinkhorn(&dense, &a, &b, &params, &|_| true)?;
    let secs = start.elapsed().as_secs_f64();
    let each = secs / found.sweeps as f64;
    Ok(format!(
        "\"s\":{secs:.4},\"sweeps\":{},\"s_per_sweep\":{each:.5},\"cost\":{:.12},\"error\":{:e}",
        found.sweeps, found.cost, found.error
    ))
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if words.is_empty() {
        println!("{{\"skipped\":\"name exact or sinkhorn and two files\"}}");
        return Ok(());
    }
    let threads = words.get(3).and_then(|w| w.parse().ok()).unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    println!("{{\"bench\":\"transport {}\",\"threads\":{threads},{}}}", words[0], pool.install(|| run(&words))?);
    Ok(())
}
