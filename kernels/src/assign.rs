//! Nearest centroid of every row, exactly, looking at few of them.
//!
//! For a block of rows all scores of [`crate::sketch`] are computed in cache; the best score and its error give a
//! threshold, and only centroids above it are compared by their canonical distance. One left: it is the answer and the
//! row itself was never read. So labels equal `argmin_j |x_i - c_j|^2` of the canonical distance, ties to the lowest
//! `j`, whatever the sketch. Cost: k (r + 4) multiplications a row (bf16 where the CPU has it) and d per candidate.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::basis::Basis;
use crate::simd::prefetch;
use crate::sketch::{Frame, MAX_DIM, Panels, Rows, Scratch};
use crate::tile::{LANES, arg_max, at_least};
use crate::{Isa, KernelError, MatRef, exact};

/// Rows of a block: their scores stay in the second-level cache.
const BLOCK: usize = 48;
/// Panels scored at a time (2048 centroids).
const RANGE: usize = 128;
/// Rows between asking memory for a row and reading it.
const AHEAD: usize = 3;
/// Centred squared norms from here on are compared without a sketch, whose error terms might overflow.
const LARGE: f32 = 1e30;

/// Centroids made ready for many rows.
pub(crate) struct Nearest<'a> {
    pub(crate) isa: Isa,
    centroids: MatRef<'a>,
    /// `None`: compare every pair.
    panels: Option<Panels>,
}

/// Counts of canonical distances and of rows that needed one.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) distances: AtomicU64,
    pub(crate) rows: AtomicU64,
}

/// What one thread keeps.
#[derive(Default)]
struct Worker {
    scratch: Scratch,
    rows: Rows,
    scores: Vec<f32>,
    open: Vec<Open>,
}

/// A row's candidates so far.
#[derive(Default)]
struct Open {
    threshold: f32,
    candidates: Vec<(f32, u32)>,
}

/// Rows to label: themselves, and their sketch where one is kept.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) x: MatRef<'a>,
    pub(crate) kept: Option<&'a Rows>,
    pub(crate) first: usize,
}

/// A frame around the centroids' mean; `None` where comparing every pair is as good or the only safe way.
pub(crate) fn full_frame(isa: Isa, rows: usize, centroids: MatRef<'_>) -> Option<Frame> {
    let small = centroids.rows() < 4 || rows * centroids.rows() < 512 || centroids.dim() < 2;
    if small || centroids.dim() > MAX_DIM {
        return None;
    }
    Some(Frame::new(isa, centroids.dim(), Some(mean_row(centroids)), None))
}

/// Mean of the rows (a centre: any nearby point would do).
pub(crate) fn mean_row(x: MatRef<'_>) -> Vec<f32> {
    let mut sum = vec![0f64; x.dim()];
    for i in 0..x.rows() {
        sum.iter_mut().zip(x.row(i)).for_each(|(s, &v)| *s += f64::from(v));
    }
    sum.into_iter().map(|s| (s / x.rows().max(1) as f64) as f32).collect()
}

impl<'a> Nearest<'a> {
    /// Prepare `centroids` in `frame`.
    pub(crate) fn new(isa: Isa, centroids: MatRef<'a>, frame: Option<&Frame>) -> Result<Self, KernelError> {
        for j in 0..centroids.rows() {
            if !exact::dot(isa, centroids.row(j), centroids.row(j)).is_finite() {
                return Err(KernelError::NotFinite { op: "assign: centroids", row: j });
            }
        }
        let panels = frame.map(|frame| frame.panels(centroids, true)).filter(|panels| panels.largest() < LARGE);
        Ok(Self { isa, centroids, panels })
    }

    /// Label all rows of `input`, in parallel.
    pub(crate) fn label(
        &self,
        frame: Option<&Frame>,
        input: Input<'_>,
        labels: &mut [u32],
        tally: Option<&Tally>,
    ) -> Result<(), KernelError> {
        let bad = AtomicUsize::new(usize::MAX);
        labels.par_chunks_mut(BLOCK).enumerate().for_each_init(Worker::default, |worker, (b, labels)| {
            let start = b * BLOCK;
            let failed = match (frame, &self.panels) {
                (Some(frame), Some(panels)) => self.block(frame, panels, input, start, labels, worker, tally),
                _ => (0..labels.len()).find(|&i| !self.every_pair(input.x.row(start + i), &mut labels[i])),
            };
            if let Some(row) = failed {
                bad.fetch_min(start + row, Ordering::Relaxed);
            }
        });
        match bad.into_inner() {
            usize::MAX => Ok(()),
            row => Err(KernelError::NotFinite { op: "assign", row: input.first + row }),
        }
    }

    /// Compare with every centroid; `false` when the row's squared norm is not finite.
    fn every_pair(&self, row: &[f32], label: &mut u32) -> bool {
        let mut best = (f32::INFINITY, 0);
        for j in 0..self.centroids.rows() {
            let dist = exact::sq_dist(self.isa, row, self.centroids.row(j));
            if dist < best.0 {
                best = (dist, j as u32);
            }
        }
        *label = best.1;
        exact::dot(self.isa, row, row).is_finite()
    }

