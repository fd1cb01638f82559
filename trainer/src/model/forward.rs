//! The way through the blocks.
//!
//! Formula: x += O attention(rope(Q norm(x)), rope(K norm(x)), V norm(x)); x += D (silu(G norm(x)) U norm(x)). Source: the
//! `transformers` models named in `config`. Deviation: sequences lie end to end, so that there is no padding and no
//! mask; a block keeps what its way back needs and no norm, no activation and no probability, which are cheap to compute
//! again. Cost: two operations a weight and token, and attention.

use super::{Layer, Linear, LoraRef, Model};
use crate::params::widen;
use crate::{Batch, IGNORE, ParamId};
use curate_core::kernels::nn::{self, Attention, Mat, MatMut, RmsNorm, Rotation, Seen};
use curate_core::{Ctx, Error, Location, Result};

/// What every block needs to know of a batch.
pub(super) struct Pass<'a> {
    pub(super) model: &'a Model,
    pub(super) batch: &'a Batch,
    positions: Vec<u32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// What a block leaves for its way back.
#[derive(Default)]
pub(super) struct Saved {
    /// Input.
    pub(super) x: Vec<f32>,
    pub(super) x_inverse: Vec<f32>,
    /// Turned queries and keys, and values.
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// Queries and keys before their norm, with its factors.
    pub(super) raw: Option<[(Vec<f32>, Vec<f32>); 2]>,
    /// Output of attention, and the logarithms of its sums.
    pub(super) out: Vec<f32>,
    pub(super) lse: Vec<f32>,
    /// Input of the feed-forward part.
    pub(super) mid: Vec<f32>,
    pub(super) mid_inverse: Vec<f32>,
    pub(super) gate: Vec<f32>,
    pub(super) up: Vec<f32>,
}

impl Saved {
    /// All buffers, one row a token each; those of norms of queries and keys are empty where there are none.
    pub(super) fn fields(&self) -> [&[f32]; 15] {
        let raw = self.raw.as_ref().map(|[(q, q_inverse), (k, k_inverse)]| [q, q_inverse, k, k_inverse]);
        let [q, q_inverse, k, k_inverse] = raw.map_or([&[][..]; 4], |raw| raw.map(Vec::as_slice));
        [
            &self.x,
            &self.x_inverse,
            &self.q,
            &self.k,
            &self.v,
            &self.out,
            &self.lse,
            &self.mid,
            &self.mid_inverse,
            &self.gate,
            &self.up,
            q,
            q_inverse,
            k,
            k_inverse,
        ]
    }

    /// The reverse of [`Saved::fields`].
    pub(super) fn from_fields(fields: [Vec<f32>; 15]) -> Self {
        let [x, x_inverse, q, k, v, out, lse, mid, mid_inverse, gate, up, queries, q_factors, keys, k_factors] = fields;
        let raw = (!queries.is_empty()).then_some([(queries, q_factors), (keys, k_factors)]);
        Self { x, x_inverse, q, k, v, raw, out, lse, mid, mid_inverse, gate, up }
    }

    /// Give all buffers back.
    pub(super) fn free(self, model: &Model) {
        let plain = [self.x, self.x_inverse, self.q, self.k, self.v, self.out, self.lse, self.mid, self.mid_inverse];
        let raw = self.raw.into_iter().flatten().flat_map(|(x, inverse)| [x, inverse]);
        model.arena.give(plain.into_iter().chain([self.gate, self.up]).chain(raw));
    }
}

fn wrong(batch: &Batch, sequence: usize, message: String) -> Error {
    let row = batch.rows.get(sequence).copied();
    let error = Error::data("trainer/batch", message).hint("was the text tokenised with this model's tokenizer?");
    row.map_or(Error::data("trainer/batch", "segments and rows differ"), |row| error.at(Location::default().row(row)))
}

