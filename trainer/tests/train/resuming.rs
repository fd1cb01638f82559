//! A stopped run goes on as if it had not been stopped.

use super::learning::{bits, config, log, trainer};
use super::toy::{Toy, rows};
use curate_core::Ctx;
use curate_trainer::checkpoint;
use curate_trainer::lora::LoraConfig;
use curate_trainer::mask::lift::LiftConfig;
use curate_trainer::sft::{LtSftConfig, SftConfig, Trainer, Tuning};
use std::path::Path;

fn methods() -> Vec<Tuning> {
    let lora = LoraConfig { r: 2, target_modules: vec!["up_proj".into()], ..LoraConfig::default() };
    let lift = LiftConfig { lora_rank: 1, filter_rank: 2, update_interval: 3, ..LiftConfig::default() };
    vec![Tuning::Full, Tuning::Lora(lora), Tuning::Lift(lift)]
}

fn ten(tuning: Tuning) -> SftConfig {
    SftConfig { tuning, eval_steps: Some(4), weight_decay: 0.01, save_total_limit: None, ..config(10) }
}

#[test]
fn ten_steps_are_five_and_five() {
    let rows = rows(10);
    for tuning in methods() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = |config: SftConfig, out: &Path, model: &mut Toy, resume: bool| {
            let trainer = Trainer { eval: &rows[..4], resume, ..trainer(config, &rows, Some(out)) };
            trainer.run(model, &Ctx::new(3))
        };
        let mut at_once = Toy::new(2, 1);
        run(ten(tuning.clone()), whole.path(), &mut at_once, false).unwrap();
        let save = SftConfig { save_steps: Some(5), ..ten(tuning.clone()) };
        run(save.clone(), parts.path(), &mut Toy::new(2, 1), false).unwrap();
        // as if killed between step 5 and step 10
        std::fs::remove_dir_all(parts.path().join("checkpoint-10")).unwrap();
        let mut later = Toy::new(2, 1);
        let report = run(save, parts.path(), &mut later, true).unwrap();
        assert_eq!((report.resumed_from, report.losses.len()), (Some(5), 10));
        assert_eq!(bits(&at_once.params), bits(&later.params), "{tuning:?}");
        assert_eq!(log(whole.path()), log(parts.path()), "{tuning:?}");
        for file in ["optimizer.safetensors", "trainer_state.json"] {
            let read = |out: &Path| std::fs::read(out.join("checkpoint-10").join(file)).unwrap();
            assert_eq!(read(whole.path()), read(parts.path()), "{tuning:?} {file}");
        }
    }
}

#[test]
fn a_stopped_run_leaves_a_checkpoint_and_goes_on() {
    let (rows, out) = (rows(8), tempfile::tempdir().unwrap());
    let mut whole = Toy::new(1, 1);
    trainer(config(8), &rows, None).run(&mut whole, &Ctx::new(3)).unwrap();
    let mut model = Toy::new(1, 1);
    model.stop_at.set(Some((2, 3)));
    let error = trainer(config(8), &rows, Some(out.path())).run(&mut model, &Ctx::new(3)).unwrap_err();
    assert_eq!(error.exit_code(), 130);
    let (_, state) = checkpoint::newest(out.path()).unwrap().unwrap();
    assert!((4..6).contains(&state.global_step), "{}", state.global_step);
    let mut model = Toy::new(1, 1);
    let again = Trainer { resume: true, ..trainer(config(8), &rows, Some(out.path())) };
    let report = again.run(&mut model, &Ctx::new(3)).unwrap();
    assert_eq!(report.resumed_from, Some(state.global_step));
    assert_eq!(bits(&whole.params), bits(&model.params));
}

#[test]
fn another_plan_is_refused() {
    let (rows, out) = (rows(8), tempfile::tempdir().unwrap());
    trainer(config(4), &rows, Some(out.path())).run(&mut Toy::new(1, 1), &Ctx::new(3)).unwrap();
    let again = |config: SftConfig, seed: u64, toy: u64, n: usize| {
        let trainer = Trainer { resume: true, ..trainer(config, &rows[..n], Some(out.path())) };
        trainer.run(&mut Toy::new(1, toy), &Ctx::new(seed)).map(|r| r.resumed_from).map_err(|e| e.code())
    };
    let refused = Err("checkpoint/other-plan");
    assert_eq!(again(config(4), 3, 1, 8), Ok(Some(4)));
    assert_eq!(again(SftConfig { save_steps: Some(2), ..config(4) }, 3, 1, 8), Ok(Some(4)));
    assert_eq!(again(config(5), 3, 1, 8), refused);
    assert_eq!(again(config(4), 4, 1, 8), refused);
    assert_eq!(again(config(4), 3, 2, 8), refused);
    assert_eq!(again(config(4), 3, 1, 7), refused);
}

#[test]
fn only_as_many_checkpoints_as_asked() {
    let (rows, out) = (rows(8), tempfile::tempdir().unwrap());
    let config = SftConfig { save_steps: Some(1), save_total_limit: Some(3), ..config(7) };
    trainer(config, &rows, Some(out.path())).run(&mut Toy::new(1, 1), &Ctx::new(3)).unwrap();
    assert_eq!(checkpoint::steps(out.path()).unwrap(), [5, 6, 7]);
}

#[test]
fn companions_go_along() {
    let (rows, out, base) = (rows(4), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(base.path().join("tokenizer.json"), "{}").unwrap();
    let trainer = Trainer { base: Some(base.path().to_owned()), ..trainer(config(1), &rows, Some(out.path())) };
    trainer.run(&mut Toy::new(1, 1), &Ctx::new(3)).unwrap();
    let mut names: Vec<String> = std::fs::read_dir(out.path().join("checkpoint-1"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["model.safetensors", "optimizer.safetensors", "tokenizer.json", "trainer_state.json"]);
}

#[test]
fn the_second_phase_goes_on_with_its_mask() {
    let rows = rows(8);
    let tuning = Tuning::LtSft(LtSftConfig { ft_params_num: Some(9), l1: 0.1, ..LtSftConfig::default() });
    let config = SftConfig { tuning, save_steps: Some(2), save_total_limit: None, ..config(4) };
    let out = tempfile::tempdir().unwrap();
    let mut whole = Toy::new(1, 1);
    trainer(config.clone(), &rows, Some(out.path())).run(&mut whole, &Ctx::new(3)).unwrap();
    std::fs::remove_dir_all(out.path().join("checkpoint-4")).unwrap();
    let mut again = Toy::new(1, 1);
    let report =
        Trainer { resume: true, ..trainer(config, &rows, Some(out.path())) }.run(&mut again, &Ctx::new(3)).unwrap();
    assert_eq!(report.resumed_from, Some(2));
    assert_eq!(bits(&whole.params), bits(&again.params));
}
