//! Masks in training: what lies outside never moves, what is inside is counted exactly.

use super::learning::{bits, config, trainer};
use super::toy::{Toy, rows};
use curate_core::Ctx;
use curate_trainer::mask::delta::{SparseDelta, compose};
use curate_trainer::mask::lift::LiftConfig;
use curate_trainer::mask::movement::changed;
use curate_trainer::optim::groups::Freeze;
use curate_trainer::posthoc::{LinesConfig, graft, lines, update_sparsity};
use curate_trainer::sft::{LtSftConfig, SftConfig, SparseConfig, Trainer, Tuning, eval_loss};
use curate_trainer::{IGNORE, Sequence};

fn train(config: SftConfig, model: &mut Toy) {
    trainer(config, &rows(8), None).run(model, &Ctx::new(3)).unwrap();
}

#[test]
fn lift_moves_exactly_its_entries() {
    let (base, mut model) = (Toy::new(2, 1), Toy::new(2, 1));
    let lift = LiftConfig { lora_rank: 1, filter_rank: 2, update_interval: 100, ..LiftConfig::default() };
    train(SftConfig { tuning: Tuning::Lift(lift), weight_decay: 0.5, ..config(5) }, &mut model);
    let moved = changed(&base.params, &model.params, 0.0).unwrap();
    for (id, tensor) in base.params.iter() {
        let expected = if tensor.name.contains("layers") { 12 } else { 0 };
        assert_eq!(moved[&id].len(), expected, "{}", tensor.name);
    }
}

#[test]
fn two_phases_change_k_entries_and_no_other() {
    let (rows, out) = (rows(8), tempfile::tempdir().unwrap());
    let (base, mut model) = (Toy::new(2, 1), Toy::new(2, 1));
    let tuning = Tuning::LtSft(LtSftConfig { ft_params_num: Some(17), ..LtSftConfig::default() });
    let config = SftConfig { tuning, weight_decay: 0.5, ..config(6) };
    trainer(config, &rows, Some(out.path())).run(&mut model, &Ctx::new(3)).unwrap();
    let delta = SparseDelta::load(&out.path().join("delta.safetensors")).unwrap();
    let mask = SparseDelta::load(&out.path().join("mask.safetensors")).unwrap();
    assert_eq!((delta.entries(), mask.entries()), (17, 17));
    let moved = changed(&base.params, &model.params, 0.0).unwrap();
    let allowed = delta.masks(&base.params).unwrap();
    assert!(moved.iter().all(|(id, mask)| mask.is_empty() || mask.overlap(&allowed[id]) == mask.len()));
    let mut again = base.clone();
    compose(&mut again.params, std::slice::from_ref(&delta)).unwrap();
    assert_eq!(bits(&again.params), bits(&model.params));
    delta.revert(&mut again.params).unwrap();
    assert_eq!(bits(&again.params), bits(&base.params));
}

#[test]
fn rounds_add_their_share_of_the_entries() {
    let (rows, out) = (rows(8), tempfile::tempdir().unwrap());
    let (base, mut model) = (Toy::new(2, 1), Toy::new(2, 1));
    let tuning = Tuning::LtSft(LtSftConfig { ft_params_num: Some(17), n_ft_iterations: 3, ..LtSftConfig::default() });
    let config = SftConfig { tuning, weight_decay: 0.5, save_steps: Some(3), ..config(6) };
    trainer(config.clone(), &rows, Some(out.path())).run(&mut model, &Ctx::new(3)).unwrap();
    let mask = |folder: &str| {
        let delta = SparseDelta::load(&out.path().join(folder).join("mask.safetensors")).unwrap();
        (delta.entries(), delta.masks(&base.params).unwrap())
    };
    let (one, two, three) = (mask("round-1"), mask("round-2"), mask(""));
    assert_eq!((one.0, two.0, three.0), (5, 11, 17));
    for (small, large) in [(&one.1, &two.1), (&two.1, &three.1)] {
        assert!(small.iter().all(|(id, mask)| mask.overlap(&large[id]) == mask.len()), "a round drops entries");
    }
    let moved = changed(&base.params, &model.params, 0.0).unwrap();
    assert!(moved.iter().all(|(id, mask)| mask.is_empty() || mask.overlap(&three.1[id]) == mask.len()));
    // as if killed in the second phase of the last round
    for step in [3, 6] {
        std::fs::remove_dir_all(out.path().join(format!("checkpoint-{step}"))).unwrap();
    }
    let mut again = Toy::new(2, 1);
    let resumed = Trainer { resume: true, ..trainer(config, &rows, Some(out.path())) };
    resumed.run(&mut again, &Ctx::new(3)).unwrap();
    assert_eq!(bits(&again.params), bits(&model.params));
}

