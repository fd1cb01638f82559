//! Forward pass of a BERT-family encoder over packed texts.
//!
//! Formula: `x0 = norm(word + position + type)`; per layer `a = norm(x + W_o attention(W_qkv x))`, `x' = norm(a + W_2 act(W_1 a))`,
//! with `attention = softmax(q k^T / sqrt(d) + r) v` a head and text; r is the relative bias of `MPNet`, else 0.
//! Source: Devlin et al. 2018 (arXiv 1810.04805); Song et al. 2020 (arXiv 2004.09297) for the bias.
//! Deviation: none but rounding. The texts of a batch stand end to end in one matrix, so there is no padding and no mask, and the
//! products' sums over k run in the same order whatever rows stand beside: a text's vector does not depend on its neighbours.
//! Cost: 2 (12 h^2 + 2 L h) multiply-adds a token and layer; everything between the products is one pass in place.

use super::config::{Config, Family};
use super::math::Activation;
use super::ops::{self, LayerNorm};
use super::weights::{LayerNames, Weights, failed};
use candle_core::{Device, Result, Tensor};
use curate_core::kernels::cuda::net::{self, Affine, EncoderBlock, EncoderParts, Scaling};

/// Fewest rows of a product: below, the matrix library takes other paths whose sums run in another order.
const FEWEST_ROWS: usize = 8;
const BUCKETS: usize = 32;
const MAX_DISTANCE: f32 = 128.0;
/// Distance from which on the bias is the same.
const REACH: usize = 128;

#[derive(Debug)]
pub(super) struct Transformer {
    word: Tensor,
    /// Position table with the type-0 row added.
    position: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    /// Relative bias times sqrt(d), shape `[buckets, heads]`.
    relative: Option<Tensor>,
    config: Config,
}

#[derive(Debug)]
struct Linear {
    /// Shape `[in, out]`, a view of the stored `[out, in]`.
    weight: Tensor,
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    query_key_value: Linear,
    attention_out: Linear,
    attention_norm: LayerNorm,
    up: Linear,
    down: Linear,
    output_norm: LayerNorm,
}

impl Transformer {
    pub(super) fn new(weights: &Weights, config: &Config) -> curate_core::Result<Self> {
        let hidden = config.hidden;
        let word = weights.get("embeddings.word_embeddings.weight", &[0, hidden])?;
        let mut position = weights.get("embeddings.position_embeddings.weight", &[0, hidden])?;
        if matches!(config.family, Family::Bert | Family::Roberta) {
            let types = weights.get("embeddings.token_type_embeddings.weight", &[0, hidden])?;
            position = types.get(0).and_then(|first| position.broadcast_add(&first)).map_err(failed)?;
        }
        let relative = match config.family {
            Family::MpNet => Some(relative_table(weights, config)?),
            _ => None,
        };
        let layers = (0..config.layers).map(|n| Layer::new(weights, config, n)).collect::<curate_core::Result<_>>()?;
        Ok(Self {
            word,
            position,
            norm: weights.norm("embeddings.LayerNorm", config)?,
            layers,
            relative,
            config: config.clone(),
        })
    }

    /// Entries of the vocabulary the model has vectors for.
    pub(super) fn vocab(&self) -> usize {
        self.word.dims()[0]
    }

    /// Token vectors of texts given as ids, end to end: shape `[sum of lengths, hidden]`, row-major, on the host.
    pub(super) fn forward(&self, texts: &[&[u32]]) -> Result<Vec<f32>> {
        let lens: Vec<usize> = texts.iter().map(|ids| ids.len()).filter(|len| *len > 0).collect();
        let total: usize = lens.iter().sum();
        let mut x = self.embed(texts)?;
        for layer in &self.layers {
            x = self.layer(layer, &x, &lens)?;
        }
        x.narrow(0, 0, total)?.flatten_all()?.to_vec1()
    }

    fn embed(&self, texts: &[&[u32]]) -> Result<Tensor> {
        let mut ids = texts.concat();
        let first = u32::try_from(self.config.first_position)?;
        let mut positions: Vec<u32> = texts.iter().flat_map(|ids| (first..).take(ids.len())).collect();
        // Rows beyond the texts belong to no text; nothing reads them.
        ids.resize(ids.len().max(FEWEST_ROWS), 0);
        positions.resize(ids.len(), 0);
        let rows = ids.len();
        let words = self.word.index_select(&Tensor::from_vec(ids, rows, &Device::Cpu)?, 0)?;
        let positions = self.position.index_select(&Tensor::from_vec(positions, rows, &Device::Cpu)?, 0)?;
        ops::norm((words + positions)?, &self.norm)
    }

