//! The learner behind the interface of online selection.

use super::{config, learner, prompts};
use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use curate_core::{Column, Ctx, Feedback, Learner};
use curate_trainer::eval::{Judge, Verdict};
use curate_trainer::grpo::{GRPO_SIGNALS, GrpoConfig, GrpoLearner, LossType};
use curate_trainer::lora::LoraConfig;
use curate_trainer::sft::{SftConfig, Tuning};
use curate_trainer::verify::Verifier;
use std::sync::Arc;

/// An answer is right when its first digit is that of the label.
struct FirstDigit;

impl Verifier for FirstDigit {
    fn name(&self) -> &'static str {
        "first-digit"
    }

    fn verify(&self, completion: &str, label: &str) -> Verdict {
        Verdict { correct: completion.get(..1) == label.get(..1), ..Verdict::default() }
    }
}

/// Nothing is ever right.
struct Never;

impl Verifier for Never {
    fn name(&self) -> &'static str {
        "never"
    }

    fn verify(&self, _completion: &str, _label: &str) -> Verdict {
        Verdict::default()
    }
}

fn want() -> Vec<Column> {
    GRPO_SIGNALS.map(Column::signal).to_vec()
}

fn easy(config: GrpoConfig) -> GrpoLearner {
    learner(config).with_verifier(Arc::new(FirstDigit))
}

fn column(feedback: &Feedback, name: &str) -> Vec<f32> {
    let column = feedback.signals.column_by_name(&format!("signal.{name}")).unwrap();
    column.as_primitive::<Float32Type>().values().to_vec()
}

fn weights(learner: &GrpoLearner) -> Vec<Vec<u32>> {
    let tensors = learner.model().params.iter();
    tensors.map(|(_, tensor)| tensor.data.iter().map(|x| x.to_bits()).collect()).collect()
}

fn lora() -> SftConfig {
    let tuning = Tuning::Lora(LoraConfig { r: 4, ..LoraConfig::default() });
    SftConfig { tuning, ..config(0.01).train }
}

#[test]
fn feedback_counts_what_the_rule_found() {
    let mut learner = easy(config(1e-3));
    let pool = prompts([3, 14, 27, 40, 80]);
    let before = weights(&learner);
    let feedback = learner.step(&pool, &want(), &Ctx::new(0)).unwrap();
    assert_eq!((feedback.step, feedback.rows.as_slice()), (1, &[3, 14, 27, 40, 80][..]));
    let (successes, reward) = (column(&feedback, "successes"), column(&feedback, "reward"));
    assert_eq!(column(&feedback, "trials"), [4.0; 5]);
    assert!(successes.iter().zip(&reward).all(|(s, r)| s / 4.0 == *r));
    let report = *learner.report();
    let informative = successes.iter().filter(|s| (1.0..4.0).contains(*s)).count();
    assert_eq!(report.informative, informative as f64 / 5.0);
    assert_eq!((report.step, report.prompts, report.rollouts, report.kl), (1, 5, 20, None));
    assert_eq!(report.tokens, column(&feedback, "tokens").iter().map(|t| *t as u64).sum::<u64>());
    assert!(report.entropy > 1.0 && report.clip_share == 0.0 && report.updates == u64::from(informative > 0));
    assert_eq!(weights(&learner) == before, informative == 0);
    assert!(informative > 0, "choose other rows");
}

#[test]
fn groups_without_a_difference_change_nothing() {
    let mut learner = learner(config(0.1)).with_verifier(Arc::new(Never));
    let before = weights(&learner);
    for _ in 0..3 {
        let feedback = learner.step(&prompts(0..6), &want(), &Ctx::new(0)).unwrap();
        assert_eq!((column(&feedback, "successes"), column(&feedback, "loss")), (vec![0.0; 6], vec![0.0; 6]));
    }
    assert_eq!(weights(&learner), before);
    assert_eq!((learner.report().informative, learner.report().updates, learner.report().step), (0.0, 0, 3));
}

/// From an untrained model to the first digit that is right everywhere: the reward rises, whatever the loss is averaged
/// over.
#[test]
fn answers_get_better() {
    for loss_type in [LossType::Dapo, LossType::Grpo, LossType::DrGrpo] {
        let options = GrpoConfig { loss_type, num_generations: 8, max_completion_length: 2, ..config(0.01) };
        let options = GrpoConfig { num_iterations: 2, steps_per_generation: 2, ..options };
        let (mut learner, ctx) = (easy(options), Ctx::new(0));
        let mut rewards = Vec::new();
        for _ in 0..30 {
            learner.step(&prompts([5, 15, 25, 35, 45]), &[], &ctx).unwrap();
            rewards.push(learner.report().reward);
        }
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let (first, last) = (mean(&rewards[..3]), mean(&rewards[27..]));
        assert!(first < 0.3 && last > 0.7, "{loss_type:?}: {first} to {last}");
        assert!(learner.report().updates <= 4);
    }
}

