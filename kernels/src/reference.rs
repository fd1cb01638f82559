//! The plain bodies: slow, obvious, accumulated in f64; what every other backend is tested against.

use crate::backend::{PlainLloyd, check_assign, check_finite, check_len, check_own, check_top_k};
use crate::{Backend, KernelError, Lloyd, MatRef, Metric, Neighbours};

/// The plain bodies. Cost: n k d multiplications in f64, one thread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reference;

fn sq_dist(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn row_sq_norms(&self, x: MatRef<'_>) -> Vec<f32> {
        (0..x.rows()).map(|i| dot(x.row(i), x.row(i)) as f32).collect()
    }

    fn assign(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &mut [u32],
        sq_dists: &mut [f32],
    ) -> Result<(), KernelError> {
        check_assign(x, centroids, labels.len(), sq_dists.len())?;
        check_finite("assign", &self.row_sq_norms(x))?;
        check_finite("assign: centroids", &self.row_sq_norms(centroids))?;
        for i in 0..x.rows() {
            let mut best = (f64::INFINITY, 0);
            for j in 0..centroids.rows() {
                let dist = sq_dist(x.row(i), centroids.row(j));
                if dist < best.0 {
                    best = (dist, j);
                }
            }
            (sq_dists[i], labels[i]) = (best.0 as f32, best.1 as u32);
        }
        Ok(())
    }

    fn top_k(
        &self,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        skip_self: Option<usize>,
    ) -> Result<Neighbours, KernelError> {
        check_top_k(queries, base)?;
        check_finite("top_k: queries", &self.row_sq_norms(queries))?;
        check_finite("top_k: base", &self.row_sq_norms(base))?;
        let mut out = Neighbours { k, ..Neighbours::default() };
        for i in 0..queries.rows() {
            let skipped = skip_self.map(|offset| offset + i);
            let mut all: Vec<(f64, u32)> = (0..base.rows())
                .filter(|&j| Some(j) != skipped)
                .map(|j| match metric {
                    Metric::Dot => (-dot(queries.row(i), base.row(j)), j as u32),
                    Metric::SqEuclidean => (sq_dist(queries.row(i), base.row(j)), j as u32),
                })
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            for slot in 0..k {
                let (key, index) = all.get(slot).copied().unwrap_or((f64::INFINITY, u32::MAX));
                out.index.push(index);
                out.value.push(if metric == Metric::Dot { -key as f32 } else { key as f32 });
            }
        }
        Ok(out)
    }

    fn min_sq_dist_update(&self, x: MatRef<'_>, point: &[f32], min_sq_dist: &mut [f32]) -> Result<(), KernelError> {
        check_len("min_sq_dist_update", "columns", x.dim(), point.len())?;
        check_len("min_sq_dist_update", "distances", x.rows(), min_sq_dist.len())?;
        for (i, slot) in min_sq_dist.iter_mut().enumerate() {
            let dist = sq_dist(x.row(i), point) as f32;
            if !dist.is_finite() {
                return Err(KernelError::NotFinite { op: "min_sq_dist_update", row: i });
            }
            *slot = slot.min(dist);
        }
        Ok(())
    }

    fn own_sq_dist(
        &self,
        x: MatRef<'_>,
        centroids: MatRef<'_>,
        labels: &[u32],
        sq_dists: &mut [f32],
    ) -> Result<(), KernelError> {
        check_own(x, centroids, labels, sq_dists.len())?;
        for (i, slot) in sq_dists.iter_mut().enumerate() {
            *slot = sq_dist(x.row(i), centroids.row(labels[i] as usize)) as f32;
        }
        Ok(())
    }

    fn lloyd<'a>(&'a self, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
        Ok(Box::new(PlainLloyd { backend: self, x, sq_dist: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_by_hand() {
        let x = [0.0, 0.0, 4.0, 0.0, 2.0, 0.0];
        let c = [0.0, 0.0, 4.0, 3.0, 4.0, 0.0];
        let (mut labels, mut dist) = ([9; 3], [9.0; 3]);
        let (x, c) = (MatRef::new(&x, 2).unwrap(), MatRef::new(&c, 2).unwrap());
        Reference.assign(x, c, &mut labels, &mut dist).unwrap();
        assert_eq!((labels, dist), ([0, 2, 0], [0.0, 0.0, 4.0]));
        let near = Reference.top_k(x, x, 3, Metric::SqEuclidean, Some(0)).unwrap();
        assert_eq!(near.index, [2, 1, u32::MAX, 2, 0, u32::MAX, 0, 1, u32::MAX]);
        let near = Reference.top_k(x, c, 1, Metric::Dot, None).unwrap();
        assert_eq!(near.index, [0, 1, 1]);
        assert_eq!(near.value, [0.0, 16.0, 8.0]);
    }
}
