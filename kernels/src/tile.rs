//! Blocks of inner products that never leave the cache: packing, and the choice of the body.
//!
//! A *word* is 32 bits: one f32, or two bf16. Rows are words `[rows, steps]`; the other side is packed in panels of 16
//! rows, words `[panels, steps, 16]`, the last panel filled with zero words and a bias of minus infinity.

#[cfg(target_arch = "x86_64")]
use crate::simd::{avx2, avx512};
use crate::{Isa, simd::scalar};

/// Rows of a panel.
pub(crate) const LANES: usize = 16;

/// `out[i, j] = bias[j] + a_i . c_j` with f32 words; `out` is `[a.len() / steps, bias.len()]`.
pub(crate) fn tile_f32(isa: Isa, a: &[u32], panels: &[u32], steps: usize, bias: &[f32], out: &mut [f32]) {
    match isa {
        // SAFETY: an Isa other than Scalar is only handed out where the CPU has it (`Cpu::with_isa` checks).
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512::tile_f32(a, panels, steps, bias, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2::tile(a, panels, steps, bias, out) },
        _ => scalar::tile(a, panels, steps, bias, out),
    }
}

/// The same with the words of [`words_per_row`]: bf16 pairs where the CPU multiplies them, else f32.
pub(crate) fn tile(isa: Isa, a: &[u32], panels: &[u32], steps: usize, bias: &[f32], out: &mut [f32]) {
    match isa {
        // SAFETY: as in `tile_f32`.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => unsafe { avx512::tile_bf16(a, panels, steps, bias, out) },
        _ => tile_f32(isa, a, panels, steps, bias, out),
    }
}

/// Words of a row of `dims` numbers.
pub(crate) const fn words_per_row(isa: Isa, dims: usize) -> usize {
    if isa.has_bf16() { dims.div_ceil(2) } else { dims }
}

/// Bring rows `[rows, steps]` into panels.
pub(crate) fn pack_panels(words: &[u32], steps: usize) -> Vec<u32> {
    let rows = words.len() / steps;
    let mut panels = vec![0u32; rows.div_ceil(LANES) * LANES * steps];
    for (i, row) in words.chunks_exact(steps).enumerate() {
        let panel = &mut panels[i / LANES * LANES * steps..];
        for (t, &word) in row.iter().enumerate() {
            panel[t * LANES + i % LANES] = word;
        }
    }
    panels
}

/// Row `j` back out of the panels.
#[cfg(test)]
pub(crate) fn panel_row(panels: &[u32], steps: usize, j: usize) -> Vec<u32> {
    (0..steps).map(|t| panels[j / LANES * LANES * steps + t * LANES + j % LANES]).collect()
}

/// Nearest bf16, ties to even; what the hardware would flush is zero already. Returned as the f32 it stands for.
#[inline(always)]
pub(crate) fn round_bf16(v: f32) -> f32 {
    let bits = v.to_bits();
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) & 0xFFFF_0000;
    if rounded & 0x7F80_0000 == 0 { 0.0 } else { f32::from_bits(rounded) }
}

/// Smallest bf16 at least `v (1 + 1e-4)` for `v >= 0`, and at least the smallest normal number.
#[inline(always)]
pub(crate) fn round_up_bf16(v: f32) -> f32 {
    let bits = (v * 1.0001 + 2.0 * f32::MIN_POSITIVE).to_bits();
    f32::from_bits(bits.wrapping_add(0xFFFF) & 0xFFFF_0000)
}

/// Two bf16 numbers (given as f32) in one word, the first in the low half.
#[inline(always)]
pub(crate) fn pair(first: f32, second: f32) -> u32 {
    (first.to_bits() >> 16) | (second.to_bits() & 0xFFFF_0000)
}

/// Largest score and its first position.
pub(crate) fn arg_max(isa: Isa, scores: &[f32]) -> (f32, usize) {
    let max = match isa {
        // SAFETY: as in `tile_f32`.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512::largest(scores) },
        _ => scalar::largest(scores),
    };
    (max, next_at_least(isa, scores, 0, max).unwrap_or(0))
}

/// First position from `start` on whose score is at least `threshold`.
fn next_at_least(isa: Isa, scores: &[f32], start: usize, threshold: f32) -> Option<usize> {
    match isa {
        // SAFETY: as in `tile_f32`.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512::next_at_least(scores, start, threshold) },
        _ => scalar::next_at_least(scores, start, threshold),
    }
}

/// Call `found(position, score)` for every score at least the threshold, in order; `found` returns the threshold from
/// there on.
pub(crate) fn at_least(isa: Isa, scores: &[f32], mut threshold: f32, mut found: impl FnMut(usize, f32) -> f32) {
    let mut start = 0;
    while let Some(j) = next_at_least(isa, scores, start, threshold) {
        threshold = found(j, scores[j]);
        start = j + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounding_by_hand() {
        assert_eq!(round_bf16(1.0), 1.0);
        assert_eq!(round_bf16(1.0 + 1.0 / 256.0), 1.0, "a tie goes to even");
        assert_eq!(round_bf16(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(round_bf16(-1e-40), 0.0);
        assert!(round_up_bf16(1.0) > 1.0);
        assert!(round_up_bf16(0.0) >= f32::MIN_POSITIVE);
        assert_eq!(pair(1.0, 2.0), 0x4000_3F80);
    }

    #[test]
    fn tiles_of_every_instruction_set_are_inner_products() {
        let (rows, count, dim) = (13, 37, 6);
        let number = |i: usize| ((i * 37) % 17) as f32 - 8.0; // small integers are exact in bf16
        let bias: Vec<f32> = (0..48).map(|j| if j < count { j as f32 } else { f32::NEG_INFINITY }).collect();
        for isa in Isa::all().into_iter().filter(|isa| isa.is_available()) {
            let steps = words_per_row(isa, dim);
            let words = |n: usize, shift: usize| -> Vec<u32> {
                let flat: Vec<f32> = (0..n * dim).map(|i| number(i + shift)).collect();
                if isa.has_bf16() {
                    flat.chunks_exact(2).map(|p| pair(p[0], p[1])).collect()
                } else {
                    flat.iter().map(|v| v.to_bits()).collect()
                }
            };
            let (a, c) = (words(rows, 0), words(count, 5));
            let panels = pack_panels(&c, steps);
            assert_eq!(panel_row(&panels, steps, 20), c[20 * steps..21 * steps]);
            let mut out = vec![0f32; rows * bias.len()];
            tile(isa, &a, &panels, steps, &bias, &mut out);
            for i in 0..rows {
                for j in 0..count {
                    let sum: f32 = (0..dim).map(|t| number(i * dim + t) * number(5 + j * dim + t)).sum();
                    assert_eq!(out[i * bias.len() + j], sum + j as f32, "{isa:?} {i} {j}");
                }
                assert_eq!(out[i * bias.len() + 47], f32::NEG_INFINITY);
            }
        }
    }

    #[test]
    fn scans() {
        let scores: Vec<f32> = (0..40).map(|i| ((i * 7) % 40) as f32).collect();
        for isa in Isa::all().into_iter().filter(|isa| isa.is_available()) {
            for len in 0..=40 {
                let max = scores[..len].iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let at = scores[..len].iter().position(|&s| s == max).unwrap_or(0);
                assert_eq!(arg_max(isa, &scores[..len]), (max, at), "{isa:?} {len}");
            }
            let mut seen = Vec::new();
            at_least(isa, &scores, 37.0, |j, s| {
                seen.push((j, s));
                37.0
            });
            assert_eq!(seen, [(11, 37.0), (17, 39.0), (34, 38.0)]);
        }
    }
}
