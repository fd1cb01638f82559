//! Attention of a batch: its tiles, and which of the kernels takes them.

use super::numbers::{Numbers, Precision};
use super::ops::{Ops, Rows, THREADS, size};
use crate::KernelError;
use crate::cuda::{Arg, Buffer, Device};
use std::ops::Range;

/// Threads of a block.
const BLOCK: u32 = 128;
/// Rows of a tile of `attention.cu`, and rows it looks at together.
const ROWS: usize = 8;
const OTHERS: usize = 32;
/// Widest head of `attention.cu`.
const WIDEST: usize = 144;
/// Rows of a tile of `flash.cu`, numbers between its rows in shared memory, and the capability it needs.
const SIDE: usize = 64;
const GAP: usize = 8;
const TENSOR_CORES: u32 = 80;

/// Query heads and the key heads they share.
#[derive(Clone, Copy)]
pub(super) struct Grouping {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// A query sees no key behind it.
    pub(super) causal: bool,
}

/// Sequences cut into tiles: start and end of the sequence, first row of the tile.
pub(super) struct Tiles {
    list: Buffer<u32>,
    count: usize,
    /// The kernels that take them.
    way: &'static Way,
}

/// A set of kernels.
struct Way {
    /// Rows of a tile.
    rows: usize,
    forward: &'static str,
    queries: &'static str,
    keys: &'static str,
    /// Bytes of shared memory of each of them, by the width of a head.
    shared: fn(usize) -> [u32; 3],
}

/// `attention.cu`.
const PLAIN: Way = Way {
    rows: ROWS,
    forward: "net_attend",
    queries: "net_attend_back_queries",
    keys: "net_attend_back_keys",
    shared: |dim| {
        let others = 2 * OTHERS * (dim + 1);
        let numbers = |rows: usize, scores: usize| (4 * (others + rows * dim + scores * OTHERS)) as u32;
        [numbers(ROWS, ROWS), numbers(2 * ROWS, ROWS), numbers(2 * ROWS, 2 * ROWS)]
    },
};

/// `flash.cu` for heads of 32.
const FLASH_32: Way = Way {
    rows: SIDE,
    forward: "net_flash_32",
    queries: "net_flash_back_queries_32",
    keys: "net_flash_back_keys_32",
    shared: |dim| flash_bytes(dim, 64),
};

/// Of 64.
const FLASH_64: Way =
    Way { forward: "net_flash_64", queries: "net_flash_back_queries_64", keys: "net_flash_back_keys_64", ..FLASH_32 };

/// Of 128.
const FLASH_128: Way = Way {
    forward: "net_flash_128",
    queries: "net_flash_back_queries_128",
    keys: "net_flash_back_keys_128",
    shared: |dim| flash_bytes(dim, 32),
    ..FLASH_32
};

/// Two sets of rows of the other side, and for keys and values two numbers a row; `keys` is how many rows those take at once.
const fn flash_bytes(dim: usize, keys: usize) -> [u32; 3] {
    let pairs = 4 * (dim + GAP);
    [(64 * pairs) as u32, (64 * pairs) as u32, (keys * (pairs + 8)) as u32]
}

/// Biases by distance: `[heads, 2 reach + 1]`, farther ones as at `reach`.
pub(super) struct Relative {
    pub(super) table: Buffer<f32>,
    pub(super) reach: usize,
}

/// Queries, keys and values.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) q: Rows<'a>,
    pub(super) k: Rows<'a>,
    pub(super) v: Rows<'a>,
}

impl Tiles {
    /// Of sequences that follow one another.
    pub(super) fn new(ops: Ops, heads: Grouping, segments: &[Range<usize>]) -> Result<Self, KernelError> {
        let tensor_cores = ops.precision == Precision::Bf16 && ops.device.info().capability >= TENSOR_CORES;
        let way = match heads.head_dim {
            32 if tensor_cores => &FLASH_32,
            64 if tensor_cores => &FLASH_64,
            128 if tensor_cores => &FLASH_128,
            _ => &PLAIN,
        };
        let of = |s: &Range<usize>| {
            let (start, end) = (s.start as u32, s.end as u32);
            s.clone().step_by(way.rows).flat_map(move |first| [start, end, first as u32])
        };
        let list: Vec<u32> = segments.iter().flat_map(of).collect();
        Ok(Self { count: list.len() / 3, list: ops.device.upload(&list)?, way })
    }
}

