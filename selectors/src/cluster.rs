//! k-means over a pool of any size: fitted on a sample of the rows, then every row is assigned, block by block.
//!
//! The sample is the `fit_rows` rows of smallest `hash(seed, row id)`, all of them where there are fewer; assignment is to
//! the nearest centroid, ties to the lowest. Neither the order of rows nor their chunks can matter.
//! Source: Lloyd 1982 on a sample, as faiss trains on at most 256 rows a centroid. Silhouette: the simplified form
//! (Hruschka 2004), distances to centroids instead of to all rows, on at most 10 000 rows of the sample.
//! Cost: iterations s k d + n k d time, 4 s d + 8 n bytes and one block for s fit rows.

use crate::vectors::{Block, Vectors};
use arrow::array::{ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Float64Type, UInt32Type};
use curate_core::kernels::kmeans::{self, KMeans, KMeansParams};
use curate_core::kernels::{MatRef, Metric};
use curate_core::{Column, Ctx, Error, Pool, Result};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows of the sample that the silhouette looks at.
const SILHOUETTE_ROWS: usize = 10_000;

/// What to fit.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spec {
    /// Clusters, at least 1 and at most the rows of the pool.
    pub(crate) k: usize,
    /// Most iterations.
    pub(crate) iterations: u32,
    /// Starts; 0 chooses.
    pub(crate) restarts: u32,
    /// Rows of the sample, at least `k`.
    pub(crate) fit_rows: usize,
    /// Scale the vectors to unit length first.
    pub(crate) unit: bool,
}

/// Every row's cluster.
#[derive(Clone, Debug)]
pub(crate) struct Clusters {
    /// Cluster of every position, below `k`.
    pub(crate) labels: Vec<u32>,
    /// Squared distance of every position to its centroid.
    pub(crate) sq_dist: Vec<f32>,
    /// What the fit says of itself.
    pub(crate) fit: Fit,
}

/// The centroids and how they were found.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) centroids: Vec<f32>,
    pub(crate) inertia: f64,
    pub(crate) iterations: u32,
    pub(crate) silhouette: Option<f64>,
}

/// Cluster the embeddings of a pool that is not empty.
pub(crate) fn cluster(pool: &Pool, ids: &[u64], spec: &Spec, ctx: &Ctx) -> Result<Clusters> {
    let ctx = &ctx.child("k-means");
    let vectors = Vectors::new(pool, ids, spec.unit, ctx);
    let key = serde_json::to_value(spec).map_err(|e| Error::data("params/type", e.to_string()))?;
    let dim = vectors.dim()?;
    let fitted = ctx.remember("fit", &key, || fit(&vectors, ids, spec, ctx)?.to_batch(dim))?;
    let fit = Fit::from_batch(fitted)?;
    let assigned = ctx.remember("assign", &key, || assign(&vectors, ids.len(), &fit.centroids, dim))?;
    let assigned = Pool::from_batch(assigned);
    let labels = assigned.counts(&Column::CLUSTER)?;
    let sq_dist = assigned.numbers(&Column::named("sq_dist"))?;
    ctx.progress().finish();
    Ok(Clusters { labels, sq_dist, fit })
}

fn fit(vectors: &Vectors<'_>, ids: &[u64], spec: &Spec, ctx: &Ctx) -> Result<Fit> {
    let stream = ctx.stream("fit sample");
    let key = |position: &usize| (stream(ids[*position]).bits(), ids[*position]);
    let mut sample: Vec<usize> = (0..ids.len()).collect();
    if spec.fit_rows < sample.len() {
        sample.sort_by_cached_key(key);
        sample.truncate(spec.fit_rows.max(spec.k));
        sample.sort_unstable();
    }
    let block = vectors.at(&sample)?;
    let sample_ids: Vec<u64> = sample.iter().map(|&position| ids[position]).collect();
    let params = KMeansParams {
        max_iters: spec.iterations,
        restarts: spec.restarts,
        ..KMeansParams::new(spec.k, ctx.derived_seed("k-means"))
    };
    let passes = Passes::announce(&params, sample.len(), ids.len(), ctx);
    let found = kmeans::fit(ctx.backend(), block.view()?, Some(&sample_ids), &params, &|rows| passes.tick(rows))?;
    ctx.progress().note(format!("{} iterations", found.iterations));
    ctx.progress().set_total(passes.seen.load(Ordering::Relaxed) + ids.len() as u64);
    let mut looked_at: Vec<usize> = (0..sample.len()).collect();
    looked_at.sort_by_cached_key(|&row| key(&sample[row]));
    looked_at.truncate(SILHOUETTE_ROWS);
    let silhouette = silhouette(&block, &looked_at, &found, ctx)?;
    Ok(Fit { inertia: found.inertia, iterations: found.iterations, silhouette, centroids: found.centroids })
}

/// The fit's part in the progress display: a pass a Lloyd iteration, at most as many as the parameters allow.
struct Passes<'a> {
    rows: u64,
    seen: AtomicU64,
    ctx: &'a Ctx,
}

impl<'a> Passes<'a> {
    fn announce(params: &KMeansParams, rows: usize, n: usize, ctx: &'a Ctx) -> Self {
        let passes = u64::from(params.max_iters + 1) * u64::from(params.restarts.max(1));
        ctx.progress().set_total(passes * rows as u64 + n as u64);
        Self { rows: rows.max(1) as u64, seen: AtomicU64::new(0), ctx }
    }

    fn tick(&self, rows: u64) -> bool {
        let seen = self.seen.fetch_add(rows, Ordering::Relaxed) + rows;
        let note = || {
            if seen == 0 { "choosing the start".to_owned() } else { format!("iteration {}", seen.div_ceil(self.rows)) }
        };
        self.ctx.progress().note(note());
        self.ctx.tick(rows).is_ok()
    }
}

