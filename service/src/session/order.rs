//! The order of an epoch without holding it: place i of a shuffle of n rows, for any i at once, so that a session can go
//! anywhere in no time and no memory.
//!
//! A permutation of the smallest 2^(2b) >= n numbers is walked until it gives one below n. The permutation is a Feistel network of six rounds
//! over two halves of b bits, with keyed hashes as rounds: `(l, r) -> (r, l xor h(key, round, r))`.
//! Source: Luby and Rackoff, How to construct pseudorandom permutations (1988); Black and Rogaway, Ciphers with arbitrary finite domains
//! (2002), cycle walking. Cost: fewer than 4 walks of 6 rounds on average, no memory.

/// A shuffle of the numbers below `rows`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shuffle {
    rows: u64,
    half_bits: u32,
    keys: [u64; ROUNDS],
}

const ROUNDS: usize = 6;

impl Shuffle {
    /// The shuffle that `seed` draws for this epoch.
    #[must_use]
    pub(crate) fn new(rows: u64, seed: u64, epoch: u64) -> Self {
        let half_bits = (64 - rows.saturating_sub(1).leading_zeros()).div_ceil(2).max(1);
        let mut keys = [0; ROUNDS];
        let mut state = mix(seed ^ 0x6375_7261_7465_0001).wrapping_add(mix(epoch.wrapping_add(0x5851_f42d_4c95_7f2d)));
        for key in &mut keys {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *key = mix(state);
        }
        Self { rows, half_bits, keys }
    }

    /// The row at place `at`, which is below the number of rows.
    #[must_use]
    pub(crate) fn at(&self, at: u64) -> u64 {
        let mut x = at;
        loop {
            x = self.round_trip(x);
            if x < self.rows {
                return x;
            }
        }
    }

    fn round_trip(&self, x: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (x >> self.half_bits, x & mask);
        for key in self.keys {
            (left, right) = (right, (left ^ mix(key ^ right.wrapping_mul(0xd6e8_feb8_6659_fd93))) & mask);
        }
        (left << self.half_bits) | right
    }
}

/// The finaliser of splitmix64 (Steele, Lea and Flood 2014).
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Shuffle;

    #[test]
    fn every_row_comes_once() {
        for rows in [1u64, 2, 3, 5, 16, 17, 255, 1000, 4097] {
            for epoch in 0..3 {
                let shuffle = Shuffle::new(rows, 7, epoch);
                let mut seen: Vec<u64> = (0..rows).map(|at| shuffle.at(at)).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..rows).collect::<Vec<_>>(), "{rows} rows, epoch {epoch}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ_and_places_are_even() {
        let first = |seed, epoch| (0..20).map(|at| Shuffle::new(1000, seed, epoch).at(at)).collect::<Vec<_>>();
        assert_ne!(first(1, 0), first(1, 1));
        assert_ne!(first(1, 0), first(2, 0));
        assert_eq!(first(1, 0), first(1, 0));
        let (rows, draws) = (10u64, 20_000u64);
        let mut counts = [[0u64; 10]; 10];
        for seed in 0..draws {
            for at in 0..rows {
                counts[at as usize][Shuffle::new(rows, seed, 0).at(at) as usize] += 1;
            }
        }
        let expected = (draws / rows) as f64;
        let chi: f64 = counts.iter().flatten().map(|&c| (c as f64 - expected).powi(2) / expected).sum();
        assert!(chi < 150.0, "chi-square with 81 degrees of freedom is {chi}");
    }
}