impl Grouping {
    /// Refuse what no kernel takes.
    pub(super) fn check(&self, device: &Device) -> Result<(), KernelError> {
        if self.head_dim <= WIDEST {
            return Ok(());
        }
        let message = format!("heads of {} numbers are wider than {WIDEST}; use --device cpu", self.head_dim);
        Err(KernelError::Device { device: device.name().to_owned(), message })
    }

    const fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// What every kernel of attention begins with.
    fn args<'a>(&self, seen: Seen<'a>, tiles: &'a Tiles, window: Option<usize>) -> Vec<Arg<'a>> {
        let rows = [seen.q.arg(), seen.q.stride(), seen.k.arg(), seen.v.arg(), seen.k.stride(), seen.v.stride()];
        let shape = [size(self.heads), size(self.heads / self.kv_heads), size(self.head_dim)];
        let scale = Arg::F32(1.0 / (self.head_dim as f32).sqrt());
        let sight = [scale, size(window.unwrap_or(0)), Arg::U32(u32::from(self.causal))];
        [&rows[..], &[seen.q.numbers.half(), tiles.list.arg()], &shape, &sight].concat()
    }
}

impl Ops<'_> {
    /// The output, as wide as the queries, and the logarithms of the sums.
    pub(super) fn attend(
        &self,
        heads: Grouping,
        seen: Seen,
        (tiles, window): (&Tiles, Option<usize>),
        relative: Option<&Relative>,
        tokens: usize,
    ) -> Result<(Numbers, Buffer<f32>), KernelError> {
        let (out, lse) = (self.fresh(tokens * heads.width())?, self.device.alloc::<f32>(tokens * heads.heads)?);
        let bias = relative.map_or([lse.arg(), size(0)], |r| [r.table.arg(), size(r.reach)]);
        let args = [&heads.args(seen, tiles, window)[..], &bias, &[out.arg(), lse.arg()]].concat();
        let grid = (tiles.count as u32, heads.heads as u32, 1);
        let [shared, ..] = (tiles.way.shared)(heads.head_dim);
        self.device.launch(tiles.way.forward, grid, BLOCK, shared, &args)?;
        Ok((out, lse))
    }

    /// The gradients of queries, keys and values side by side, `[tokens, q_width + 2 kv_width]`, from that of the output.
    pub(super) fn attend_back(
        &self,
        heads: Grouping,
        seen: Seen,
        (tiles, window): (&Tiles, Option<usize>),
        (out, lse, gout): (&Numbers, &Buffer<f32>, &Numbers),
    ) -> Result<Numbers, KernelError> {
        let (width, kv_width) = (heads.width(), heads.kv_heads * heads.head_dim);
        let (tokens, stride) = (lse.len() / heads.heads, width + 2 * kv_width);
        let (gradient, delta) = (self.fresh(tokens * stride)?, self.device.alloc::<f32>(lse.len())?);
        let args = [out.arg(), gout.arg(), out.half(), Arg::U64(lse.len() as u64), size(heads.head_dim), delta.arg()];
        let blocks = (32 * lse.len()).div_ceil(THREADS as usize) as u32;
        self.device.launch("net_attend_delta", (blocks, 1, 1), THREADS, 0, &args)?;
        let known = [&heads.args(seen, tiles, window)[..], &[gout.arg(), lse.arg(), delta.arg()]].concat();
        let grid = |count: usize| (tiles.count as u32, count as u32, 1);
        let [_, queries, keys] = (tiles.way.shared)(heads.head_dim);
        let args = [&known[..], &[gradient.arg(), size(stride)]].concat();
        self.device.launch(tiles.way.queries, grid(heads.heads), BLOCK, queries, &args)?;
        let args = [&known[..], &[gradient.at(width), gradient.at(width + kv_width), size(stride)]].concat();
        self.device.launch(tiles.way.keys, grid(heads.kv_heads), BLOCK, keys, &args)?;
        Ok(gradient)
    }
}

#[cfg(test)]
mod tests;
