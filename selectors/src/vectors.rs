//! Access to a column of vectors, block by block: checked, with the row's id in every complaint, and of unit length where
//! asked. Nothing larger than what is asked for is held in memory.

use curate_core::kernels::MatRef;
use curate_core::{Column, Ctx, Error, Location, MatrixBlock, Pool, Result};
use std::ops::Range;

/// The vectors of a pool.
pub(crate) struct Vectors<'a> {
    pool: &'a Pool,
    ids: &'a [u64],
    unit: bool,
    ctx: &'a Ctx,
}

/// Some vectors: shared with the pool, or a copy.
pub(crate) enum Block {
    /// Shared with Arrow.
    Shared(MatrixBlock),
    /// A copy, with the length of one vector.
    Owned(Vec<f32>, usize),
}

impl Block {
    /// The block as a matrix.
    pub(crate) fn view(&self) -> Result<MatRef<'_>> {
        match self {
            Self::Shared(block) => block.view(),
            Self::Owned(values, dim) => Ok(MatRef::new(values, *dim)?),
        }
    }

    /// Rows `order[0], order[1], ...` of the block, copied.
    fn reordered(&self, order: &[usize]) -> Result<Self> {
        let view = self.view()?;
        let values = order.iter().flat_map(|&row| view.row(row)).copied().collect();
        Ok(Self::Owned(values, view.dim()))
    }
}

impl<'a> Vectors<'a> {
    /// The embeddings of `pool`, whose row ids are `ids`; scaled to unit length if `unit` (a zero vector stays zero).
    pub(crate) const fn new(pool: &'a Pool, ids: &'a [u64], unit: bool, ctx: &'a Ctx) -> Self {
        Self { pool, ids, unit, ctx }
    }

    /// Numbers of one vector.
    pub(crate) fn dim(&self) -> Result<usize> {
        self.pool.dim(&Column::EMBEDDING)
    }

    /// Bytes of `rows` vectors.
    pub(crate) fn bytes(&self, rows: usize) -> Result<u64> {
        Ok(4 * (rows * self.dim()?) as u64)
    }

    /// All rows one after another with their positions, at most 65 536 at a time.
    pub(crate) fn each(&self, mut visit: impl FnMut(Range<usize>, MatRef<'_>, &Ctx) -> Result<()>) -> Result<()> {
        for i in 0..self.pool.chunks() {
            let (block, range) = (self.pool.block(i, &Column::EMBEDDING)?, self.pool.chunk_range(i));
            let view = block.view()?;
            for start in (0..range.len()).step_by(1 << 16) {
                let part = start..(start + (1 << 16)).min(range.len());
                let positions = range.start + part.start..range.start + part.end;
                self.ctx.tick(part.len() as u64)?;
                let x = view.slice(part);
                self.check(x, |row| self.ids[positions.start + row])?;
                if self.unit {
                    visit(positions, MatRef::new(&scaled(x), x.dim())?, self.ctx)?;
                } else {
                    visit(positions, x, self.ctx)?;
                }
            }
        }
        Ok(())
    }

    /// All chunks at once if the memory limit allows (chunks that lie in memory are shared), else none.
    pub(crate) fn hold(&self) -> Result<Option<Vec<Block>>> {
        if self.ctx.memory().reserve(self.bytes(self.pool.rows())?, "the embeddings").is_err() {
            return Ok(None);
        }
        (0..self.pool.chunks()).map(|i| self.ctx.tick(0).and_then(|()| self.block(i))).collect::<Result<_>>().map(Some)
    }

    /// The vectors of chunk `i`.
    pub(crate) fn block(&self, i: usize) -> Result<Block> {
        let range = self.pool.chunk_range(i);
        let block = self.pool.block(i, &Column::EMBEDDING)?;
        self.finish(Block::Shared(block), |row| self.ids[range.start + row])
    }

    /// The vectors at these positions, in this order.
    pub(crate) fn at(&self, positions: &[usize]) -> Result<Block> {
        if positions.is_sorted() {
            return self.at_ascending(positions);
        }
        let mut ascending: Vec<(usize, usize)> = positions.iter().copied().zip(0..).collect();
        ascending.sort_unstable();
        let mut slot = vec![0; positions.len()];
        for (gathered, &(_, asked)) in ascending.iter().enumerate() {
            slot[asked] = gathered;
        }
        let sorted: Vec<usize> = ascending.into_iter().map(|(position, _)| position).collect();
        self.at_ascending(&sorted)?.reordered(&slot)
    }

    fn at_ascending(&self, positions: &[usize]) -> Result<Block> {
        let whole = positions.len() == self.pool.rows();
        let block = if whole {
            self.pool.matrix(&Column::EMBEDDING, self.ctx)?
        } else {
            self.pool.gather(&Column::EMBEDDING, positions, self.ctx)?
        };
        self.finish(Block::Shared(block), |row| self.ids[positions[row]])
    }

    fn finish(&self, block: Block, id: impl Fn(usize) -> u64) -> Result<Block> {
        let x = block.view()?;
        self.check(x, id)?;
        if self.unit { Ok(Block::Owned(scaled(x), x.dim())) } else { Ok(block) }
    }

    /// Refuse numbers that are not finite, or too large to be squared.
    fn check(&self, x: MatRef<'_>, id: impl Fn(usize) -> u64) -> Result<()> {
        let norms = self.ctx.backend().row_sq_norms(x);
        let Some(row) = norms.iter().position(|norm| !norm.is_finite()) else { return Ok(()) };
        Err(Error::data("embedding/not-finite", "an embedding holds NaN, infinity or numbers too large")
            .at(Location::default().row(id(row)).column(Column::EMBEDDING.as_str()))
            .hint("embed the rows again, or drop such rows with --where"))
    }
}

fn scaled(x: MatRef<'_>) -> Vec<f32> {
    let mut values = x.data().to_vec();
    values.chunks_exact_mut(x.dim()).for_each(scale_to_unit);
    values
}

#[expect(clippy::cast_possible_truncation, reason = "a number of magnitude at most 1")]
fn scale_to_unit(row: &mut [f32]) {
    let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    if norm > 0.0 {
        for v in row {
            *v = (f64::from(*v) / norm) as f32;
        }
    }
}

/// Positions in order of their row ids.
pub(crate) fn by_id(ids: &[u64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|&position| (ids[position], position));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_four_becomes_unit_and_zero_stays() {
        let (mut row, mut zero) = ([3.0, 4.0], [0.0, 0.0]);
        scale_to_unit(&mut row);
        scale_to_unit(&mut zero);
        assert_eq!((row, zero), ([0.6, 0.8], [0.0, 0.0]));
    }

    #[test]
    fn rows_come_in_the_order_asked() {
        let block = Block::Owned(vec![0.0, 1.0, 2.0], 1);
        assert_eq!(block.reordered(&[2, 0]).unwrap().view().unwrap().data(), [2.0, 0.0]);
    }
}
