//! Clusters for their own sake: what `curate cluster` writes, by the same fit that `kmeans-quality` selects from.

use crate::cluster::{Spec, cluster};
use curate_core::{Ctx, Error, Pool, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to fit.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterParams {
    /// Number of clusters; 1024 from 100,000 rows on, else one for 200 rows.
    pub k: Option<usize>,
    /// Most iterations.
    pub iterations: u32,
    /// Starts, the best wins; 0 chooses by the size of the data.
    pub restarts: u32,
    /// Scale the vectors to unit length first.
    pub normalize: bool,
}

impl Default for ClusterParams {
    fn default() -> Self {
        Self { k: None, iterations: 25, restarts: 0, normalize: false }
    }
}

/// Cluster of every position of the pool.
#[derive(Clone, Debug)]
pub struct Clustering {
    /// Clusters.
    pub k: usize,
    /// Cluster of every position, below `k`.
    pub labels: Vec<u32>,
    /// Squared distance of every position to its centroid.
    pub sq_dist: Vec<f32>,
    /// Sum of squared distances over the rows fitted.
    pub inertia: f64,
    /// Iterations of the fit.
    pub iterations: u32,
}

/// Clusters to choose when the user does not say: 1024 from 100,000 rows on, else one for 200 rows, at least one.
#[must_use]
pub fn auto_k(rows: usize) -> usize {
    if rows >= 100_000 { 1024 } else { (rows / 200).max(1) }
}

/// Cluster the embeddings of a pool.
///
/// # Errors
/// `params/range` when `k` is 0 or above the rows; `input/no-rows`; what the kernels give; `cancelled`.
pub fn clusters(pool: &Pool, params: &ClusterParams, ctx: &Ctx) -> Result<Clustering> {
    let rows = pool.rows();
    if rows == 0 {
        return Err(Error::data("input/no-rows", "there is no row to cluster").hint("check the input and --where"));
    }
    let k = params.k.unwrap_or_else(|| auto_k(rows));
    if k == 0 || k > rows {
        return Err(Error::usage("params/range", format!("k = {k} does not fit {rows} rows"))
            .hint(format!("take 1 to {rows} clusters")));
    }
    let fit_rows = k.saturating_mul(256).clamp(k, rows);
    let spec = Spec { k, iterations: params.iterations, restarts: params.restarts, fit_rows, unit: params.normalize };
    let found = cluster(pool, &pool.ids()?, &spec, ctx)?;
    Ok(Clustering {
        k,
        labels: found.labels,
        sq_dist: found.sq_dist,
        inertia: found.fit.inertia,
        iterations: found.fit.iterations,
    })
}
