//! Exact nearest neighbours, blocked: scores that can only be too large, then the canonical value of what is left.
//!
//! A block of queries meets the base in blocks; all scores of [`crate::sketch`] (full width, bf16 where the CPU has
//! it) stay in cache. A base row whose score is below the query's present `k`-th canonical value cannot enter its list;
//! the others are compared by their canonical value. The result equals sorting all canonical values, ties to the lowest
//! base row. Cost: n m d multiplications in the tile type, plus d for each pair that passes.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::assign::{gather, mean_row};
use crate::sketch::{Frame, MAX_DIM, Panels, Rows, Scratch};
use crate::tile::{LANES, at_least};
use crate::{Isa, KernelError, MatRef, Metric, Neighbours, exact};

/// Base rows packed at a time.
const BASE_BLOCK: usize = 8192;
/// Panels scored at a time.
const RANGE: usize = 64;
/// Squared norms from here on are compared without a sketch.
const LARGE: f32 = 1e30;

/// The best `k` of one query so far, nearest first.
pub(crate) struct Best {
    pub(crate) k: usize,
    pub(crate) metric: Metric,
    pub(crate) list: Vec<(f32, u32)>,
}

impl Best {
    /// Nothing yet.
    pub(crate) fn new(k: usize, metric: Metric) -> Self {
        Self { k, metric, list: Vec::with_capacity(k.min(1024)) }
    }

    /// Offer one candidate.
    pub(crate) fn offer(&mut self, value: f32, index: u32) {
        let at = self.list.partition_point(|&held| self.metric.nearer(held, (value, index)));
        if at < self.k {
            self.list.truncate(self.k - 1);
            self.list.insert(at, (value, index));
        }
    }

    fn threshold(&self, frame: &Frame, sq_norm: f32) -> f32 {
        match (self.list.len() >= self.k, self.list.last(), self.metric) {
            (true, Some(last), Metric::Dot) => last.0 - 1e-35,
            (true, Some(last), Metric::SqEuclidean) => frame.threshold(sq_norm, last.0),
            _ => f32::NEG_INFINITY,
        }
    }

    /// Append `k` entries to `out`.
    pub(crate) fn write(&self, out: &mut Neighbours) {
        for slot in 0..self.k {
            let (value, index) = self.list.get(slot).copied().unwrap_or((self.metric.worst(), u32::MAX));
            out.index.push(index);
            out.value.push(value);
        }
    }
}

/// One search.
pub(crate) struct Search<'a> {
    pub(crate) isa: Isa,
    pub(crate) queries: MatRef<'a>,
    pub(crate) base: MatRef<'a>,
    pub(crate) k: usize,
    pub(crate) metric: Metric,
    pub(crate) skip_self: Option<usize>,
}

#[derive(Default)]
struct Worker {
    scratch: Scratch,
    rows: Rows,
    scores: Vec<f32>,
}

