//! What one token of an answer costs, and which way it pushes.
//!
//! Formula, with `r = p / p_old` and advantage A: `loss = -min(min(r, delta) A, clip(r, 1 - eps_low, 1 + eps_high) A) + beta k3`,
//! `k3 = p_ref / p - ln(p_ref / p) - 1`. Source: Schulman et al. 2017, PPO (equation 7); Shao et al. 2024, `DeepSeekMath` (equations 3 and 4); Ye et
//! al. 2020 (dual clip, `delta`). Deviation: logarithms of ratios are kept within 20 of 0, where the gradient ends too.
//! Cost: O(1) a token.

use super::GrpoConfig;

/// Largest logarithm of a ratio.
const FAR: f64 = 20.0;

/// The loss of a token, and its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TokenTerm {
    /// The loss.
    pub loss: f64,
    /// Its derivative by the token's log-probability.
    pub slope: f64,
    /// Whether a limit cut the gradient.
    pub clipped: bool,
    /// Distance from the reference.
    pub kl: f64,
}

/// The limits of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    low: f64,
    high: f64,
    delta: f64,
    beta: f64,
}

impl Objective {
    /// The limits that a configuration sets.
    #[must_use]
    pub fn new(config: &GrpoConfig) -> Self {
        let high = 1.0 + config.epsilon_high.unwrap_or(config.epsilon);
        Self { low: 1.0 - config.epsilon, high, delta: config.delta.unwrap_or(f64::INFINITY), beta: config.beta }
    }

    /// The term of a token with these log-probabilities: now, when it was drawn, and under the reference.
    #[must_use]
    pub fn token(&self, log_prob: f64, old: f64, reference: Option<f64>, advantage: f64) -> TokenTerm {
        let mut term = self.surrogate(log_prob - old, advantage);
        if let Some(reference) = reference {
            let gap = (reference - log_prob).clamp(-FAR, FAR);
            term.kl = gap.exp() - gap - 1.0;
            term.loss += self.beta * term.kl;
            if (reference - log_prob).abs() <= FAR {
                term.slope += self.beta * (1.0 - gap.exp());
            }
        }
        term
    }

    fn surrogate(&self, change: f64, advantage: f64) -> TokenTerm {
        let ratio = change.clamp(-FAR, FAR).exp();
        let free = ratio.min(self.delta) * advantage;
        let held = ratio.clamp(self.low, self.high) * advantage;
        let flows = if advantage > 0.0 { ratio <= self.high } else { ratio >= self.low && ratio <= self.delta };
        let slope = if flows && change.abs() <= FAR { -advantage * ratio } else { 0.0 };
        TokenTerm { loss: -free.min(held), slope, clipped: advantage != 0.0 && !flows, kl: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective() -> Objective {
        let config = GrpoConfig { epsilon_high: Some(0.28), delta: Some(3.0), beta: 0.1, ..GrpoConfig::default() };
        Objective::new(&config)
    }

    /// At a ratio of 1 the slope is minus the advantage; beyond a limit it is 0; on the other side of it it is not.
    #[test]
    fn slopes_end_where_the_limits_are() {
        let at = |ratio: f64, advantage: f64| objective().token(ratio.ln(), 0.0, None, advantage);
        assert_eq!(at(1.0, 2.0), TokenTerm { loss: -2.0, slope: -2.0, clipped: false, kl: 0.0 });
        let close = |term: TokenTerm, loss: f64, slope: f64, clipped: bool| {
            assert!((term.loss - loss).abs() < 1e-12 && (term.slope - slope).abs() < 1e-12, "{term:?}");
            assert_eq!(term.clipped, clipped);
        };
        close(at(1.5, 2.0), -2.56, 0.0, true);
        close(at(0.5, 2.0), -1.0, -1.0, false);
        close(at(0.5, -2.0), 1.6, 0.0, true);
        close(at(1.5, -2.0), 3.0, 3.0, false);
        close(at(5.0, -2.0), 6.0, 0.0, true);
        close(at(1e30, 0.0), 0.0, 0.0, false);
    }

    #[test]
    fn the_distance_is_zero_at_the_reference_only() {
        for gap in [-30.0, -3.0, -0.1, 0.0, 0.1, 3.0, 30.0] {
            let term = objective().token(-2.0 - gap, -2.0 - gap, Some(-2.0), 0.0);
            assert!(term.kl.is_finite() && (term.kl > 0.0) == (gap != 0.0), "{gap}: {term:?}");
            let step = 1e-6;
            let moved = objective().token(-2.0 - gap + step, -2.0 - gap, Some(-2.0), 0.0);
            assert!((moved.loss - term.loss - step * term.slope).abs() < 1e-9, "{gap}: {term:?}");
        }
    }
}