#[test]
fn threads_and_the_order_of_work_do_not_show() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut learner = easy(GrpoConfig { beta: 0.05, ..config(0.01) });
            for step in 0..4 {
                learner.step(&prompts(5 * step..5 * step + 5), &[], &Ctx::new(7)).unwrap();
            }
            (weights(&learner), *learner.report())
        })
    };
    let alone = run(1);
    assert!(alone.1.kl.is_some_and(|kl| kl > 0.0), "{:?}", alone.1);
    assert_eq!(alone, run(4));
}

#[test]
fn a_run_goes_on_where_it_stopped() {
    let full = GrpoConfig { beta: 0.1, num_iterations: 2, ..config(0.01) };
    let adapter = GrpoConfig { beta: 0.1, train: lora(), ..config(0.01) };
    for config in [full, adapter] {
        let out = tempfile::tempdir().unwrap();
        let ctx = Ctx::new(3);
        let work = |learner: &mut GrpoLearner, steps: std::ops::Range<u64>| {
            for step in steps {
                learner.step(&prompts(4 * step..4 * step + 4), &[], &ctx).unwrap();
            }
        };
        let log = || std::fs::read_to_string(out.path().join("log.jsonl")).unwrap();
        let mut whole = easy(config.clone());
        whole.log_to(out.path()).unwrap();
        work(&mut whole, 0..3);
        whole.save(out.path(), None, 3).unwrap();
        work(&mut whole, 3..6);
        let lines = log();
        assert_eq!(lines.lines().count(), 6);
        let mut again = easy(config.clone());
        assert_eq!(again.resume(out.path()).unwrap(), Some(3));
        again.log_to(out.path()).unwrap();
        assert_eq!(log().lines().count(), 3);
        work(&mut again, 3..6);
        assert_eq!((weights(&whole), whole.report()), (weights(&again), again.report()));
        assert_eq!((log(), whole.digest()), (lines, again.digest()));
        let other = easy(GrpoConfig { epsilon: 0.1, ..config }).resume(out.path()).unwrap_err();
        assert_eq!(other.code(), "checkpoint/other-plan");
    }
}

/// With a pull to the model without its adapter, and only that, an adapter stays close to it.
#[test]
fn the_reference_pulls_back() {
    let distance = |beta: f64| {
        let mut learner = easy(GrpoConfig { beta, train: lora(), num_iterations: 2, ..config(0.01) });
        let mut kl = 0.0;
        for step in 0..12 {
            learner.step(&prompts(5 * step..5 * step + 5), &[], &Ctx::new(7)).unwrap();
            kl = learner.report().kl.unwrap();
        }
        kl
    };
    let (loose, tight) = (distance(1e-9), distance(1.0));
    assert!(tight < loose, "{tight} is not below {loose}");
}

#[test]
fn dynamic_sampling_stops_when_it_has_enough() {
    let all = {
        let mut learner = easy(config(0.0001));
        let feedback = learner.step(&prompts(0..40), &want(), &Ctx::new(1)).unwrap();
        column(&feedback, "successes")
    };
    let mut learner = easy(GrpoConfig { dynamic_groups: Some(2), ..config(0.0001) });
    let feedback = learner.step(&prompts(0..40), &want(), &Ctx::new(1)).unwrap();
    let found = column(&feedback, "successes");
    assert_eq!(found, all[..found.len()], "the same draws, fewer of them");
    let informative = |part: &[f32]| part.iter().filter(|s| (1.0..4.0).contains(*s)).count();
    assert!(found.len() < 40 && informative(&found) >= 2 && informative(&found[..found.len() - 2]) < 2);
    let taught = column(&feedback, "loss").iter().filter(|loss| **loss != 0.0).count();
    assert!(taught <= 2, "{taught}");
}

#[test]
fn what_cannot_work_is_refused() {
    let (mut learner, ctx) = (easy(config(1e-3)), Ctx::new(0));
    let code = |result: curate_core::Result<Feedback>| {
        let error = result.unwrap_err();
        assert!(error.hint_text().is_some(), "{error}");
        error.code()
    };
    assert_eq!(code(learner.step(&prompts([1, 2, 1]), &[], &ctx)), "grpo/repeated-row");
    assert_eq!(code(learner.step(&prompts([1]), &[Column::signal("sketch")], &ctx)), "column/unknown-signal");
    assert_eq!(
        learner.probe(&prompts([1]), &[Column::signal("loss")], &ctx).unwrap_err().code(),
        "column/unknown-signal"
    );
    assert_eq!(learner.probe(&prompts([1]), &[], &ctx).unwrap().num_rows(), 1);
    let mut long = easy(GrpoConfig { max_completion_length: 30, ..config(1e-3) });
    assert_eq!(code(long.step(&prompts([1]), &[], &ctx)), "grpo/prompt-length");
    assert_eq!(learner.report().step, 0);
    let empty = learner.step(&prompts([]), &want(), &ctx).unwrap();
    assert_eq!((empty.rows.len(), empty.step), (0, 1));
    let countdown = GrpoConfig { judge: Judge::Countdown, ..config(1e-3) };
    assert!(super::learner(countdown).step(&prompts([5]), &[], &ctx).is_ok());
    ctx.cancel().cancel();
    assert_eq!(learner.step(&prompts([1]), &[], &ctx).unwrap_err().code(), "cancelled");
}
