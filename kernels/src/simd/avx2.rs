//! AVX2 + FMA bodies: the 64 canonical lanes in eight 8-lane accumulators, tiles of 6 rows by one panel.

use std::arch::x86_64::{
    __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_storeu_ps, _mm256_sub_ps,
};

/// The fixed tree of [`super::scalar`]: lanes `8 g .. 8 g + 8` lie in `acc[g]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn tree(acc: [__m256; 8]) -> f32 {
    let low = _mm256_add_ps(_mm256_add_ps(acc[0], acc[2]), _mm256_add_ps(acc[4], acc[6]));
    let high = _mm256_add_ps(_mm256_add_ps(acc[1], acc[3]), _mm256_add_ps(acc[5], acc[7]));
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn canonical<const DIFF: bool>(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let mut acc = [_mm256_setzero_ps(); 8];
    let whole = len / 64 * 64;
    let mut add = |a: &[f32], b: &[f32]| {
        for (g, slot) in acc.iter_mut().enumerate() {
            // SAFETY: callers pass slices of 64 numbers.
            let (x, y) = unsafe { (_mm256_loadu_ps(a.as_ptr().add(8 * g)), _mm256_loadu_ps(b.as_ptr().add(8 * g))) };
            *slot = if DIFF {
                let diff = _mm256_sub_ps(x, y);
                _mm256_fmadd_ps(diff, diff, *slot)
            } else {
                _mm256_fmadd_ps(x, y, *slot)
            };
        }
    };
    for t in (0..whole).step_by(64) {
        add(&a[t..t + 64], &b[t..t + 64]);
    }
    if whole < len {
        let (mut x, mut y) = ([0f32; 64], [0f32; 64]);
        x[..len - whole].copy_from_slice(&a[whole..len]);
        y[..len - whole].copy_from_slice(&b[whole..len]);
        add(&x, &y);
    }
    tree(acc)
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    canonical::<false>(a, b)
}

#[target_feature(enable = "avx2,fma")]
pub(crate) fn sq_dist(a: &[f32], b: &[f32]) -> f32 {
    canonical::<true>(a, b)
}

/// `ROWS` rows by one panel.
///
/// # Safety
/// `a` holds `ROWS * steps` words, `panel` `steps * 16`, `bias` 16, and `out` rows of 16 numbers `stride` apart.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn inner<const ROWS: usize>(
    a: *const u32,
    panel: *const u32,
    steps: usize,
    bias: *const f32,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: every address lies inside the extents the caller promises.
    unsafe {
        let mut acc = [[_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))]; ROWS];
        for t in 0..steps {
            let low = _mm256_loadu_ps(panel.add(t * 16).cast());
            let high = _mm256_loadu_ps(panel.add(t * 16 + 8).cast());
            for (i, row) in acc.iter_mut().enumerate() {
                let word = _mm256_set1_ps(f32::from_bits(*a.add(i * steps + t)));
                row[0] = _mm256_fmadd_ps(word, low, row[0]);
                row[1] = _mm256_fmadd_ps(word, high, row[1]);
            }
        }
        for (i, row) in acc.iter().enumerate() {
            _mm256_storeu_ps(out.add(i * stride), row[0]);
            _mm256_storeu_ps(out.add(i * stride + 8), row[1]);
        }
    }
}

/// See [`super::scalar::tile`].
#[target_feature(enable = "avx2,fma")]
pub(crate) fn tile(a: &[u32], panels: &[u32], steps: usize, bias: &[f32], out: &mut [f32]) {
    let (rows, width) = (a.len() / steps, bias.len());
    let count = width / 16;
    assert!(panels.len() >= count * steps * 16 && out.len() >= rows * width);
    for p in 0..count {
        let mut i = 0;
        while i < rows {
            let tall = if rows - i >= 6 { 6 } else { 1 };
            // SAFETY: i + tall <= rows and p < count; the lengths were checked above.
            unsafe {
                let (x, c) = (a.as_ptr().add(i * steps), panels.as_ptr().add(p * steps * 16));
                let (start, to) = (bias.as_ptr().add(p * 16), out.as_mut_ptr().add(i * width + p * 16));
                if tall == 6 {
                    inner::<6>(x, c, steps, start, to, width);
                } else {
                    inner::<1>(x, c, steps, start, to, width);
                }
            }
            i += tall;
        }
    }
}
