//! Sums that do not depend on the order of their terms: every number is rounded once to a multiple of a power of two
//! and added as an integer.
//!
//! `q(v) = round_ties_even(v 2^s)` with `s` the largest exponent for which neither one term (50 bits) nor the sum of
//! all announced rows (62 bits) can overflow. Error of a mean: at most `2^-(s+1)`, that is `2^-50` of the largest
//! magnitude up to 4096 rows and one bit more for each doubling. Cost: d additions a row.

use rayon::prelude::*;

use crate::backend::{check_labels, check_len};
use crate::{Isa, KernelError, MatRef};

/// `1.5 * 2^52`: adding it leaves a double's integer part in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// Sums and counts of rows per segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSums {
    dim: usize,
    exponent: i32,
    max_bits: u32,
    capacity_rows: u64,
    sums: Vec<i64>,
    counts: Vec<u64>,
}

/// A row that changes its segment; `NONE` on either side: it enters or leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) row: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// No segment.
pub(crate) const NONE: u32 = u32::MAX;

impl SegmentSums {
    /// Empty sums of `segments` segments of `dim` numbers, for at most `capacity_rows` rows whose numbers are at most
    /// `max_abs` in magnitude.
    #[must_use]
    pub fn new(segments: usize, dim: usize, max_abs: f32, capacity_rows: u64) -> Self {
        let magnitude = f64::from(max_abs.max(f32::MIN_POSITIVE)).log2().floor() as i32 + 1;
        let row_bits = (64 - capacity_rows.leading_zeros()).cast_signed();
        Self {
            dim,
            exponent: (50 - magnitude).min(62 - magnitude - row_bits),
            max_bits: max_abs.abs().to_bits(),
            capacity_rows,
            sums: vec![0; segments * dim],
            counts: vec![0; segments],
        }
    }

    /// Rows added to each segment.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Write the mean of segment `j` to `out`; an empty segment leaves `out` as it is.
    ///
    /// # Panics
    /// When there is no segment `j`, like slice indexing.
    pub fn mean_into(&self, j: usize, out: &mut [f32]) {
        if self.counts[j] == 0 {
            return;
        }
        let unit = 2f64.powi(-self.exponent) / self.counts[j] as f64;
        for (slot, &sum) in out.iter_mut().zip(&self.sums[j * self.dim..(j + 1) * self.dim]) {
            *slot = (sum as f64 * unit) as f32;
        }
    }

    /// `sum_j |S_j|^2 / n_j`: what Lloyd's step takes off the total squared norm.
    #[must_use]
    pub fn explained(&self) -> f64 {
        let unit = 2f64.powi(-self.exponent);
        let one = |(sum, &count): (&[i64], &u64)| {
            let square: f64 = sum.iter().map(|&s| (s as f64 * unit).powi(2)).sum();
            if count == 0 { 0.0 } else { square / count as f64 }
        };
        self.sums.chunks_exact(self.dim.max(1)).zip(&self.counts).map(one).sum()
    }

    /// Add the sums of another part of the rows.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when the two were not made for the same segments and magnitudes.
    pub fn merge(&mut self, other: &Self) -> Result<(), KernelError> {
        check_len("segment_sums", "numbers", self.sums.len(), other.sums.len())?;
        if self.exponent != other.exponent {
            let text = |e: i32| format!("fractions of 2^-{e}");
            let (expected, got) = (text(self.exponent), text(other.exponent));
            return Err(KernelError::Shape { op: "segment_sums", expected, got });
        }
        self.check_room(other.counts.iter().sum())?;
        self.sums.iter_mut().zip(&other.sums).for_each(|(a, b)| *a += b);
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        Ok(())
    }

    /// Add every row of `x` to its segment.
    pub(crate) fn add(&mut self, x: MatRef<'_>, labels: &[u32]) -> Result<(), KernelError> {
        self.begin(x, labels)?;
        let moves: Vec<Move> =
            labels.iter().enumerate().map(|(row, &to)| Move { row: row as u32, from: NONE, to }).collect();
        self.apply(x, &moves);
        Ok(())
    }

    /// Let every row go from its segment in `before` to that in `after`; [`NONE`] on either side: it enters or leaves.
    pub(crate) fn shift(&mut self, x: MatRef<'_>, before: &[u32], after: &[u32]) {
        let changed = before.iter().zip(after).enumerate().filter(|(_, (from, to))| from != to);
        let moves: Vec<Move> = changed.map(|(row, (&from, &to))| Move { row: row as u32, from, to }).collect();
        self.apply(x, &moves);
    }

