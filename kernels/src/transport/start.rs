//! A first basis that is nearly optimal: always the cheapest cell left, measured against prices of rows and columns.
//!
//! Prices: `v_j = min_i C_ij`, `u_i = min_j (C_ij - v_j)`, or any the caller has; then the matrix-minimum rule on
//! `C - u - v`. Source: the textbook rule for the transportation problem (Dantzig 1951); prices first, own choice.
//! Deviation: a row keeps its `KEEP` cheapest cells and looks again when they are used up. Cost: n m, plus m for
//! every time a row looks again.

use super::tree::Arc;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Cells that a row keeps in store.
const KEEP: usize = 24;

/// Costs as the start sees them: matrix, columns and prices of columns.
#[derive(Clone, Copy)]
pub(super) struct Priced<'a> {
    pub(super) cost: &'a [f64],
    pub(super) cols: usize,
    pub(super) v: &'a [f64],
}

impl Priced<'_> {
    fn row(&self, i: usize) -> &[f64] {
        &self.cost[i * self.cols..(i + 1) * self.cols]
    }
}

/// Prices of columns: the least cost of each.
pub(super) fn column_minima(cost: &[f64], cols: usize) -> Vec<f64> {
    let mut v = vec![f64::INFINITY; cols];
    for row in cost.chunks_exact(cols) {
        v.iter_mut().zip(row).for_each(|(v, &c)| *v = v.min(c));
    }
    v
}

/// A number that sorts as the cost does.
const fn key(cost: f64) -> i64 {
    let bits = cost.to_bits().cast_signed();
    bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
}

/// The `KEEP` cheapest open cells of a row, dearest first.
fn cheapest(costs: Priced<'_>, i: usize, open: &[u32]) -> Vec<(i64, u32)> {
    let row = costs.row(i);
    let mut cells: Vec<(i64, u32)> = open.iter().map(|&j| (key(row[j as usize] - costs.v[j as usize]), j)).collect();
    if cells.len() > KEEP {
        cells.select_nth_unstable(KEEP - 1);
        cells.truncate(KEEP);
    }
    cells.sort_unstable_by(|a, b| b.cmp(a));
    cells
}

/// Arcs of a spanning tree that ships `rows` to `cols`; both must be such that no part of them balances.
pub(super) fn greedy(costs: Priced<'_>, mut rows: Vec<i64>, mut cols: Vec<i64>) -> Vec<Arc> {
    let mut open: Vec<u32> = (0..cols.len() as u32).collect();
    let mut stores: Vec<Vec<(i64, u32)>> = (0..rows.len()).map(|i| cheapest(costs, i, &open)).collect();
    let base: Vec<f64> =
        stores.iter().enumerate().map(|(i, s)| s.last().map_or(0.0, |c| value(costs, i, c.1))).collect();
    let entry = |i: usize, j: u32| Reverse((key(value(costs, i, j) - base[i]), i as u32, j));
    let mut heap: BinaryHeap<_> =
        stores.iter_mut().enumerate().filter_map(|(i, s)| s.pop().map(|(_, j)| entry(i, j))).collect();
    let (mut arcs, mut closed) = (Vec::with_capacity(rows.len() + cols.len()), 0);
    while let Some(Reverse((_, i, j))) = heap.pop() {
        let (row, col) = (i as usize, j as usize);
        let moved = rows[row].min(cols[col]);
        if moved > 0 {
            arcs.push((i, j, moved));
            rows[row] -= moved;
            cols[col] -= moved;
            closed += usize::from(cols[col] == 0);
        }
        if rows[row] == 0 {
            continue;
        }
        if 2 * closed > open.len() {
            open.retain(|&j| cols[j as usize] > 0);
            closed = 0;
        }
        if let Some(j) = next(costs, row, (&mut stores[row], &open, &cols)) {
            heap.push(entry(row, j));
        }
    }
    arcs
}

fn value(costs: Priced<'_>, i: usize, j: u32) -> f64 {
    costs.row(i)[j as usize] - costs.v[j as usize]
}

/// The next open cell of a row from its store, filled again where it is empty.
fn next(costs: Priced<'_>, row: usize, (store, open, left): (&mut Vec<(i64, u32)>, &[u32], &[i64])) -> Option<u32> {
    loop {
        match store.pop() {
            Some((_, j)) if left[j as usize] > 0 => return Some(j),
            Some(_) => {}
            None => {
                *store = cheapest(costs, row, open);
                store.retain(|c| left[c.1 as usize] > 0);
                if store.is_empty() {
                    let alive: Vec<u32> = open.iter().copied().filter(|&j| left[j as usize] > 0).collect();
                    if alive.is_empty() {
                        return None;
                    }
                    *store = cheapest(costs, row, &alive);
                }
            }
        }
    }
}
