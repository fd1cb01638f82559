//! Losses, accumulation, logs, evaluation, sweeps, failures.

use super::toy::{Toy, rows};
use curate_core::Ctx;
use curate_trainer::data::Packing;
use curate_trainer::model::StepOptions;
use curate_trainer::sft::{Differentiable, MftConfig, SftConfig, Stopped, Trainer, Tuning};
use curate_trainer::{Batch, Grads, Params, Sequence};
use std::path::Path;

pub(super) fn config(steps: u64) -> SftConfig {
    SftConfig {
        learning_rate: Some(0.02),
        max_steps: Some(steps),
        batch_size: 4,
        max_length: 16,
        ..SftConfig::default()
    }
}

pub(super) fn trainer<'a>(config: SftConfig, train: &'a [Sequence], out: Option<&Path>) -> Trainer<'a> {
    Trainer { out: out.map(Path::to_owned), ..Trainer::new(config, train) }
}

pub(super) fn bits(params: &Params) -> Vec<(String, Vec<u32>)> {
    params.iter().map(|(_, t)| (t.name.clone(), t.data.iter().map(|x| x.to_bits()).collect())).collect()
}

/// The log without what depends on the machine.
pub(super) fn log(out: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .map(|mut line| {
            line.as_object_mut().unwrap().remove("tok_s");
            line
        })
        .collect()
}

#[test]
fn learns_eight_rows_by_heart() {
    let rows = rows(8);
    let config = SftConfig { learning_rate: Some(0.1), batch_size: 8, ..config(200) };
    let mut model = Toy::new(2, 1);
    let report = trainer(config, &rows, None).run(&mut model, &Ctx::new(1)).unwrap();
    assert!(report.losses[199] < 0.05, "{:?}", report.losses.last());
    assert_eq!((report.steps, report.losses.len(), report.skipped), (200, 200, 0));
}

#[test]
fn gradients_of_the_toy_are_right() {
    let (rows, ctx) = (rows(5), Ctx::new(0));
    let mut model = Toy::new(2, 3);
    let batch = Batch::of(&rows);
    let mut grads = Grads::zeros(model.params());
    model.gradients(&batch, 1.0, StepOptions::default(), &mut grads, &ctx).unwrap();
    for id in curate_trainer::sft::ids(&model.params) {
        for at in [0, 3] {
            let start = model.params.get(id).data[at];
            let mut loss = |x: f32| {
                model.params.get_mut(id).data[at] = x;
                model.losses(&batch, &ctx).unwrap().total()
            };
            let slope = (loss(start + 1e-3) - loss(start - 1e-3)) / 2e-3;
            loss(start);
            let found = f64::from(grads.get(id).unwrap()[at]);
            assert!((slope - found).abs() < 1e-2 * (1.0 + slope.abs()), "{id:?} {at}: {slope} {found}");
        }
    }
}

#[test]
fn accumulation_does_not_change_an_update() {
    let rows = rows(16);
    let ends: Vec<Vec<f32>> = [(8, 1), (4, 2), (1, 8)]
        .into_iter()
        .map(|(batch_size, gradient_accumulation_steps)| {
            let config = SftConfig { batch_size, gradient_accumulation_steps, ..config(3) };
            let mut model = Toy::new(1, 2);
            trainer(config, &rows, None).run(&mut model, &Ctx::new(7)).unwrap();
            model.params.iter().flat_map(|(_, t)| t.data.clone()).collect()
        })
        .collect();
    for other in &ends[1..] {
        assert!(ends[0].iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}

#[test]
fn packing_does_not_change_the_loss_of_all_rows() {
    let rows = rows(16);
    let first = |packing| {
        let config = SftConfig { packing, batch_size: 16, ..config(1) };
        trainer(config, &rows, None).run(&mut Toy::new(1, 2), &Ctx::new(7)).unwrap().losses[0]
    };
    assert!((first(Packing::None) - first(Packing::Bfd)).abs() < 1e-9);
}

#[test]
fn the_log_says_every_step_and_threads_do_not_show() {
    let rows = rows(10);
    let run = |threads: usize| {
        let out = tempfile::tempdir().unwrap();
        let config = SftConfig { eval_steps: Some(2), warmup_steps: Some(2), ..config(5) };
        let trainer = Trainer { eval: &rows[..3], ..trainer(config, &rows, Some(out.path())) };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| trainer.run(&mut Toy::new(1, 2), &Ctx::new(7))).unwrap();
        log(out.path())
    };
    let lines = run(1);
    assert_eq!(lines, run(4));
    let steps: Vec<u64> =
        lines.iter().filter(|l| l.get("loss").is_some()).map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5]);
    let evals: Vec<u64> =
        lines.iter().filter(|l| l.get("eval_loss").is_some()).map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(evals, [2, 4, 5]);
    // ten rows in batches of four: three steps an epoch, the third of two rows
    let epochs: Vec<f64> = lines.iter().filter_map(|l| l.get("loss").and(l["epoch"].as_f64())).collect();
    assert_eq!(epochs, [0.4, 0.8, 1.0, 1.4, 1.8]);
    assert_eq!(lines[0]["lr"].as_f64(), Some(0.01));
}