    fn layer(&self, layer: &Layer, x: &Tensor, lens: &[usize]) -> Result<Tensor> {
        let qkv = ops::add_bias(x.matmul(&layer.query_key_value.weight)?, &layer.query_key_value.bias)?;
        let mixed = self.attention(&qkv, lens)?;
        let out = &layer.attention_out;
        let x = ops::residual_norm(mixed.matmul(&out.weight)?, &out.bias, x, &layer.attention_norm)?;
        let up = ops::bias_activation(x.matmul(&layer.up.weight)?, &layer.up.bias, self.config.activation)?;
        ops::residual_norm(up.matmul(&layer.down.weight)?, &layer.down.bias, &x, &layer.output_norm)
    }

    /// Attention of every text to itself; `qkv` has shape `[rows, 3 * hidden]`, the result `[rows, hidden]`.
    fn attention(&self, qkv: &Tensor, lens: &[usize]) -> Result<Tensor> {
        let mixed = Tensor::zeros((qkv.dim(0)?, self.config.hidden), qkv.dtype(), &Device::Cpu)?;
        let mut row = 0;
        for &len in lens {
            let heads = self.attend(&qkv.narrow(0, row, len)?, len)?;
            ops::place_heads(&mixed, &heads, row)?;
            row += len;
        }
        Ok(mixed)
    }

    /// Attention within a text of `len` tokens; shape `[heads, len, hidden / heads]`.
    fn attend(&self, qkv: &Tensor, len: usize) -> Result<Tensor> {
        let (heads, width) = (self.config.heads, self.config.hidden / self.config.heads);
        let qkv = qkv.reshape((len, 3, heads, width))?;
        let part = |n: usize| qkv.narrow(1, n, 1)?.squeeze(1)?.transpose(0, 1);
        let scores = part(0)?.matmul(&part(1)?.t()?)?;
        let shift = self.relative.as_ref().map(|table| self.relative_bias(table, len)).transpose()?;
        #[expect(clippy::cast_precision_loss, reason = "head widths are small")]
        let scale = 1.0 / (width as f64).sqrt();
        ops::softmax(scores, scale, shift.as_ref())?.matmul(&part(2)?)
    }

    /// Bias of every pair of positions, shape `[heads, len, len]`.
    fn relative_bias(&self, table: &Tensor, len: usize) -> Result<Tensor> {
        let pairs = (0..len).flat_map(|query| (0..len).map(move |key| bucket(query, key)));
        let pairs = Tensor::from_vec(pairs.collect::<Vec<u32>>(), len * len, &Device::Cpu)?;
        table.index_select(&pairs, 0)?.t()?.reshape((self.config.heads, len, len))
    }

    /// The same model as lists of numbers, for a device.
    pub(super) fn parts(&self) -> Result<EncoderParts> {
        let linear = |linear: &Linear| {
            let weight = ops::vector(&linear.weight.t()?.contiguous()?)?;
            Ok::<_, candle_core::Error>(Affine { weight, bias: linear.bias.clone() })
        };
        let block = |layer: &Layer| {
            Ok::<_, candle_core::Error>(EncoderBlock {
                qkv: linear(&layer.query_key_value)?,
                out: linear(&layer.attention_out)?,
                attention_norm: scaling(&layer.attention_norm),
                up: linear(&layer.up)?,
                down: linear(&layer.down)?,
                output_norm: scaling(&layer.output_norm),
            })
        };
        Ok(EncoderParts {
            hidden: self.config.hidden,
            heads: self.config.heads,
            eps: self.config.eps,
            activation: match self.config.activation {
                Activation::Gelu => net::Activation::Gelu,
                Activation::GeluTanh => net::Activation::GeluTanh,
                Activation::Relu => net::Activation::Relu,
            },
            first_position: self.config.first_position,
            words: ops::vector(&self.word)?,
            positions: ops::vector(&self.position)?,
            norm: scaling(&self.norm),
            blocks: self.layers.iter().map(block).collect::<Result<_>>()?,
            relative: self.relative.as_ref().map(|table| self.by_distance(table)).transpose()?,
        })
    }