/// Refuse ids outside the vocabulary and segments that do not follow one another.
pub(super) fn check(batch: &Batch, vocabulary: usize) -> Result<()> {
    let mut end = 0;
    for (i, segment) in batch.segments.iter().enumerate() {
        if segment.start != end || segment.end < segment.start || segment.end > batch.tokens.len() {
            return Err(wrong(batch, i, format!("segment {i} does not begin where the one before ends")));
        }
        end = segment.end;
        let labels = batch.labels.get(segment.clone()).unwrap_or_default().iter().filter(|label| **label != IGNORE);
        if let Some(id) = batch.tokens[segment.clone()].iter().chain(labels).find(|id| **id as usize >= vocabulary) {
            return Err(wrong(batch, i, format!("token id {id} lies outside the vocabulary of {vocabulary}")));
        }
    }
    if end == batch.tokens.len() && batch.labels.len() == end && batch.rows.len() == batch.segments.len() {
        return Ok(());
    }
    Err(Error::data("trainer/batch", "tokens, labels, segments and rows of a batch differ in length")
        .hint("build batches with Batch::of"))
}

impl<'a> Pass<'a> {
    pub(super) fn new(model: &'a Model, batch: &'a Batch) -> Result<Self> {
        check(batch, model.config.vocab_size)?;
        let longest = batch.segments.iter().map(std::iter::ExactSizeIterator::len).max().unwrap_or(0);
        let (cos, sin) = model.config.rope.tables(longest);
        let positions = batch.segments.iter().flat_map(|segment| 0..segment.len() as u32).collect();
        Ok(Self { model, batch, positions, cos, sin })
    }

    pub(super) fn tokens(&self) -> usize {
        self.batch.tokens.len()
    }

    pub(super) fn rotation(&self) -> Rotation<'_> {
        let head_dim = self.model.config.head_dim;
        Rotation { cos: &self.cos, sin: &self.sin, positions: &self.positions, head_dim }
    }

    pub(super) fn attention(&self, layer: &Layer) -> Attention<'_> {
        let config = &self.model.config;
        Attention {
            segments: &self.batch.segments,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            window: layer.window,
        }
    }

    /// The embedded tokens.
    pub(super) fn embed(&self) -> Vec<f32> {
        let width = self.model.config.hidden_size;
        let mut x = self.model.arena.take(self.tokens() * width);
        nn::copy_rows(self.model.data(self.model.embed), width, &self.batch.tokens, &mut x);
        x
    }

    /// One block: its output, and what its way back needs.
    pub(super) fn block(&self, layer: &Layer, x: Vec<f32>) -> (Vec<f32>, Saved) {
        let model = self.model;
        let mut saved = Saved { x, ..Saved::default() };
        self.attend(layer, &mut saved);
        saved.mid = model.arena.copy(&saved.x);
        model.linear(&layer.o, &saved.out, &mut saved.mid, 1.0);
        let normed = model.norm(layer.post_norm, &saved.mid, &mut saved.mid_inverse);
        saved.gate = model.apply(&layer.gate, &normed);
        saved.up = model.apply(&layer.up, &normed);
        let mut active = model.arena.take(saved.gate.len());
        nn::swiglu(&saved.gate, &saved.up, &mut active);
        let mut x = model.arena.copy(&saved.mid);
        model.linear(&layer.down, &active, &mut x, 1.0);
        model.arena.give([normed, active]);
        (x, saved)
    }

    fn attend(&self, layer: &Layer, saved: &mut Saved) {
        let (model, config) = (self.model, &self.model.config);
        let normed = model.norm(layer.input_norm, &saved.x, &mut saved.x_inverse);
        saved.q = model.apply(&layer.q, &normed);
        saved.k = model.apply(&layer.k, &normed);
        saved.v = model.apply(&layer.v, &normed);
        model.arena.give([normed]);
        if let Some((q, k)) = layer.qk_norm {
            let mut inverses = [Vec::new(), Vec::new()];
            let normed_q = model.norm(q, &saved.q, &mut inverses[0]);
            let normed_k = model.norm(k, &saved.k, &mut inverses[1]);
            let [q_inverse, k_inverse] = inverses;
            let raw_q = std::mem::replace(&mut saved.q, normed_q);
            saved.raw = Some([(raw_q, q_inverse), (std::mem::replace(&mut saved.k, normed_k), k_inverse)]);
        }
        nn::rotate(&mut saved.q, config.q_width(), self.rotation(), false);
        nn::rotate(&mut saved.k, config.kv_width(), self.rotation(), false);
        saved.out = model.arena.take(saved.q.len());
        saved.lse = model.arena.take(self.tokens() * config.heads);
        let seen = Seen { q: &saved.q, k: &saved.k, v: &saved.v };
        self.attention(layer).forward(seen, &mut saved.out, &mut saved.lse);
    }

    /// The residual stream after all blocks; `keep` sees what each leaves.
    pub(super) fn blocks(&self, ctx: &Ctx, mut keep: impl FnMut(usize, Saved)) -> Result<Vec<f32>> {
        let mut x = self.embed();
        for (index, layer) in self.model.layers.iter().enumerate() {
            ctx.tick(0)?;
            let (next, saved) = self.block(layer, x);
            keep(index, saved);
            x = next;
        }
        Ok(x)
    }
}

