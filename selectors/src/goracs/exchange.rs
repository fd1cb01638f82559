//! Exchange of one row at a time, led by bounds from the potentials of the exact transport.
//!
//! `s = OT(C[S]; 1/k, 1/m)`, u its potentials of rows, `f_j = min_(i in S) C_ij - u_i` (without i itself for a member i). For
//! any y, `sum_(S) u / k + y / k + mean_j min(f_j, C_oj - y)` bounds the distance with row o in place of one of S from below;
//! the best y is the `ceil(m / k)`-th smallest `C_oj - f_j`.

use super::cost::Matrix;
use curate_core::kernels::transport::{Simplex, each_row};
use curate_core::{Ctx, Result};

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Search {
    pub(super) max_exchanges: usize,
    pub(super) candidates: usize,
    /// As the released code: other order statistic, members not left out, every pair solved.
    pub(super) released: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The rows chosen.
    pub(super) members: Vec<usize>,
    /// What the search thinks of every row: the lower, the better.
    pub(super) estimate: Vec<f64>,
    /// Distance at the start and at the end.
    pub(super) distance: (f64, f64),
    /// Exchanges made.
    pub(super) exchanges: usize,
    /// Transports solved.
    pub(super) solved: usize,
    /// Pairs that a bound ruled out.
    pub(super) skipped: usize,
}

/// Below this, a gain is rounding.
const STRICTLY: f64 = 1e-12;

/// Exchange rows of `members` while that brings the set nearer to the target.
pub(super) fn refine(costs: &Matrix, members: Vec<usize>, search: Search, ctx: &Ctx) -> Result<Outcome> {
    let (k, m) = (members.len(), costs.cols());
    ctx.memory().reserve(8 * (k * m) as u64, "the transport to the target")?;
    let rows: Vec<f64> = members.iter().flat_map(|&i| costs.wide(i)).collect();
    let mut state = State { costs, members, search, simplex: Simplex::uniform(rows, m)?, outcome: Outcome::default() };
    state.solve(ctx)?;
    let start = state.simplex.value();
    let mut now = start;
    let possible = k > 1 && k < costs.rows();
    while possible && state.outcome.exchanges < search.max_exchanges {
        let Some(better) = state.exchange(now, ctx)? else { break };
        now = better;
        state.outcome.exchanges += 1;
    }
    let estimate = if k > 1 { state.view().estimates(&state) } else { state.means() };
    Ok(Outcome { members: state.members, estimate, distance: (start, now), ..state.outcome })
}

struct State<'a> {
    costs: &'a Matrix,
    members: Vec<usize>,
    search: Search,
    simplex: Simplex,
    outcome: Outcome,
}

impl State<'_> {
    fn solve(&mut self, ctx: &Ctx) -> Result<()> {
        self.outcome.solved += 1;
        Ok(self.simplex.solve(&|pivots| ctx.tick(pivots).is_ok())?)
    }

    fn view(&self) -> View {
        View::new(self.costs, &self.members, &self.simplex.duals().0)
    }

    fn means(&self) -> Vec<f64> {
        each_row(self.costs.rows(), |i| {
            self.costs.row(i).iter().map(|&c| f64::from(c)).sum::<f64>() / count(self.costs.cols())
        })
    }

    /// The distance after the first exchange that helps, or none.
    fn exchange(&mut self, now: f64, ctx: &Ctx) -> Result<Option<f64>> {
        ctx.tick(self.costs.rows() as u64)?;
        let view = self.view();
        let estimate = view.estimates(self);
        let pairs = if self.search.released { self.all_pairs(&estimate) } else { self.hopeful(&view, &estimate, now) };
        let basis = self.simplex.basis();
        for (place, row) in pairs {
            let before = self.members[place];
            self.simplex.replace_row(place, &self.costs.wide(row))?;
            self.solve(ctx)?;
            let value = self.simplex.value();
            if value < now - STRICTLY {
                self.members[place] = row;
                return Ok(Some(value));
            }
            self.simplex.replace_row(place, &self.costs.wide(before))?;
            self.simplex.restore(&basis);
        }
        Ok(None)
    }

    /// Places of the members that seem easiest to spare and the outsiders that seem best, both ascending in their estimate.
    fn shortlists(&self, estimate: &[f64]) -> (Vec<usize>, Vec<usize>) {
        let mut inside = vec![false; self.costs.rows()];
        self.members.iter().for_each(|&i| inside[i] = true);
        let mut outer: Vec<usize> = (0..estimate.len()).filter(|&i| !inside[i]).collect();
        outer.sort_by(|&a, &b| estimate[a].total_cmp(&estimate[b]).then(a.cmp(&b)));
        outer.truncate(self.search.candidates);
        let mut inner: Vec<usize> = (0..self.members.len()).collect();
        inner.sort_by(|&a, &b| estimate[self.members[a]].total_cmp(&estimate[self.members[b]]).then(a.cmp(&b)));
        (inner.split_off(inner.len().saturating_sub(self.search.candidates)), outer)
    }

    fn all_pairs(&self, estimate: &[f64]) -> Vec<(usize, usize)> {
        let (inner, outer) = self.shortlists(estimate);
        inner.iter().flat_map(|&place| outer.iter().map(move |&row| (place, row))).collect()
    }

    /// The pairs whose bound lies below the distance, the lowest bound first.
    fn hopeful(&mut self, view: &View, estimate: &[f64], now: f64) -> Vec<(usize, usize)> {
        let (inner, outer) = self.shortlists(estimate);
        let pairs: Vec<(usize, usize)> =
            inner.iter().rev().flat_map(|&place| outer.iter().map(move |&row| (place, row))).collect();
        let bounds = each_row(pairs.len(), |p| view.bound(self, pairs[p]));
        let mut order: Vec<usize> = (0..pairs.len()).filter(|&p| bounds[p] < now - STRICTLY).collect();
        self.outcome.skipped += pairs.len() - order.len();
        order.sort_by(|&a, &b| bounds[a].total_cmp(&bounds[b]).then(a.cmp(&b)));
        order.into_iter().map(|p| pairs[p]).collect()
    }
}