impl Search<'_> {
    /// Run it; shapes are checked by the caller.
    pub(crate) fn run(&self) -> Result<Neighbours, KernelError> {
        self.check_rows(self.queries, "top_k: queries")?;
        self.check_rows(self.base, "top_k: base")?;
        let mut best: Vec<Best> = (0..self.queries.rows()).map(|_| Best::new(self.k, self.metric)).collect();
        if self.k > 0 {
            let frame = (self.base.dim() <= MAX_DIM && self.base.rows() >= LANES).then(|| self.frame());
            let threads = rayon::current_num_threads();
            let block = self.queries.rows().div_ceil(threads).next_multiple_of(6).clamp(6, 48);
            for start in (0..self.base.rows()).step_by(BASE_BLOCK) {
                let range = start..(start + BASE_BLOCK).min(self.base.rows());
                let panels = frame.as_ref().map(|frame| frame.panels(self.base.slice(range.clone()), self.halved()));
                let panels = panels.filter(|panels| panels.largest() < LARGE);
                best.par_chunks_mut(block).enumerate().for_each_init(Worker::default, |worker, (b, best)| {
                    match (&frame, &panels) {
                        (Some(frame), Some(panels)) => {
                            self.block(frame, panels, range.start, b * block, best, worker);
                        }
                        _ => self.every_pair(range.clone(), b * block, best),
                    }
                });
            }
        }
        let mut out = Neighbours { k: self.k, ..Neighbours::default() };
        best.iter().for_each(|best| best.write(&mut out));
        Ok(out)
    }

    fn halved(&self) -> bool {
        self.metric == Metric::SqEuclidean
    }

    /// Inner products are not invariant under centring.
    fn frame(&self) -> Frame {
        let centre = self.halved().then(|| {
            let sample = gather(self.base, 1024);
            MatRef::new(&sample, self.base.dim()).map_or_else(|_| vec![0.0; self.base.dim()], mean_row)
        });
        Frame::new(self.isa, self.base.dim(), centre, None)
    }

    fn check_rows(&self, x: MatRef<'_>, op: &'static str) -> Result<(), KernelError> {
        let bad = AtomicUsize::new(usize::MAX);
        (0..x.rows()).into_par_iter().with_min_len(256).for_each(|i| {
            if !exact::dot(self.isa, x.row(i), x.row(i)).is_finite() {
                bad.fetch_min(i, Ordering::Relaxed);
            }
        });
        match bad.into_inner() {
            usize::MAX => Ok(()),
            row => Err(KernelError::NotFinite { op, row }),
        }
    }

    fn value(&self, query: &[f32], j: usize) -> f32 {
        match self.metric {
            Metric::Dot => exact::dot(self.isa, query, self.base.row(j)),
            Metric::SqEuclidean => exact::sq_dist(self.isa, query, self.base.row(j)),
        }
    }

    fn skipped(&self, query: usize) -> usize {
        self.skip_self.map_or(usize::MAX, |offset| offset.saturating_add(query))
    }

    fn every_pair(&self, range: Range<usize>, first: usize, best: &mut [Best]) {
        for (i, best) in best.iter_mut().enumerate() {
            for j in range.clone().filter(|&j| j != self.skipped(first + i)) {
                best.offer(self.value(self.queries.row(first + i), j), j as u32);
            }
        }
    }

    fn block(
        &self,
        frame: &Frame,
        panels: &Panels,
        base_start: usize,
        first: usize,
        best: &mut [Best],
        worker: &mut Worker,
    ) {
        let Worker { scratch, rows, scores } = worker;
        frame.rows_into(self.queries.slice(first..first + best.len()), scratch, rows);
        let all = panels.padded() / LANES;
        for from in (0..all).step_by(RANGE) {
            let to = (from + RANGE).min(all);
            panels.scores(frame, &rows.words, from..to, scores);
            let (width, start) = ((to - from) * LANES, base_start + from * LANES);
            for (i, best) in best.iter_mut().enumerate() {
                let sq_norm = rows.sq_norm[i];
                if sq_norm >= LARGE || sq_norm.is_nan() {
                    let end = (start + width).min(base_start + panels.count());
                    self.every_pair(start..end, first + i, std::slice::from_mut(best));
                    continue;
                }
                let (query, skipped) = (self.queries.row(first + i), self.skipped(first + i));
                let row_scores = &scores[i * width..(i + 1) * width];
                let threshold = best.threshold(frame, sq_norm).max(f32::MIN);
                at_least(frame.isa, row_scores, threshold, |j, _| {
                    if start + j != skipped {
                        best.offer(self.value(query, start + j), (start + j) as u32);
                    }
                    best.threshold(frame, sq_norm).max(f32::MIN)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_lowest_row_and_the_list_stays_short() {
        let mut best = Best::new(2, Metric::SqEuclidean);
        for (value, index) in [(2.0, 5), (1.0, 9), (1.0, 4), (3.0, 0)] {
            best.offer(value, index);
        }
        assert_eq!(best.list, [(1.0, 4), (1.0, 9)]);
        let mut best = Best::new(3, Metric::Dot);
        for (value, index) in [(2.0, 5), (1.0, 9), (1.0, 4), (3.0, 0)] {
            best.offer(value, index);
        }
        assert_eq!(best.list, [(3.0, 0), (2.0, 5), (1.0, 4)]);
    }

    #[test]
    fn equals_every_pair() {
        let (n, d) = (300, 40);
        let data: Vec<f32> = (0..n * d).map(|i| (((i * 7919) % 65_537) as f32 / 65_537.0) - 0.3).collect();
        let x = MatRef::new(&data, d).unwrap();
        for isa in Isa::all().into_iter().filter(|isa| isa.is_available()) {
            for metric in [Metric::Dot, Metric::SqEuclidean] {
                let search = Search { isa, queries: x, base: x, k: 7, metric, skip_self: Some(0) };
                let mut wanted: Vec<Best> = (0..n).map(|_| Best::new(7, metric)).collect();
                search.every_pair(0..n, 0, &mut wanted);
                let mut plain = Neighbours { k: 7, ..Neighbours::default() };
                wanted.iter().for_each(|best| best.write(&mut plain));
                assert_eq!(search.run().unwrap(), plain, "{isa:?} {metric:?}");
            }
        }
    }
}
