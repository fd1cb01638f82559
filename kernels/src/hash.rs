//! Counter-based randomness: a number is a hash of what it is for (seed, restart, round, row id), so nothing is stored
//! and neither threads nor the order of rows can change a draw.
//!
//! Finaliser: two xor-shift-multiply rounds of the 64-bit variant known from `SplitMix64` (Steele, Lea, Flood 2014).

/// Hash of a list of words; every word passes a full finaliser, so lists that differ in one bit are unrelated.
pub(crate) fn mix(words: &[u64]) -> u64 {
    words.iter().fold(0x6A09_E667_F3BC_C908, |state, &word| {
        finish(state.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ finish(word.wrapping_add(0xD1B5_4A32_D192_ED03)))
    })
}

fn finish(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number strictly between 0 and 1.
pub(crate) fn unit(hash: u64) -> f64 {
    ((hash >> 12) as f64 + 0.5) * 2f64.powi(-52)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_look_uniform_and_depend_on_every_word() {
        let mean = (0..10_000).map(|i| unit(mix(&[7, i]))).sum::<f64>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert_ne!(mix(&[1, 2]), mix(&[2, 1]));
        assert_ne!(mix(&[0]), mix(&[0, 0]));
        assert!(unit(0) > 0.0 && unit(u64::MAX) < 1.0);
    }
}
