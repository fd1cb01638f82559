//! Kernels of any body against sums in double precision, and those of a device against the processor's.
//!
//! Bound of an f32 sum of d terms of one sign in any order: `(d + 8) 2^-24`, relative (Higham 2002, section 4.2).

#![allow(clippy::many_single_char_names)] // reason: n rows of d numbers, as in the books

use super::{Check, Size, Subject, worst};
use crate::Result;
use curate_core::kernels::transport::{Dense, Entropic, Ground, Points, sinkhorn};
use curate_core::kernels::{MatRef, Metric, SegmentSums};

/// Half a unit in the last place of f32.
const ROUNDING: f64 = 1.0 / 16_777_216.0;

/// Rows, centroids, columns.
const fn shape(size: Size) -> (usize, usize, usize) {
    match size {
        Size::Tiny => (150, 33, 20),
        Size::Quick => (1500, 130, 96),
        Size::Full => (6000, 1024, 128),
    }
}

pub(super) fn kernels(s: &Subject<'_>) -> Result<Vec<Check>> {
    let mut all = Vec::new();
    if let Some(cuda) = &s.cuda {
        s.ctx.tick(0)?;
        match cuda.checks() {
            Ok(checks) => all.extend(checks.into_iter().map(|check| Check {
                name: format!("{} (against the processor)", check.name),
                error: Some(check.error),
                bound: check.bound,
                ok: check.passes(),
                failure: None,
            })),
            Err(why) => all.push(s.check("kernels against the processor", 0.0, || Err(why.into()))?),
        }
    }
    let (n, k, d) = shape(s.size);
    let (rows, centroids) = (grouped(s, "rows", n, d), grouped(s, "centroids", k, d));
    let (x, c) = (MatRef::new(&rows, d)?, MatRef::new(&centroids, d)?);
    let relative = (d as f64 + 8.0) * ROUNDING;
    all.push(s.check("assign: excess of a distance over the least", 3.0 * relative, || nearest(s, x, c))?);
    all.push(s.check("distance to the own centroid", relative, || own(s, x, c))?);
    all.push(s.check("squared norm", relative, || Ok(norms(s, x)))?);
    all.push(s.check("least distance, lowered point by point", relative, || lowered(s, x))?);
    all.push(s.check("nearest rows: excess over the least", 3.0 * relative, || neighbours(s, x, c))?);
    all.push(s.check("sums of segments: mean", 2e-7, || means(s, x, k))?);
    all.push(s.check("nuclear norm of a matrix made from its singular values", 2e-6, || nuclear(s))?);
    all.push(s.check("transport cost", 1e-6, || transport(s, x, c))?);
    all.push(s.check("gains of coverage, of the terms' sum", relative, || gains(s, x, c))?);
    all.push(s.check("Beta draws: standard errors of the mean", 5.0, || betas(s))?);
    Ok(all)
}

/// Rows around a few centres, within [-1.5, 1.5].
fn grouped(s: &Subject<'_>, label: &str, n: usize, d: usize) -> Vec<f32> {
    const GROUPS: u64 = 13;
    let draw = |label: &str, row: u64, width: f64| {
        let mut rng = s.ctx.rng(label, row);
        (0..d).map(move |_| ((2.0 * rng.uniform() - 1.0) * width) as f32).collect::<Vec<f32>>()
    };
    let centres: Vec<Vec<f32>> = (0..GROUPS).map(|group| draw("centre", group, 1.0)).collect();
    let row = |i: u64| {
        let noise = draw(label, i, 0.5);
        noise
            .into_iter()
            .zip(&centres[(i % GROUPS) as usize])
            .map(|(noise, centre)| centre + noise)
            .collect::<Vec<f32>>()
    };
    (0..n as u64).flat_map(row).collect()
}

