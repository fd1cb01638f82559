//! When a session is kept: seldom enough to cost little, often enough that going on from there takes a moment.
//!
//! A snapshot is due when doing again what came since the last one would take [`WORK`], or when so many steps have passed that the state is
//! small beside them; never sooner than after [`STEPS`] steps. Only how long a restart takes depends on it.

use std::time::{Duration, Instant};

/// Steps between two snapshots, from few to many: one more for so many bytes of state.
const STEPS: [u64; 2] = [64, 1024];
const BYTES: u64 = 4 << 10;
/// Work that is done again at most, about.
const WORK: Duration = Duration::from_secs(1);

/// What has come since the last snapshot.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Its step, and its size.
    step: u64,
    bytes: u64,
    /// Time the method took since.
    spent: Duration,
}

impl Keeping {
    /// Begin again at a snapshot of so many bytes.
    pub(super) fn begin(&mut self, step: u64, bytes: u64) {
        *self = Self { step, bytes, spent: Duration::ZERO };
    }

    /// Count what some work of the method takes.
    pub(super) fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.spent += begun.elapsed();
        done
    }

    /// Whether it is time at this step.
    pub(super) fn due(&self, step: u64) -> bool {
        let since = step.saturating_sub(self.step);
        let many = (self.bytes / BYTES).clamp(STEPS[0], STEPS[1]);
        since >= many || (since >= STEPS[0] && self.spent >= WORK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_or_slow_states_are_kept_often_and_large_quick_ones_seldom() {
        let due = |bytes: u64, spent: u64| {
            let keeping = Keeping { step: 100, bytes, spent: Duration::from_millis(spent) };
            (100..9999).find(|step| keeping.due(*step)).map(|step| step - 100)
        };
        assert_eq!(due(0, 0), Some(64));
        assert_eq!(due(1 << 20, 0), Some(256));
        assert_eq!(due(4 << 20, 0), Some(1024));
        assert_eq!(due(1 << 30, 0), Some(1024));
        assert_eq!(due(1 << 30, 1001), Some(64));
        let mut keeping = Keeping::default();
        assert_eq!(keeping.count(|| 7), 7);
        keeping.begin(70, 0);
        assert!(!keeping.due(3) && !keeping.due(133) && keeping.due(134));
    }
}
