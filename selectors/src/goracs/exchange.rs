//! Exchange of one row at a time, led by bounds from the potentials of the exact transport; see `view.rs`.

use super::view::View;
use crate::distances::Distances;
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
    /// Rows whose estimate was computed for an exchange; a bound ruled out the others.
    pub(super) measured: usize,
}

/// Below this, a gain is rounding.
const STRICTLY: f64 = 1e-12;
/// What bounds of estimates may be off by rounding.
const LOOSELY: f64 = 1e-9;
/// Rows measured before the bound of the next is looked at.
const BATCH_ROWS: usize = 512;

/// Exchange rows of `members` while that brings the set nearer to the target.
pub(super) fn refine(costs: &Distances<'_>, members: Vec<usize>, search: Search, ctx: &Ctx) -> Result<Outcome> {
    let (k, m) = (members.len(), costs.cols());
    ctx.memory().reserve(8 * (k * m) as u64, "the transport to the target")?;
    let rows: Vec<f64> = members.iter().flat_map(|&i| costs.wide(i)).collect();
    let simplex = Simplex::uniform(rows, m)?;
    let bounds = Bounds { least: Vec::new(), estimate: vec![f64::NEG_INFINITY; costs.rows()] };
    let mut state = State { costs, members, search, simplex, bounds, outcome: Outcome::default() };
    state.solve(ctx)?;
    let start = state.simplex.value();
    let mut now = start;
    let possible = k > 1 && k < costs.rows();
    while possible && state.outcome.exchanges < search.max_exchanges {
        let Some(better) = state.exchange(now, ctx)? else { break };
        now = better;
        state.outcome.exchanges += 1;
    }
    let estimate = if k > 1 { state.all_estimates(&state.view()) } else { state.means() };
    Ok(Outcome { members: state.members, estimate, distance: (start, now), ..state.outcome })
}

struct State<'a> {
    costs: &'a Distances<'a>,
    members: Vec<usize>,
    search: Search,
    simplex: Simplex,
    bounds: Bounds,
    outcome: Outcome,
}

/// Lower bounds of the estimates of outsiders, and the prices for which they hold.
struct Bounds {
    least: Vec<f64>,
    estimate: Vec<f64>,
}

/// Places of the members that seem easiest to spare and the outsiders that seem best, both ascending in their estimate.
struct Shortlists {
    inner: Vec<usize>,
    outer: Vec<usize>,
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
        self.costs.each(|row| row.iter().map(|&c| f64::from(c)).sum::<f64>() / View::count(row.len()))
    }

    /// The distance after the first exchange that helps, or none.
    fn exchange(&mut self, now: f64, ctx: &Ctx) -> Result<Option<f64>> {
        ctx.tick(self.costs.rows() as u64)?;
        let view = self.view();
        let lists = self.shortlists(&view, ctx)?;
        let pairs = if self.search.released { all_pairs(&lists) } else { self.hopeful(&view, &lists, now) };
        let basis = self.simplex.basis();
        for (place, row) in pairs {
            let before = self.members[place];
            self.simplex.replace_row(place, &self.costs.wide(row))?;
            self.solve(ctx)?;
            let value = self.simplex.value();
            if value < now - STRICTLY {
                self.members[place] = row;
                self.bounds.estimate[before] = f64::NEG_INFINITY;
                return Ok(Some(value));
            }
            self.simplex.replace_row(place, &self.costs.wide(before))?;
            self.simplex.restore(&basis);
        }
        Ok(None)
    }

    /// Place of every member; none for the others.
    fn places(&self) -> Vec<usize> {
        let mut places = vec![usize::MAX; self.costs.rows()];
        self.members.iter().enumerate().for_each(|(place, &i)| places[i] = place);
        places
    }

    /// The estimate of a row, for a member (with its place) that of coming back.
    fn estimate(&self, view: &View, i: usize, place: usize) -> f64 {
        let place = if self.search.released { usize::MAX } else { place };
        self.costs.at(i, |row| view.best(view.gaps(row, place), self.search.released))
    }

    fn all_estimates(&self, view: &View) -> Vec<f64> {
        let places = self.places();
        each_row(self.costs.rows(), |i| self.estimate(view, i, places[i]))
    }

    fn shortlists(&mut self, view: &View, ctx: &Ctx) -> Result<Shortlists> {
        let places = self.places();
        let outer = self.best_outsiders(view, &places, ctx)?;
        let inside = each_row(self.members.len(), |place| self.estimate(view, self.members[place], place));
        let mut inner: Vec<usize> = (0..self.members.len()).collect();
        inner.sort_by(|&a, &b| inside[a].total_cmp(&inside[b]).then(a.cmp(&b)));
        let inner = inner.split_off(inner.len().saturating_sub(self.search.candidates));
        Ok(Shortlists { inner, outer })
    }

    /// The outsiders of the least estimates: rows are measured in the order of their bounds, until no bound can reach the list.
    fn best_outsiders(&mut self, view: &View, places: &[usize], ctx: &Ctx) -> Result<Vec<usize>> {
        let drop = if self.search.released { f64::INFINITY } else { view.fall(&self.bounds.least) };
        self.bounds.estimate.iter_mut().for_each(|bound| *bound -= drop);
        self.bounds.least.clone_from(&view.least);
        let mut order: Vec<usize> = (0..places.len()).filter(|&i| places[i] == usize::MAX).collect();
        order.sort_by(|&a, &b| self.bounds.estimate[a].total_cmp(&self.bounds.estimate[b]).then(a.cmp(&b)));
        let mut best: Vec<(f64, usize)> = Vec::new();
        for batch in order.chunks(BATCH_ROWS) {
            let worst = best.get(self.search.candidates - 1).map_or(f64::INFINITY, |b| b.0);
            let open = batch.partition_point(|&i| self.bounds.estimate[i] <= worst + LOOSELY);
            ctx.tick(0)?;
            let found = each_row(open, |at| self.estimate(view, batch[at], usize::MAX));
            for (&i, estimate) in batch.iter().zip(found) {
                self.bounds.estimate[i] = estimate;
                best.push((estimate, i));
            }
            self.outcome.measured += open;
            best.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            best.truncate(self.search.candidates);
            if open < batch.len() {
                break;
            }
        }
        Ok(best.into_iter().map(|b| b.1).collect())
    }

    /// The pairs whose bound lies below the distance, the lowest bound first.
    fn hopeful(&mut self, view: &View, lists: &Shortlists, now: f64) -> Vec<(usize, usize)> {
        let (costs, inner) = (self.costs, &lists.inner);
        let of_row = |row: &[f32]| inner.iter().map(|&place| view.bound(row, place)).collect::<Vec<f64>>();
        let bounds = each_row(lists.outer.len(), |at| costs.at(lists.outer[at], of_row));
        // Equals: the most removable member first, then the best outsider.
        let all = (0..inner.len()).rev().flat_map(|i| (0..bounds.len()).map(move |o| (i, o)));
        let mut pairs: Vec<(usize, usize)> = all.filter(|&(i, o)| bounds[o][i] < now - STRICTLY).collect();
        self.outcome.skipped += inner.len() * bounds.len() - pairs.len();
        pairs.sort_by(|a, b| bounds[a.1][a.0].total_cmp(&bounds[b.1][b.0]));
        pairs.into_iter().map(|(i, o)| (inner[i], lists.outer[o])).collect()
    }
}

fn all_pairs(lists: &Shortlists) -> Vec<(usize, usize)> {
    lists.inner.iter().flat_map(|&place| lists.outer.iter().map(move |&row| (place, row))).collect()
}
