//! AVX-512 bodies: canonical sums in four 16-lane accumulators, tiles of 6 rows by 4 panels (24 accumulators).

use std::arch::x86_64::{
    __m256, __m512, __m512bh, __m512i, _CMP_GE_OQ, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps,
    _mm_shuffle_ps, _mm256_add_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_add_ps,
    _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_dpbf16_ps, _mm512_extractf32x8_ps,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_cmp_ps_mask, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_reduce_max_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_sub_ps,
};

/// The fixed tree of [`super::scalar`].
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
fn tree(acc: [__m512; 4]) -> f32 {
    let sum = _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3]));
    let eight: __m256 = _mm256_add_ps(_mm512_castps512_ps256(sum), _mm512_extractf32x8_ps::<1>(sum));
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
fn canonical<const DIFF: bool>(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let mut acc = [_mm512_setzero_ps(); 4];
    let step = |x: __m512, y: __m512, sum: __m512| {
        if DIFF {
            let diff = _mm512_sub_ps(x, y);
            _mm512_fmadd_ps(diff, diff, sum)
        } else {
            _mm512_fmadd_ps(x, y, sum)
        }
    };
    let whole = len / 64 * 64;
    for t in (0..whole).step_by(64) {
        for (g, slot) in acc.iter_mut().enumerate() {
            // SAFETY: t + 16 g + 16 <= whole <= len of both slices.
            let (x, y) =
                unsafe { (_mm512_loadu_ps(a.as_ptr().add(t + 16 * g)), _mm512_loadu_ps(b.as_ptr().add(t + 16 * g))) };
            *slot = step(x, y, *slot);
        }
    }
    for (g, slot) in acc.iter_mut().enumerate() {
        let start = whole + 16 * g;
        if start >= len {
            break;
        }
        let mask = if len - start >= 16 { u16::MAX } else { (1u16 << (len - start)) - 1 };
        // SAFETY: the mask covers only elements below len of both slices; masked-off lanes are not read.
        let (x, y) = unsafe {
            (_mm512_maskz_loadu_ps(mask, a.as_ptr().add(start)), _mm512_maskz_loadu_ps(mask, b.as_ptr().add(start)))
        };
        *slot = step(x, y, *slot);
    }
    tree(acc)
}

#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    canonical::<false>(a, b)
}

#[target_feature(enable = "avx512f,avx512dq,avx2,fma")]
pub(crate) fn sq_dist(a: &[f32], b: &[f32]) -> f32 {
    canonical::<true>(a, b)
}

/// See [`super::scalar::largest`].
#[target_feature(enable = "avx512f")]
pub(crate) fn largest(scores: &[f32]) -> f32 {
    let mut max = [_mm512_set1_ps(f32::NEG_INFINITY); 4];
    let (chunks, rest) = scores.as_chunks::<64>();
    for chunk in chunks {
        for (slot, part) in max.iter_mut().zip(chunk.as_chunks::<16>().0) {
            // SAFETY: `part` holds 16 numbers.
            *slot = _mm512_max_ps(unsafe { _mm512_loadu_ps(part.as_ptr()) }, *slot);
        }
    }
    let both = _mm512_max_ps(_mm512_max_ps(max[0], max[1]), _mm512_max_ps(max[2], max[3]));
    rest.iter().copied().fold(_mm512_reduce_max_ps(both), f32::max)
}

/// See [`super::scalar::next_at_least`].
#[target_feature(enable = "avx512f")]
pub(crate) fn next_at_least(scores: &[f32], start: usize, threshold: f32) -> Option<usize> {
    let wanted = _mm512_set1_ps(threshold);
    let mut at = start;
    while at + 64 <= scores.len() {
        // SAFETY: at + 64 <= scores.len().
        let part = |g: usize| unsafe { _mm512_loadu_ps(scores.as_ptr().add(at + 16 * g)) };
        let best = _mm512_max_ps(_mm512_max_ps(part(0), part(1)), _mm512_max_ps(part(2), part(3)));
        if _mm512_cmp_ps_mask::<_CMP_GE_OQ>(best, wanted) != 0 {
            break;
        }
        at += 64;
    }
    while at < scores.len() {
        let left = scores.len() - at;
        let mask = if left >= 16 { u16::MAX } else { (1 << left) - 1 };
        // SAFETY: the mask covers only positions below scores.len(); masked-off lanes are not read.
        let part = unsafe { _mm512_maskz_loadu_ps(mask, scores.as_ptr().add(at)) };
        let hits = _mm512_mask_cmp_ps_mask::<_CMP_GE_OQ>(mask, part, wanted);
        if hits != 0 {
            return Some(at + hits.trailing_zeros() as usize);
        }
        at += 16;
    }
    None
}