    /// The factor to round with.
    pub(crate) fn scale(&self) -> f64 {
        2f64.powi(self.exponent)
    }

    /// Check that `x` may be added; the factor to round with.
    pub(crate) fn begin(&self, x: MatRef<'_>, labels: &[u32]) -> Result<f64, KernelError> {
        check_len("segment_sums", "labels", x.rows(), labels.len())?;
        check_len("segment_sums", "columns", self.dim, x.dim())?;
        check_labels(labels, self.counts.len())?;
        self.check_room(labels.len() as u64)?;
        if max_abs_bits(x) > self.max_bits {
            let beyond = |i: &usize| x.row(*i).iter().any(|v| v.abs().to_bits() > self.max_bits);
            return Err(KernelError::NotFinite { op: "segment_sums", row: (0..x.rows()).find(beyond).unwrap_or(0) });
        }
        Ok(self.scale())
    }

    /// The sums as words for a device that adds without sign.
    pub(crate) fn words(&self) -> Vec<u64> {
        self.sums.iter().map(|sum| sum.cast_unsigned()).collect()
    }

    /// Take the sums back from such a device and count the rows it added.
    pub(crate) fn finish(&mut self, words: &[u64], labels: &[u32]) {
        self.sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = word.cast_signed());
        labels.iter().for_each(|&label| self.counts[label as usize] += 1);
    }

    /// The same after a shift.
    pub(crate) fn finish_shift(&mut self, words: &[u64], before: &[u32], after: &[u32]) {
        self.finish(words, &[]);
        for (&from, &to) in before.iter().zip(after).filter(|(from, to)| from != to) {
            if from != NONE {
                self.counts[from as usize] -= 1;
            }
            if to != NONE {
                self.counts[to as usize] += 1;
            }
        }
    }

    fn check_room(&self, more: u64) -> Result<(), KernelError> {
        let rows = self.counts.iter().sum::<u64>() + more;
        if rows <= self.capacity_rows {
            return Ok(());
        }
        Err(KernelError::Shape {
            op: "segment_sums",
            expected: format!("at most {} rows", self.capacity_rows),
            got: rows.to_string(),
        })
    }

    /// Carry out `moves`, segments in parallel, each summing its own rows. Labels are below the number of segments,
    /// rows within `x`, magnitudes as announced.
    pub(crate) fn apply(&mut self, x: MatRef<'_>, moves: &[Move]) {
        let segments = self.counts.len();
        let mut ends = vec![0usize; segments + 1];
        for m in moves {
            for segment in [m.from, m.to] {
                if segment != NONE {
                    ends[segment as usize + 1] += 1;
                }
            }
        }
        for j in 0..segments {
            ends[j + 1] += ends[j];
        }
        let starts = ends.clone();
        let mut entries = vec![0u64; ends[segments]];
        for m in moves {
            for (segment, leaves) in [(m.from, 1), (m.to, 0)] {
                if segment != NONE {
                    entries[ends[segment as usize]] = (u64::from(m.row) << 1) | leaves;
                    ends[segment as usize] += 1;
                }
            }
        }
        let (scale, isa) = (self.scale(), Isa::detect());
        self.sums.par_chunks_exact_mut(self.dim).zip(self.counts.par_iter_mut()).enumerate().for_each(
            |(j, (sum, count))| {
                for &entry in &entries[starts[j]..starts[j + 1]] {
                    let row = x.row((entry >> 1) as usize);
                    add_row(isa, sum, row, scale, entry & 1 == 1);
                    *count = if entry & 1 == 1 { *count - 1 } else { *count + 1 };
                }
            },
        );
    }
}

/// `sum[t] += q(row[t])`, or `-=` when the row leaves.
fn add_row(isa: Isa, sum: &mut [i64], row: &[f32], scale: f64, leaves: bool) {
    match isa {
        // SAFETY: `isa` was detected on this machine.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { add_row_avx512(sum, row, scale, leaves) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { add_row_avx2(sum, row, scale, leaves) },
        _ => add_row_body(sum, row, scale, leaves),
    }
}