/// Least `C - u` of every target row over the members, whose it is, and the least without that one.
struct View {
    u: Vec<f64>,
    least: Vec<f64>,
    whose: Vec<usize>,
    second: Vec<f64>,
}

impl View {
    fn new(costs: &Matrix, members: &[usize], u: &[f64]) -> Self {
        let m = costs.cols();
        let (mut least, mut whose, mut second) = (vec![f64::INFINITY; m], vec![0; m], vec![f64::INFINITY; m]);
        for (place, (&i, u)) in members.iter().zip(u).enumerate() {
            for (j, &c) in costs.row(i).iter().enumerate() {
                let w = f64::from(c) - u;
                if w < least[j] {
                    second[j] = least[j];
                    (least[j], whose[j]) = (w, place);
                } else if w < second[j] {
                    second[j] = w;
                }
            }
        }
        Self { u: u.to_vec(), least, whose, second }
    }

    /// The least without the member at `place`.
    fn without(&self, place: usize, j: usize) -> f64 {
        if self.whose[j] == place { self.second[j] } else { self.least[j] }
    }

    /// What every row adds to the dual at its best y (or at the released code's).
    fn estimates(&self, state: &State<'_>) -> Vec<f64> {
        let mut place = vec![usize::MAX; state.costs.rows()];
        if !state.search.released {
            state.members.iter().enumerate().for_each(|(p, &i)| place[i] = p);
        }
        each_row(state.costs.rows(), |i| {
            let gaps = state.costs.row(i).iter().enumerate().map(|(j, &c)| f64::from(c) - self.without(place[i], j));
            self.best(gaps.collect(), state.search.released)
        })
    }

    /// Lower bound of the distance with `row` in the place of a member.
    fn bound(&self, state: &State<'_>, (place, row): (usize, usize)) -> f64 {
        let (k, m) = (count(self.u.len()), count(self.least.len()));
        let costs = state.costs.row(row);
        let gaps = costs.iter().enumerate().map(|(j, &c)| f64::from(c) - self.without(place, j)).collect();
        let rest: f64 = (0..self.least.len()).map(|j| self.without(place, j)).sum();
        let kept: f64 = self.u.iter().enumerate().filter(|u| u.0 != place).map(|u| u.1).sum();
        kept / k + rest / m + self.best(gaps, false)
    }

    /// `y / k + mean_j min(gap_j - y, 0)` at the `ceil(m / k)`-th smallest gap, or largest.
    fn best(&self, mut gaps: Vec<f64>, largest: bool) -> f64 {
        let (k, m) = (self.u.len(), gaps.len());
        let rank = m.div_ceil(k) - 1;
        let at = if largest { m - 1 - rank } else { rank };
        let (below, &mut y, _) = gaps.select_nth_unstable_by(at, f64::total_cmp);
        let sum: f64 = ordered(below).iter().map(|gap| gap - y).sum();
        y / count(k) + sum / count(m)
    }
}

/// In rising order, so that the sum does not depend on how the selection left them.
fn ordered(values: &mut [f64]) -> &[f64] {
    values.sort_unstable_by(f64::total_cmp);
    values
}

#[expect(clippy::cast_precision_loss, reason = "a number of rows as a divisor")]
const fn count(n: usize) -> f64 {
    n as f64
}