/// One multiply-accumulate of a broadcast word with 16 words: f32 lanes, or bf16 pairs.
#[inline]
#[target_feature(enable = "avx512f")]
fn multiply_f32(acc: __m512, a: __m512i, b: __m512i) -> __m512 {
    _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), acc)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_bf16(acc: __m512, a: __m512i, b: __m512i) -> __m512 {
    // SAFETY: both types are 512 plain bits.
    let (a, b) = unsafe { (std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b)) };
    _mm512_dpbf16_ps(acc, a, b)
}

macro_rules! tile_kernel {
    ($tile:ident, $inner:ident, $multiply:ident, $features:literal) => {
        /// `ROWS` rows by `PANELS` panels, all sums in registers.
        ///
        /// # Safety
        /// `a` holds `ROWS * steps` words, `panels` `PANELS * steps * 16`, `bias` `PANELS * 16`, and `out` rows of
        /// `PANELS * 16` numbers `stride` apart.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn $inner<const ROWS: usize, const PANELS: usize>(
            a: *const u32,
            panels: *const u32,
            steps: usize,
            bias: *const f32,
            out: *mut f32,
            stride: usize,
        ) {
            // SAFETY: every address lies inside the extents the caller promises.
            unsafe {
                let mut acc = [[_mm512_setzero_ps(); PANELS]; ROWS];
                for p in 0..PANELS {
                    let start = _mm512_loadu_ps(bias.add(16 * p));
                    for row in &mut acc {
                        row[p] = start;
                    }
                }
                for t in 0..steps {
                    let mut b = [_mm512_setzero_si512(); PANELS];
                    for (p, slot) in b.iter_mut().enumerate() {
                        *slot = _mm512_loadu_si512(panels.add((p * steps + t) * 16).cast());
                    }
                    for (i, row) in acc.iter_mut().enumerate() {
                        let word = _mm512_set1_epi32((*a.add(i * steps + t)).cast_signed());
                        for (slot, lanes) in row.iter_mut().zip(b) {
                            *slot = $multiply(*slot, word, lanes);
                        }
                    }
                }
                for (i, row) in acc.iter().enumerate() {
                    for (p, &sum) in row.iter().enumerate() {
                        _mm512_storeu_ps(out.add(i * stride + 16 * p), sum);
                    }
                }
            }
        }

        /// See [`super::scalar::tile`].
        #[target_feature(enable = $features)]
        pub(crate) fn $tile(a: &[u32], panels: &[u32], steps: usize, bias: &[f32], out: &mut [f32]) {
            let (rows, width) = (a.len() / steps, bias.len());
            let count = width / 16;
            assert!(panels.len() >= count * steps * 16 && out.len() >= rows * width);
            let mut p = 0;
            while p < count {
                let wide = (count - p).min(4);
                let mut i = 0;
                while i < rows {
                    let tall = if rows - i >= 6 { 6 } else { 1 };
                    // SAFETY: i + tall <= rows and p + wide <= count; the lengths were checked above.
                    unsafe {
                        let (x, c) = (a.as_ptr().add(i * steps), panels.as_ptr().add(p * steps * 16));
                        let (start, to) = (bias.as_ptr().add(p * 16), out.as_mut_ptr().add(i * width + p * 16));
                        match (tall, wide) {
                            (6, 4) => $inner::<6, 4>(x, c, steps, start, to, width),
                            (6, 3) => $inner::<6, 3>(x, c, steps, start, to, width),
                            (6, 2) => $inner::<6, 2>(x, c, steps, start, to, width),
                            (6, _) => $inner::<6, 1>(x, c, steps, start, to, width),
                            (_, 4) => $inner::<1, 4>(x, c, steps, start, to, width),
                            (_, 3) => $inner::<1, 3>(x, c, steps, start, to, width),
                            (_, 2) => $inner::<1, 2>(x, c, steps, start, to, width),
                            _ => $inner::<1, 1>(x, c, steps, start, to, width),
                        }
                    }
                    i += tall;
                }
                p += wide;
            }
        }
    };
}

tile_kernel!(tile_f32, inner_f32, multiply_f32, "avx512f");
tile_kernel!(tile_bf16, inner_bf16, multiply_bf16, "avx512f,avx512bf16");
