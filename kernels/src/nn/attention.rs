//! Causal attention of grouped heads over sequences laid end to end, forward and backward.
//!
//! Formula: P = softmax(Q K^T / sqrt(d)) over the keys a query may see, O = P V; with D = rowsum(dO O): dV = P^T dO,
//! dS = P (dO V^T - D) / sqrt(d), dQ = dS K, dK = dS^T Q. Source: Vaswani et al. 2017; the way back after Dao et al. 2022,
//! `FlashAttention` (section 3.1): P is computed again from the logarithm of each row's sum. Deviation: a tile holds some
//! queries and all their keys, so that a row is normed at once. Cost: about half of 4 n T d operations a head forward,
//! 10 n T d backward; memory: tiles of `TILE` x T numbers a thread, T the length of a sequence.

use super::math::{dot, exp_in_place, largest};
use super::mul::{Mat, product_into};
use super::{Shared, wide};
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a tile.
const TILE: usize = 48;

/// Which tokens see which, and through how many heads.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Token range of each sequence.
    pub segments: &'a [Range<usize>],
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many tokens back a query sees, itself included.
    pub window: Option<usize>,
}

/// Queries, keys and values: `[tokens, heads * head_dim]` and twice `[tokens, kv_heads * head_dim]`.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
}

/// Some queries of one head and the keys before them.
#[derive(Clone, Copy, Debug)]
struct Tile {
    /// First query, as a token of the batch.
    first: usize,
    /// One behind the last query, and behind the last key.
    end: usize,
    /// First key.
    key: usize,
    head: usize,
}

impl Tile {
    const fn rows(&self) -> usize {
        self.end - self.first
    }

    const fn keys(&self) -> usize {
        self.end - self.key
    }

    /// The keys that query `row` sees, counted from the first key of the tile.
    fn visible(&self, row: usize, window: Option<usize>) -> Range<usize> {
        let end = self.first + row + 1 - self.key;
        window.map_or(0, |window| end.saturating_sub(window))..end
    }
}

/// One row: only its visible part counts, the rest becomes 0.
#[inline(always)]
fn hide(row: &mut [f32], visible: &Range<usize>) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
}

wide! {
    /// Scores become exponentials; `sums` takes each row's sum and `lse` its logarithm with the maximum.
    fn soften(scores: &mut [f32], tile: Tile, window: Option<usize>, scale: f32, sums: &mut [(f32, f32)]) {
        for (r, (row, sum)) in scores.chunks_exact_mut(tile.keys()).zip(sums).enumerate() {
            let visible = tile.visible(r, window);
            hide(row, &visible);
            let seen = &mut row[visible];
            let max = largest(seen) * scale;
            let total = exp_in_place(seen, scale, max);
            *sum = (1.0 / total, max + total.ln());
        }
    }
}

wide! {
    /// Scores become probabilities, from the kept logarithms.
    fn soften_again(scores: &mut [f32], tile: Tile, window: Option<usize>, scale: f32, lse: &[f32]) {
        for (r, (row, lse)) in scores.chunks_exact_mut(tile.keys()).zip(lse).enumerate() {
            let visible = tile.visible(r, window);
            hide(row, &visible);
            exp_in_place(&mut row[visible], scale, *lse);
        }
    }
}

wide! {
    /// `gp` becomes `scale p (gp - delta)`.
    fn score_gradient(p: &[f32], gp: &mut [f32], keys: usize, scale: f32, delta: &[f32]) {
        for ((p, gp), delta) in p.chunks_exact(keys).zip(gp.chunks_exact_mut(keys)).zip(delta) {
            for (gp, p) in gp.iter_mut().zip(p) {
                *gp = scale * p * (*gp - delta);
            }
        }
    }
}

wide! {
    /// `sums[r] = a_r . b_r` for rows of `dim` numbers, `stride` apart.
    fn inner(a: &[f32], b: &[f32], stride: usize, dim: usize, sums: &mut [f32]) {
        for ((a, b), sum) in a.chunks(stride).zip(b.chunks(stride)).zip(sums) {
            *sum = dot(&a[..dim], &b[..dim]);
        }
    }
}