fn sq_dist(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Rows that are compared with all centroids in double precision: enough to see a defect, few enough to take no time.
fn some(x: MatRef<'_>) -> impl Iterator<Item = usize> {
    (0..x.rows()).step_by(x.rows().div_ceil(500))
}

fn least(row: &[f32], c: MatRef<'_>) -> f64 {
    (0..c.rows()).map(|j| sq_dist(row, c.row(j))).fold(f64::INFINITY, f64::min)
}

fn nearest(s: &Subject<'_>, x: MatRef<'_>, c: MatRef<'_>) -> Result<f64> {
    let (mut labels, mut dist) = (vec![0; x.rows()], vec![0.0; x.rows()]);
    s.backend.assign(x, c, &mut labels, &mut dist)?;
    let mut again = vec![0; x.rows()];
    s.backend.lloyd(x)?.assign(c, &mut again, &|_| true)?;
    if again != labels {
        return Ok(f64::INFINITY);
    }
    let excess = |i: usize| sq_dist(x.row(i), c.row(labels[i] as usize)) / least(x.row(i), c) - 1.0;
    Ok(worst(some(x).map(excess)))
}

fn own(s: &Subject<'_>, x: MatRef<'_>, c: MatRef<'_>) -> Result<f64> {
    let labels: Vec<u32> = (0..x.rows()).map(|i| (i * i % c.rows()) as u32).collect();
    let mut found = vec![0.0; x.rows()];
    s.backend.own_sq_dist(x, c, &labels, &mut found)?;
    let error = |(i, found): (usize, &f32)| {
        let wanted = sq_dist(x.row(i), c.row(labels[i] as usize));
        (f64::from(*found) - wanted).abs() / wanted
    };
    Ok(worst(found.iter().enumerate().map(error)))
}

fn norms(s: &Subject<'_>, x: MatRef<'_>) -> f64 {
    let error = |(i, found): (usize, f32)| {
        let wanted = dot(x.row(i), x.row(i));
        (f64::from(found) - wanted).abs() / wanted
    };
    worst(s.backend.row_sq_norms(x).into_iter().enumerate().map(error))
}

fn lowered(s: &Subject<'_>, x: MatRef<'_>) -> Result<f64> {
    let points = [x.rows() / 3, x.rows() / 2];
    let mut found = vec![f32::MAX; x.rows()];
    for point in points {
        s.backend.min_sq_dist_update(x, x.row(point), &mut found)?;
    }
    let error = |(i, found): (usize, &f32)| {
        let wanted = points.map(|point| sq_dist(x.row(i), x.row(point))).into_iter().fold(f64::INFINITY, f64::min);
        (f64::from(*found) - wanted).abs() / wanted.max(f64::MIN_POSITIVE)
    };
    Ok(worst(found.iter().enumerate().map(error)))
}

fn neighbours(s: &Subject<'_>, x: MatRef<'_>, c: MatRef<'_>) -> Result<f64> {
    const K: usize = 8;
    let queries = x.slice(0..x.rows().min(200));
    let found = s.backend.top_k(queries, c, K, Metric::SqEuclidean, None)?;
    let error = |(i, index): (usize, &[u32])| {
        let mut all: Vec<f64> = (0..c.rows()).map(|j| sq_dist(x.row(i), c.row(j))).collect();
        all.sort_by(f64::total_cmp);
        let one = |(slot, j): (usize, &u32)| {
            if (*j as usize) < c.rows() {
                sq_dist(x.row(i), c.row(*j as usize)) / all[slot] - 1.0
            } else {
                f64::INFINITY
            }
        };
        worst(index.iter().enumerate().map(one))
    };
    Ok(worst(found.index.chunks(K).enumerate().map(error)))
}

fn means(s: &Subject<'_>, x: MatRef<'_>, k: usize) -> Result<f64> {
    let labels: Vec<u32> = (0..x.rows()).map(|i| (i * i % k) as u32).collect();
    let mut sums = SegmentSums::new(k, x.dim(), 2.0, x.rows() as u64);
    s.backend.segment_sums(x, &labels, &mut sums)?;
    let mut wanted = vec![0.0f64; k * x.dim()];
    for (i, label) in labels.iter().enumerate() {
        let sum = &mut wanted[*label as usize * x.dim()..][..x.dim()];
        sum.iter_mut().zip(x.row(i)).for_each(|(sum, v)| *sum += f64::from(*v));
    }
    let (mut mean, mut errors) = (vec![0.0f32; x.dim()], Vec::new());
    for (j, count) in sums.counts().iter().enumerate().filter(|(_, count)| **count > 0) {
        sums.mean_into(j, &mut mean);
        let own = &wanted[j * x.dim()..][..x.dim()];
        errors.extend(mean.iter().zip(own).map(|(mean, sum)| (f64::from(*mean) - sum / *count as f64).abs()));
    }
    Ok(worst(errors))
}

/// Rows of a reflection `1 - 2 v v^T`, each times its singular value.
fn nuclear(s: &Subject<'_>) -> Result<f64> {
    let (rows, d) = if s.size == Size::Tiny { (12, 50) } else { (48, 700) };
    let mut rng = s.ctx.rng("reflection", 0);
    let mut v: Vec<f64> = (0..d).map(|_| rng.uniform() - 0.5).collect();
    let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    v.iter_mut().for_each(|v| *v /= length);
    let values: Vec<f64> = (0..rows).map(|i| 0.95f64.powi(i)).collect();
    let entry = |i: usize, j: usize| values[i] * (f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j]);
    let matrix: Vec<f32> =
        (0..values.len()).flat_map(|i| (0..d).map(move |j| (i, j))).map(|(i, j)| entry(i, j) as f32).collect();
    let found = s.backend.nuclear_norms(&[MatRef::new(&matrix, d)?])?;
    let wanted: f64 = values.iter().sum();
    Ok(worst(found.iter().map(|found| (found - wanted).abs() / wanted)))
}

