//! The corpus on a plane: the two directions along which the vectors differ most, and a draw of the rows seen along them.
//!
//! `V <- orth(sum_i (x_i - m) (x_i - m)^T V)` over drawn rows until the directions stand still; a point is `V^T (x_i - m)`.
//! Source: principal components by orthogonal iteration (Golub and Van Loan, Matrix Computations, section 8.2). Sums run over
//! fixed blocks of rows in a fixed order, so that threads do not matter. Cost: 8 s d an iteration for s drawn rows.

use super::data::Map;
use super::table::{State, Table};
use curate_core::kernels::MatRef;
use curate_core::{Column, Ctx, Pool, Result};
use rayon::prelude::*;

/// Rows drawn from the corpus, and picks drawn besides.
const POINTS: usize = 20_000;

/// Most iterations, and the change of a direction that ends them.
const ITERATIONS: usize = 60;
const STILL: f64 = 1e-10;

/// Rows of a block.
const BLOCK: usize = 512;

/// Positions on the map, ascending: a draw of all rows, and the picks.
pub(super) struct Drawn {
    pub(super) rows: Vec<usize>,
    /// Which of `rows` are of the draw of all rows.
    uniform: Vec<usize>,
}

/// Draw the rows of the map: at most [`POINTS`], and less where their vectors would not fit a share of the memory limit.
pub(super) fn draw(table: &Table, dim: usize, ctx: &Ctx) -> Drawn {
    let fits = usize::try_from(ctx.memory().limit_bytes() / 16).unwrap_or(usize::MAX) / (4 * dim.max(1));
    let most = fits.clamp(16, POINTS);
    let all = smallest(table, (0..table.rows()).collect(), most, ctx);
    let picks = smallest(table, table.picks.clone(), most, ctx);
    let mut rows: Vec<usize> = all.iter().chain(&picks).copied().collect();
    rows.sort_unstable();
    rows.dedup();
    let uniform = all.iter().filter_map(|at| rows.binary_search(at).ok()).collect();
    Drawn { rows, uniform }
}

/// The `most` of these positions whose rows have the smallest keys, ascending: a uniform draw, the same for any chunks.
pub(super) fn smallest(table: &Table, positions: Vec<usize>, most: usize, ctx: &Ctx) -> Vec<usize> {
    smallest_of(&table.ids, positions, most, ctx)
}

/// The same for rows with these ids.
pub(crate) fn smallest_of(ids: &[u64], mut positions: Vec<usize>, most: usize, ctx: &Ctx) -> Vec<usize> {
    if positions.len() > most {
        let stream = ctx.stream("map");
        let mut keyed: Vec<(u64, usize)> = positions.iter().map(|&at| (stream(ids[at]).bits(), at)).collect();
        keyed.select_nth_unstable(most);
        positions = keyed[..most].iter().map(|key| key.1).collect();
    }
    positions.sort_unstable();
    positions
}

/// The drawn rows on the plane; texts and colours are left for the caller.
pub(super) fn map(pool: &Pool, table: &Table, drawn: &Drawn, ctx: &Ctx) -> Result<Map> {
    let block = pool.gather(&Column::EMBEDDING, &drawn.rows, ctx)?;
    let vectors = block.view()?;
    let plane = Plane::fit(vectors, &drawn.uniform, ctx)?;
    let points: Vec<[f64; 2]> = (0..vectors.rows()).into_par_iter().map(|i| plane.project(vectors.row(i))).collect();
    let [x, y] = [0, 1].map(|axis| placed(points.iter().map(|point| point[axis]).collect(), &points));
    let state = |&at: &usize| match table.state[at] {
        State::Left => 0,
        State::Picked => 1,
        State::Removed => 2,
    };
    let state: Vec<u8> = drawn.rows.iter().map(state).collect();
    Ok(Map {
        variance: plane.variance,
        pool_rows: table.rows(),
        picked_points: drawn.rows.iter().filter(|&&at| matches!(table.state[at], State::Picked)).count(),
        row: drawn.rows.iter().map(|&at| table.ids[at]).collect(),
        x,
        y,
        state,
        ..Map::default()
    })
}

/// Coordinates as whole numbers, one scale for both axes, in the middle.
fn placed(own: Vec<f64>, all: &[[f64; 2]]) -> Vec<u16> {
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |r, v| (r.0.min(v), r.1.max(v)))
    };
    let spans = [0, 1].map(|axis| range(&mut all.iter().map(|point| point[axis])));
    let widest = spans.iter().map(|span| span.1 - span.0).fold(0.0, f64::max);
    let (low, high) = range(&mut own.iter().copied());
    let side = f64::from(Map::SIDE);
    let scale = if widest > 0.0 { side / widest } else { 0.0 };
    let middle = f64::midpoint(low, high);
    own.into_iter().map(|value| ((value - middle) * scale + side / 2.0).round().clamp(0.0, side) as u16).collect()
}

type Axes = [Vec<f64>; 2];

/// The two main directions of some vectors.
pub(crate) struct Plane {
    axes: Axes,
    mean: Vec<f64>,
    /// Each direction's share of the variance.
    pub(crate) variance: [f64; 2],
}

impl Plane {
    /// The directions in which these rows differ most.
    pub(crate) fn fit(vectors: MatRef<'_>, rows: &[usize], ctx: &Ctx) -> Result<Self> {
        let (axes, mean, variance) = axes(vectors, rows, ctx)?;
        Ok(Self { axes, mean, variance })
    }

    /// Where a vector lies on the plane.
    pub(crate) fn project(&self, row: &[f32]) -> [f64; 2] {
        project(row, &self.mean, &self.axes)
    }
}

