//! Prompt selection without a model: 2,000 prompts of difficulty `d ~ N(0, 2.2^2)`, a learner whose skill rises from -1.5 to
//! 1 over 120 steps and solves a prompt with probability `sigmoid(skill - d)`, 256 prompts a step, 8 rollouts each.

use super::stream::{floats, method};
use arrow::array::RecordBatch;
use curate_core::{Ctx, Feedback, OnlineSelector, Pool};
use serde_json::{Value, json};

const PROMPTS: u64 = 2000;
const STEPS: u64 = 120;

fn difficulty(row: u64) -> f64 {
    let mut rng = Ctx::new(0).rng("difficulty", row);
    2.2 * (-2.0 * rng.uniform().ln()).sqrt() * (std::f64::consts::TAU * rng.uniform()).cos()
}

/// Mean share of groups that are neither all right nor all wrong.
fn informative(params: &Value) -> f64 {
    let mut run = method("mopps", params);
    let pool = Pool::from_batch(RecordBatch::try_from_iter([("x", floats(vec![0.0; PROMPTS as usize]))]).unwrap());
    let difficulty: Vec<f64> = (0..PROMPTS).map(difficulty).collect();
    let share = |step| one_step(run.as_mut(), &pool, &difficulty, step);
    (0..STEPS).map(share).sum::<f64>() / STEPS as f64
}

fn one_step(run: &mut dyn OnlineSelector, pool: &Pool, difficulty: &[f64], step: u64) -> f64 {
    let ctx = Ctx::new(1);
    let rows = run.propose(pool, 256, &ctx).unwrap().rows();
    let skill = -1.5 + 2.5 * step as f64 / (STEPS - 1) as f64;
    let rollouts = ctx.labelled(&step.to_string());
    let solved = |&row: &u64| {
        let p = 1.0 / (1.0 + (difficulty[row as usize] - skill).exp());
        let mut rng = rollouts.rng("rollouts", row);
        (0..8).filter(|_| rng.uniform() < p).count() as f32
    };
    let successes: Vec<f32> = rows.iter().map(solved).collect();
    let mixed = successes.iter().filter(|&&s| s > 0.0 && s < 8.0).count() as f64;
    let columns = [("signal.successes", floats(successes)), ("signal.trials", floats(vec![8.0; 256]))];
    let signals = RecordBatch::try_from_iter(columns).unwrap();
    run.observe(&Feedback { step, rows, signals }, &ctx).unwrap();
    mixed / 256.0
}

#[test]
fn most_chosen_prompts_are_informative() {
    for decay in [0.5, 1.0] {
        let share = informative(&json!({"decay": decay}));
        assert!(share >= 0.88, "decay {decay}: {share}");
    }
    let uniform = informative(&json!({"strategy": "uniform"}));
    assert!((uniform - 0.668).abs() < 0.02, "uniform: {uniform}");
}
