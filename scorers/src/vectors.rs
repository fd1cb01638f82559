//! The embeddings of a pool as one matrix in the order of row ids, so that neither chunks nor the order of rows can matter.

use curate_core::kernels::MatRef;
use curate_core::{Column, Ctx, Error, Location, MatrixBlock, Pool, Result};

/// Vectors in rising order of row ids.
pub(crate) struct Vectors {
    /// Position in the pool of each vector.
    pub(crate) positions: Vec<usize>,
    values: Values,
}

enum Values {
    Shared(MatrixBlock),
    Copied(Vec<f32>, usize),
}

impl Vectors {
    /// Read the column `embedding`, checked; scaled to unit length if `unit`. Zero vectors then point along an axis of their own.
    pub(crate) fn read(pool: &Pool, ids: &[u64], unit: bool, ctx: &Ctx) -> Result<Self> {
        let block = pool.matrix(&Column::EMBEDDING, ctx)?;
        ctx.tick(0)?;
        check(block.view()?, ids, ctx)?;
        let mut positions: Vec<usize> = (0..ids.len()).collect();
        if ids.is_sorted() && !unit {
            return Ok(Self { positions, values: Values::Shared(block) });
        }
        positions.sort_unstable_by_key(|&position| (ids[position], position));
        let x = block.view()?;
        ctx.memory().reserve(4 * x.data().len() as u64, "the embeddings in order of row ids")?;
        let mut values: Vec<f32> = Vec::with_capacity(x.data().len());
        positions.iter().for_each(|&position| values.extend_from_slice(x.row(position)));
        let (values, dim) = if unit { unit_length(values, x.dim()) } else { (values, x.dim()) };
        Ok(Self { positions, values: Values::Copied(values, dim) })
    }

    /// The vectors as a matrix.
    pub(crate) fn view(&self) -> Result<MatRef<'_>> {
        match &self.values {
            Values::Shared(block) => block.view(),
            Values::Copied(values, dim) => Ok(MatRef::new(values, *dim)?),
        }
    }

    /// Numbers given in the order of the vectors, in the order of the pool.
    pub(crate) fn in_pool_order(&self, values: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; values.len()];
        self.positions.iter().zip(values).for_each(|(&position, &value)| out[position] = value);
        out
    }
}

fn check(x: MatRef<'_>, ids: &[u64], ctx: &Ctx) -> Result<()> {
    let bad = ctx.backend().row_sq_norms(x).iter().position(|norm| !norm.is_finite());
    bad.map_or(Ok(()), |at| {
        Err(Error::data(
            "embedding/not-finite",
            "an embedding holds a number that is not finite, or too large to be squared",
        )
        .at(Location::default().row(ids[at]).column(Column::EMBEDDING.as_str()))
        .hint("drop or repair the row, for example with --where"))
    })
}

/// Rows of length 1 and their width; if a row is zero, with one more axis, along which it has length 1.
fn unit_length(mut rows: Vec<f32>, dim: usize) -> (Vec<f32>, usize) {
    rows.chunks_exact_mut(dim).for_each(scale);
    let is_zero = |row: &[f32]| row.iter().all(|&v| v == 0.0);
    if !rows.chunks_exact(dim).any(is_zero) {
        return (rows, dim);
    }
    let own = |row: &[f32]| f32::from(u8::from(is_zero(row)));
    (rows.chunks_exact(dim).flat_map(|row| row.iter().copied().chain([own(row)])).collect(), dim + 1)
}

#[expect(clippy::cast_possible_truncation, reason = "back to the precision it came in")]
fn scale(row: &mut [f32]) {
    let length = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    }
}
