//! Influence: by how much the risk on other rows rises when the surrogate is trained without this one.
//!
//! `influence_i = v . (H + damping I)^-1 grad_i`, `v` the gradient of the risk, `H` the Hessian; positive: removing the row harms.
//! Surrogate: ridge regression of `target` on the embedding (and 1), `grad_i = (theta . x_i - y_i) x_i`; for interaction data (`items`) a
//! recommender, told of in `sasrec`. Rows fall into two halves by lot;
//! one half trains, the other gives `v`, and the other way round. Source: Koh and Liang 2017; `DEALRec` (Lin et al. 2024).
//! Deviations: an exact solve (Cholesky, refined) in place of 5 000 stochastic steps; a regression in place of a recommender;
//! two halves, because at the optimum of its own data `v` is 0 and the ranking noise. Released values: [`inverse_hessian`] with
//! `Damping::released()`. Cost: n d^2 + d^3 time, 4 n d + 32 d^2 bytes.

use crate::linear::{Cholesky, dot, usize_f64};
use crate::reading::{finish, moments, numbers};
use crate::sasrec::{self, Histories, Setting};
use crate::vectors::Vectors;
use arrow::array::Float32Array;
use curate_core::kernels::MatRef;
use curate_core::kernels::nn::{Mat, MatMut, gemm};
use curate_core::{Algorithm, Column, Ctx, Error, Info, Pool, Result, Scorer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows multiplied at a time.
const BLOCK_ROWS: usize = 1024;

/// Parameters of influence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Influence {
    /// Column of numbers that the surrogate predicts.
    pub target: String,
    /// Added to the Hessian's diagonal, as a share of its mean: more trusts rare directions less. 0.01 unless given, 1 with `items`.
    #[schemars(range(min = 1e-9, max = 10_000.0))]
    pub damping: Option<f64>,
    /// Column of lists of item ids, in the order of time: the surrogate then is a recommender of the next item, and neither embeddings nor
    /// `target` are read.
    pub items: Option<String>,
    /// With `items`: column of the item that followed the list, if it is not its last.
    pub next: Option<String>,
    /// With `items`: numbers of an item's vector.
    #[schemars(range(min = 2, max = 1024))]
    pub width: usize,
    /// With `items`: passes over the rows.
    #[schemars(range(min = 1, max = 10_000))]
    pub epochs: u64,
}

impl Default for Influence {
    fn default() -> Self {
        let target = "signal.loss".to_owned();
        Self { target, damping: None, items: None, next: None, width: 32, epochs: 20 }
    }
}

impl Algorithm for Influence {
    const INFO: Info = Info {
        name: "influence",
        summary: "Scores a row by how much a small model, of embeddings or of users' items, would lose on other rows without it.",
        source: "Koh and Liang 2017; DEALRec (Lin et al. 2024), influence",
        cost: "n d^2 + d^3 time, 4 n d + 32 d^2 bytes; with items, e n t (36 d^2 + 2 t d) time, 24 n t d bytes for e epochs and t items a row",
    };

    fn check(&self) -> Result<()> {
        if self.next.is_some() && self.items.is_none() {
            return Err(Error::usage("params/items", "'next' is the item after a list of items, and none is named")
                .hint("name the column of lists: influence:items=history,next=target"));
        }
        if self.target.is_empty() || self.target == Column::EMBEDDING.as_str() {
            return Err(Error::usage("params/target", format!("'{}' is no column of numbers", self.target))
                .hint("name the column that the surrogate predicts, such as signal.loss"));
        }
        Ok(())
    }
}

