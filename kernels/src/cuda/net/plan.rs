//! What a decoder is made of. Tensors are named by numbers of their owner.

use super::numbers::Values;

/// A low-rank addition `y += scale (x A^T) B^T`; numbers of tensors are the owner's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter {
    /// `[rank, in]`.
    pub a: usize,
    /// `[out, rank]`.
    pub b: usize,
    /// Rank.
    pub rank: usize,
    /// Factor.
    pub scale: f32,
}

/// A linear map `y = x W^T + bias`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Map {
    /// `[out, in]`.
    pub weight: usize,
    /// `[out]`.
    pub bias: Option<usize>,
    /// Rows of the weight.
    pub out: usize,
    /// The adapter on it.
    pub adapter: Option<Adapter>,
}

/// One block: norms by tensor, maps stacked by input.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Gain of the norm before attention.
    pub input_norm: usize,
    /// Queries, keys and values.
    pub qkv: [Map; 3],
    /// Gains of the norms of query and key heads.
    pub qk_norm: Option<[usize; 2]>,
    /// Output of attention.
    pub o: Map,
    /// Gain of the norm before the feed-forward part.
    pub post_norm: usize,
    /// Gates and ups.
    pub gate_up: [Map; 2],
    /// Back to the stream.
    pub down: Map,
    /// How many tokens back a query sees, itself included.
    pub window: Option<usize>,
}

/// What a decoder is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Entries of the vocabulary.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// Table of token vectors, `[vocab, hidden]`.
    pub embed: usize,
    /// The blocks, lowest first.
    pub blocks: Vec<Block>,
    /// Gain of the last norm.
    pub final_norm: usize,
    /// The head; its weight may be the table.
    pub head: Map,
}

/// The owner of the tensors.
pub trait Tensors {
    /// The values of a tensor now.
    fn values(&self, id: usize) -> Values<'_>;
    /// A number that no other values of any tensor have had.
    fn version(&self, id: usize) -> u64;
}

impl Plan {
    /// Width of all query heads.
    #[must_use]
    pub const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key heads.
    #[must_use]
    pub const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The stacks of maps, each with the width of its input; the head last.
    pub(super) fn stacks(&self) -> Vec<(&[Map], usize)> {
        let one = std::slice::from_ref::<Map>;
        let mut stacks: Vec<(&[Map], usize)> = Vec::new();
        for block in &self.blocks {
            stacks.push((&block.qkv, self.hidden));
            stacks.push((one(&block.o), self.q_width()));
            stacks.push((&block.gate_up, self.hidden));
            stacks.push((one(&block.down), self.intermediate));
        }
        stacks.push((one(&self.head), self.hidden));
        stacks
    }

    /// Gains of all norms, each with its width.
    pub(super) fn gains(&self) -> Vec<(usize, usize)> {
        let block = |block: &Block| {
            let heads = block.qk_norm.into_iter().flatten().map(|id| (id, self.head_dim));
            [(block.input_norm, self.hidden), (block.post_norm, self.hidden)]
                .into_iter()
                .chain(heads)
                .collect::<Vec<_>>()
        };
        self.blocks.iter().flat_map(block).chain([(self.final_norm, self.hidden)]).collect()
    }
}

/// Rows of all maps of a stack together.
pub(super) fn width(maps: &[Map]) -> usize {
    maps.iter().map(|map| map.out).sum()
}
