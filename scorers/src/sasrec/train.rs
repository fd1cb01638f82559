//! Training the recommender: Adam over shuffled batches of sequences, negatives drawn anew in each epoch.

#![allow(clippy::many_single_char_names)] // reason: as in the papers

use super::model::{Sequence, learn};
use super::params::{Grads, Params, Shape};
use super::share;
use crate::linear::usize_f64;
use curate_core::{Ctx, Result};
use rayon::prelude::*;

/// Most sequences of a step, and fewest; between them an epoch has [`STEPS`] steps.
const MOST: usize = 128;
const FEWEST: usize = 8;
const STEPS: usize = 50;
/// Sequences whose gradients are summed by one thread; the order of sums hangs on this and not on threads.
const BLOCK: usize = 8;
const RATE: f64 = 1e-3;
const DECAY: f64 = 0.9;
const DECAY_2: f64 = 0.98;
const EPSILON: f64 = 1e-8;
/// Draws of an item that the user has not had before one is taken that the user has.
const DRAWS: usize = 20;

/// Another item for each position, drawn by `name` among those the user has not had.
pub(super) fn others(sequence: &Sequence, shape: Shape, (label, name): (&str, u64), ctx: &Ctx) -> Vec<usize> {
    let mut rng = ctx.rng(label, name);
    let had = |item: &usize| sequence.inputs.contains(item) || sequence.next.contains(item);
    let mut draw = || usize::try_from(rng.below(shape.items as u64)).unwrap_or(0);
    let mut other = |_: &usize| {
        let mut item = draw();
        for _ in 0..DRAWS {
            if !had(&item) {
                break;
            }
            item = draw();
        }
        item
    };
    sequence.next.iter().map(&mut other).collect()
}

/// A model trained on these sequences, which rise in their row ids.
pub(super) fn train(rows: &[(u64, &Sequence)], shape: Shape, epochs: u64, ctx: &Ctx) -> Result<Params> {
    let bytes = 24 * (shape.dense() + shape.items * shape.width) as u64;
    ctx.memory().reserve(bytes, "the recommender and its moments")?;
    let mut params = Params::drawn(shape, ctx);
    let (mut adam, batch_rows) = (Adam::new(&params), rows.len().div_ceil(STEPS).clamp(FEWEST, MOST));
    for epoch in 0..epochs {
        let ctx = ctx.labelled(&format!("epoch {epoch}"));
        let mut order: Vec<&(u64, &Sequence)> = rows.iter().collect();
        let lot = ctx.stream("order");
        order.sort_by_cached_key(|(id, _)| (lot(*id).bits(), *id));
        for batch in order.chunks(batch_rows) {
            ctx.tick(batch.len() as u64)?;
            let part = |rows: &[&(u64, &Sequence)]| {
                let mut grads = Grads::zero(shape);
                for (id, sequence) in rows {
                    let others = others(sequence, shape, ("others", *id), &ctx);
                    learn(&params, sequence, &others, (share(batch.len()), &mut grads));
                }
                grads
            };
            let parts: Vec<Grads> = batch.par_chunks(BLOCK).map(part).collect();
            let mut grads = Grads::zero(shape);
            parts.iter().for_each(|part| grads.add(part));
            adam.step(&mut params, &grads);
        }
    }
    Ok(params)
}

/// Moments of the gradients. An item's vector moves only when a batch has it.
struct Adam {
    dense: [Vec<f64>; 2],
    items: [Vec<f64>; 2],
    steps: usize,
}

impl Adam {
    fn new(params: &Params) -> Self {
        let zeros = |of: &[f64]| [vec![0.0; of.len()], vec![0.0; of.len()]];
        Self { dense: zeros(&params.dense), items: zeros(&params.items), steps: 0 }
    }

    fn step(&mut self, params: &mut Params, grads: &Grads) {
        self.steps += 1;
        let power = |decay: f64| 1.0 - (usize_f64(self.steps) * decay.ln()).exp();
        let corrections = (power(DECAY), power(DECAY_2));
        let [first, second] = &mut self.dense;
        update(&mut params.dense, &grads.dense, (&mut first[..], &mut second[..]), corrections);
        let (width, [first, second]) = (params.shape.width, &mut self.items);
        for (item, grad) in &grads.items {
            let row = item * width..(item + 1) * width;
            update(&mut params.items[row.clone()], grad, (&mut first[row.clone()], &mut second[row]), corrections);
        }
    }
}

fn update(params: &mut [f64], grads: &[f64], (first, second): (&mut [f64], &mut [f64]), (one, two): (f64, f64)) {
    for (((p, &g), m), v) in params.iter_mut().zip(grads).zip(first).zip(second) {
        *m = DECAY * *m + (1.0 - DECAY) * g;
        *v = DECAY_2 * *v + (1.0 - DECAY_2) * g * g;
        *p -= RATE * (*m / one) / ((*v / two).sqrt() + EPSILON);
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::tiny;
    use super::*;

    #[test]
    fn others_are_items_the_user_has_not_had() {
        let (params, sequence, _) = tiny();
        let found = others(&sequence, params.shape, ("x", 3), &Ctx::new(1));
        assert!(found.len() == 4 && found.iter().all(|item| [2, 3].contains(item)), "{found:?}");
    }

    #[test]
    fn training_lowers_the_loss_and_knows_no_threads() {
        let (params, sequence, others) = tiny();
        let rows: Vec<(u64, &Sequence)> = (0..40).map(|id| (id, &sequence)).collect();
        let trained = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| train(&rows, params.shape, 80, &Ctx::new(2))).unwrap()
        };
        let (one, three) = (trained(1), trained(3));
        assert_eq!((&one.dense, &one.items), (&three.dense, &three.items));
        let loss = |params: &Params| learn(params, &sequence, &others, (1.0, &mut Grads::zero(params.shape)));
        let before = loss(&train(&rows, params.shape, 0, &Ctx::new(2)).unwrap());
        assert!(loss(&one) < 0.8 * before, "{} of {before}", loss(&one));
    }
}