#[inline(always)]
fn add_row_body(sum: &mut [i64], row: &[f32], scale: f64, leaves: bool) {
    let sign = if leaves { -scale } else { scale };
    for (slot, &v) in sum.iter_mut().zip(row) {
        let bits = (f64::from(v) * sign + MAGIC).to_bits().cast_signed();
        *slot = slot.wrapping_add(bits.wrapping_sub(MAGIC.to_bits().cast_signed()));
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn add_row_avx512(sum: &mut [i64], row: &[f32], scale: f64, leaves: bool) {
    add_row_body(sum, row, scale, leaves);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_row_avx2(sum: &mut [i64], row: &[f32], scale: f64, leaves: bool) {
    add_row_body(sum, row, scale, leaves);
}

/// Bits of the largest magnitude (bit patterns of non-negative floats are ordered; NaN and infinity come last).
pub(crate) fn max_abs_bits(x: MatRef<'_>) -> u32 {
    let largest = |part: &[f32]| part.iter().map(|v| v.to_bits() & 0x7FFF_FFFF).fold(0, u32::max);
    x.data().par_chunks(1 << 16).map(largest).max().unwrap_or(0)
}

/// Order-independent sum of non-negative finite numbers.
pub(crate) fn total(values: &[f32]) -> f64 {
    let largest = values.iter().copied().fold(0f32, f32::max);
    if largest <= 0.0 || !largest.is_finite() {
        return f64::from(largest);
    }
    let exponent = 80 - f64::from(largest).log2().floor() as i32;
    let scale = 2f64.powi(exponent);
    let sum: i128 = values.par_iter().with_min_len(4096).map(|&v| (f64::from(v) * scale) as i128).sum();
    sum as f64 / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_by_hand() {
        let data = [1.0, 2.0, 3.0, 4.0, -7.0, 0.5];
        let x = MatRef::new(&data, 2).unwrap();
        let mut sums = SegmentSums::new(3, 2, 7.0, 3);
        sums.add(x, &[0, 0, 2]).unwrap();
        assert_eq!(sums.counts(), &[2, 0, 1]);
        let mut mean = [9.0, 9.0];
        sums.mean_into(1, &mut mean);
        assert_eq!(mean, [9.0, 9.0]);
        sums.mean_into(0, &mut mean);
        assert_eq!(mean, [2.0, 3.0]);
        assert!((sums.explained() - (26.0 + 49.25)).abs() < 1e-12);
        sums.apply(x, &[Move { row: 2, from: 2, to: 0 }]);
        sums.mean_into(0, &mut mean);
        assert_eq!(mean, [-1.0, 6.5 / 3.0]);
        assert!(sums.add(x, &[0, 0, 0]).is_err(), "no room is left");
    }

    #[test]
    fn order_and_parts_leave_no_trace() {
        let data: Vec<f32> = (0..4000).map(|i| ((i * 7919) % 1013) as f32 * 1.1e-3 - 0.4).collect();
        let reversed: Vec<f32> = data.chunks_exact(4).rev().flatten().copied().collect();
        let labels: Vec<u32> = (0..1000).map(|i| i % 7).collect();
        let backwards: Vec<u32> = labels.iter().rev().copied().collect();
        let fresh = || SegmentSums::new(7, 4, 2.0, 1000);
        let (mut whole, mut other, mut parts, mut tail) = (fresh(), fresh(), fresh(), fresh());
        let x = MatRef::new(&data, 4).unwrap();
        whole.add(x, &labels).unwrap();
        other.add(MatRef::new(&reversed, 4).unwrap(), &backwards).unwrap();
        parts.add(x.slice(0..333), &labels[..333]).unwrap();
        tail.add(x.slice(333..1000), &labels[333..]).unwrap();
        parts.merge(&tail).unwrap();
        assert_eq!(whole, other);
        assert_eq!(whole, parts);
    }

    #[test]
    fn too_large_numbers_are_named() {
        let data = [1.0, 2.0, f32::NAN];
        let mut sums = SegmentSums::new(1, 1, 2.0, 3);
        let error = sums.add(MatRef::new(&data, 1).unwrap(), &[0, 0, 0]).unwrap_err();
        assert!(matches!(error, KernelError::NotFinite { row: 2, .. }));
    }

    #[test]
    fn totals_ignore_order() {
        let values: Vec<f32> = (0..10_000).map(|i| (i as f32).sqrt()).collect();
        let back: Vec<f32> = values.iter().rev().copied().collect();
        assert_eq!(total(&values).to_bits(), total(&back).to_bits());
        let plain: f64 = values.iter().map(|&v| f64::from(v)).sum();
        assert!((total(&values) - plain).abs() < 1e-9 * plain);
        assert_eq!(total(&[]).to_bits(), 0);
    }
}