/// Scratch of a task.
#[derive(Default)]
struct Room {
    scores: Vec<f32>,
    slopes: Vec<f32>,
    sums: Vec<(f32, f32)>,
    lse: Vec<f32>,
    delta: Vec<f32>,
}

/// What the way back reads besides queries, keys and values.
#[derive(Clone, Copy)]
struct Known<'a> {
    seen: Seen<'a>,
    out: &'a [f32],
    lse: &'a [f32],
    gout: &'a [f32],
}

impl Attention<'_> {
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The block of `x` (rows of `heads`) that holds `rows` of one head.
    fn block<'a>(&self, x: &'a [f32], heads: usize, rows: Range<usize>, head: usize) -> Mat<'a> {
        let width = heads * self.head_dim;
        Mat::new(x, x.len() / width, width).part(rows, head * self.head_dim..(head + 1) * self.head_dim)
    }

    fn tiles(&self, segment: &Range<usize>, head: usize) -> impl Iterator<Item = Tile> {
        let (segment, window) = (segment.clone(), self.window);
        segment.clone().step_by(TILE).map(move |first| {
            let back = window.map_or(0, |window| (first + 1).saturating_sub(window));
            Tile { first, end: segment.end.min(first + TILE), key: back.max(segment.start), head }
        })
    }

    fn check(&self, seen: Seen, tokens: usize) {
        assert!(self.heads.is_multiple_of(self.kv_heads));
        assert_eq!(seen.q.len(), tokens * self.q_width());
        assert!(seen.k.len() == tokens * self.kv_width() && seen.v.len() == seen.k.len());
        assert!(self.segments.windows(2).all(|pair| pair[0].end <= pair[1].start), "segments overlap");
    }

    /// `out`, as wide as the queries, and `lse`, `[tokens, heads]`, which the way back needs.
    ///
    /// # Panics
    /// When lengths do not fit or segments overlap.
    pub fn forward(&self, seen: Seen, out: &mut [f32], lse: &mut [f32]) {
        self.check(seen, lse.len() / self.heads);
        assert_eq!(out.len(), seen.q.len());
        let heads = |segment| (0..self.heads).flat_map(move |head| self.tiles(segment, head));
        let tiles: Vec<Tile> = self.segments.iter().flat_map(heads).collect();
        let (out, lse) = (Shared::new(out), Shared::new(lse));
        tiles
            .into_par_iter()
            .for_each_init(Room::default, |room, tile| self.tile_forward(seen, tile, room, (out, lse)));
    }

    fn tile_forward(&self, seen: Seen, tile: Tile, room: &mut Room, (out, lse): (Shared, Shared)) {
        let (width, dim) = (self.q_width(), self.head_dim);
        self.scores(seen, tile, &mut room.scores);
        room.sums.resize(tile.rows(), (0.0, 0.0));
        soften(&mut room.scores, tile, self.window, self.scale(), &mut room.sums);
        let p = Mat::new(&room.scores, tile.rows(), tile.keys());
        let v = self.block(seen.v, self.kv_heads, tile.key..tile.end, self.kv_head(tile.head));
        // SAFETY: the rows and columns of this tile's queries belong to this task alone.
        unsafe { Self::product(out, tile.first * width + tile.head * dim, (0.0, width), (p, v)) };
        for (r, &(inverse, log)) in room.sums.iter().enumerate() {
            let row = tile.first + r;
            // SAFETY: as above; one entry of `lse` a query and head.
            let (out, lse) =
                unsafe { (out.slice(row * width + tile.head * dim, dim), lse.slice(row * self.heads + tile.head, 1)) };
            out.iter_mut().for_each(|x| *x *= inverse);
            lse[0] = log;
        }
    }

    const fn kv_head(&self, head: usize) -> usize {
        head / (self.heads / self.kv_heads)
    }

    /// Q K^T of a tile.
    fn scores(&self, seen: Seen, tile: Tile, scores: &mut Vec<f32>) {
        let q = self.block(seen.q, self.heads, tile.first..tile.end, tile.head);
        let k = self.block(seen.k, self.kv_heads, tile.key..tile.end, self.kv_head(tile.head));
        Self::square(q, k, tile, scores);
    }

    /// A B^T into a tile of scores.
    fn square(a: Mat, b: Mat, tile: Tile, to: &mut Vec<f32>) {
        to.resize(tile.rows() * tile.keys(), 0.0);
        // SAFETY: `to` has just been given the length of the product.
        unsafe { Self::product(Shared::new(to), 0, (0.0, tile.keys()), (a, b.t())) };
    }

    /// `C = A B + beta C` from number `at` of `c` on.
    ///
    /// # Safety
    /// The rows of C, `stride` apart, lie inside `c`, and nobody else touches them.
    unsafe fn product(c: Shared, at: usize, (beta, stride): (f32, usize), factors: (Mat, Mat)) {
        // SAFETY: the caller's promise.
        unsafe { product_into(c.at(at), stride, (1.0, beta), factors, Parallelism::None) };
    }

    /// The gradients of queries, keys and values, given that of the output. `grads` hold zeros on entry.
    ///
    /// # Panics
    /// When lengths do not fit or segments overlap.
    pub fn backward(&self, seen: Seen, (out, lse): (&[f32], &[f32]), gout: &[f32], grads: [&mut [f32]; 3]) {
        self.check(seen, lse.len() / self.heads);
        let [gq, gk, gv] = grads;
        assert!(out.len() == seen.q.len() && gout.len() == out.len() && gq.len() == out.len());
        assert!(gk.len() == seen.k.len() && gv.len() == seen.v.len());
        let shared = [Shared::new(gq), Shared::new(gk), Shared::new(gv)];
        let known = Known { seen, out, lse, gout };
        let tasks: Vec<(&Range<usize>, usize)> =
            self.segments.iter().flat_map(|segment| (0..self.kv_heads).map(move |head| (segment, head))).collect();
        tasks.into_par_iter().for_each_init(Room::default, |room, (segment, kv_head)| {
            let group = self.heads / self.kv_heads;
            for tile in (kv_head * group..(kv_head + 1) * group).flat_map(|head| self.tiles(segment, head)) {
                self.tile_backward(known, tile, room, shared);
            }
        });
    }

    fn tile_backward(&self, known: Known, tile: Tile, room: &mut Room, [gq, gk, gv]: [Shared; 3]) {
        let (seen, rows, keys) = (known.seen, tile.first..tile.end, tile.key..tile.end);
        let kv_head = self.kv_head(tile.head);
        let gout = self.block(known.gout, self.heads, rows.clone(), tile.head);
        let q = self.block(seen.q, self.heads, rows, tile.head);
        let (k, v) = (
            self.block(seen.k, self.kv_heads, keys.clone(), kv_head),
            self.block(seen.v, self.kv_heads, keys, kv_head),
        );
        self.row_constants(known, tile, room);
        Self::square(q, k, tile, &mut room.scores);
        soften_again(&mut room.scores, tile, self.window, self.scale(), &room.lse);
        Self::square(gout, v, tile, &mut room.slopes);
        let shape = |x| Mat::new(x, tile.rows(), tile.keys());
        let at = tile.key * self.kv_width() + kv_head * self.head_dim;
        let at_q = tile.first * self.q_width() + tile.head * self.head_dim;
        // SAFETY: a task owns the columns of its key and value head, and of the query heads of its group, in the rows of
        // its segment.
        unsafe {
            Self::product(gv, at, (1.0, self.kv_width()), (shape(&room.scores).t(), gout));
            score_gradient(&room.scores, &mut room.slopes, tile.keys(), self.scale(), &room.delta);
            Self::product(gq, at_q, (0.0, self.q_width()), (shape(&room.slopes), k));
            Self::product(gk, at, (1.0, self.kv_width()), (shape(&room.slopes).t(), q));
        }
    }

    /// The logarithm of the sum and the inner product of output and gradient, for every query of a tile.
    fn row_constants(&self, known: Known, tile: Tile, room: &mut Room) {
        let (width, start) = (self.q_width(), tile.first * self.q_width() + tile.head * self.head_dim);
        room.lse.clear();
        room.lse.extend((tile.first..tile.end).map(|row| known.lse[row * self.heads + tile.head]));
        room.delta.resize(tile.rows(), 0.0);
        inner(&known.out[start..], &known.gout[start..], width, self.head_dim, &mut room.delta);
    }
}

#[cfg(test)]
mod tests;
