//! How far a step may go beyond Sinkhorn's own: over-relaxation, learnt from how the error shrinks.
//!
//! Near the solution the error shrinks by a factor `r` a sweep; steps `omega = 2 / (1 + sqrt(1 - r))` times as long make
//! the factor `omega - 1`, and a factor `l` seen under omega tells `r = (l + omega - 1)^2 / (l omega^2)`. Source: Young 1954;
//! for Sinkhorn, Thibault, Chizat, Dossal, Papadakis 2021 (section 4), Lehmann et al. 2022. Deviation: `r` is measured again and
//! again, and a step under which the error does not shrink is shortened. Cost: nothing.

/// Sweeps over which a factor is measured.
const WATCH: usize = 16;

/// The length of steps, from what the errors were.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Factor on every step.
    pub(super) omega: f64,
    limit: f64,
    last: f64,
    mark: f64,
    seen: usize,
}

impl Pace {
    pub(super) const fn new() -> Self {
        Self { omega: 1.0, limit: 1.99, last: f64::INFINITY, mark: f64::INFINITY, seen: 0 }
    }

    /// Told the error of the last sweep.
    pub(super) fn observe(&mut self, error: f64) {
        self.seen += 1;
        if self.seen >= WATCH {
            let over_all = (error / self.mark).powf(1.0 / WATCH as f64);
            if self.omega == 1.0 {
                self.lengthen(error / self.last);
            } else {
                self.review(over_all);
            }
            (self.mark, self.seen) = (error, 0);
        }
        self.last = error;
    }

    fn lengthen(&mut self, ratio: f64) {
        if ratio > 0.3 && ratio < 1.0 {
            self.omega = (2.0 / (1.0 + (1.0 - ratio).sqrt())).min(self.limit);
        }
    }

    /// Keep the step, or change it where the error shrinks slower than it should.
    fn review(&mut self, seen: f64) {
        if seen.is_nan() || seen >= 1.0 {
            self.limit = f64::midpoint(1.0, self.omega);
            self.omega = 1.0;
        } else if seen > self.omega - 1.0 {
            let ratio = (seen + self.omega - 1.0).powi(2) / (seen * self.omega.powi(2));
            self.omega = (2.0 / (1.0 + (1.0 - ratio.min(1.0)).sqrt())).clamp(self.omega, self.limit);
        }
    }
}