#[test]
fn fresh_top_blocks_have_the_spread_of_the_model() {
    let (base, mut model) = (Toy::new(3, 1), Toy::new(3, 1));
    train(SftConfig { reinit_top_layers: 1, learning_rate: Some(1e-9), ..config(1) }, &mut model);
    let change = |l: usize| {
        let at = |toy: &Toy| toy.params.get(toy.maps[l].0).data.clone();
        at(&base).iter().zip(at(&model)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(change(0) < 1e-6 && change(1) < 1e-6 && change(2) > 0.1);
    let top = &model.params.get(model.maps[2].0).data;
    let std = (top.iter().map(|x| x * x).sum::<f32>() / top.len() as f32).sqrt();
    assert!((0.5..2.0).contains(&(f64::from(std) / curate_trainer::sft::Differentiable::initializer_range(&model))));
}

#[test]
fn a_given_mask_is_kept_to() {
    let out = tempfile::tempdir().unwrap();
    let (base, mut tuned) = (Toy::new(2, 1), Toy::new(2, 1));
    train(config(3), &mut tuned);
    let (grafted, masks) = graft(&base.params, &tuned.params, 0.1, true).unwrap();
    let path = out.path().join("mask.safetensors");
    SparseDelta::of(&base.params, &grafted, &masks).unwrap().save(&path).unwrap();
    let mut model = base.clone();
    train(
        SftConfig { tuning: Tuning::Sparse(SparseConfig { mask: path }), weight_decay: 0.1, ..config(4) },
        &mut model,
    );
    let moved = changed(&base.params, &model.params, 0.0).unwrap();
    for (id, mask) in moved {
        assert_eq!(mask, masks[&id]);
    }
}

#[test]
fn frozen_tensors_rest_and_the_others_do_not() {
    let (base, mut model) = (Toy::new(3, 1), Toy::new(3, 1));
    let freeze = Freeze { layers_below: 2, embeddings: true, vectors: true, head: false };
    train(SftConfig { freeze, weight_decay: 0.5, ..config(3) }, &mut model);
    let moved = changed(&base.params, &model.params, 0.0).unwrap();
    let names: Vec<&str> =
        base.params.iter().filter(|(id, _)| !moved[id].is_empty()).map(|(_, t)| t.name.as_str()).collect();
    assert_eq!(names, ["model.layers.2.mlp.up_proj.weight", "lm_head.weight"]);
}

#[test]
fn a_factor_of_one_by_layer_is_plain_training() {
    let run = |xi: f64| {
        let mut model = Toy::new(2, 1);
        train(SftConfig { layerwise_lr_decay: xi, ..config(4) }, &mut model);
        bits(&model.params)
    };
    assert_eq!(run(1.0), run(1.0 + 1e-17));
    assert_ne!(run(1.0), run(0.9));
}

#[test]
fn tools_on_two_states_of_a_trained_model() {
    let (base, mut tuned) = (Toy::new(2, 1), Toy::new(2, 1));
    train(config(10), &mut tuned);
    let report = update_sparsity(&base.params, &tuned.params, 1e-5, true, &Ctx::new(0)).unwrap();
    assert!(report.unchanged < 0.2 && report.movement_by_layer.iter().all(|m| *m > 0.0));
    for (s, end) in [(0.0, &base), (1.0, &tuned)] {
        assert_eq!(bits(&graft(&base.params, &tuned.params, s, true).unwrap().0), bits(&end.params));
    }
    let mut scaled = tuned.clone();
    lines(&base.params, &mut scaled.params, &LinesConfig { alpha: 1.0, ..LinesConfig::default() }).unwrap();
    assert_eq!(bits(&scaled.params), bits(&tuned.params));
}

/// Rows over the tokens `first..first + 5`: each token is followed by the next but `step - 1` of these five.
fn circle(first: u32, step: u32) -> Vec<Sequence> {
    let row = |row: u32| {
        let tokens: Vec<u32> = (0..5).map(|i| first + (row + i * step) % 5).collect();
        let labels = tokens.iter().enumerate().map(|(i, t)| if i == 0 { IGNORE } else { *t }).collect();
        Sequence { row: u64::from(row), tokens, labels, weight: 1.0 }
    };
    (0..5).map(row).collect()
}

#[test]
fn scaling_by_depth_trades_the_new_task_for_the_old_one() {
    let (old, new) = (circle(1, 1), circle(6, 2));
    let mut base = Toy::new(4, 1);
    let learn = |rows: &[Sequence], model: &mut Toy| {
        let config = SftConfig { learning_rate: Some(0.03), batch_size: 5, ..config(150) };
        trainer(config, rows, None).run(model, &Ctx::new(3)).unwrap();
    };
    learn(&old, &mut base);
    let mut tuned = base.clone();
    learn(&new, &mut tuned);
    let losses =
        |model: &Toy| [&old, &new].map(|rows| eval_loss(model, rows, 8, &Ctx::new(0)).unwrap().mean().unwrap());
    let (before, after) = (losses(&base), losses(&tuned));
    assert!(after[1] < 0.1 && before[1] > 1.0 && after[0] > before[0] + 0.1, "{before:?} {after:?}");
    let worth = |losses: [f64; 2]| 2.0 * losses[1] + losses[0];
    let at = |alpha: f32| {
        let mut model = tuned.clone();
        lines(&base.params, &mut model.params, &LinesConfig { alpha, ..LinesConfig::default() }).unwrap();
        losses(&model)
    };
    let best = [0.9, 0.8, 0.7, 0.6, 0.5].map(|alpha| worth(at(alpha))).into_iter().fold(f64::INFINITY, f64::min);
    assert!(best < worth(after) && best < worth(before), "{best}: {before:?} {after:?}");
    // grafting: more of what moved, more of the new task
    let grafted = [0.0, 0.3, 0.6, 1.0].map(|s| {
        let (params, _) = graft(&base.params, &tuned.params, s, true).unwrap();
        losses(&Toy { params, ..base.clone() })[1]
    });
    assert!(grafted[3] < grafted[1] && grafted[1] < grafted[0], "{grafted:?}");
}
