//! Weights kept in 16 bits while adapters are trained on them.

use super::{MODELS, adapt, batch, distance, folder, gradients, load};
use curate_core::Ctx;
use curate_trainer::lora::{LoraConfig, merge};
use curate_trainer::model::Model;
use curate_trainer::sft::{Differentiable, RestingDtype, SftConfig, Trainer, Tuning};
use curate_trainer::{Params, Sequence};

/// The golden model with its block weights rounded to what 16 bits hold.
fn rounded(name: &str) -> Model {
    let mut model = load(name);
    for id in model.compactable() {
        model.params.shrink(id);
    }
    model.params.widen_all();
    model
}

fn bits(params: &Params) -> Vec<u32> {
    params.iter().flat_map(|(_, t)| t.data.iter().map(|x| x.to_bits())).collect()
}

#[test]
fn the_same_numbers_give_the_same_bits() {
    for name in ["llama", "qwen2"] {
        let (mut wide, mut small) = (rounded(name), Model::load_compact(&folder(name)).unwrap());
        assert!(small.compactable().iter().all(|id| small.params.get(*id).data.is_empty()));
        let (batch, ctx) = (batch(name), Ctx::new(0));
        assert_eq!(small.losses(&batch, &ctx).unwrap(), wide.losses(&batch, &ctx).unwrap());
        adapt(&mut wide, name);
        adapt(&mut small, name);
        assert_eq!(gradients(&small, &batch), gradients(&wide, &batch), "{name}");
    }
}

#[test]
fn sixteen_bits_stay_within_a_hundredth_of_thirty_two() {
    for name in MODELS {
        let (exact, small) = (load(name), Model::load_compact(&folder(name)).unwrap());
        let (batch, ctx) = (batch(name), Ctx::new(0));
        let (gap, top) = distance(&small.logits(&batch, &ctx).unwrap(), &exact.logits(&batch, &ctx).unwrap());
        assert!(gap <= 0.02 * top, "{name}: {gap} of {top}");
        let loss = |model: &Model| model.losses(&batch, &ctx).unwrap().mean();
        assert!((loss(&small) / loss(&exact) - 1.0).abs() < 0.01, "{name}");
    }
}

#[test]
fn adapters_learn_on_either() {
    let rows: Vec<Sequence> = super::sequences(&super::golden("llama"));
    let run = |dtype, mut model: Model| {
        let tuning = Tuning::Lora(LoraConfig { r: 2, ..LoraConfig::default() });
        let learning_rate = Some(0.01);
        let config = SftConfig { tuning, dtype, learning_rate, max_steps: Some(5), ..SftConfig::default() };
        let report = Trainer::new(config, &rows).run(&mut model, &Ctx::new(1)).unwrap();
        merge(&mut model);
        (report.losses, bits(&model.params))
    };
    let wide = run(RestingDtype::F32, rounded("llama"));
    assert_eq!(wide, run(RestingDtype::Bf16, load("llama")));
    assert_eq!(wide, run(RestingDtype::Bf16, Model::load_compact(&folder("llama")).unwrap()));
}

#[test]
fn a_compact_model_is_saved_as_it_is_and_counted() {
    let target = tempfile::tempdir().unwrap();
    let small = Model::load_compact(&folder("llama")).unwrap();
    small.save(target.path()).unwrap();
    assert_eq!(bits(&Model::load(target.path()).unwrap().params), bits(&rounded("llama").params));
    let rows: Vec<Sequence> = super::sequences(&super::golden("llama"));
    let at = |dtype, model: &Model| {
        let tuning = Tuning::Lora(LoraConfig { r: 2, ..LoraConfig::default() });
        let config = SftConfig { tuning, dtype, learning_rate: Some(0.1), ..SftConfig::default() };
        Trainer::new(config, &rows).forecast(model).weights_bytes
    };
    let wide = load("llama");
    let (full, half) = (at(RestingDtype::F32, &wide), at(RestingDtype::Bf16, &small));
    let sizes = || wide.compactable().into_iter().map(|id| wide.params.get(id).entries() as u64);
    assert_eq!(full - half, 2 * sizes().sum::<u64>() - 4 * sizes().max().unwrap());
    assert_eq!(half, at(RestingDtype::Bf16, &wide));
}

#[test]
fn what_is_trained_is_not_kept_in_sixteen_bits() {
    let config = SftConfig { dtype: RestingDtype::Bf16, learning_rate: Some(0.1), ..SftConfig::default() };
    assert_eq!(config.check().unwrap_err().code(), "train/config");
}