fn transport(s: &Subject<'_>, x: MatRef<'_>, c: MatRef<'_>) -> Result<f64> {
    let (n, m) = (x.rows().min(120), c.rows().min(70));
    let (x, c) = (x.slice(0..n), c.slice(0..m));
    let (a, b) = (vec![1.0 / n as f64; n], vec![1.0 / m as f64; m]);
    let wide: Vec<f64> = (0..n).flat_map(|i| (0..m).map(move |j| sq_dist(x.row(i), c.row(j)))).collect();
    let params = Entropic { tolerance: 1e-10, ..Entropic::new(x.dim() as f64 / 20.0) };
    let wanted = sinkhorn(&Dense::new(&wide, m)?, &a, &b, &params, &|_| true)?;
    let found = s.backend.sinkhorn(&Points::new(x, c, Ground::SqEuclidean)?, &a, &b, &params, &|_| true)?;
    Ok(worst([(found.cost - wanted.cost).abs() / wanted.cost, found.error]))
}

fn gains(s: &Subject<'_>, x: MatRef<'_>, c: MatRef<'_>) -> Result<f64> {
    let c = c.slice(0..c.rows().min(40));
    let best: Vec<f32> = (0..x.rows()).map(|i| x.dim() as f32 * (i % 7) as f32 / 28.0).collect();
    let found = s.backend.coverage_gains(x, c, &best)?;
    let error = |(j, found): (usize, &f64)| {
        let term = |(i, best): (usize, &f32)| (dot(x.row(i), c.row(j)) - f64::from(*best)).max(0.0);
        let size = |(i, best): (usize, &f32)| {
            let products = x.row(i).iter().zip(c.row(j)).map(|(a, b)| (f64::from(*a) * f64::from(*b)).abs());
            products.sum::<f64>() + f64::from(*best)
        };
        let [wanted, sizes] = [best.iter().enumerate().map(term).sum::<f64>(), best.iter().enumerate().map(size).sum()];
        (found - wanted).abs() / sizes
    };
    Ok(worst(found.iter().enumerate().map(error)))
}

fn betas(s: &Subject<'_>) -> Result<f64> {
    let count = if s.size == Size::Tiny { 2000 } else { 20_000 };
    let rows: Vec<u64> = (0..count).collect();
    let mut all = Vec::new();
    for [a, b] in [[1.0, 1.0], [2.0, 5.0], [40.0, 3.0], [0.3, 0.6]] {
        let draws = s.backend.beta_draws(11, &rows, &vec![[a, b]; rows.len()])?;
        if !draws.iter().all(|draw| (0.0..=1.0).contains(draw)) {
            return Ok(f64::INFINITY);
        }
        let mean = draws.iter().sum::<f64>() / count as f64;
        let deviation = (a * b / ((a + b).powi(2) * (a + b + 1.0)) / count as f64).sqrt();
        all.push((mean - a / (a + b)).abs() / deviation);
    }
    Ok(worst(all))
}
