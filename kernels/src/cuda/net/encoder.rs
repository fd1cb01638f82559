//! A sentence encoder of the BERT family on the device: texts as token ids in, one vector a text out.
//!
//! Formula: `x0 = norm(word + position + type)`; a block: `a = norm(x + W_o attention(W_qkv x))`,
//! `x' = norm(a + W_2 act(W_1 a))`; the vector is the pooled x. Source: Devlin et al. 2018; Song et al. 2020 for the relative bias. Deviation: texts lie end to end,
//! so that there is no padding and no mask; in bf16 activations between two products are rounded once, the stream is f32.
//! Cost: 2 (12 h^2 + 2 L h) multiply-adds a token and block.

use super::attention::{Grouping, Relative, Seen, Tiles};
use super::numbers::{Numbers, Precision, Values};
use super::ops::{Norm, Ops, Rows, THREADS, check_even, size};
use super::product::Product;
use crate::KernelError;
use crate::cuda::{Arg, Buffer, Device};

/// Numbers that a token takes in a pass, in units of the hidden width, and of the feed-forward width.
const WIDTHS: (usize, usize) = (12, 2);

/// Activation between the two feed-forward maps, as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// By the error function.
    Gelu = 1,
    /// By the hyperbolic tangent.
    GeluTanh = 2,
    /// Positive part.
    Relu = 3,
}

/// How the vectors of tokens become one, as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token.
    First = 0,
    /// The last token.
    Last = 1,
    /// The largest value of every column.
    Max = 2,
    /// The mean.
    Mean = 3,
    /// The sum over the root of the count.
    MeanSqrt = 4,
}

/// Weights `[out, in]` and biases of a linear map.
#[derive(Clone, Debug, Default)]
pub struct Affine {
    /// Row-major.
    pub weight: Vec<f32>,
    /// One a row.
    pub bias: Vec<f32>,
}

/// Gain and shift of a layer norm.
#[derive(Clone, Debug, Default)]
pub struct Scaling {
    /// Factor of every column.
    pub gain: Vec<f32>,
    /// Added to every column.
    pub shift: Vec<f32>,
}

/// One block.
#[derive(Clone, Debug, Default)]
pub struct EncoderBlock {
    /// Queries, keys and values, one below the other.
    pub qkv: Affine,
    /// Output of attention.
    pub out: Affine,
    /// Norm behind attention.
    pub attention_norm: Scaling,
    /// Into the feed-forward part.
    pub up: Affine,
    /// Back to the stream.
    pub down: Affine,
    /// Norm behind the feed-forward part.
    pub output_norm: Scaling,
}

/// All an encoder is made of.
#[derive(Clone, Debug)]
pub struct EncoderParts {
    /// Width of the stream.
    pub hidden: usize,
    /// Grouping.
    pub heads: usize,
    /// Added to the variance in norms.
    pub eps: f32,
    /// Between the feed-forward maps.
    pub activation: Activation,
    /// Position of the first token.
    pub first_position: usize,
    /// Table of token vectors.
    pub words: Vec<f32>,
    /// Table of position vectors, with the type's vector added.
    pub positions: Vec<f32>,
    /// Norm of the embedded tokens.
    pub norm: Scaling,
    /// The blocks, lowest first.
    pub blocks: Vec<EncoderBlock>,
    /// Biases of scores by distance, `[heads, 2 reach + 1]` from key far before the query to far behind it, and the reach.
    pub relative: Option<(Vec<f32>, usize)>,
}

struct Linear {
    weight: Numbers,
    bias: Buffer<f32>,
}

struct Block {
    qkv: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

/// An encoder whose weights lie on a device.
pub struct Encoder {
    device: Device,
    precision: Precision,
    hidden: usize,
    heads: Grouping,
    activation: Activation,
    first_position: usize,
    words: Numbers,
    positions: Buffer<f32>,
    norm: Norm,
    blocks: Vec<Block>,
    relative: Option<Relative>,
}

impl Encoder {
    /// Send the weights to the device.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], [`KernelError::Device`].
    pub fn new(device: Device, precision: Precision, parts: &EncoderParts) -> Result<Self, KernelError> {
        let head_dim = parts.hidden / parts.heads.max(1);
        let heads = Grouping { heads: parts.heads, kv_heads: parts.heads, head_dim, causal: false };
        heads.check(&device)?;
        let wide = parts.blocks.iter().map(|block| block.up.bias.len());
        check_even(&[parts.hidden, head_dim].into_iter().chain(wide).collect::<Vec<_>>())?;
        let norm = |s: &Scaling| {
            let (gain, shift) = (device.upload(&s.gain)?, device.upload(&s.shift)?);
            Ok::<_, KernelError>(Norm { gain, shift, eps: parts.eps })
        };
        let linear = |a: &Affine| {
            let weight = Numbers::of(&device, precision, Values::Wide(&a.weight))?;
            Ok::<_, KernelError>(Linear { weight, bias: device.upload(&a.bias)? })
        };
        let block = |b: &EncoderBlock| {
            Ok::<_, KernelError>(Block {
                qkv: linear(&b.qkv)?,
                out: linear(&b.out)?,
                attention_norm: norm(&b.attention_norm)?,
                up: linear(&b.up)?,
                down: linear(&b.down)?,
                output_norm: norm(&b.output_norm)?,
            })
        };
        let relative = |(table, reach): &(Vec<f32>, usize)| {
            Ok::<_, KernelError>(Relative { table: device.upload(table)?, reach: *reach })
        };
        Ok(Self {
            precision,
            hidden: parts.hidden,
            heads,
            activation: parts.activation,
            first_position: parts.first_position,
            words: Numbers::of(&device, precision, Values::Wide(&parts.words))?,
            positions: device.upload(&parts.positions)?,
            norm: norm(&parts.norm)?,
            blocks: parts.blocks.iter().map(block).collect::<Result<_, _>>()?,
            relative: parts.relative.as_ref().map(relative).transpose()?,
            device,
        })
    }

