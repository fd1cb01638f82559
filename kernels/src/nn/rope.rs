//! Rotary positions on rows of heads, in place.
//!
//! Formula: (a, b) -> (a c - b s, b c + a s) for pair i of a head, a = x[i], b = x[i + d/2], c and s from a table by position;
//! the way back turns the other way. Source: Su et al., `RoFormer` (section 3.2), halves as in `transformers`. Cost: one pass.

use super::{rows_a_task, wide};
use rayon::prelude::*;

/// How a batch is turned.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Cosines, `[positions, head_dim / 2]`.
    pub cos: &'a [f32],
    /// Sines, the same.
    pub sin: &'a [f32],
    /// Position of each token.
    pub positions: &'a [u32],
    /// Width of a head.
    pub head_dim: usize,
}

wide! {
    fn rotate_rows(x: &mut [f32], width: usize, turn: Rotation, back: bool) {
        let half = turn.head_dim / 2;
        let sign = if back { -1.0 } else { 1.0 };
        for (row, &position) in x.chunks_exact_mut(width).zip(turn.positions) {
            let at = position as usize * half;
            let (cos, sin) = (&turn.cos[at..at + half], &turn.sin[at..at + half]);
            for head in row.chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for i in 0..half {
                    let (a, b, s) = (first[i], second[i], sign * sin[i]);
                    first[i] = a.mul_add(cos[i], -(b * s));
                    second[i] = b.mul_add(cos[i], a * s);
                }
            }
        }
    }
}

/// Turn rows of `width` numbers (whole heads), forward or back.
///
/// # Panics
/// When lengths do not fit or a position lies outside the table.
pub fn rotate(x: &mut [f32], width: usize, turn: Rotation, back: bool) {
    assert!(x.len() == turn.positions.len() * width && width.is_multiple_of(turn.head_dim));
    let rows = rows_a_task(width);
    x.par_chunks_mut(rows * width)
        .zip(turn.positions.par_chunks(rows))
        .for_each(|(x, positions)| rotate_rows(x, width, Rotation { positions, ..turn }, back));
}

#[cfg(test)]
mod tests {
    use super::super::testing::numbers;
    use super::*;

    #[test]
    fn a_quarter_turn_and_back() {
        // Position 1 of pair 0 turns by 90 degrees, pair 1 not at all.
        let turn = Rotation { cos: &[1.0, 1.0, 0.0, 1.0], sin: &[0.0, 0.0, 1.0, 0.0], positions: &[0, 1], head_dim: 4 };
        let mut x = vec![1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0];
        rotate(&mut x, 4, turn, false);
        assert_eq!(x, [1.0, 2.0, 3.0, 4.0, -3.0, 2.0, 1.0, 4.0]);
        rotate(&mut x, 4, turn, true);
        assert_eq!(x[4..], [1.0, 2.0, 3.0, 4.0]);
        let angle = numbers(1, 7)[0];
        let turn = Rotation { cos: &[angle.cos()], sin: &[angle.sin()], positions: &[0], head_dim: 2 };
        let mut x = vec![0.25, -0.5];
        rotate(&mut x, 2, turn, false);
        rotate(&mut x, 2, turn, true);
        assert!((x[0] - 0.25).abs() < 1e-6 && (x[1] + 0.5).abs() < 1e-6);
    }
}
