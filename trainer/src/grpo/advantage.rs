//! How much better an answer is than its neighbours.
//!
//! Formula: `A_i = (R_i - mean R) / (std R + 1e-6)` over the answers to one prompt, with the sample deviation (n - 1); or without the
//! division. Source: Shao et al. 2024, `DeepSeekMath`, section 4.1.2; Liu et al. 2025, Dr. GRPO, for the form without division.
//! Deviation: equal rewards give exactly 0. Cost: O(n).

use super::ScaleRewards;

/// Keeps the quotient finite.
const EPSILON: f64 = 1e-6;

/// The advantage of every answer to one prompt.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a few answers")]
pub fn advantages(rewards: &[f64], scale: ScaleRewards) -> Vec<f64> {
    let Some(first) = rewards.first() else { return Vec::new() };
    if rewards.iter().all(|reward| reward.total_cmp(first).is_eq()) {
        return vec![0.0; rewards.len()];
    }
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let squares: f64 = rewards.iter().map(|reward| (reward - mean).powi(2)).sum();
    let divisor = match scale {
        ScaleRewards::Group => (squares / (rewards.len() - 1) as f64).sqrt() + EPSILON,
        ScaleRewards::None => 1.0,
    };
    rewards.iter().map(|reward| (reward - mean) / divisor).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_right_answers_of_eight() {
        let rewards = [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let found = advantages(&rewards, ScaleRewards::Group);
        assert!((found[0] - 1.620_18).abs() < 1e-5 && (found[1] + 0.540_06).abs() < 1e-5, "{found:?}");
        assert_eq!(advantages(&rewards, ScaleRewards::None)[..2], [0.75, -0.25]);
    }

    #[test]
    fn equal_rewards_have_none() {
        for scale in [ScaleRewards::Group, ScaleRewards::None] {
            assert_eq!(advantages(&[0.1; 3], scale), [0.0; 3]);
            assert_eq!((advantages(&[7.0], scale), advantages(&[], scale)), (vec![0.0], vec![]));
        }
    }
}