impl Scorer for Influence {
    fn needs(&self) -> Vec<Column> {
        match &self.items {
            None => vec![Column::EMBEDDING, Column::named(self.target.clone())],
            Some(items) => [items].into_iter().chain(&self.next).map(|name| Column::named(name.clone())).collect(),
        }
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let (ids, ctx) = (pool.ids()?, &ctx.child(Self::INFO.name));
        if ids.is_empty() {
            return finish(Self::INFO.name, &[], pool, ctx);
        }
        if self.items.is_some() {
            return self.of_items(pool, &ids, ctx);
        }
        let targets = standardised(&numbers(pool, &Column::named(self.target.clone()))?);
        let vectors = Vectors::read(pool, &ids, false, ctx)?;
        let lot = ctx.stream("half");
        let rows = vectors.positions.iter().map(|&p| Row { half: lot(ids[p]).bits() & 1 == 1, target: targets[p] });
        let surrogate = Surrogate { x: vectors.view()?, rows: rows.collect(), damping: self.damping.unwrap_or(0.01) };
        finish(Self::INFO.name, &vectors.in_pool_order(&surrogate.influence(ctx)?), pool, ctx)
    }
}

impl Influence {
    /// The surrogate for interaction data.
    fn of_items(&self, pool: &Pool, ids: &[u64], ctx: &Ctx) -> Result<Float32Array> {
        let columns = self.needs();
        let histories = Histories::read(pool, &columns[0], columns.get(1), ctx)?;
        let setting = Setting { width: self.width, epochs: self.epochs, damping: self.damping.unwrap_or(1.0) };
        let found = sasrec::influence(&histories, setting, ctx)?;
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|&position| (ids[position], position));
        let mut values = vec![0.0; ids.len()];
        order.iter().zip(found).for_each(|(&position, value)| values[position] = value);
        finish(Self::INFO.name, &values, pool, ctx)
    }
}

/// How the inverse Hessian is damped: `scale (H + damp scale I)^-1`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Damping {
    /// Weight of the identity.
    pub damp: f64,
    /// What the Hessian is divided by.
    pub scale: f64,
}

impl Damping {
    /// As the released code of `DEALRec` has it: effective damping 0.25, the result 25 times too long.
    #[must_use]
    pub const fn released() -> Self {
        Self { damp: 0.01, scale: 25.0 }
    }

    /// No scale: `(H + damp I)^-1`.
    #[must_use]
    pub const fn plain(damp: f64) -> Self {
        Self { damp, scale: 1.0 }
    }
}

/// `scale (H + damp scale I)^-1 v`, what the stochastic recursion of `DEALRec` has as its mean fixed point. Influence of a row is
/// its inner product with the row's gradient. `hessian` is symmetric, row-major.
///
/// # Errors
/// `influence/shape` when the sizes do not fit, `influence/indefinite` when the damped Hessian is not positive definite: there the
/// recursion diverges too.
pub fn inverse_hessian(hessian: &[f64], v: &[f64], damping: Damping) -> Result<Vec<f64>> {
    let n = v.len();
    if hessian.len() != n * n {
        return Err(Error::usage("influence/shape", format!("a gradient of {n} numbers needs a Hessian of {n} x {n}")));
    }
    let solver = Cholesky::new(hessian.to_vec(), n, damping.damp * damping.scale).ok_or_else(indefinite)?;
    Ok(solver.solve(v).iter().map(|h| damping.scale * h).collect())
}

fn indefinite() -> Error {
    Error::data("influence/indefinite", "the damped Hessian is not positive definite")
        .hint("raise the damping, or train the surrogate further")
}

/// Mean 0 and deviation 1; all 0 where there is none.
fn standardised(values: &[f64]) -> Vec<f64> {
    let (mean, deviation) = moments(values);
    let factor = if deviation > 1e-12 * mean.abs() { deviation.recip() } else { 0.0 };
    values.iter().map(|v| (v - mean) * factor).collect()
}

/// Half and target of a vector.
struct Row {
    half: bool,
    target: f64,
}

/// Ridge regression on each half.
struct Surrogate<'a> {
    x: MatRef<'a>,
    rows: Vec<Row>,
    damping: f64,
}