/// The two main directions, the centre, and each direction's share of the variance.
fn axes(vectors: MatRef<'_>, rows: &[usize], ctx: &Ctx) -> Result<(Axes, Vec<f64>, [f64; 2])> {
    let dim = vectors.dim();
    let count = rows.len().max(1) as f64;
    let sum = summed(rows, dim, |row, sum| add(sum, 1.0, vectors.row(row).iter().map(|&v| f64::from(v))));
    let mean: Vec<f64> = sum.iter().map(|total| total / count).collect();
    let stream = ctx.stream("axes");
    let start = |axis: u64| (0..dim as u64).map(|i| stream(axis << 32 | i).uniform() - 0.5).collect();
    let mut axes = orthonormal([start(0), start(1)]);
    for _ in 0..ITERATIONS {
        let next = orthonormal(moved(vectors, rows, &mean, &axes));
        let change = (0..2).map(|a| 1.0 - dot(&next[a], &axes[a]).abs()).fold(0.0, f64::max);
        axes = next;
        ctx.tick(0)?;
        if change < STILL {
            break;
        }
    }
    let spread = summed(rows, 3, |row, sum| {
        let [u, v] = project(vectors.row(row), &mean, &axes);
        let all: f64 = vectors.row(row).iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2)).sum();
        add(sum, 1.0, [u * u, v * v, all].into_iter());
    });
    let share = |part: f64| if spread[2] > 0.0 { part / spread[2] } else { 0.0 };
    Ok((axes.map(signed), mean, [share(spread[0]), share(spread[1])]))
}

/// One step of the iteration: both directions times the second moment.
fn moved(vectors: MatRef<'_>, rows: &[usize], mean: &[f64], axes: &Axes) -> Axes {
    let dim = vectors.dim();
    let sums = summed(rows, 2 * dim, |row, sum| {
        let parts = project(vectors.row(row), mean, axes);
        let centred = || vectors.row(row).iter().zip(mean).map(|(x, m)| f64::from(*x) - m);
        let (first, second) = sum.split_at_mut(dim);
        add(first, parts[0], centred());
        add(second, parts[1], centred());
    });
    [sums[..dim].to_vec(), sums[dim..].to_vec()]
}

/// Add up what `each` adds for every row, block by block in order.
fn summed(rows: &[usize], width: usize, each: impl Fn(usize, &mut [f64]) + Sync) -> Vec<f64> {
    let blocks: Vec<Vec<f64>> = rows
        .par_chunks(BLOCK)
        .map(|block| {
            let mut sum = vec![0.0; width];
            block.iter().for_each(|&row| each(row, &mut sum));
            sum
        })
        .collect();
    let mut total = vec![0.0; width];
    blocks.into_iter().for_each(|block| add(&mut total, 1.0, block.into_iter()));
    total
}

fn add(sum: &mut [f64], factor: f64, values: impl Iterator<Item = f64>) {
    sum.iter_mut().zip(values).for_each(|(total, value)| *total += factor * value);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

fn project(row: &[f32], mean: &[f64], axes: &Axes) -> [f64; 2] {
    let mut along = [0.0; 2];
    for (((&value, mean), first), second) in row.iter().zip(mean).zip(&axes[0]).zip(&axes[1]) {
        let centred = f64::from(value) - mean;
        along[0] += centred * first;
        along[1] += centred * second;
    }
    along
}

/// Unit length, and the second without the first's direction; zero where nothing is left.
fn orthonormal([mut first, mut second]: Axes) -> Axes {
    scale(&mut first);
    for _ in 0..2 {
        let along = dot(&first, &second);
        second.iter_mut().zip(&first).for_each(|(s, f)| *s -= along * f);
        scale(&mut second);
    }
    [first, second]
}

fn scale(axis: &mut [f64]) {
    let norm = dot(axis, axis).sqrt();
    axis.iter_mut().for_each(|v| *v = if norm > 0.0 { *v / norm } else { 0.0 });
}

/// The direction whose number of largest size is positive, so that a map is not a mirror image of itself.
fn signed(mut axis: Vec<f64>) -> Vec<f64> {
    let largest = axis.iter().copied().fold(0.0, |best: f64, v| if v.abs() > best.abs() { v } else { best });
    if largest < 0.0 {
        axis.iter_mut().for_each(|v| *v = -*v);
    }
    axis
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cross_lies_along_its_arms() {
        let data = [3.0, 0.0, 0.0, -3.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, -1.0f32];
        let vectors = MatRef::new(&data, 3).unwrap();
        let (axes, mean, variance) = axes(vectors, &[0, 1, 2, 3], &Ctx::new(1)).unwrap();
        assert!(mean.iter().all(|m| m.abs() < 1e-12));
        assert!((axes[0][0] - 1.0).abs() < 1e-6 && (axes[1][2] - 1.0).abs() < 1e-6, "{axes:?}");
        assert!((variance[0] - 0.9).abs() < 1e-6 && (variance[1] - 0.1).abs() < 1e-6, "{variance:?}");
    }

    #[test]
    fn equal_rows_fall_on_one_point() {
        let data = [0.5f32; 12];
        let (axes, mean, variance) = axes(MatRef::new(&data, 3).unwrap(), &[0, 1, 2, 3], &Ctx::new(1)).unwrap();
        assert!(variance.iter().all(|share| *share == 0.0), "{variance:?}");
        let points: Vec<[f64; 2]> = data.chunks(3).map(|row| project(row, &mean, &axes)).collect();
        assert_eq!(placed(vec![0.0; 4], &points), [2048; 4]);
    }
}