    /// The relative bias, unscaled, for every head and distance from far before the query to far behind it.
    fn by_distance(&self, table: &Tensor) -> Result<(Vec<f32>, usize)> {
        #[expect(clippy::cast_precision_loss, reason = "head widths are small")]
        let scale = 1.0 / ((self.config.hidden / self.config.heads) as f32).sqrt();
        let (heads, table) = (self.config.heads, ops::vector(table)?);
        let of = |head: usize| {
            (0..=2 * REACH).map({
                let table = &table;
                move |key| scale * table[bucket(REACH, key) as usize * heads + head]
            })
        };
        Ok(((0..heads).flat_map(of).collect(), REACH))
    }
}

fn scaling(norm: &LayerNorm) -> Scaling {
    Scaling { gain: norm.gain.clone(), shift: norm.shift.clone() }
}

/// `MPNet`'s bucket of a pair: the first half for keys before the query, the second for keys after it; exact up to distance 7, then
/// logarithmic up to 128.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions and buckets are small"
)]
fn bucket(query: usize, key: usize) -> u32 {
    let half = BUCKETS / 2;
    let exact = half / 2;
    let distance = query.abs_diff(key);
    let side = if key > query { half } else { 0 };
    if distance < exact {
        return (side + distance) as u32;
    }
    let log = (distance as f32 / exact as f32).ln() / (MAX_DISTANCE / exact as f32).ln();
    (side + (exact + (log * (half - exact) as f32) as usize).min(half - 1)) as u32
}

fn relative_table(weights: &Weights, config: &Config) -> curate_core::Result<Tensor> {
    let table = weights.get("encoder.relative_attention_bias.weight", &[BUCKETS, config.heads])?;
    #[expect(clippy::cast_precision_loss, reason = "head widths are small")]
    let root = ((config.hidden / config.heads) as f64).sqrt();
    // The softmax scales product and bias together by 1 / sqrt(d); the bias must come out unscaled.
    (table * root).map_err(failed)
}

impl Layer {
    fn new(weights: &Weights, config: &Config, n: usize) -> curate_core::Result<Self> {
        let (names, hidden) = (LayerNames::of(config.family), config.hidden);
        let full = |name: &str| format!("{}.{n}.{name}", names.stem);
        let linear = |name: &str, shape: [usize; 2]| {
            let weight = weights.get(&full(&format!("{name}.weight")), &shape)?;
            let bias = weights.get(&full(&format!("{name}.bias")), &[weight.dims()[0]])?;
            Ok::<_, curate_core::Error>((weight, bias))
        };
        let [q, k, v] = names.query_key_value.map(|name| linear(name, [hidden, hidden]));
        let (q, k, v) = (q?, k?, v?);
        Ok(Self {
            query_key_value: Linear::new(&[&q.0, &k.0, &v.0], &[&q.1, &k.1, &v.1]).map_err(failed)?,
            attention_out: Linear::one(&linear(names.attention_out, [hidden, hidden])?).map_err(failed)?,
            attention_norm: weights.norm(&full(names.attention_norm), config)?,
            up: Linear::one(&linear(names.up, [0, hidden])?).map_err(failed)?,
            down: Linear::one(&linear(names.down, [hidden, 0])?).map_err(failed)?,
            output_norm: weights.norm(&full(names.output_norm), config)?,
        })
    }
}

impl Linear {
    /// Several layers of the same input side by side.
    fn new(parts: &[&Tensor], biases: &[&Tensor]) -> Result<Self> {
        let weight = Tensor::cat(parts, 0)?.contiguous()?;
        Ok(Self { weight: weight.t()?, bias: ops::vector(&Tensor::cat(biases, 0)?)? })
    }

    fn one((weight, bias): &(Tensor, Tensor)) -> Result<Self> {
        Self::new(&[weight], &[bias])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_by_hand() {
        let of = |distance: usize| (bucket(500, 500 - distance), bucket(500 - distance, 500));
        assert_eq!(of(0), (0, 0));
        assert_eq!(of(7), (7, 23));
        assert_eq!(of(8), (8, 24));
        assert_eq!(of(16), (10, 26));
        assert_eq!(of(127), (15, 31));
        assert_eq!(of(500), (15, 31));
    }
}
