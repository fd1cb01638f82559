//! What the potentials of the transport say about rows in and out of the set.
//!
//! `s = OT(C[S]; 1/k, 1/m)`, u its potentials of rows, `f_j = min_(i in S) C_ij - u_i` (without i itself for a member i). For
//! any y, `sum_(S) u / k + y / k + mean_j min(f_j, C_oj - y)` bounds the distance with row o in place of one of S from below;
//! the best y is the `ceil(m / k)`-th smallest `C_oj - f_j`. The estimate of a row is
//! `max_y y / k + mean_j min(C_oj - f_j - y, 0)`; when f rises by d it falls by at most `t / k + mean_j max(d_j - t, 0)`
//! for any t, which says of most rows that they still are not among the best. Source: the dual of the transport problem;
//! the bound on the fall is own work. Cost: k m for a view, m for a row.

use crate::distances::Distances;

/// Least `C - u` of every target row over the members, whose it is, and the least without that one.
pub(super) struct View {
    u: Vec<f64>,
    pub(super) least: Vec<f64>,
    whose: Vec<usize>,
    second: Vec<f64>,
}

impl View {
    pub(super) fn new(costs: &Distances<'_>, members: &[usize], u: &[f64]) -> Self {
        let m = costs.cols();
        let (least, second) = (vec![f64::INFINITY; m], vec![f64::INFINITY; m]);
        let mut view = Self { u: u.to_vec(), least, whose: vec![0; m], second };
        for (place, (&i, u)) in members.iter().zip(u).enumerate() {
            costs.at(i, |row| view.add(place, row, *u));
        }
        view
    }

    fn add(&mut self, place: usize, row: &[f32], u: f64) {
        for (j, &c) in row.iter().enumerate() {
            let w = f64::from(c) - u;
            if w < self.least[j] {
                self.second[j] = self.least[j];
                (self.least[j], self.whose[j]) = (w, place);
            } else if w < self.second[j] {
                self.second[j] = w;
            }
        }
    }

    /// The least without the member at `place`.
    fn without(&self, place: usize, j: usize) -> f64 {
        if self.whose[j] == place { self.second[j] } else { self.least[j] }
    }

    /// Costs of a row less the least ones without the member at `place`.
    pub(super) fn gaps(&self, row: &[f32], place: usize) -> Vec<f64> {
        if place == usize::MAX {
            return row.iter().zip(&self.least).map(|(&c, least)| f64::from(c) - least).collect();
        }
        row.iter().enumerate().map(|(j, &c)| f64::from(c) - self.without(place, j)).collect()
    }

    /// Lower bound of the distance with a row of these costs in the place of a member.
    pub(super) fn bound(&self, row: &[f32], place: usize) -> f64 {
        let (k, m) = (Self::count(self.u.len()), Self::count(self.least.len()));
        let rest: f64 = (0..self.least.len()).map(|j| self.without(place, j)).sum();
        let kept: f64 = self.u.iter().enumerate().filter(|u| u.0 != place).map(|u| u.1).sum();
        kept / k + rest / m + self.best(self.gaps(row, place), false)
    }

    /// `y / k + mean_j min(gap_j - y, 0)` at the `ceil(m / k)`-th smallest gap, or largest.
    pub(super) fn best(&self, mut gaps: Vec<f64>, largest: bool) -> f64 {
        let (k, m) = (self.u.len(), gaps.len());
        let rank = m.div_ceil(k) - 1;
        let at = if largest { m - 1 - rank } else { rank };
        let (below, &mut y, _) = gaps.select_nth_unstable_by(at, f64::total_cmp);
        // In rising order, so that the sum does not depend on how the selection left them.
        below.sort_unstable_by(f64::total_cmp);
        let sum: f64 = below.iter().map(|gap| gap - y).sum();
        y / Self::count(k) + sum / Self::count(m)
    }

    /// By how much an estimate can have fallen since the least costs were these; infinity where they were not known.
    pub(super) fn fall(&self, before: &[f64]) -> f64 {
        if before.len() != self.least.len() {
            return f64::INFINITY;
        }
        let (k, m) = (self.u.len(), before.len());
        let mut rise: Vec<f64> = self.least.iter().zip(before).map(|(now, before)| now - before).collect();
        rise.sort_unstable_by(|a, b| b.total_cmp(a));
        let most = &rise[..m.div_ceil(k)];
        let t = most.last().copied().unwrap_or(0.0);
        most.iter().map(|d| d - t).sum::<f64>() / Self::count(m) + t / Self::count(k)
    }

    /// A number of rows as a divisor.
    #[expect(clippy::cast_precision_loss, reason = "numbers of rows")]
    pub(super) const fn count(n: usize) -> f64 {
        n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(least: Vec<f64>, k: usize) -> View {
        View { u: vec![0.0; k], whose: vec![0; least.len()], second: least.clone(), least }
    }

    #[test]
    fn an_estimate_falls_no_further_than_the_bound() {
        let row = [0.3f32, 0.9, 0.1, 0.5, 0.7, 0.2, 0.8];
        let before = [0.1, 0.2, 0.05, 0.3, 0.0, 0.1, 0.4];
        let of = |view: &View| view.best(view.gaps(&row, usize::MAX), false);
        for k in 1..8 {
            for (at, change) in [(0, 0.3), (2, 0.5), (3, -0.2), (6, 0.01)] {
                let (first, mut after) = (view(before.to_vec(), k), before.map(|f| f + 0.02));
                after[at] += change;
                let then = view(after.to_vec(), k);
                assert!(of(&then) >= of(&first) - then.fall(&before) - 1e-12, "{k} {at}");
            }
        }
        let shifted = view(before.map(|f| f + 0.5).to_vec(), 7);
        let still = view(before.to_vec(), 7);
        assert!((of(&shifted) - (of(&still) - shifted.fall(&before))).abs() < 1e-12, "exact for a shift");
    }
}
