//! Short images of rows and centroids whose inner product, with four error terms appended, can only be too large: what
//! falls below a threshold need not be looked at.
//!
//! Rows are centred, `x' = x - m`, and (optionally) projected on `r` orthonormal directions `P`, `y = P^T x'`, rounded
//! to bf16 where the CPU multiplies that, `y^`. With `z`, `z^` the same for a centroid, Cauchy-Schwarz gives
//!
//! ```text
//! x'.c' <= y^.z^ + |y^||z - z^| + |y - y^||z| + rho_x rho_c + A |x'||c'|,   rho^2 = |x'|^2 - |y|^2
//! ```
//!
//! and each product on the right is one more dimension of the tile. `A` (and `B`, on `|c'|^2`) collects every f32
//! rounding: centring, projection, lost orthogonality, accumulation. The score `x'.c' - |c'|^2 / 2` is half of
//! `|x'|^2 - |x - c|^2`, so the largest score is the nearest centroid.
//! Source: bounds by partial norms are folklore of exact search; this arrangement is ours.
//! Cost: k (r + 4) multiplications a row in place of k d, after d r once for the projection.

use rayon::prelude::*;

use crate::basis::Basis;
use crate::tile::{self, LANES, pack_panels, pair, round_bf16, round_up_bf16, words_per_row};
use crate::{Isa, MatRef, exact};

/// Error dimensions put before the sketch itself.
pub(crate) const EXTRA: usize = 4;

/// Dimensions beyond which the rounding constants would no longer be small.
pub(crate) const MAX_DIM: usize = 1 << 15;

/// Unit roundoff of f32.
const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// Where rows and centroids are mapped to, and the rounding constants of the map.
pub(crate) struct Frame {
    pub(crate) isa: Isa,
    dim: usize,
    centre: Option<Vec<f32>>,
    basis: Option<Basis>,
    /// Words of a sketched row.
    pub(crate) steps: usize,
    rest: f32,
    per_product: f32,
    per_square: f64,
    per_row: f64,
}

/// Sketched rows.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) words: Vec<u32>,
    pub(crate) errors: Vec<[f32; EXTRA]>,
    pub(crate) sq_norm: Vec<f32>,
}

/// Sketched centroids (or base rows), in panels.
pub(crate) struct Panels {
    pub(crate) words: Vec<u32>,
    pub(crate) bias: Vec<f32>,
    errors: Vec<[f32; EXTRA]>,
    sq_norm: Vec<f32>,
}

impl Frame {
    /// A frame for rows of `dim` numbers around `centre`, projected on `basis` if there is one.
    pub(crate) fn new(isa: Isa, dim: usize, centre: Option<Vec<f32>>, basis: Option<Basis>) -> Self {
        let dims = basis.as_ref().map_or(dim, Basis::rank);
        let steps = words_per_row(isa, dims + EXTRA);
        let wide = dim as f64;
        let (defect, projection) =
            basis.as_ref().map_or((0.0, 0.0), |b| (b.defect(), 1.05 * wide * UNIT * (b.rank() as f64).sqrt()));
        let canonical = f64::from(exact::rounding(dim));
        let accumulation = (2 * steps + 4) as f64 * 2.0 * UNIT;
        let centring = 2.0 * UNIT;
        Self {
            isa,
            dim,
            centre,
            basis,
            steps,
            rest: (1.02 * (2.0 * projection + defect + 2.0 * canonical)) as f32,
            per_product: (1.02 * (3.0 * defect + 2.0 * projection) + 2.2 * accumulation + centring + 2.0 * canonical)
                as f32,
            per_square: 0.6 * accumulation + centring + canonical,
            per_row: 2.0 * canonical + 2.0 * centring,
        }
    }

    /// Whether rows are projected.
    pub(crate) const fn is_projected(&self) -> bool {
        self.basis.is_some()
    }

    /// Sketch `x` into `out`, which is emptied first; one thread.
    pub(crate) fn rows_into(&self, x: MatRef<'_>, scratch: &mut Scratch, out: &mut Rows) {
        self.sketch(x, scratch, out, |frame, e| [e.kept, e.lost, e.rest, frame.per_product * e.norm]);
    }

