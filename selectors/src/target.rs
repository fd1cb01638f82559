//! Candidates and target side by side: both in order of their row ids, checked, of the same dimension.

use crate::vectors::{Block, Vectors, by_id};
use curate_core::{Column, Ctx, Error, Pool, Result};

/// Candidates and target, ready to be compared.
pub(crate) struct Sides<'a> {
    /// Row ids of the pool, by position.
    pub(crate) ids: &'a [u64],
    /// Positions of the pool in order of their ids.
    pub(crate) by_id: Vec<usize>,
    /// Vectors of the candidates in that order.
    pub(crate) candidates: Block,
    /// The target.
    pub(crate) target: &'a Pool,
    /// Positions of the target in order of their ids.
    pub(crate) target_by_id: Vec<usize>,
    /// Vectors of the target in that order.
    pub(crate) goals: Block,
}

impl<'a> Sides<'a> {
    /// Read both; `unit` scales the vectors to unit length.
    pub(crate) fn read((pool, ids): (&Pool, &'a [u64]), target: &'a Pool, unit: bool, ctx: &Ctx) -> Result<Self> {
        let (dim, other) = (pool.dim(&Column::EMBEDDING)?, target.dim(&Column::EMBEDDING)?);
        if dim != other {
            return Err(Error::data("target/dimension", format!("vectors of {dim} numbers, in the target of {other}"))
                .hint("embed both with the same model"));
        }
        let order = by_id(ids);
        let candidates = Vectors::new(pool, ids, unit, ctx).at(&order)?;
        let target_ids = target.ids()?;
        let target_order = by_id(&target_ids);
        let goals = Vectors::new(target, &target_ids, unit, ctx)
            .at(&target_order)
            .map_err(|e| if e.code() == "embedding/not-finite" { e.hint("the row is one of the target") } else { e })?;
        ctx.tick(0)?;
        Ok(Self { ids, by_id: order, candidates, target, target_by_id: target_order, goals })
    }

    /// Values in order of ids, back in order of positions.
    pub(crate) fn by_position<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut out = vec![T::default(); values.len()];
        self.by_id.iter().zip(values).for_each(|(&position, &value)| out[position] = value);
        out
    }
}