/// Mean of `(b - a) / max(a, b)`: `a` the distance to the nearest centroid, `b` to the next. None for a single cluster.
fn silhouette(block: &Block, rows: &[usize], found: &KMeans, ctx: &Ctx) -> Result<Option<f64>> {
    let centroids = MatRef::new(&found.centroids, found.dim)?;
    let filled: Vec<f32> =
        (0..found.k).filter(|&j| found.sizes[j] > 0).flat_map(|j| centroids.row(j)).copied().collect();
    if filled.len() < 2 * found.dim || rows.is_empty() {
        return Ok(None);
    }
    let view = block.view()?;
    let queries: Vec<f32> = rows.iter().flat_map(|&row| view.row(row)).copied().collect();
    let filled = MatRef::new(&filled, found.dim)?;
    let near = ctx.backend().top_k(MatRef::new(&queries, found.dim)?, filled, 2, Metric::SqEuclidean, None)?;
    let one = |pair: &[f32]| {
        let (a, b) = (f64::from(pair[0]).sqrt(), f64::from(pair[1]).sqrt());
        if b > 0.0 { (b - a) / b } else { 0.0 }
    };
    let sum: f64 = near.value.chunks_exact(2).map(one).sum();
    Ok(Some(sum / f64::from(u32::try_from(rows.len()).unwrap_or(u32::MAX))))
}

/// Nearest centroid of every position, for centroids found before.
pub(crate) fn assign_to(centroids: &[f32], pool: &Pool, ids: &[u64], unit: bool, ctx: &Ctx) -> Result<Vec<u32>> {
    let vectors = Vectors::new(pool, ids, unit, ctx);
    let dim = vectors.dim()?;
    let assigned = assign(&vectors, ids.len(), centroids, dim)?;
    Pool::from_batch(assigned).counts(&Column::CLUSTER)
}

fn assign(vectors: &Vectors<'_>, n: usize, centroids: &[f32], dim: usize) -> Result<RecordBatch> {
    let centroids = MatRef::new(centroids, dim)?;
    let (mut labels, mut sq_dist) = (vec![0; n], vec![0.0; n]);
    vectors.each(|range, x, ctx| {
        Ok(ctx.backend().assign(x, centroids, &mut labels[range.clone()], &mut sq_dist[range])?)
    })?;
    let labels: ArrayRef = Arc::new(UInt32Array::from(labels));
    let sq_dist: ArrayRef = Arc::new(Float32Array::from(sq_dist));
    Ok(RecordBatch::try_from_iter([(Column::CLUSTER.as_str(), labels), ("sq_dist", sq_dist)])?)
}

impl Fit {
    /// One row a centroid; the figures of the whole fit stand in every row.
    fn to_batch(&self, dim: usize) -> Result<RecordBatch> {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let width = i32::try_from(dim).map_err(|_| Error::data("embedding/shape", "vectors are too long"))?;
        let values = Arc::new(Float32Array::from(self.centroids.clone()));
        let centroids = FixedSizeListArray::try_new(item, width, values, None)?;
        let k = self.centroids.len() / dim;
        let columns: [(&str, ArrayRef); 4] = [
            ("centroid", Arc::new(centroids)),
            ("inertia", Arc::new(Float64Array::from(vec![self.inertia; k]))),
            ("iterations", Arc::new(UInt32Array::from(vec![self.iterations; k]))),
            ("silhouette", Arc::new(Float64Array::from(vec![self.silhouette.unwrap_or(f64::NAN); k]))),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }

    fn from_batch(batch: RecordBatch) -> Result<Self> {
        let broken =
            || Error::data("cache/broken", "remembered clusters cannot be read").hint("run 'curate cache prune'");
        let float = |name: &str| {
            let column = batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Float64Type>()?.values().first());
            column.copied().ok_or_else(broken)
        };
        let iterations = batch.column_by_name("iterations").and_then(|c| c.as_primitive_opt::<UInt32Type>());
        let iterations = iterations.and_then(|c| c.values().first().copied()).ok_or_else(broken)?;
        let (inertia, silhouette) = (float("inertia")?, Some(float("silhouette")?).filter(|s| s.is_finite()));
        let block = Pool::from_batch(batch).block(0, &Column::named("centroid"))?;
        Ok(Self { centroids: block.view()?.data().to_vec(), inertia, iterations, silhouette })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fit_survives_being_remembered() {
        let fit = Fit { centroids: vec![1.0, 2.0, 3.0, 4.0], inertia: 0.5, iterations: 3, silhouette: None };
        let back = Fit::from_batch(fit.to_batch(2).unwrap()).unwrap();
        assert_eq!((back.centroids, back.inertia, back.iterations), (fit.centroids, 0.5, 3));
        assert_eq!(back.silhouette, None);
    }

    #[test]
    fn two_groups_on_a_line_are_found_from_any_sample() {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let values = Arc::new(Float32Array::from(vec![0.0, 0.1, 10.0, 10.1, 0.2, 9.9]));
        let list: ArrayRef = Arc::new(FixedSizeListArray::new(item, 1, values, None));
        let pool = Pool::from_batch(RecordBatch::try_from_iter([("embedding", list)]).unwrap());
        for fit_rows in [4, 6] {
            let spec = Spec { k: 2, iterations: 10, restarts: 5, fit_rows, unit: false };
            let found = cluster(&pool, &pool.ids().unwrap(), &spec, &Ctx::new(1)).unwrap();
            let first = found.labels[0];
            let same: Vec<bool> = found.labels.iter().map(|&label| label == first).collect();
            assert_eq!(same, [true, true, false, false, true, false]);
            assert!(found.fit.silhouette.unwrap() > 0.9);
        }
    }
}
