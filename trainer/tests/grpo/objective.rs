//! Advantages, losses and slopes as automatic differentiation in 64 bits gives them.

use crate::model::floats;
use curate_trainer::grpo::{GrpoConfig, Objective, advantages};
use serde_json::Value;
use std::path::Path;

fn rows(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(floats).collect()
}

fn close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-13), "{what}: {found:?} is not {expected:?}");
}

#[test]
fn losses_and_slopes_are_those_of_the_golden() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/golden/trainer/grpo.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let config: GrpoConfig = serde_json::from_value(case["config"].clone()).unwrap();
        let name = case["config"].to_string();
        let advantages = advantages(&floats(&case["rewards"]), config.scale_rewards);
        close(&advantages, &floats(&case["advantages"]), &name);
        let [now, old, reference, slopes] = ["log_probs", "old", "reference", "gradient"].map(|key| rows(&case[key]));
        let lengths: Vec<usize> = now.iter().map(Vec::len).collect();
        let shares = config.loss_type.shares(&lengths, config.max_completion_length);
        let (objective, mut loss, mut clipped) = (Objective::new(&config), 0.0, 0);
        for (i, slopes) in slopes.iter().enumerate() {
            let pull = |at: usize| (config.beta > 0.0).then_some(reference[i][at]);
            let term = |at: usize| objective.token(now[i][at], old[i][at], pull(at), advantages[i]);
            let terms: Vec<_> = (0..lengths[i]).map(term).collect();
            loss += shares[i] * terms.iter().map(|term| term.loss).sum::<f64>();
            clipped += terms.iter().filter(|term| term.clipped).count();
            close(&terms.iter().map(|term| shares[i] * term.slope).collect::<Vec<_>>(), slopes, &name);
        }
        close(&[loss], &[case["loss"].as_f64().unwrap()], &name);
        assert_eq!(clipped as u64, case["clipped"].as_u64().unwrap(), "{name}");
    }
}
