//! Where the exchange begins: rows that together lie near all target rows, taken greedily.
//!
//! Without the demand that every row serve the same mass, the distance is `F(S) = mean_j min_(i in S) C_ij`. The first row
//! has the least sum, each next one lowers F most. Lazy: what a row can lower only shrinks, so an old figure is a bound.
//! Where more than n rows are the nearest of some target row, rows are taken until n of them are the nearest taken one of
//! some target row, and the others dropped. Ties go to the lower row.

use crate::distances::Distances;
use curate_core::{Ctx, Result};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

struct Greedy<'a> {
    costs: &'a Distances<'a>,
    least: Vec<f32>,
    owner: Vec<usize>,
    owned: Vec<usize>,
    owners: usize,
    picks: Vec<usize>,
}

/// `n` rows, in the order taken.
pub(super) fn start(costs: &Distances<'_>, n: usize, ctx: &Ctx) -> Result<Vec<usize>> {
    let mut greedy = Greedy::new(costs);
    let enough = nearest(costs).len() <= n;
    let mut heap: BinaryHeap<(u64, Reverse<usize>, usize)> = greedy.bounds().collect();
    ctx.tick(costs.rows() as u64)?;
    while let Some((bits, Reverse(row), at)) = heap.pop() {
        let done = if enough { greedy.picks.len() >= n } else { greedy.owners >= n };
        if done || bits == 0 {
            break;
        }
        if at == greedy.picks.len() {
            greedy.take(row);
        } else {
            ctx.tick(0)?;
            heap.push((greedy.gain(row).to_bits(), Reverse(row), greedy.picks.len()));
        }
    }
    Ok(greedy.members(n, enough))
}

/// The rows that are the nearest of some target row.
fn nearest(costs: &Distances<'_>) -> BTreeSet<usize> {
    let mut best = vec![(f32::INFINITY, 0); costs.cols()];
    for i in 0..costs.rows() {
        costs.at(i, |row| {
            for (best, &c) in best.iter_mut().zip(row) {
                if c < best.0 {
                    *best = (c, i);
                }
            }
        });
    }
    best.into_iter().map(|b| b.1).collect()
}

impl<'a> Greedy<'a> {
    /// With the first row taken.
    fn new(costs: &'a Distances<'a>) -> Self {
        let (n, m) = (costs.rows(), costs.cols());
        let sums = costs.each(|row| row.iter().map(|&c| f64::from(c)).sum::<f64>());
        let first = (0..n).min_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap_or(0);
        let mut greedy = Self {
            costs,
            least: vec![f32::INFINITY; m],
            owner: vec![usize::MAX; m],
            owned: vec![0; n],
            owners: 0,
            picks: Vec::new(),
        };
        greedy.take(first);
        greedy
    }

    fn bounds(&self) -> impl Iterator<Item = (u64, Reverse<usize>, usize)> + use<> {
        let gains = self.costs.each(|row| self.drop(row).to_bits());
        let first = self.picks[0];
        gains.into_iter().enumerate().filter(move |g| g.0 != first).map(|(i, bits)| (bits, Reverse(i), 1))
    }

    /// By how much row `i` would lower the sum of least costs.
    fn gain(&self, i: usize) -> f64 {
        self.costs.at(i, |row| self.drop(row))
    }

    fn drop(&self, row: &[f32]) -> f64 {
        let drop = |(&least, &c): (&f32, &f32)| f64::from((least - c).max(0.0));
        self.least.iter().zip(row).map(drop).sum::<f64>() + 0.0
    }

    fn take(&mut self, row: usize) {
        let costs = self.costs;
        costs.at(row, |costs| self.own(row, costs));
        self.picks.push(row);
    }

    fn own(&mut self, row: usize, costs: &[f32]) {
        for (j, &c) in costs.iter().enumerate() {
            if c < self.least[j] {
                if let Some(count) = self.owned.get_mut(self.owner[j]) {
                    *count -= 1;
                    self.owners -= usize::from(*count == 0);
                }
                self.least[j] = c;
                self.owner[j] = row;
                self.owned[row] += 1;
                self.owners += usize::from(self.owned[row] == 1);
            }
        }
    }

    /// Exactly `n` rows: those taken, or those of them that own a target row, filled up with others, the lowest first.
    fn members(self, n: usize, enough: bool) -> Vec<usize> {
        let keep = |row: &usize| enough || self.owned[*row] > 0;
        let mut members: Vec<usize> = self.picks.iter().copied().filter(keep).take(n).collect();
        let mut inside = vec![false; self.costs.rows()];
        for &row in &members {
            inside[row] = true;
        }
        let others = self.picks.iter().copied().chain(0..self.costs.rows());
        for row in others {
            if members.len() < n && !std::mem::replace(&mut inside[row], true) {
                members.push(row);
            }
        }
        members
    }
}
