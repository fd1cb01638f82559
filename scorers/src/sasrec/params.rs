//! The recommender's parameters and their gradients: where each lies, and how they are drawn.

use super::layers::add_scaled;
use crate::linear::usize_f64;
use curate_core::Ctx;
use std::collections::BTreeMap;
use std::ops::Range;

/// Blocks of the model.
pub(super) const BLOCKS: usize = 2;

/// Vectors of a block, then its matrices, in the order in which they lie.
const VECTORS: usize = 6;
pub(super) const GAIN: usize = 0;
pub(super) const BIAS: usize = 1;
pub(super) const GAIN_2: usize = 2;
pub(super) const BIAS_2: usize = 3;
pub(super) const B_1: usize = 4;
pub(super) const B_2: usize = 5;
const MATRICES: usize = 6;
pub(super) const QUERY: usize = 0;
pub(super) const KEY: usize = 1;
pub(super) const VALUE: usize = 2;
pub(super) const OUT: usize = 3;
pub(super) const W_1: usize = 4;
pub(super) const W_2: usize = 5;

/// Where each parameter lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shape {
    /// Numbers of a vector.
    pub(super) width: usize,
    /// Different items.
    pub(super) items: usize,
    /// Longest sequence of inputs.
    pub(super) length: usize,
}

impl Shape {
    fn block(self) -> usize {
        VECTORS * self.width + MATRICES * self.width * self.width
    }

    pub(super) fn vector(self, block: usize, which: usize) -> Range<usize> {
        let start = block * self.block() + which * self.width;
        start..start + self.width
    }

    pub(super) fn matrix(self, block: usize, which: usize) -> Range<usize> {
        let start = block * self.block() + VECTORS * self.width + which * self.width * self.width;
        start..start + self.width * self.width
    }

    pub(super) fn last(self, which: usize) -> Range<usize> {
        let start = BLOCKS * self.block() + which * self.width;
        start..start + self.width
    }

    /// Vector of the position so many before the end.
    pub(super) fn position(self, before_end: usize) -> Range<usize> {
        let start = BLOCKS * self.block() + (2 + before_end) * self.width;
        start..start + self.width
    }

    /// The matrix that influence is taken of: the last block's attention output.
    #[cfg(test)]
    pub(super) fn influenced(self) -> Range<usize> {
        self.matrix(BLOCKS - 1, OUT)
    }

    /// Parameters other than the items' vectors.
    pub(super) fn dense(self) -> usize {
        BLOCKS * self.block() + (2 + self.length) * self.width
    }
}

/// All parameters.
#[derive(Clone)]
pub(super) struct Params {
    pub(super) shape: Shape,
    pub(super) dense: Vec<f64>,
    /// A vector for each item.
    pub(super) items: Vec<f64>,
}

impl Params {
    /// Drawn by name: gains 1, biases 0, matrices and vectors uniform.
    pub(super) fn drawn(shape: Shape, ctx: &Ctx) -> Self {
        let mut dense = vec![0.0; shape.dense()];
        let mut fill =
            |range: Range<usize>, scale: f64| draw(&mut dense[range.clone()], scale, range.start as u64, ctx);
        let scale = (3.0 / usize_f64(shape.width)).sqrt();
        (0..BLOCKS).for_each(|b| (0..MATRICES).for_each(|m| fill(shape.matrix(b, m), scale)));
        (0..shape.length).for_each(|p| fill(shape.position(p), 0.05));
        let gains = (0..BLOCKS).flat_map(|b| [shape.vector(b, GAIN), shape.vector(b, GAIN_2)]).chain([shape.last(0)]);
        gains.for_each(|range| dense[range].fill(1.0));
        let mut items = vec![0.0; shape.items * shape.width];
        for (item, vector) in items.chunks_exact_mut(shape.width).enumerate() {
            draw(vector, 0.05, (shape.dense() + item) as u64, ctx);
        }
        Self { shape, dense, items }
    }

    pub(super) fn item(&self, item: usize) -> &[f64] {
        &self.items[item * self.shape.width..(item + 1) * self.shape.width]
    }

    pub(super) fn vector(&self, block: usize, which: usize) -> &[f64] {
        &self.dense[self.shape.vector(block, which)]
    }

    pub(super) fn matrix(&self, block: usize, which: usize) -> &[f64] {
        &self.dense[self.shape.matrix(block, which)]
    }

    pub(super) fn last(&self, which: usize) -> &[f64] {
        &self.dense[self.shape.last(which)]
    }
}

fn draw(to: &mut [f64], scale: f64, name: u64, ctx: &Ctx) {
    let mut rng = ctx.rng("weights", name);
    to.iter_mut().for_each(|v| *v = scale * (2.0 * rng.uniform() - 1.0));
}

/// Gradients, shaped as the parameters; of the items' vectors only those touched.
#[derive(Default)]
pub(super) struct Grads {
    pub(super) dense: Vec<f64>,
    pub(super) items: BTreeMap<usize, Vec<f64>>,
}

impl Grads {
    pub(super) fn zero(shape: Shape) -> Self {
        Self { dense: vec![0.0; shape.dense()], items: BTreeMap::new() }
    }

    /// Add the gradients of other sequences.
    pub(super) fn add(&mut self, other: &Self) {
        add_scaled(&mut self.dense, 1.0, &other.dense);
        other.items.iter().for_each(|(&item, grad)| self.add_item(item, 1.0, grad));
    }

    pub(super) fn add_item(&mut self, item: usize, factor: f64, grad: &[f64]) {
        add_scaled(self.items.entry(item).or_insert_with(|| vec![0.0; grad.len()]), factor, grad);
    }

    pub(super) fn two(&mut self, first: Range<usize>, second: Range<usize>) -> (&mut [f64], &mut [f64]) {
        let (head, tail) = self.dense.split_at_mut(second.start);
        (&mut head[first], &mut tail[..second.len()])
    }
}
