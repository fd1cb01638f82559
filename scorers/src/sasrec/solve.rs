//! The curvature of the loss in one matrix, and solving with it: kept as the vectors it is made of, never formed.

#![allow(clippy::many_single_char_names)] // reason: as in the papers

use super::model::{Forward, Sequence, logits, sigmoid};
use super::params::Params;
use super::share;
use super::train::others;
use crate::linear::dot;
use curate_core::{Ctx, Error, Result};
use rayon::prelude::*;

/// Sequences that one thread works on at a time.
const BLOCK: usize = 256;
/// Length of the residual, as a share of the right side's, at which a solution is good.
const ENOUGH: f64 = 1e-8;
/// The same at which it still is acceptable when rounding stops the solver.
const TOLERABLE: f64 = 1e-6;
const STEPS: usize = 2000;

/// One side of a position's loss: the logit's gradient by `context W`, the loss's slope and curvature in the logit.
struct Side {
    towards: Vec<f64>,
    slope: f64,
    bend: f64,
}

/// A position: what its attention gathered, and the logits of the next item and of another.
struct Position {
    context: Vec<f64>,
    sides: [Side; 2],
}

/// The positions of every sequence.
pub(super) struct Curvature {
    width: usize,
    sequences: Vec<Vec<Position>>,
}

impl Curvature {
    /// Run a model over sequences with others that are fixed for each row.
    pub(super) fn of(params: &Params, rows: &[(u64, &Sequence)], ctx: &Ctx) -> Result<Self> {
        let width = params.shape.width;
        let positions: usize = rows.iter().map(|(_, sequence)| sequence.next.len()).sum();
        ctx.memory().reserve((positions * (24 * width + 150)) as u64, "the gradients of the recommender")?;
        let mut sequences = Vec::with_capacity(rows.len());
        for block in rows.chunks(BLOCK) {
            ctx.tick(block.len() as u64)?;
            sequences.par_extend(block.par_iter().map(|(id, sequence)| {
                positions_of(params, sequence, &others(sequence, params.shape, ("fixed", *id), ctx))
            }));
        }
        Ok(Self { width, sequences })
    }

    /// The gradient of the mean loss.
    pub(super) fn risk(&self) -> Vec<f64> {
        self.sum(|_, side| side.slope)
    }

    /// Inner product of each sequence's gradient with `direction`.
    pub(super) fn along(&self, direction: &[f64]) -> Vec<f64> {
        let of = |positions: &Vec<Position>| {
            let sum: f64 = positions
                .iter()
                .map(|position| {
                    let moved = self.moved(position, direction);
                    position.sides.iter().map(|side| side.slope * dot(&side.towards, &moved)).sum::<f64>()
                })
                .sum();
            sum * share(positions.len())
        };
        self.sequences.par_iter().map(of).collect()
    }

    /// `context D`, what a step `D` of the matrix adds at a position.
    fn moved(&self, position: &Position, direction: &[f64]) -> Vec<f64> {
        super::layers::times(&position.context, direction, self.width)
    }

    /// The curvature times a direction.
    fn times(&self, direction: &[f64]) -> Vec<f64> {
        self.sum(|moved, side| side.bend * dot(&side.towards, &moved(direction)))
    }

    /// Diagonal of the curvature.
    fn diagonal(&self) -> Vec<f64> {
        self.blocks(|position, weight, out| {
            for (c, row) in position.context.iter().zip(out.chunks_exact_mut(self.width)) {
                for side in &position.sides {
                    let factor = weight * side.bend * c * c;
                    row.iter_mut().zip(&side.towards).for_each(|(o, a)| *o += factor * a * a);
                }
            }
        })
    }

    /// Mean over sequences of the mean over positions of `context x sum factor towards`.
    fn sum(&self, factor: impl Fn(&dyn Fn(&[f64]) -> Vec<f64>, &Side) -> f64 + Sync) -> Vec<f64> {
        self.blocks(|position, weight, out| {
            let moved = |direction: &[f64]| self.moved(position, direction);
            let mut towards = vec![0.0; self.width];
            for side in &position.sides {
                super::layers::add_scaled(&mut towards, weight * factor(&moved, side), &side.towards);
            }
            super::layers::add_outer(out, &position.context, &towards, self.width);
        })
    }

    /// A matrix summed over all positions, block by block, the blocks in order.
    fn blocks(&self, add: impl Fn(&Position, f64, &mut [f64]) + Sync) -> Vec<f64> {
        let part = |sequences: &[Vec<Position>]| {
            let mut out = vec![0.0; self.width * self.width];
            for positions in sequences {
                let weight = share(positions.len()) * share(self.sequences.len());
                positions.iter().for_each(|position| add(position, weight, &mut out));
            }
            out
        };
        let parts: Vec<Vec<f64>> = self.sequences.par_chunks(BLOCK).map(part).collect();
        let mut sum = vec![0.0; self.width * self.width];
        parts.iter().for_each(|part| super::layers::add_scaled(&mut sum, 1.0, part));
        sum
    }