    /// Sketch all of `x`, in parallel.
    pub(crate) fn rows(&self, x: MatRef<'_>) -> Rows {
        const BLOCK: usize = 192;
        let mut all = Rows {
            words: vec![0; x.rows() * self.steps],
            errors: vec![[0.0; EXTRA]; x.rows()],
            sq_norm: vec![0.0; x.rows()],
        };
        let blocks = all
            .words
            .par_chunks_mut(BLOCK * self.steps)
            .zip(all.errors.par_chunks_mut(BLOCK))
            .zip(all.sq_norm.par_chunks_mut(BLOCK));
        blocks.enumerate().for_each_init(
            <(Scratch, Rows)>::default,
            |(scratch, part), (b, ((words, errors), norms))| {
                self.rows_into(x.slice(b * BLOCK..b * BLOCK + norms.len()), scratch, part);
                words.copy_from_slice(&part.words);
                errors.copy_from_slice(&part.errors);
                norms.copy_from_slice(&part.sq_norm);
            },
        );
        all
    }

    /// Sketch centroids. With `halved_squares` the bias is `-|c'|^2 / 2`, else 0.
    pub(crate) fn panels(&self, centroids: MatRef<'_>, halved_squares: bool) -> Panels {
        let (mut scratch, mut rows) = (Scratch::default(), Rows::default());
        self.sketch(centroids, &mut scratch, &mut rows, |_, e| [e.lost, e.whole, e.rest, e.norm]);
        let mut bias = vec![f32::NEG_INFINITY; centroids.rows().next_multiple_of(LANES)];
        for (slot, &sq_norm) in bias.iter_mut().zip(&rows.sq_norm) {
            *slot = if halved_squares { ((self.per_square - 0.5) * f64::from(sq_norm)) as f32 } else { 0.0 };
        }
        Panels { words: pack_panels(&rows.words, self.steps), bias, errors: rows.errors, sq_norm: rows.sq_norm }
    }

    /// Score that any centroid at least as near as `sq_dist` (canonical) must reach for a row of squared norm `sq_norm`.
    pub(crate) fn threshold(&self, sq_norm: f32, sq_dist: f32) -> f32 {
        let (norm, dist) = (f64::from(sq_norm), f64::from(sq_dist));
        let wanted = 0.5 * (norm - dist) - (self.per_row + UNIT) * (norm + dist) - 1e-35;
        round_down(wanted)
    }