    #[allow(clippy::too_many_arguments)] // reason: the inner loop of `label`, called once
    fn block(
        &self,
        frame: &Frame,
        panels: &Panels,
        input: Input<'_>,
        start: usize,
        labels: &mut [u32],
        worker: &mut Worker,
        tally: Option<&Tally>,
    ) -> Option<usize> {
        let count = labels.len();
        let Worker { scratch, rows: fresh, scores, open } = worker;
        let (rows, at) = if let Some(kept) = input.kept {
            (kept, input.first + start)
        } else {
            frame.rows_into(input.x.slice(start..start + count), scratch, fresh);
            (&*fresh, 0)
        };
        open.resize_with(count.max(open.len()), Open::default);
        for row in &mut open[..count] {
            row.threshold = f32::NEG_INFINITY;
            row.candidates.clear();
        }
        let words = &rows.words[at * frame.steps..(at + count) * frame.steps];
        for from in (0..panels.padded() / LANES).step_by(RANGE) {
            let to = (from + RANGE).min(panels.padded() / LANES);
            panels.scores(frame, words, from..to, scores);
            let width = (to - from) * LANES;
            for (i, row) in open[..count].iter_mut().enumerate() {
                let row_scores = &scores[i * width..(i + 1) * width];
                let (best, j) = arg_max(frame.isa, row_scores);
                let seen = frame.threshold_from_score(rows, at + i, panels, from * LANES + j, best);
                row.threshold = row.threshold.max(seen);
                let threshold = row.threshold;
                at_least(frame.isa, row_scores, threshold, |j, s| {
                    row.candidates.push((s, (from * LANES + j) as u32));
                    threshold
                });
            }
        }
        for row in &mut open[..count] {
            let threshold = row.threshold;
            row.candidates.retain(|c| c.0 >= threshold);
        }
        let mut failed = None;
        for (i, label) in labels.iter_mut().enumerate() {
            if i + AHEAD < count && open[i + AHEAD].candidates.len() > 1 {
                prefetch(input.x.row(start + i + AHEAD));
            }
            let row = &open[i];
            let sq_norm = rows.sq_norm[at + i];
            if sq_norm >= LARGE || !sq_norm.is_finite() {
                if !self.every_pair(input.x.row(start + i), label) {
                    failed = failed.or(Some(i));
                }
                continue;
            }
            if let [only] = row.candidates[..] {
                *label = only.1;
                continue;
            }
            let distances = self.resolve(frame, sq_norm, input.x.row(start + i), &row.candidates, label);
            if let Some(tally) = tally {
                tally.rows.fetch_add(1, Ordering::Relaxed);
                tally.distances.fetch_add(distances, Ordering::Relaxed);
            }
        }
        failed
    }

    /// Decide between candidates by canonical distance, the most promising first.
    fn resolve(&self, frame: &Frame, sq_norm: f32, x: &[f32], candidates: &[(f32, u32)], label: &mut u32) -> u64 {
        let Some(first) = candidates.iter().copied().reduce(|a, b| if b.0 > a.0 { b } else { a }) else { return 0 };
        let dist = |j: u32| exact::sq_dist(self.isa, x, self.centroids.row(j as usize));
        let mut best = (dist(first.1), first.1);
        let mut threshold = frame.threshold(sq_norm, best.0);
        let mut distances = 1;
        for &(score, j) in candidates {
            if score >= threshold && j != first.1 {
                let found = (dist(j), j);
                distances += 1;
                if found.0 < best.0 || (found.0 == best.0 && j < best.1) {
                    best = found;
                    threshold = frame.threshold(sq_norm, best.0);
                }
            }
        }
        *label = best.1;
        distances
    }
}

/// The cheapest frame for these rows and centroids, judged on a few rows: full width, or projected on 28, 60 or 124
/// directions of the centroids, there also in f32 (twice the work, a hundredth of the error). Labels do not depend on
/// the choice.
pub(crate) fn choose_frame(isa: Isa, x: MatRef<'_>, centroids: MatRef<'_>) -> Result<Option<Frame>, KernelError> {
    const SAMPLE_ROWS: usize = 384;
    const RANKS: [usize; 3] = [28, 60, 124];
    let Some(full) = full_frame(isa, x.rows(), centroids) else { return Ok(None) };
    let work = x.rows() as f64 * centroids.rows() as f64 * x.dim() as f64;
    if work < 1e9 || x.rows() < 4 * SAMPLE_ROWS || x.dim() < 2 * RANKS[0] {
        return Ok(Some(full));
    }
    let sample = gather(x, SAMPLE_ROWS);
    let sample = MatRef::new(&sample, x.dim())?;
    let centre = mean_row(centroids);
    let centred = centred_sample(centroids, &centre, 1024);
    let ranks: Vec<usize> = RANKS.into_iter().filter(|&rank| 2 * rank <= x.dim()).collect();
    let basis = Basis::of(isa, MatRef::new(&centred, x.dim())?, ranks.last().copied().unwrap_or(0));
    let mut best = (f64::INFINITY, full);
    let mut labels = vec![0; sample.rows()];
    let words: &[Isa] = if isa.has_bf16() { &[isa, Isa::Avx512] } else { &[isa] };
    let projected = words.iter().flat_map(|&words| ranks.iter().map(move |&rank| (words, Some(rank))));
    for (words, rank) in std::iter::once((isa, None)).chain(projected) {
        let frame = Frame::new(words, x.dim(), Some(centre.clone()), rank.map(|rank| basis.prefix(rank)));
        let (nearest, tally) = (Nearest::new(isa, centroids, Some(&frame))?, Tally::default());
        nearest.label(Some(&frame), Input { x: sample, kept: None, first: 0 }, &mut labels, Some(&tally))?;
        let cost = cost(&frame, sample, centroids, &tally);
        if cost < best.0 {
            best = (cost, frame);
        }
    }
    Ok(Some(best.1))
}