    /// `(G + damping mean(diag G) I)^-1 v` by conjugate gradients, preconditioned by the diagonal.
    ///
    /// # Errors
    /// `influence/not-solved` when rounding keeps the residual large; `cancelled`.
    pub(super) fn solve(&self, v: &[f64], damping: f64, ctx: &Ctx) -> Result<Vec<f64>> {
        let mut diagonal = self.diagonal();
        let damp = damping * diagonal.iter().sum::<f64>() * share(diagonal.len());
        diagonal.iter_mut().for_each(|d| *d += damp);
        let size = dot(v, v).sqrt();
        let (mut x, mut rest) = (vec![0.0; v.len()], v.to_vec());
        let ready = |rest: &[f64]| rest.iter().zip(&diagonal).map(|(r, d)| r / d).collect::<Vec<_>>();
        if size == 0.0 || damp == 0.0 {
            return Ok(x);
        }
        let mut way = ready(&rest);
        let mut square = dot(&rest, &way);
        for _ in 0..STEPS {
            ctx.tick(0)?;
            let mut ahead = self.times(&way);
            super::layers::add_scaled(&mut ahead, damp, &way);
            let step = square / dot(&way, &ahead);
            super::layers::add_scaled(&mut x, step, &way);
            super::layers::add_scaled(&mut rest, -step, &ahead);
            if dot(&rest, &rest).sqrt() <= ENOUGH * size {
                return Ok(x);
            }
            let (z, before) = (ready(&rest), square);
            square = dot(&rest, &z);
            way.iter_mut().zip(&z).for_each(|(w, z)| *w = z + square / before * *w);
        }
        let left = dot(&rest, &rest).sqrt() / size;
        if left <= TOLERABLE { Ok(x) } else { Err(unsolved(left)) }
    }
}

fn unsolved(left: f64) -> Error {
    Error::data("influence/not-solved", format!("after {STEPS} steps a share of {left:.1e} of the gradient is left"))
        .hint("raise the damping, such as influence:damping=0.1")
}

fn positions_of(params: &Params, sequence: &Sequence, others: &[usize]) -> Vec<Position> {
    let (forward, width) = (Forward::of(params, &sequence.inputs), params.shape.width);
    let towards = |items: &[usize]| {
        let dh: Vec<f64> = items.iter().flat_map(|&item| params.item(item).to_vec()).collect();
        forward.to_out(&dh)
    };
    let (next, other) = (towards(&sequence.next), towards(others));
    let side = |rows: &[f64], at: usize, logit: f64, sign: f64| Side {
        towards: rows[at * width..(at + 1) * width].to_vec(),
        slope: sign * sigmoid(sign * logit),
        bend: sigmoid(logit) * sigmoid(-logit),
    };
    let position = |(at, pair): (usize, &[f64; 2])| Position {
        context: forward.context()[at * width..(at + 1) * width].to_vec(),
        sides: [side(&next, at, pair[0], -1.0), side(&other, at, pair[1], 1.0)],
    };
    logits(&forward, sequence, others).iter().enumerate().map(position).collect()
}

#[cfg(test)]
mod tests {
    use super::super::model::learn;
    use super::super::model::tests::tiny;
    use super::super::params::Grads;
    use super::*;
    use crate::influence::{Damping, inverse_hessian};

    fn curvature() -> (Params, Sequence, Curvature) {
        let (params, sequence, _) = tiny();
        let rows = [(7, &sequence)];
        let curvature = Curvature::of(&params, &rows, &Ctx::new(0)).unwrap();
        (params, sequence, curvature)
    }

    #[test]
    fn the_gradient_is_that_of_the_model() {
        let (params, sequence, curvature) = curvature();
        let others = others(&sequence, params.shape, ("fixed", 7), &Ctx::new(0));
        let mut grads = Grads::zero(params.shape);
        learn(&params, &sequence, &others, (1.0, &mut grads));
        let expected = &grads.dense[params.shape.influenced()];
        let found = curvature.risk();
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} {expected:?}");
        let direction: Vec<f64> = (0..9).map(f64::from).collect();
        assert!((curvature.along(&direction)[0] - dot(expected, &direction)).abs() < 1e-12);
    }

    /// Columns of the curvature, from logits moved by finite differences.
    fn by_differences(params: &Params, sequence: &Sequence) -> Vec<f64> {
        let others = others(sequence, params.shape, ("fixed", 7), &Ctx::new(0));
        let at = |moved: Option<(usize, f64)>| {
            let mut params = params.clone();
            if let Some((i, step)) = moved {
                params.dense[params.shape.influenced()][i] += step;
            }
            logits(&Forward::of(&params, &sequence.inputs), sequence, &others).concat()
        };
        let slopes: Vec<Vec<f64>> = (0..9)
            .map(|i| at(Some((i, 1e-5))).iter().zip(at(Some((i, -1e-5)))).map(|(a, b)| (a - b) / 2e-5).collect())
            .collect();
        let bends: Vec<f64> = at(None).iter().map(|&l| sigmoid(l) * sigmoid(-l) / 4.0).collect();
        let entry = |i: usize, j: usize| bends.iter().enumerate().map(|(k, b)| b * slopes[i][k] * slopes[j][k]).sum();
        (0..81).map(|at| entry(at / 9, at % 9)).collect()
    }

    #[test]
    fn the_solution_is_that_of_the_matrix_written_out() {
        let (params, sequence, curvature) = curvature();
        let matrix = by_differences(&params, &sequence);
        let unit = |i: usize| (0..9).map(|j| f64::from(u8::from(i == j))).collect::<Vec<f64>>();
        for i in 0..9 {
            let column = curvature.times(&unit(i));
            assert!((0..9).all(|j| (column[j] - matrix[i * 9 + j]).abs() < 1e-8), "{i}: {column:?}");
            assert!((curvature.diagonal()[i] - matrix[i * 10]).abs() < 1e-8);
        }
        let v: Vec<f64> = (1..10).map(f64::from).collect();
        let damp = 0.3 * (0..9).map(|i| matrix[i * 10]).sum::<f64>() / 9.0;
        let expected = inverse_hessian(&matrix, &v, Damping::plain(damp)).unwrap();
        let found = curvature.solve(&v, 0.3, &Ctx::new(0)).unwrap();
        assert!(
            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(1.0)),
            "{found:?} {expected:?}"
        );
    }
}
