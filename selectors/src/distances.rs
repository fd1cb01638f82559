//! Euclidean distances between two clouds, asked for by rows: all in memory while that is allowed, else made anew whenever
//! a row is asked for. In memory or not, a row has the same bits.
//!
//! Cost: n m d once and 4 n m bytes, or m d for every row asked for.

use curate_core::kernels::MatRef;
use curate_core::kernels::transport::{Costs, Ground, Points, each_row, narrow};
use curate_core::{Ctx, Result};

/// Distances of every row of one cloud to every row of another, or costs made of them.
pub(crate) struct Distances<'a> {
    points: Points<'a>,
    held: Option<Vec<f32>>,
    scaling: Option<Scaling>,
}

/// From a distance to a cost: `(d / divisor - offset_i) scale`, one offset a row.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    pub(crate) divisor: f64,
    pub(crate) offsets: Vec<f64>,
    pub(crate) scale: f64,
}

impl Scaling {
    #[expect(clippy::cast_possible_truncation, reason = "costs are kept in single precision")]
    fn apply(&self, i: usize, row: &mut [f32]) {
        let offset = self.offsets[i];
        for d in row {
            *d = ((f64::from(*d) / self.divisor - offset) * self.scale) as f32;
        }
    }
}

impl<'a> Distances<'a> {
    /// Distances from the rows of `x` to those of `y`.
    pub(crate) fn new(x: MatRef<'a>, y: MatRef<'a>, ctx: &Ctx) -> Result<Self> {
        let points = Points::new(x, y, Ground::Euclidean)?;
        let bytes = 4 * (x.rows() * y.rows()) as u64;
        let held = ctx.memory().reserve(bytes, "the distances").is_ok().then(|| narrow(&points));
        ctx.tick(0)?;
        Ok(Self { points, held, scaling: None })
    }

    /// From now on, costs.
    pub(crate) fn scale(&mut self, scaling: Scaling) {
        let m = self.cols();
        match &mut self.held {
            Some(held) => held.chunks_exact_mut(m).enumerate().for_each(|(i, row)| scaling.apply(i, row)),
            None => self.scaling = Some(scaling),
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.points.rows()
    }

    /// Numbers of a row.
    pub(crate) fn cols(&self) -> usize {
        self.points.cols()
    }

    /// What `look` sees in row `i`.
    #[expect(clippy::cast_possible_truncation, reason = "distances are kept in single precision")]
    pub(crate) fn at<T>(&self, i: usize, look: impl FnOnce(&[f32]) -> T) -> T {
        let m = self.cols();
        if let Some(held) = &self.held {
            return look(&held[i * m..(i + 1) * m]);
        }
        let mut wide = vec![0.0; m];
        self.points.row(i, &mut wide);
        let mut row: Vec<f32> = wide.into_iter().map(|d| d as f32).collect();
        self.scaling.iter().for_each(|scaling| scaling.apply(i, &mut row));
        look(&row)
    }

    /// Row `i` in double precision.
    pub(crate) fn wide(&self, i: usize) -> Vec<f64> {
        self.at(i, |row| row.iter().map(|&c| f64::from(c)).collect())
    }

    /// What `look` sees in each row, side by side.
    pub(crate) fn each<T: Send>(&self, look: impl Fn(&[f32]) -> T + Send + Sync) -> Vec<T> {
        each_row(self.rows(), |i| self.at(i, &look))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curate_core::Memory;

    #[test]
    fn held_or_not_the_bits_are_the_same() {
        let values: Vec<f32> = (0..60u8).map(|i| f32::from(i.wrapping_mul(37)) / 7.0).collect();
        let x = MatRef::new(&values, 3).unwrap();
        let of = |bytes| {
            let ctx = Ctx::new(0).with_memory(Memory::limited(bytes));
            let mut distances = Distances::new(x, x.slice(3..9), &ctx).unwrap();
            let raw = distances.each(<[f32]>::to_vec);
            let offsets = (0..20u8).map(f64::from).collect();
            distances.scale(Scaling { divisor: 3.0, offsets, scale: 0.7 });
            (raw, distances.each(<[f32]>::to_vec))
        };
        assert_eq!(of(1 << 30), of(100));
        assert_eq!(of(100).0[3][..1], [0.0]);
    }
}
