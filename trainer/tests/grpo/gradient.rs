//! The gradient of the whole objective against differences.

use super::{config, model};
use crate::model::distance;
use curate_core::Ctx;
use curate_trainer::grpo::{GrpoConfig, Objective};
use curate_trainer::model::{Model, Policy, StepOptions};
use curate_trainer::{Batch, Grads, IGNORE, ParamId, Sequence};

fn batch() -> Batch {
    let sequence = |row: u64| {
        let tokens: Vec<u32> = (0..6 + row as u32).map(|i| (7 * i + 3 * row as u32) % 13).collect();
        let labels = tokens.iter().enumerate().map(|(i, t)| if i < 2 { IGNORE } else { *t }).collect();
        Sequence { row, tokens, labels, weight: 1.0 }
    };
    Batch::of(&(0..4).map(sequence).collect::<Vec<_>>())
}

/// Advantage and old log-probability of a place, made up; far enough from the limits for a difference.
fn place(at: usize, first: &[f32]) -> (f64, f64) {
    let shift = [-0.5, -0.1, 0.0, 0.1, 0.5][at % 5];
    ([1.5, -0.7, 0.0][at % 3], -f64::from(first[at]) + shift)
}

#[test]
fn it_agrees_with_finite_differences() {
    let options = GrpoConfig { temperature: 0.8, beta: 0.1, delta: Some(1.4), ..config(0.1) };
    let (objective, mut model, ctx, batch) = (Objective::new(&options), model(2), Ctx::new(0), batch());
    let first = model.policy_losses(&batch, 0.8, &ctx).unwrap().token_nll;
    let term = |at: usize, nll: f32| {
        let (advantage, old) = place(at, &first);
        objective.token(-f64::from(nll), old, Some(old - 0.3), advantage)
    };
    let loss = |model: &Model| {
        let found = model.policy_losses(&batch, 0.8, &ctx).unwrap().token_nll;
        let labelled = (0..found.len()).filter(|at| batch.labels[*at] != IGNORE);
        labelled.map(|at| term(at, found[at]).loss).sum::<f64>()
    };
    let weight = |at: usize, nll: f32| -term(at, nll).slope as f32;
    let policy = Policy { temperature: 0.8, weight: &weight };
    let mut grads = Grads::zeros(&model.params);
    let losses = model.policy_gradients(&batch, &policy, StepOptions::default(), &mut grads, &ctx).unwrap();
    assert_eq!(losses.token_nll, first);
    for id in (0..model.params.len()).map(ParamId) {
        let grad = grads.get(id).unwrap();
        let top = grad.iter().fold(0.0f32, |top, g| top.max(g.abs()));
        assert!(top > 0.0);
        let mut rng = ctx.rng("entry", id.0 as u64);
        for _ in 0..10 {
            let at = rng.below(grad.len() as u64) as usize;
            let before = model.params.get(id).data[at];
            let mut moved = |by: f32| {
                model.params.get_mut(id).data[at] = before + by;
                (loss(&model), f64::from(model.params.get(id).data[at]))
            };
            let ((high, to), (low, from)) = (moved(2e-3), moved(-2e-3));
            moved(0.0);
            let slope = (high - low) / (to - from);
            let gap = (slope - f64::from(grad[at])).abs();
            assert!(gap < 3e-3 * f64::from(top.max(1.0)), "{}[{at}]: {slope} is not {}", id.0, grad[at]);
        }
    }
}

/// With a ratio of 1 and one advantage for all, the gradient is that of the likelihood, times minus the advantage.
#[test]
fn at_a_ratio_of_one_it_is_the_policy_gradient() {
    let (model, ctx, batch) = (model(2), Ctx::new(0), batch());
    let (mut plain, mut weighed) = (Grads::zeros(&model.params), Grads::zeros(&model.params));
    model.gradients(&batch, 1.5, StepOptions::default(), &mut plain, &ctx).unwrap();
    let objective = Objective::new(&config(0.1));
    let weight = |_: usize, nll: f32| -objective.token(-f64::from(nll), -f64::from(nll), None, 1.5).slope as f32;
    let policy = Policy { temperature: 1.0, weight: &weight };
    model.policy_gradients(&batch, &policy, StepOptions::default(), &mut weighed, &ctx).unwrap();
    for id in (0..model.params.len()).map(ParamId) {
        let (gap, top) = distance(weighed.get(id).unwrap(), plain.get(id).unwrap());
        assert!(gap <= 1e-6 * top.max(1.0), "{}: {gap} of {top}", id.0);
    }
}