    /// The same from the score alone: what any centroid must reach to be at least as near as centroid `j`, whose score
    /// is `score`, without looking at the row itself.
    pub(crate) fn threshold_from_score(&self, rows: &Rows, i: usize, panels: &Panels, j: usize, score: f32) -> f32 {
        let slack: f64 = rows.errors[i].iter().zip(&panels.errors[j]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        let (norm, square) = (f64::from(rows.sq_norm[i]), f64::from(panels.sq_norm[j]));
        let low = f64::from(score) - 2.001 * (slack + self.per_square * square) - 1e-35;
        round_down(low - 2.0 * (self.per_row + UNIT) * (norm + (norm - 2.0 * low).max(0.0)))
    }

    fn sketch(
        &self,
        x: MatRef<'_>,
        scratch: &mut Scratch,
        out: &mut Rows,
        arrange: impl Fn(&Self, &Parts) -> [f32; EXTRA],
    ) {
        out.words.clear();
        out.words.resize(x.rows() * self.steps, 0);
        out.errors.clear();
        out.sq_norm.clear();
        scratch.centred.clear();
        scratch.centred.extend_from_slice(x.data());
        if let Some(centre) = &self.centre {
            for row in scratch.centred.chunks_exact_mut(self.dim) {
                row.iter_mut().zip(centre).for_each(|(v, m)| *v -= m);
            }
        }
        if let Some(basis) = &self.basis {
            basis.project(self.isa, &scratch.centred, &mut scratch.image);
        }
        for i in 0..x.rows() {
            let centred = &scratch.centred[i * self.dim..(i + 1) * self.dim];
            let image = match &self.basis {
                Some(basis) => &scratch.image[i * basis.stride()..i * basis.stride() + basis.rank()],
                None => centred,
            };
            let sq_norm = exact::dot(self.isa, centred, centred);
            let words = &mut out.words[i * self.steps..(i + 1) * self.steps];
            let errors = self.sketch_row(image, sq_norm, words, &mut scratch.rounded, &arrange);
            out.errors.push(errors);
            out.sq_norm.push(sq_norm);
        }
    }

    fn sketch_row(
        &self,
        image: &[f32],
        sq_norm: f32,
        words: &mut [u32],
        rounded: &mut Vec<f32>,
        arrange: &impl Fn(&Self, &Parts) -> [f32; EXTRA],
    ) -> [f32; EXTRA] {
        let sq_image = if self.is_projected() { exact::dot(self.isa, image, image) } else { sq_norm };
        rounded.clear();
        let (kept, lost) = if self.isa.has_bf16() {
            rounded.extend(image.iter().map(|&v| round_bf16(v)));
            let kept = exact::dot(self.isa, rounded, rounded).sqrt();
            (kept, exact::sq_dist(self.isa, image, rounded).sqrt())
        } else {
            rounded.extend_from_slice(image);
            (sq_image.sqrt(), 0.0)
        };
        let beyond = if self.is_projected() { (sq_norm - sq_image).max(0.0) + self.rest * sq_norm } else { 0.0 };
        let parts = Parts { kept, lost, whole: sq_image.sqrt(), rest: beyond.sqrt(), norm: sq_norm.sqrt() };
        let errors = arrange(self, &parts).map(round_up_bf16);
        if self.isa.has_bf16() {
            words[0] = pair(errors[0], errors[1]);
            words[1] = pair(errors[2], errors[3]);
            rounded.resize(2 * (self.steps - 2), 0.0);
            for (word, two) in words[2..].iter_mut().zip(rounded.as_chunks::<2>().0) {
                *word = pair(two[0], two[1]);
            }
        } else {
            words[..EXTRA].copy_from_slice(&errors.map(f32::to_bits));
            words[EXTRA..].iter_mut().zip(rounded.iter()).for_each(|(word, v)| *word = v.to_bits());
        }
        errors
    }
}

/// Norms of one row: of its rounded image, of what rounding lost, of the image, of what lies outside the image, and of
/// the centred row itself.
struct Parts {
    kept: f32,
    lost: f32,
    whole: f32,
    rest: f32,
    norm: f32,
}

/// Buffers of one thread.
#[derive(Default)]
pub(crate) struct Scratch {
    centred: Vec<f32>,
    image: Vec<f32>,
    rounded: Vec<f32>,
}

fn round_down(v: f64) -> f32 {
    (v - v.abs() * 2.0 * UNIT - 1e-40) as f32
}

impl Panels {
    /// Centroids.
    pub(crate) const fn count(&self) -> usize {
        self.errors.len()
    }

    /// Scores of sketched rows against panels `range`: `[rows, 16 range.len()]`.
    pub(crate) fn scores(&self, frame: &Frame, rows: &[u32], range: std::ops::Range<usize>, out: &mut Vec<f32>) {
        let bias = &self.bias[range.start * LANES..range.end * LANES];
        let panels = &self.words[range.start * LANES * frame.steps..range.end * LANES * frame.steps];
        out.resize(rows.len() / frame.steps * bias.len(), 0.0);
        tile::tile(frame.isa, rows, panels, frame.steps, bias, out);
    }
}

impl Panels {
    /// Centroids, rounded up to whole panels.
    pub(crate) const fn padded(&self) -> usize {
        self.bias.len()
    }

    /// Largest centred squared norm; infinite when one is not a number.
    pub(crate) fn largest(&self) -> f32 {
        self.sq_norm.iter().fold(0.0, |m, &v| {
            if v <= m {
                m
            } else if v.is_nan() {
                f32::INFINITY
            } else {
                v
            }
        })
    }
}