    /// The device it lies on.
    #[must_use]
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// Bytes that a pass takes for each token, about.
    #[must_use]
    pub fn bytes_a_token(&self) -> u64 {
        let wide = self.blocks.iter().map(|block| block.up.bias.len()).max().unwrap_or(0);
        4 * (WIDTHS.0 * self.hidden + WIDTHS.1 * wide) as u64
    }

    /// One vector for each text, `[texts, hidden]`; a text without tokens gets zeros.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], after which fewer texts may fit; [`KernelError::Device`].
    ///
    /// # Panics
    /// When `out` has another size. Ids and positions are the caller's duty.
    pub fn encode(&self, texts: &[&[u32]], pooling: Pooling, out: &mut [f32]) -> Result<(), KernelError> {
        assert_eq!(out.len(), texts.len() * self.hidden);
        let device = &self.device;
        let ids: Vec<u32> = texts.concat();
        let positions: Vec<u32> =
            texts.iter().flat_map(|text| (self.first_position as u32..).take(text.len())).collect();
        let mut starts = vec![0u32];
        starts.extend(texts.iter().scan(0, |end, text| {
            *end += text.len() as u32;
            Some(*end)
        }));
        let segments: Vec<_> = starts.windows(2).map(|pair| pair[0] as usize..pair[1] as usize).collect();
        let (ids, positions) = (device.upload(&ids)?, device.upload(&positions)?);
        let ops = Ops { device, precision: self.precision };
        let tiles = Tiles::new(ops, self.heads, &segments)?;
        let (x, starts) = (self.stream(ops, (&ids, &positions), &tiles)?, device.upload(&starts)?);
        let pooled = device.alloc::<f32>(out.len())?;
        let args = [x.arg(), starts.arg(), size(self.hidden), Arg::U32(pooling as u32), pooled.arg()];
        device.launch("net_pool", (texts.len() as u32, 1, 1), THREADS, 0, &args)?;
        device.download(&pooled, out)
    }

    /// The stream after all blocks.
    fn stream(
        &self,
        ops: Ops,
        (ids, positions): (&Buffer<u32>, &Buffer<u32>),
        tiles: &Tiles,
    ) -> Result<Buffer<f32>, KernelError> {
        let (n, h) = (ids.len(), self.hidden);
        let (x, narrow) = (self.device.alloc::<f32>(n * h)?, ops.fresh(n * h)?);
        ops.embed_norm((&self.words, ids), (&self.positions, positions), &self.norm, (&x, &narrow))?;
        for block in &self.blocks {
            let qkv = block.qkv.apply(ops, &narrow, (n, h))?;
            ops.bias(&qkv, &block.qkv.bias, n, 0)?;
            let rows = |at: usize| Rows { numbers: &qkv, at, stride: 3 * h };
            let seen = Seen { q: rows(0), k: rows(h), v: rows(2 * h) };
            let (mixed, _) = ops.attend(self.heads, seen, (tiles, None), self.relative.as_ref(), n)?;
            let y = block.out.apply(ops, &mixed, (n, h))?;
            ops.residual_norm((&y, &block.out.bias), (&x, &narrow), &block.attention_norm, n)?;
            let wide = block.up.bias.len();
            let up = block.up.apply(ops, &narrow, (n, h))?;
            ops.bias(&up, &block.up.bias, n, self.activation as u32)?;
            let y = block.down.apply(ops, &up, (n, wide))?;
            ops.residual_norm((&y, &block.down.bias), (&x, &narrow), &block.output_norm, n)?;
        }
        Ok(x)
    }
}

impl Linear {
    /// `x W^T`.
    fn apply(&self, ops: Ops, x: &Numbers, (rows, inner): (usize, usize)) -> Result<Numbers, KernelError> {
        let out = self.bias.len();
        let y = ops.fresh(rows * out)?;
        let whole = Product::forward(rows, out, inner);
        ops.product(whole, Rows::of(x, inner), Rows::of(&self.weight, inner), Rows::of(&y, out))?;
        Ok(y)
    }
}