impl Model {
    pub(super) fn rms_norm(&self, gain: ParamId) -> RmsNorm<'_> {
        RmsNorm { gain: self.data(gain), eps: self.config.rms_norm_eps }
    }

    /// The norm of x in a new buffer, and the factor of each row.
    pub(super) fn norm(&self, gain: ParamId, x: &[f32], inverse: &mut Vec<f32>) -> Vec<f32> {
        let norm = self.rms_norm(gain);
        *inverse = self.arena.take(x.len() / norm.gain.len());
        let mut out = self.arena.take(x.len());
        norm.forward(x, &mut out, inverse);
        out
    }

    /// Rows out and columns in of a tensor.
    pub(super) fn shape(&self, id: ParamId) -> (usize, usize) {
        let shape = &self.params.get(id).shape;
        (shape.first().copied().unwrap_or(0), shape.get(1).copied().unwrap_or(1))
    }

    /// A matrix of the model that is kept in 32 bits.
    pub(super) fn matrix(&self, id: ParamId) -> Mat<'_> {
        let (rows, cols) = self.shape(id);
        Mat::new(self.data(id), rows, cols)
    }

    /// Use a weight. One that is kept in 16 bits is widened for as long as it is used.
    pub(super) fn with_weight(&self, id: ParamId, used: impl FnOnce(Mat<'_>)) {
        let Some(half) = self.params.half(id) else { return used(self.matrix(id)) };
        let (rows, cols) = self.shape(id);
        let mut wide = self.arena.take(half.len());
        widen(half, &mut wide);
        used(Mat::new(&wide, rows, cols));
        self.arena.give([wide]);
    }

    /// A linear map into a new buffer.
    pub(super) fn apply(&self, linear: &Linear, x: &[f32]) -> Vec<f32> {
        let (out, input) = self.shape(linear.weight);
        let mut y = self.arena.take(x.len() / input * out);
        self.linear(linear, x, &mut y, 0.0);
        y
    }

    /// `y = x W^T + bias + scale (x A^T) B^T + beta y`.
    pub(super) fn linear(&self, linear: &Linear, x: &[f32], y: &mut [f32], beta: f32) {
        let (out, input) = self.shape(linear.weight);
        let rows = x.len() / input;
        self.with_weight(linear.weight, |weight| {
            nn::gemm(MatMut::new(y, rows, out), beta, 1.0, Mat::new(x, rows, input), weight.t());
        });
        if let Some(bias) = linear.bias {
            nn::add_rows(y, self.data(bias));
        }
        if let Some(lora) = linear.lora {
            let low = self.low_rank(lora, x);
            let low_rows = Mat::new(&low, rows, self.shape(lora.a).0);
            nn::gemm(MatMut::new(y, rows, out), 1.0, lora.scale, low_rows, self.matrix(lora.b).t());
            self.arena.give([low]);
        }
    }

    /// `x A^T` of an adapter.
    pub(super) fn low_rank(&self, lora: LoraRef, x: &[f32]) -> Vec<f32> {
        let (rank, input) = self.shape(lora.a);
        let rows = x.len() / input;
        let mut low = self.arena.take(rows * rank);
        nn::gemm(MatMut::new(&mut low, rows, rank), 0.0, 1.0, Mat::new(x, rows, input), self.matrix(lora.a).t());
        low
    }
}
