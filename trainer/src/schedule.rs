//! The learning rate of every step: warm-up, then a curve down to a floor.
//!
//! With `w` warm-up steps of `T`: `lr (t + 1) / w` for `t < w`, then with `u = (t - w) / (T - w)`:
//! cosine `min + (lr - min) (1 + cos(pi u)) / 2`, linear `min + (lr - min) (1 - u)`, constant `lr`. Source: Loshchilov and Hutter,
//! SGDR (cosine); the linear and warm-up rules of `transformers`. Deviation: warm-up counts from `t + 1`, where
//! `transformers` starts with a step of rate 0 that changes nothing. Cost: none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape of the curve after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// Half a cosine wave down to the floor.
    #[default]
    Cosine,
    /// A straight line down to the floor.
    Linear,
    /// No change.
    Constant,
}

/// Warm-up and curve over a known number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Shape after warm-up.
    pub curve: Curve,
    /// Steps of warm-up.
    pub warmup_steps: u64,
    /// All steps.
    pub total_steps: u64,
    /// Floor as a share of the peak.
    pub min_lr_ratio: f64,
}

impl Schedule {
    /// Factor on the peak learning rate at step `step`, counted from 0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "step counts are far below 2^53")]
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.total_steps.saturating_sub(self.warmup_steps).max(1);
        let u = ((step - self.warmup_steps) as f64 / span as f64).min(1.0);
        let curve = match self.curve {
            Curve::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * u).cos()),
            Curve::Linear => 1.0 - u,
            Curve::Constant => return 1.0,
        };
        self.min_lr_ratio + (1.0 - self.min_lr_ratio) * curve
    }

    /// The learning rate at a step for this peak.
    #[must_use]
    pub fn lr(&self, peak: f64, step: u64) -> f64 {
        peak * self.factor(step)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // reason: quarters are exact
mod tests {
    use super::*;

    #[test]
    fn golden_cosine() {
        let schedule = Schedule { curve: Curve::Cosine, warmup_steps: 2, total_steps: 10, min_lr_ratio: 0.1 };
        let rates: Vec<f64> = (0..11).map(|t| schedule.lr(2.0, t)).collect();
        // by hand: 0.2 + 0.9 (1 + cos(pi (t - 2) / 8))
        let expected =
            [1.0, 2.0, 2.0, 1.931_491_58, 1.736_396_1, 1.444_415_09, 1.1, 0.755_584_91, 0.463_603_9, 0.268_508_42, 0.2];
        assert!(rates.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{rates:?}");
    }

    #[test]
    fn golden_linear_and_constant() {
        let linear = Schedule { curve: Curve::Linear, warmup_steps: 0, total_steps: 4, min_lr_ratio: 0.0 };
        assert_eq!([0, 1, 2, 3].map(|t| linear.lr(1.0, t)), [1.0, 0.75, 0.5, 0.25]);
        let constant = Schedule { curve: Curve::Constant, warmup_steps: 4, ..linear };
        assert_eq!([0, 1, 3, 9].map(|t| constant.lr(1.0, t)), [0.25, 0.5, 1.0, 1.0]);
    }
}
