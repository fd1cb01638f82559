//! Who was taken when, and who stands for whom.

use curate_core::kernels::MatRef;
use curate_core::{Ctx, Result};

/// Rows of a matrix, copied.
pub(super) fn taken(x: MatRef<'_>, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| x.row(row)).copied().collect()
}

/// Who was taken when, and who stands for whom; one entry a position.
pub(super) struct Cover {
    /// Minus the place in the order of the class; minus infinity where a row was never placed.
    pub(super) preference: Vec<f64>,
    pub(super) gain: Vec<f32>,
    /// Rows that a member stands for.
    pub(super) count: Vec<u64>,
    /// The member that stands for a row, none for members.
    pub(super) by: Vec<usize>,
    pub(super) distance: f64,
}

impl Cover {
    pub(super) fn new(n: usize) -> Self {
        Self {
            preference: vec![f64::NEG_INFINITY; n],
            gain: vec![0.0; n],
            count: vec![0; n],
            by: vec![usize::MAX; n],
            distance: 0.0,
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "for display; places are few")]
    pub(super) fn class(&mut self, by_id: &[usize], rows: &[usize], order: Vec<(usize, f64)>) {
        for (place, (row, gain)) in order.into_iter().enumerate() {
            let position = by_id[rows[row]];
            self.preference[position] = -(place as f64);
            self.gain[position] = gain as f32;
        }
    }

    /// Give every row of a class to the nearest of its `members` (positions).
    pub(super) fn represent(
        &mut self,
        (x, by_id): (MatRef<'_>, &[usize]),
        rows: &[usize],
        members: &[usize],
        ctx: &Ctx,
    ) -> Result<()> {
        if members.is_empty() {
            return Ok(());
        }
        let mut chosen = members.to_vec();
        chosen.sort_unstable();
        let own: Vec<usize> = rows.iter().copied().filter(|&row| chosen.binary_search(&by_id[row]).is_ok()).collect();
        let (points, centres) = (taken(x, rows), taken(x, &own));
        let (mut labels, mut sq_dist) = (vec![0; rows.len()], vec![0.0; rows.len()]);
        let (points, centres) = (MatRef::new(&points, x.dim())?, MatRef::new(&centres, x.dim())?);
        ctx.backend().assign(points, centres, &mut labels, &mut sq_dist)?;
        for ((&row, label), sq_dist) in rows.iter().zip(labels).zip(sq_dist) {
            if own.binary_search(&row).is_ok() {
                self.count[by_id[row]] += 1;
                continue;
            }
            let member = by_id[own[label as usize]];
            self.count[member] += 1;
            self.by[by_id[row]] = member;
            self.distance += f64::from(sq_dist.max(0.0)).sqrt();
        }
        Ok(())
    }
}
