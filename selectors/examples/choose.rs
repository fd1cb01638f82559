//! Runs a method on vectors in `NumPy` files and prints seconds and figures as one JSON line: for timing without a model.
//!
//! ```text
//! cargo run --release -p curate-selectors --example choose -- METHOD BUDGET PARAMS VECTORS.npy [TARGET.npy] [NORMS.npy]
//! cargo run --release -p curate-selectors --example choose -- goracs 1000 '{"lambda":0.5}' x.npy y.npy norms.npy
//! ```
//!
//! Files hold f32, C order: vectors `[rows, d]`, norms `[rows, 1]`. `NORMS.npy` becomes `signal.grad_norm` and
//! `score.quality`. The memory limit is the default, 8 GiB.

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch};
use arrow::datatypes::{DataType, Field};
use curate_core::{Budget, Ctx, Pool, find};
use curate_selectors::SELECTORS;
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A two-dimensional little-endian f32 array of `NumPy`'s format 1, C order, and its number of columns.
fn read_npy(path: &str) -> Result<(Vec<f32>, i32), Failure> {
    let bytes = std::fs::read(path)?;
    let header =
        std::str::from_utf8(bytes.get(10..).ok_or("short file")?.split(|b| *b == b'\n').next().unwrap_or(&[]))?;
    let shape = header.split("'shape': (").nth(1).and_then(|s| s.split(')').next()).ok_or("no shape")?;
    let dim = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse()?;
    let body = bytes[11 + header.len()..].as_chunks::<4>().0;
    Ok((body.iter().map(|b| f32::from_le_bytes(*b)).collect(), dim))
}

fn pool(vectors: &str, norms: Option<&String>) -> Result<Pool, Failure> {
    let (values, dim) = read_npy(vectors)?;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let list = FixedSizeListArray::try_new(item, dim, Arc::new(Float32Array::from(values)), None)?;
    let mut columns = vec![("embedding", Arc::new(list) as ArrayRef)];
    if let Some(norms) = norms {
        let norms = Arc::new(Float32Array::from(read_npy(norms)?.0)) as ArrayRef;
        columns.extend([("signal.grad_norm", norms.clone()), ("score.quality", norms)]);
    }
    Ok(Pool::from_batch(RecordBatch::try_from_iter(columns)?))
}

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [method, budget, params, vectors, rest @ ..] = words.as_slice() else {
        return Err("METHOD BUDGET PARAMS VECTORS.npy [TARGET.npy] [NORMS.npy]".into());
    };
    let pool = pool(vectors, rest.get(1))?;
    let mut ctx = Ctx::new(17);
    if let Some(target) = rest.first() {
        ctx = ctx.with_target(self::pool(target, None)?);
    }
    let method = find(SELECTORS, method, "method")?.build(&serde_json::from_str(params)?)?;
    let start = Instant::now();
    let chosen = method.select(&pool, budget.parse::<Budget>()?, &ctx)?;
    let secs = start.elapsed().as_secs_f64();
    let first: Vec<u64> = chosen.rows().into_iter().take(5).collect();
    println!(
        "{}",
        serde_json::json!({"s": secs, "picks": chosen.picks.len(), "first": first, "report": chosen.report})
    );
    Ok(())
}