/// Rough cycles a row: one for each step of a panel, and for each candidate its dimensions; a row that must be read
/// comes from memory.
fn cost(frame: &Frame, sample: MatRef<'_>, centroids: MatRef<'_>, tally: &Tally) -> f64 {
    let (dim, panels) = (sample.dim() as f64, centroids.rows().div_ceil(LANES) as f64);
    let per_row = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / sample.rows() as f64;
    let touched = if frame.is_projected() { per_row(&tally.rows) } else { 1.5 };
    panels * (frame.steps as f64 + 8.0) + per_row(&tally.distances) * (dim / 4.0 + 25.0) + touched * dim
}

/// About `count` rows at even strides.
pub(crate) fn gather(x: MatRef<'_>, count: usize) -> Vec<f32> {
    let stride = (x.rows() / count.max(1)).max(1);
    (0..x.rows()).step_by(stride).take(count).flat_map(|i| x.row(i)).copied().collect()
}

fn centred_sample(x: MatRef<'_>, centre: &[f32], count: usize) -> Vec<f32> {
    let mut rows = gather(x, count);
    for row in rows.chunks_exact_mut(x.dim()) {
        row.iter_mut().zip(centre).for_each(|(v, m)| *v -= m);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash;

    #[allow(clippy::many_single_char_names)] // reason: n, d as in the formulas
    fn rows(seed: u64, n: usize, d: usize, rank: usize, noise: f32) -> Vec<f32> {
        let draw = |row: u64, at: u64| (hash::unit(hash::mix(&[seed, row, at])) - 0.5) as f32;
        let mix: Vec<f32> = (0..rank * d).map(|i| (hash::unit(hash::mix(&[99, i as u64])) - 0.5) as f32).collect();
        (0..n)
            .flat_map(|i| {
                let weights: Vec<f32> = (0..rank).map(|t| draw(i as u64, t as u64)).collect();
                let mix = &mix;
                (0..d).map(move |c| {
                    let low: f32 = weights.iter().enumerate().map(|(t, w)| w * mix[t * d + c]).sum();
                    low + noise * draw(i as u64, 1_000_000 + c as u64)
                })
            })
            .collect()
    }

    #[test]
    #[expect(clippy::many_single_char_names, reason = "n rows of d numbers, k centroids")]
    fn every_frame_gives_the_canonical_labels() {
        let (n, k, d) = (700, 130, 96);
        let (x, c) = (rows(1, n, d, 12, 0.3), rows(2, k, d, 12, 0.05));
        let (x, c) = (MatRef::new(&x, d).unwrap(), MatRef::new(&c, d).unwrap());
        for isa in Isa::all().into_iter().filter(|isa| isa.is_available()) {
            let mut wanted = vec![0; n];
            let input = Input { x, kept: None, first: 0 };
            Nearest::new(isa, c, None).unwrap().label(None, input, &mut wanted, None).unwrap();
            let centre = mean_row(c);
            let basis = Basis::of(isa, MatRef::new(&centred_sample(c, &centre, 999), d).unwrap(), 40);
            for rank in [0, 4, 12, 40] {
                let projected = (rank > 0).then(|| basis.prefix(rank));
                let frame = Frame::new(isa, d, Some(centre.clone()), projected);
                let tally = Tally::default();
                let mut got = vec![0; n];
                let nearest = Nearest::new(isa, c, Some(&frame)).unwrap();
                nearest.label(Some(&frame), input, &mut got, Some(&tally)).unwrap();
                assert_eq!(got, wanted, "{isa:?} rank {rank}");
                let kept = frame.rows(x);
                nearest.label(Some(&frame), Input { x, kept: Some(&kept), first: 0 }, &mut got, None).unwrap();
                assert_eq!(got, wanted, "{isa:?} rank {rank}, kept");
                assert!(tally.distances.into_inner() < (n * k) as u64 / 2, "{isa:?} rank {rank} prunes");
            }
        }
    }
}