#[test]
fn stops_early_and_keeps_the_best() {
    let rows = rows(8);
    let out = tempfile::tempdir().unwrap();
    let config = SftConfig {
        learning_rate: Some(5.0),
        eval_steps: Some(1),
        early_stopping_patience: Some(3),
        save_total_limit: Some(1),
        max_grad_norm: 0.0,
        ..config(50)
    };
    let trainer = Trainer { eval: &rows[..4], ..trainer(config, &rows, Some(out.path())) };
    let report = trainer.run(&mut Toy::new(1, 2), &Ctx::new(7)).unwrap();
    assert_eq!(report.stopped, Stopped::Early);
    let (_, best) = report.best_eval.unwrap();
    assert_eq!(report.steps, best + 3);
    assert!(out.path().join(format!("checkpoint-{best}")).exists());
}

#[test]
fn a_loss_that_is_no_number_names_step_and_row() {
    let rows = rows(8);
    let out = tempfile::tempdir().unwrap();
    let mut model = Toy { poison: Some(5), ..Toy::new(1, 2) };
    let config = SftConfig { batch_size: 1, save_steps: Some(1), ..config(50) };
    let error = trainer(config, &rows, Some(out.path())).run(&mut model, &Ctx::new(7)).unwrap_err();
    assert_eq!(error.code(), "train/not-finite");
    assert!(error.to_string().contains("row 5") && error.to_string().contains("step "), "{error}");
    assert!(error.hint_text().unwrap().contains("learning_rate"));
}

#[test]
fn a_sweep_keeps_the_best_rate() {
    let (rows, out) = (rows(8), tempfile::tempdir().unwrap());
    let config = SftConfig { learning_rate: None, lr_sweep: vec![1e-5, 0.05, 1e-4], ..config(30) };
    let mut model = Toy::new(1, 2);
    let report = trainer(config.clone(), &rows, Some(out.path())).run(&mut model, &Ctx::new(7)).unwrap();
    let sweep = report.sweep.as_ref().unwrap();
    assert_eq!((sweep.best, sweep.arms.len()), (0.05, 3));
    let mut alone = Toy::new(1, 2);
    let single = SftConfig { learning_rate: Some(0.05), lr_sweep: Vec::new(), ..config.clone() };
    trainer(single, &rows, None).run(&mut alone, &Ctx::new(7)).unwrap();
    assert_eq!(bits(&model.params), bits(&alone.params));
    assert!(out.path().join("lr-5e-2/checkpoint-30").exists());
    // a sweep that was already done finds the same
    let mut again = Toy::new(1, 2);
    let resumed = Trainer { resume: true, ..trainer(config, &rows, Some(out.path())) };
    assert_eq!(resumed.run(&mut again, &Ctx::new(7)).unwrap().sweep.unwrap().best.to_bits(), sweep.best.to_bits());
    assert_eq!(bits(&model.params), bits(&again.params));
}

#[test]
fn masked_thought_of_share_zero_is_plain_training() {
    let rows = rows(8);
    let run = |mft: Option<MftConfig>| {
        let mut model = Toy::new(1, 2);
        let report = trainer(SftConfig { mft, ..config(6) }, &rows, None).run(&mut model, &Ctx::new(7)).unwrap();
        (bits(&model.params), report.losses)
    };
    let at = |p: f64| run(Some(MftConfig { p, ..MftConfig::default() }));
    assert_eq!(run(None), at(0.0));
    assert_ne!(run(None), at(0.9));
}

#[test]
fn mistakes_are_refused_before_work_starts() {
    let rows = rows(4);
    let code = |config: SftConfig, rows: &[Sequence]| {
        trainer(config, rows, None).run(&mut Toy::new(1, 2), &Ctx::new(0)).unwrap_err().code()
    };
    assert_eq!(code(SftConfig::default(), &rows), "train/learning-rate");
    assert_eq!(code(config(1), &[]), "train/empty");
    assert_eq!(code(SftConfig { learning_rate: Some(-1.0), ..config(1) }, &rows), "train/config");
    assert_eq!(code(SftConfig { save_steps: Some(0), ..config(1) }, &rows), "train/config");
    let lora = curate_trainer::lora::LoraConfig { target_modules: vec!["q_proj".into()], ..Default::default() };
    assert_eq!(code(SftConfig { tuning: Tuning::Lora(lora), ..config(1) }, &rows), "lora/target");
    let unknown: Result<SftConfig, _> = serde_json::from_str(r#"{"learning_rte": 1}"#);
    assert!(unknown.unwrap_err().to_string().contains("learning_rate"));
    let parsed: SftConfig = serde_json::from_str(r#"{"tuning": {"lora": {"r": 4}}, "packing": "bfd"}"#).unwrap();
    assert!(matches!(parsed.tuning, Tuning::Lora(lora) if lora.r == 4));
}

#[test]
fn forecasts_follow_the_method() {
    let rows = rows(8);
    let model = Toy::new(2, 1);
    let lora = curate_trainer::lora::LoraConfig { r: 2, target_modules: vec!["up_proj".into()], ..Default::default() };
    let at = |tuning| trainer(SftConfig { tuning, ..config(1) }, &rows, None).forecast(&model);
    let (full, lora) = (at(Tuning::Full), at(Tuning::Lora(lora)));
    assert_eq!(lora.trained, 2 * 2 * 12);
    assert_eq!(full.optimizer_bytes, 8 * full.trained);
    assert_eq!(full.trained, (11 * 6 + 2 * 36 + 6 + 11 * 6) as u64);
    assert_eq!(full.batch_tokens, 6 + 6 + 5 + 5);
    assert!(lora.total_bytes() < full.total_bytes());
}
