//! Sketches of logits: `r1 r2` numbers that keep the distances between texts, from the hidden states and a head, without logits.
//!
//! `Z[a,b] = scale sum_t sum_v s_T[t] cos(2 pi k_T[a] t / T) s_V[v] cos(2 pi k_V[b] v / V) L[t,v]`, row-major, `a` for time. With
//! `L = H W^T` it is `scale (C_T^T H) (W^T C_V)`, and the second factor is made once for a head. Source: UDS (section 3; signs, then
//! chosen rows of a Fourier transform on both sides); the factors are own algebra. Deviation: all in double precision; texts begin at t = 0.
//! Cost, t tokens, v words, width d: 2 v d r2 once for a head, then 2 t d r1 + 2 d r1 r2.

use super::product::{Factor, product};
use crate::backend::{Tick, check_len};
use crate::{KernelError, MatRef};
use rayon::prelude::*;
use std::f64::consts::TAU;

/// Rows of a head that are taken at once.
const SLAB_ROWS: usize = 1 << 13;
/// Rows of the image of a head that one task makes.
const TASK_ROWS: usize = 64;

/// Signs and chosen cosines along one side of the logits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    negative: Vec<bool>,
    indices: Vec<u32>,
}

impl Side {
    /// A sign for every place, negative where true, and the frequencies kept, each below the number of places.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when a frequency is not below it, or there is none.
    pub fn new(negative: Vec<bool>, indices: Vec<u32>) -> Result<Self, KernelError> {
        let places = negative.len();
        if !indices.is_empty() && indices.iter().all(|&index| (index as usize) < places) {
            return Ok(Self { negative, indices });
        }
        let got = indices.iter().max().map_or_else(|| "none".to_owned(), ToString::to_string);
        Err(KernelError::Shape { op: "sketch", expected: format!("frequencies below {places}"), got })
    }

    /// Places: words, or tokens of the longest text.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.negative.len()
    }

    /// Signed cosines of all places, `[places, indices]`.
    fn table(&self) -> Vec<f64> {
        let places = self.places();
        let cosines: Vec<f64> = (0..places).map(|m| (TAU * m as f64 / places as f64).cos()).collect();
        let row = |(place, &negative): (usize, &bool)| {
            let sign = if negative { -1.0 } else { 1.0 };
            let cosines = &cosines;
            self.indices.iter().map(move |&index| sign * cosines[place * index as usize % places])
        };
        self.negative.iter().enumerate().flat_map(row).collect()
    }
}

/// A sketch of one length for all texts of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sketch {
    time: Side,
    words: Side,
    scale: f64,
}

impl Sketch {
    /// With the transforms unnormalised, as the authors' code has them: distances come out about `sqrt(V T) / 2` times too long.
    #[must_use]
    pub fn new(time: Side, words: Side) -> Self {
        let kept = (time.indices.len() * words.indices.len()) as f64;
        let scale = ((time.places() * words.places()) as f64 / kept).sqrt();
        Self { time, words, scale }
    }

    /// With orthonormal transforms: the same numbers divided by [`Sketch::inflation`].
    #[must_use]
    pub fn orthonormal(mut self) -> Self {
        self.scale /= self.inflation();
        self
    }

    /// `sqrt(V T)`: a weight on distances is to be multiplied by it when the transforms become orthonormal.
    #[must_use]
    pub fn inflation(&self) -> f64 {
        ((self.time.places() * self.words.places()) as f64).sqrt()
    }

