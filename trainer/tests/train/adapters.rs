//! Adapters: attached, trained, saved, read again, merged.

use super::learning::{bits, config, trainer};
use super::toy::{Toy, VOCAB, rows};
use curate_core::Ctx;
use curate_trainer::checkpoint::TensorFile;
use curate_trainer::lora::{self, Init, LoraConfig};
use curate_trainer::optim::Allora;
use curate_trainer::sft::{SftConfig, Tuning};
use curate_trainer::{Grads, Tensor};

fn lora_config() -> LoraConfig {
    LoraConfig { r: 2, lora_alpha: 6.0, target_modules: vec!["up_proj".into()], ..LoraConfig::default() }
}

fn trained(extra: SftConfig) -> Toy {
    let mut model = Toy::new(2, 1);
    let config = SftConfig { tuning: Tuning::Lora(lora_config()), ..extra };
    trainer(config, &rows(8), None).run(&mut model, &Ctx::new(3)).unwrap();
    model
}

fn logits(model: &Toy) -> Vec<f64> {
    (0..VOCAB as u32).flat_map(|token| model.logits(token)).collect()
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn a_fresh_adapter_changes_nothing_and_base_output_is_not_scaled() {
    let (base, mut model) = (Toy::new(2, 1), Toy::new(2, 1));
    lora::attach(&mut model, &lora_config(), &Ctx::new(3)).unwrap();
    assert_eq!(logits(&base), logits(&model));
    let a = model.params.get(lora::attached(&model)[0].adapter.a);
    let bound = 1.0 / 6f32.sqrt();
    assert!(a.data.iter().all(|x| x.abs() <= bound) && a.data.iter().any(|x| x.abs() > bound / 2.0));
    assert!((lora::attached(&model)[0].adapter.scale - 3.0).abs() < 1e-6);
    let gaussian = LoraConfig { init: Init::Gaussian, ..lora_config() };
    lora::attach(&mut model, &gaussian, &Ctx::new(3)).unwrap();
    assert_eq!(logits(&base), logits(&model));
}

#[test]
fn only_adapters_have_gradients_and_move() {
    let (base, model) = (Toy::new(2, 1), trained(config(5)));
    let grads = Grads::zeros(&model.params);
    for (id, tensor) in model.params.iter() {
        assert_eq!(grads.get(id).is_some(), lora::is_adapter(&tensor.name), "{}", tensor.name);
    }
    assert_eq!(bits(&base.params)[..], bits(&model.params)[..base.params.len()]);
    assert!(far(&logits(&base), &logits(&model)) > 1e-3);
}

#[test]
fn merged_equals_unmerged() {
    let mut model = trained(config(20));
    let before = logits(&model);
    assert_eq!(lora::merge(&mut model), 2);
    assert!(far(&before, &logits(&model)) < 1e-5);
    assert!(lora::attached(&model).is_empty() && !lora::has_adapters(&model.params));
    assert_eq!(model.params.len(), Toy::new(2, 1).params.len());
    assert_eq!(lora::merge(&mut model), 0);
}

#[test]
fn files_hold_peft_keys_and_give_back_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = trained(config(5));
    lora::save_adapter(&model, &lora_config(), "base", folder.path()).unwrap();
    let file = TensorFile::open(&folder.path().join("adapter_model.safetensors")).unwrap();
    let mut names = file.names();
    names.sort();
    let golden = [
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.0.mlp.up_proj.lora_B.weight",
        "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight",
        "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight",
    ];
    assert_eq!(names, golden);
    assert_eq!(lora::keys(&model), golden);
    assert_eq!((file.shape(golden[0]), file.shape(golden[1])), (Some(&[2, 6][..]), Some(&[6, 2][..])));
    let mut again = Toy::new(2, 1);
    let read = lora::load_adapter(&mut again, folder.path(), false).unwrap();
    assert_eq!(read, lora_config());
    assert_eq!(bits(&again.params), bits(&model.params));
    assert_eq!(logits(&again), logits(&model));
}

#[test]
fn an_adapter_for_another_base_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    lora::save_adapter(&trained(config(1)), &lora_config(), "base", folder.path()).unwrap();
    let mut shallow = Toy::new(1, 1);
    let error = lora::load_adapter(&mut shallow, folder.path(), false).unwrap_err();
    assert!(error.code() == "lora/file" && error.to_string().contains("layers.1.mlp.up_proj"), "{error}");
    let mut narrow = Toy::new(2, 1);
    let id = narrow.maps[0].0;
    let Tensor { name, .. } = narrow.params.get(id).clone();
    *narrow.params.get_mut(id) = Tensor { name, shape: vec![6, 5], data: vec![0.0; 30], trained: true };
    let error = lora::load_adapter(&mut narrow, folder.path(), false).unwrap_err();
    assert!(error.to_string().contains("[2, 6]") && error.to_string().contains("[2, 5]"), "{error}");
    assert!(lora::attached(&narrow).is_empty());
}

#[test]
fn layers_and_patterns_choose_maps_and_ranks() {
    let mut model = Toy::new(3, 1);
    let config = LoraConfig {
        layers_to_transform: Some(vec![0, 2]),
        rank_pattern: [("layers.2.mlp.up_proj".to_owned(), 4)].into(),
        alpha_pattern: [("layers.2.mlp.up_proj".to_owned(), 4.0)].into(),
        ..lora_config()
    };
    lora::attach(&mut model, &config, &Ctx::new(3)).unwrap();
    let found: Vec<(String, usize, f32)> = lora::attached(&model)
        .iter()
        .map(|one| (one.path.clone(), model.params.get(one.adapter.a).shape[0], one.adapter.scale))
        .collect();
    let expected =
        [("model.layers.0.mlp.up_proj".to_owned(), 2, 3.0), ("model.layers.2.mlp.up_proj".to_owned(), 4, 1.0)];
    assert_eq!(found, expected);
    let folder = tempfile::tempdir().unwrap();
    lora::save_adapter(&model, &config, "base", folder.path()).unwrap();
    let mut again = Toy::new(3, 1);
    assert_eq!(lora::load_adapter(&mut again, folder.path(), true).unwrap(), config);
    assert_eq!(bits(&again.params), bits(&model.params));
}

#[test]
fn allora_and_lora_plus_change_the_path() {
    let plain = bits(&trained(config(4)).params);
    let allora = trained(SftConfig { allora: Some(Allora::default()), ..config(4) });
    let plus = trained(SftConfig { loraplus_lr_ratio: 16.0, ..config(4) });
    assert_ne!(plain, bits(&allora.params));
    assert_ne!(plain, bits(&plus.params));
}

#[test]
fn weights_below_an_adapter_are_not_trained_by_mistake() {
    let mut model = trained(config(1));
    let error = trainer(config(1), &rows(4), None).run(&mut model, &Ctx::new(3)).unwrap_err();
    assert_eq!(error.code(), "train/adapter");
    lora::merge(&mut model);
    assert!(trainer(config(1), &rows(4), None).run(&mut model, &Ctx::new(3)).is_ok());
}
