//! Plain bodies of the canonical sums and of the tile: the definition that the vector bodies must equal bit for bit
//! (sums) or approximate within the stated bound (tile).

use crate::exact::LANES;

/// Canonical sum of `term(t)` over `t < len`: term `t` goes, fused, to lane `t mod 64`; then the fixed tree.
#[inline(always)]
fn canonical(len: usize, mut step: impl FnMut(usize, f32) -> f32) -> f32 {
    let mut lane = [0f32; LANES];
    for t in 0..len {
        lane[t % LANES] = step(t, lane[t % LANES]);
    }
    tree(&lane)
}

/// The fixed tree: four groups of 16 lanes pairwise, then halves.
#[inline(always)]
fn tree(lane: &[f32; LANES]) -> f32 {
    let mut sum: [f32; 16] = std::array::from_fn(|l| (lane[l] + lane[l + 16]) + (lane[l + 32] + lane[l + 48]));
    for half in [8, 4, 2, 1] {
        for l in 0..half {
            sum[l] += sum[l + half];
        }
    }
    sum[0]
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    canonical(a.len().min(b.len()), |t, acc| a[t].mul_add(b[t], acc))
}

pub(crate) fn sq_dist(a: &[f32], b: &[f32]) -> f32 {
    canonical(a.len().min(b.len()), |t, acc| {
        let diff = a[t] - b[t];
        diff.mul_add(diff, acc)
    })
}

/// `out[i, j] = bias[j] + sum_t a[i, t] * panels[j / 16, t, j % 16]` on f32 bit patterns.
pub(crate) fn tile(a: &[u32], panels: &[u32], steps: usize, bias: &[f32], out: &mut [f32]) {
    let width = bias.len();
    for (row, out_row) in a.chunks_exact(steps).zip(out.chunks_exact_mut(width)) {
        for (p, panel) in panels.chunks_exact(steps * 16).enumerate() {
            let acc = &mut out_row[p * 16..(p + 1) * 16];
            acc.copy_from_slice(&bias[p * 16..(p + 1) * 16]);
            for (&x, lanes) in row.iter().zip(panel.chunks_exact(16)) {
                for (slot, &c) in acc.iter_mut().zip(lanes) {
                    *slot += f32::from_bits(x) * f32::from_bits(c);
                }
            }
        }
    }
}

/// Largest of `scores`; minus infinity when there is none.
pub(crate) fn largest(scores: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = scores.as_chunks::<16>();
    for chunk in chunks {
        for (slot, &s) in lanes.iter_mut().zip(chunk) {
            *slot = if s > *slot { s } else { *slot };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

/// First position from `start` on whose score is at least `threshold`.
pub(crate) fn next_at_least(scores: &[f32], start: usize, threshold: f32) -> Option<usize> {
    let (chunks, rest) = scores[start..].as_chunks::<16>();
    for (c, chunk) in chunks.iter().enumerate() {
        if chunk.iter().filter(|&&s| s >= threshold).count() > 0 {
            return chunk.iter().position(|&s| s >= threshold).map(|l| start + c * 16 + l);
        }
    }
    rest.iter().position(|&s| s >= threshold).map(|l| start + chunks.len() * 16 + l)
}