    /// Numbers of a sketch.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.time.indices.len() * self.words.indices.len()
    }

    /// Whether it has none; never, by construction.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Prepare for a head, `[words, hidden]`; `tick` is told the rows done.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for another number of words, [`KernelError::NotFinite`] with the first such row, [`KernelError::Stopped`].
    pub fn of_head(&self, head: MatRef<'_>, tick: Tick<'_>) -> Result<HeadSketch, KernelError> {
        check_len("sketch", "words", self.words.places(), head.rows())?;
        super::check_finite(head, "sketch")?;
        let (dim, kept, cosines) = (head.dim(), self.words.indices.len(), self.words.table());
        let mut image = vec![0.0; dim * kept];
        for start in (0..head.rows()).step_by(SLAB_ROWS) {
            let slab = head.slice(start..(start + SLAB_ROWS).min(head.rows()));
            let (rows, wide) = (slab.rows(), wide(slab.data()));
            image.par_chunks_mut(TASK_ROWS * kept).enumerate().for_each(|(task, part)| {
                let columns: Factor<'_, f64> = (&wide[task * TASK_ROWS..], 1, dim);
                product(part, true, (part.len() / kept, kept, rows), columns, (&cosines[start * kept..], kept, 1));
            });
            if !tick(rows as u64) {
                return Err(KernelError::Stopped);
            }
        }
        Ok(HeadSketch { image, time: self.time.table(), sizes: (self.time.places(), dim), sketch: self.clone() })
    }
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| f64::from(v)).collect()
}

/// A sketch prepared for a head.
#[derive(Clone, Debug)]
pub struct HeadSketch {
    /// `W^T C_V`, `[hidden, r2]`.
    image: Vec<f64>,
    /// `C_T`, `[T, r1]`.
    time: Vec<f64>,
    /// `T` and the width of hidden states.
    sizes: (usize, usize),
    sketch: Sketch,
}

impl HeadSketch {
    /// The sketch of the logits of these hidden states, `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for another width or more tokens than the sketch has places for, [`KernelError::NotFinite`] with the
    /// first such row.
    pub fn of(&self, hidden: MatRef<'_>) -> Result<Vec<f32>, KernelError> {
        let (places, dim) = self.sizes;
        check_len("sketch", "columns", dim, hidden.dim())?;
        if hidden.rows() > places {
            let expected = format!("at most {places} tokens");
            return Err(KernelError::Shape { op: "sketch", expected, got: hidden.rows().to_string() });
        }
        super::check_finite(hidden, "sketch")?;
        let (times, words) = (self.sketch.time.indices.len(), self.sketch.words.indices.len());
        let (mut mixed, mut out) = (vec![0.0; times * dim], vec![0.0; times * words]);
        product(&mut mixed, false, (times, dim, hidden.rows()), (&self.time, 1, times), (&wide(hidden.data()), dim, 1));
        product(&mut out, false, (times, words, dim), (&mixed, dim, 1), (&self.image, words, 1));
        Ok(out.iter().map(|v| (v * self.sketch.scale) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two words and two tokens; cosines of frequency 1 are 1 and -1, of frequency 0 both 1.
    #[test]
    fn four_logits_by_hand() {
        let side = |signs: [bool; 2], index| Side::new(signs.to_vec(), vec![index]).unwrap();
        let sketch = Sketch::new(side([false, false], 1), side([false, true], 0));
        let head = sketch.of_head(MatRef::new(&[1.0, 0.0, 0.0, 1.0], 2).unwrap(), &|_| true).unwrap();
        // Time subtracts the second row, words subtract the second column: 2 ((1 - 2) - (5 - 9)) = 6.
        let logits = [1.0, 2.0, 5.0, 9.0];
        assert_eq!(head.of(MatRef::new(&logits, 2).unwrap()).unwrap(), [6.0]);
        let orthonormal = sketch.clone().orthonormal();
        assert!((sketch.inflation() - 2.0).abs() < 1e-12);
        let head = orthonormal.of_head(MatRef::new(&[1.0, 0.0, 0.0, 1.0], 2).unwrap(), &|_| true).unwrap();
        assert_eq!(head.of(MatRef::new(&logits, 2).unwrap()).unwrap(), [3.0]);
        assert_eq!(head.of(MatRef::new(&[], 2).unwrap()).unwrap(), [0.0]);
        assert!(head.of(MatRef::new(&[1.0; 6], 2).unwrap()).is_err(), "three tokens, two places");
        assert!(Side::new(vec![true; 3], vec![3]).is_err() && Side::new(vec![true], Vec::new()).is_err());
    }
}
