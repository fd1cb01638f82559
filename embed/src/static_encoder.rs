//! Vectors of texts as the mean of stored token vectors: a few microseconds a text, no model to fetch.
//!
//! Formula: with token ids t1 .. tn of the text (cut at `max_tokens`, then without `[UNK]`), int8 rows q and scales s,
//! `v = (1/n) sum_i s[ti] q[ti] + bias, embedding = v / |v|`.
//!
//! Source: distilled sentence encoders without attention (model2vec, Minish Lab 2024); our table and its recipe are in `datasets/`.
//! Deviation: the rows are int8 with one scale each; a learnt bias is added; a text without tokens has v = bias, and if v = 0
//! the embedding is the first unit vector, so that every vector has length 1 and none is NaN.
//! Cost: tokenising plus `dim` multiply-adds a token.

mod artefact;

use crate::digest::Digest;
use crate::{Encoding, WordPiece};
use artefact::Artefact;
use curate_core::{Ctx, Embedder, Error, Result};
use rayon::prelude::*;
use std::path::Path;
use std::sync::OnceLock;

/// Texts one thread takes at a time; the unit in which progress is counted.
const BLOCK_TEXTS: usize = 64;
const LANES: usize = 16;

static BUILT_IN: &[u8] = include_bytes!("../../datasets/models/static-minilm-256.safetensors");

/// The encoder built into the binary.
///
/// # Errors
/// `model/static` when the artefact was built broken.
pub fn static_encoder() -> Result<StaticEncoder> {
    StaticEncoder::new(Artefact::borrowed(BUILT_IN)?)
}

/// A static encoder: tokenizer, int8 token vectors, bias.
#[derive(Debug)]
pub struct StaticEncoder {
    artefact: Artefact,
    tokenizer: WordPiece,
    max_tokens: usize,
    digest: OnceLock<String>,
}

impl StaticEncoder {
    /// Read an encoder from a file in the format of the built-in one (see `datasets/recipes/static_encoder`).
    ///
    /// # Errors
    /// `io`, `model/static` when the file is no such artefact.
    pub fn from_file(path: &Path) -> Result<Self> {
        Self::new(Artefact::owned(std::fs::read(path)?)?)
    }

    fn new(artefact: Artefact) -> Result<Self> {
        let tokenizer = artefact.tokenizer()?;
        Ok(Self { max_tokens: artefact.max_tokens, artefact, tokenizer, digest: OnceLock::new() })
    }

    /// The same encoder reading at most `max_tokens` tokens of each text.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: usize) -> Self {
        self.max_tokens = max_tokens;
        self
    }

    /// Name and version of the artefact, such as `static-minilm-256 1.0.0`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.artefact.name
    }

    /// Tokens read of one text at most.
    #[must_use]
    pub const fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &WordPiece {
        &self.tokenizer
    }

    /// Write the embedding of one text to `out`, shape `[dim]`.
    fn embed_one(&self, text: &str, encoding: &mut Encoding, out: &mut [f32]) {
        self.tokenizer.encode(text, self.max_tokens, encoding);
        out.fill(0.0);
        let count = self.sum_rows(encoding.ids(), out);
        #[expect(clippy::cast_precision_loss, reason = "at most max_tokens")]
        let share = if count == 0 { 0.0 } else { 1.0 / count as f32 };
        out.iter_mut().zip(&self.artefact.bias).for_each(|(v, bias)| *v = *v * share + bias);
        if self.artefact.normalize {
            normalise(out);
        }
    }

    /// Add the rows of the ids that count; says how many did. Four rows a pass, added in order.
    fn sum_rows(&self, ids: &[u32], out: &mut [f32]) -> usize {
        let skipped = if self.artefact.skip_unk { self.tokenizer.unknown_id() } else { u32::MAX };
        let mut counted = ids.iter().filter(|&&id| id != skipped);
        let mut count = 0;
        while let Some(&first) = counted.next() {
            count += 1;
            let Some(&second) = counted.next() else {
                add_row(out, self.artefact.row(first));
                break;
            };
            add_two_rows(out, self.artefact.row(first), self.artefact.row(second));
            count += 1;
        }
        count
    }
}

impl Embedder for StaticEncoder {
    fn dim(&self) -> usize {
        self.artefact.bias.len()
    }

    fn digest(&self) -> String {
        let of_artefact = self.digest.get_or_init(|| {
            let mut digest = Digest::new();
            digest.part("static", self.artefact.bytes());
            digest.finish()
        });
        if self.max_tokens == self.artefact.max_tokens {
            return of_artefact.clone();
        }
        let mut digest = Digest::new();
        digest.part(of_artefact, &self.max_tokens.to_le_bytes());
        digest.finish()
    }

