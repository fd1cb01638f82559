//! How fast requests of the last minute were answered: six slots of ten seconds, each a histogram in steps of a tenth.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const SLOTS: usize = 6;
const SLOT_SECS: u64 = 10;
/// Bound of the first bucket, in seconds; each is a tenth wider than the one before it, the last at 140 s.
const FIRST: f64 = 2e-5;
const STEP: f64 = 1.1;
const BUCKETS: usize = 166;

/// Requests of the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lately {
    /// Requests a second.
    pub per_sec: f64,
    /// Half of them were answered within so many milliseconds; 0 where there were none.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
}

#[derive(Clone, Debug)]
struct Slot {
    number: u64,
    counts: [u32; BUCKETS],
}

#[derive(Debug)]
pub(super) struct Recent {
    slots: Mutex<Vec<Slot>>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { slots: Mutex::new(vec![Slot { number: 0, counts: [0; BUCKETS] }; SLOTS]) }
    }
}

impl Recent {
    /// A request was answered at this time since the start.
    pub(super) fn add(&self, now: Duration, took: Duration) {
        let number = now.as_secs() / SLOT_SECS;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot { number, counts: [0; BUCKETS] };
        }
        let bucket = ((took.as_secs_f64() / FIRST).ln() / STEP.ln()).ceil().clamp(0.0, (BUCKETS - 1) as f64);
        slot.counts[bucket as usize] += 1;
    }

    /// The last minute, as seen at this time since the start.
    pub(super) fn look(&self, now: Duration) -> Lately {
        let number = now.as_secs() / SLOT_SECS;
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let young = |slot: &&Slot| slot.number + SLOTS as u64 > number && slot.number <= number;
        let mut counts = [0_u64; BUCKETS];
        for slot in slots.iter().filter(young) {
            slot.counts.iter().zip(&mut counts).for_each(|(more, count)| *count += u64::from(*more));
        }
        let all: u64 = counts.iter().sum();
        let begun = number.saturating_sub(SLOTS as u64 - 1) * SLOT_SECS;
        let secs = (now.as_secs_f64() - begun as f64).max(1.0);
        Lately { per_sec: all as f64 / secs, p50_ms: quantile(&counts, all, 0.5), p99_ms: quantile(&counts, all, 0.99) }
    }
}

/// Upper bound, in milliseconds, of the bucket in which this share is reached.
fn quantile(counts: &[u64], all: u64, share: f64) -> f64 {
    let wanted = (all as f64 * share).ceil();
    let sums = counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    let bucket = sums.enumerate().find(|(_, sum)| *sum > 0 && *sum as f64 >= wanted).map(|(bucket, _)| bucket);
    bucket.map_or(0.0, |bucket| FIRST * STEP.powf(bucket as f64) * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn shares_are_found_within_a_tenth() {
        let recent = Recent::default();
        let at = Duration::from_secs(30);
        (1..=100).for_each(|ms| recent.add(at, MS * ms));
        let lately = recent.look(at + MS);
        assert!((50.0..55.1).contains(&lately.p50_ms) && (99.0..109.0).contains(&lately.p99_ms), "{lately:?}");
        assert!((lately.per_sec - 100.0 / 30.0).abs() < 0.01);
    }

    #[test]
    fn a_minute_later_all_is_forgotten() {
        let recent = Recent::default();
        recent.add(MS, MS);
        assert!(recent.look(Duration::from_secs(59)).per_sec > 0.0);
        assert_eq!(recent.look(Duration::from_mins(1)), Lately::default());
        recent.add(Duration::from_mins(1), Duration::ZERO);
        recent.add(Duration::from_mins(1), Duration::from_millis(100_000_001));
        assert!(recent.look(Duration::from_secs(61)).p99_ms > 1e5);
    }
}