/// Sums over a half: `X^T X`, `X^T y` (with a last 1 in every row), and the number of rows.
struct Sums {
    gram: Vec<f64>,
    against: Vec<f64>,
    rows: f64,
}

impl Surrogate<'_> {
    fn influence(&self, ctx: &Ctx) -> Result<Vec<f64>> {
        let mut out = vec![0.0; self.rows.len()];
        let width = self.x.dim() + 1;
        ctx.memory().reserve(32 * (width * width) as u64, "the Hessians of the surrogate")?;
        let (even, odd) = (self.sums(false, ctx)?, self.sums(true, ctx)?);
        for (half, own, other) in [(false, &even, &odd), (true, &odd, &even)] {
            if own.rows > 0.0 && other.rows > 0.0 {
                self.half(half, own, other, &mut out)?;
                ctx.tick(0)?;
            }
        }
        Ok(out)
    }

    /// Influence of the rows of one half on the risk of the other.
    fn half(&self, half: bool, own: &Sums, other: &Sums, out: &mut [f64]) -> Result<()> {
        let n = own.against.len();
        let hessian: Vec<f64> = own.gram.iter().map(|g| g / own.rows).collect();
        let mean = (0..n).map(|i| hessian[i * n + i]).sum::<f64>() / usize_f64(n);
        let ridge = self.damping * mean;
        let solver = Cholesky::new(hessian, n, ridge).ok_or_else(indefinite)?;
        let theta = solver.solve(&own.against.iter().map(|b| b / own.rows).collect::<Vec<_>>());
        let risk: Vec<f64> =
            (0..n).map(|i| (dot(&other.gram[i * n..(i + 1) * n], &theta) - other.against[i]) / other.rows).collect();
        let h = solver.solve(&risk);
        let decay = ridge * dot(&h, &theta);
        for (at, row) in self.rows.iter().enumerate().filter(|(_, row)| row.half == half) {
            let (predicted, along) = self.products(at, &theta, &h);
            out[at] = (predicted - row.target) * along + decay;
        }
        Ok(())
    }

    /// Inner products of a row with two vectors.
    fn products(&self, at: usize, theta: &[f64], h: &[f64]) -> (f64, f64) {
        let row: Vec<f64> = self.x.row(at).iter().map(|&v| f64::from(v)).chain([1.0]).collect();
        (dot(&row, theta), dot(&row, h))
    }

    /// Sums over a half, block by block in the order of row ids.
    fn sums(&self, half: bool, ctx: &Ctx) -> Result<Sums> {
        let (dim, width) = (self.x.dim(), self.x.dim() + 1);
        let mut sums = Sums { gram: vec![0.0; width * width], against: vec![0.0; width], rows: 0.0 };
        let members: Vec<usize> = (0..self.rows.len()).filter(|&at| self.rows[at].half == half).collect();
        for block in members.chunks(BLOCK_ROWS) {
            ctx.tick(block.len() as u64)?;
            let mut rows: Vec<f32> = Vec::with_capacity(block.len() * width);
            for &at in block {
                rows.extend_from_slice(self.x.row(at));
                rows.push(1.0);
                let target = self.rows[at].target;
                self.x.row(at).iter().zip(&mut sums.against).for_each(|(&v, sum)| *sum += f64::from(v) * target);
                sums.against[dim] += target;
            }
            sums.add_gram(&rows, width);
        }
        sums.rows = usize_f64(members.len());
        Ok(sums)
    }
}

impl Sums {
    /// Products of a block in single precision, summed over blocks in double.
    fn add_gram(&mut self, rows: &[f32], width: usize) {
        let x = Mat::new(rows, rows.len() / width, width);
        let mut product = vec![0.0; width * width];
        gemm(MatMut::new(&mut product, width, width), 0.0, 1.0, x.t(), x);
        self.gram.iter_mut().zip(&product).for_each(|(sum, &p)| *sum += f64::from(p));
    }
}