    fn count_tokens(&self, texts: &[&str], ctx: &Ctx) -> Result<Vec<u32>> {
        let mut counts = vec![0; texts.len()];
        let blocks = counts.par_chunks_mut(BLOCK_TEXTS).zip(texts.par_chunks(BLOCK_TEXTS));
        blocks.try_for_each_init(Encoding::default, |encoding, (counts, texts)| {
            for (count, text) in counts.iter_mut().zip(texts) {
                self.tokenizer.encode(text, usize::MAX, encoding);
                *count = u32::try_from(encoding.ids().len()).unwrap_or(u32::MAX);
            }
            ctx.tick(texts.len() as u64)
        })?;
        Ok(counts)
    }

    fn embed(&self, texts: &[&str], out: &mut [f32], ctx: &Ctx) -> Result<()> {
        let dim = self.dim();
        check_shape(texts.len(), dim, out.len())?;
        let blocks = out.par_chunks_mut(BLOCK_TEXTS * dim).zip(texts.par_chunks(BLOCK_TEXTS));
        blocks.try_for_each_init(Encoding::default, |encoding, (out, texts)| {
            out.chunks_exact_mut(dim).zip(texts).for_each(|(out, text)| self.embed_one(text, encoding, out));
            ctx.tick(texts.len() as u64)
        })
    }
}

/// The caller's buffer must hold `texts * dim` numbers.
pub(crate) fn check_shape(texts: usize, dim: usize, len: usize) -> Result<()> {
    if texts.checked_mul(dim) == Some(len) {
        return Ok(());
    }
    Err(Error::usage("embed/shape", format!("{texts} texts of {dim} numbers do not fit a buffer of {len}")))
}

/// `out += scale * row` lane by lane.
fn add_row(out: &mut [f32], (row, scale): (&[u8], f32)) {
    out.iter_mut().zip(row).for_each(|(sum, &q)| *sum += scale * f32::from(q.cast_signed()));
}

/// [`add_row`] twice with one pass over the sums.
fn add_two_rows(out: &mut [f32], (row_a, scale_a): (&[u8], f32), (row_b, scale_b): (&[u8], f32)) {
    for ((sum, &a), &b) in out.iter_mut().zip(row_a).zip(row_b) {
        let first = *sum + scale_a * f32::from(a.cast_signed());
        *sum = first + scale_b * f32::from(b.cast_signed());
    }
}

/// Scale to length 1; a zero or non-finite vector becomes the first unit vector.
pub(crate) fn normalise(vector: &mut [f32]) {
    let norm = dot(vector, vector).sqrt();
    if norm > 0.0 && norm.is_finite() {
        let scale = 1.0 / norm;
        for x in vector {
            *x *= scale;
        }
    } else if let Some((first, rest)) = vector.split_first_mut() {
        *first = 1.0;
        rest.fill(0.0);
    }
}

/// Sum over fixed lanes in fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_blocks.zip(b_blocks) {
        lanes.iter_mut().zip(x.iter().zip(y)).for_each(|(lane, (x, y))| *lane += x * y);
    }
    lanes.iter().sum::<f32>() + tail
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "zeros and ones are exact")]
mod tests {
    use super::*;

    #[test]
    fn mean_of_rows_by_hand() {
        let encoder = StaticEncoder::new(Artefact::for_tests(&["[UNK]", "a", "b"], true)).unwrap();
        let mut out = [0.0; 2];
        // rows: a = 0.5 * [2, 0], b = 0.5 * [0, 4]; bias [0, 0.5]: mean of (a, b) + bias = [0.5, 1.5].
        encoder.embed(&["a zzz B"], &mut out, &Ctx::new(0)).unwrap();
        let norm = 2.5f32.sqrt();
        assert!((out[0] - 0.5 / norm).abs() < 1e-6 && (out[1] - 1.5 / norm).abs() < 1e-6, "{out:?}");
        encoder.embed(&[""], &mut out, &Ctx::new(0)).unwrap();
        assert_eq!(out, [0.0, 1.0]);
        assert_eq!(encoder.count_tokens(&["a zzz B", ""], &Ctx::new(0)).unwrap(), [3, 0]);
    }

    #[test]
    fn normalise_never_gives_nan() {
        for mut bad in [[0.0, 0.0], [f32::NAN, 1.0], [f32::INFINITY, 0.0]] {
            normalise(&mut bad);
            assert_eq!(bad, [1.0, 0.0]);
        }
    }

    #[test]
    fn wrong_buffer_is_refused() {
        let encoder = static_encoder().unwrap();
        let error = encoder.embed(&["a"], &mut [0.0; 3], &Ctx::new(0)).unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("embed/shape", 2));
    }
}
