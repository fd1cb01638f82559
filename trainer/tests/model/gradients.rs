//! What must hold of gradients whatever the numbers are.

use super::{MODELS, adapt, batch, distance, golden, gradients, load, sequences};
use curate_core::Ctx;
use curate_trainer::model::{Config, Model, StepOptions};
use curate_trainer::{Batch, Grads, ParamId};

fn freeze(model: &mut Model) {
    for at in 0..model.params.len() {
        model.params.get_mut(ParamId(at)).trained = false;
    }
}

#[test]
fn every_tensor_agrees_with_finite_differences() {
    for name in MODELS {
        let (mut model, batch, ctx) = (load(name), batch(name), Ctx::new(3));
        if name == "qwen2" {
            adapt(&mut model, name);
        }
        let grads = gradients(&model, &batch);
        let trained: Vec<ParamId> = model.params.iter().filter(|(_, t)| t.trained).map(|(id, _)| id).collect();
        for id in trained {
            let grad = grads.get(id).unwrap();
            let top = grad.iter().fold(0.0f32, |top, g| top.max(g.abs()));
            assert!(top > 0.0 && grad.iter().all(|g| g.is_finite()));
            let mut rng = ctx.rng(&model.params.get(id).name.clone(), 0);
            for _ in 0..20 {
                let at = usize::try_from(rng.below(grad.len() as u64)).unwrap();
                let before = model.params.get(id).data[at];
                let mut loss = |x: f32| {
                    model.params.get_mut(id).data[at] = x;
                    let loss = model.losses(&batch, &ctx).unwrap().total();
                    (loss, f64::from(model.params.get(id).data[at]))
                };
                let ((high, to), (low, from)) = (loss(before + 3e-3), loss(before - 3e-3));
                loss(before);
                let slope = (high - low) / (to - from);
                let gap = (slope - f64::from(grad[at])).abs();
                let name = &model.params.get(id).name;
                assert!(gap < 3e-3 * f64::from(top.max(1.0)), "{name}[{at}]: {slope} is not {} of {top}", grad[at]);
            }
        }
    }
}

#[test]
fn one_tensor_alone_gets_the_bits_it_gets_among_all() {
    for name in MODELS {
        let (mut model, batch) = (load(name), batch(name));
        let all = gradients(&model, &batch);
        for at in 0..model.params.len() {
            freeze(&mut model);
            model.params.get_mut(ParamId(at)).trained = true;
            let alone = gradients(&model, &batch);
            let what = &model.params.get(ParamId(at)).name;
            assert_eq!(alone.get(ParamId(at)), all.get(ParamId(at)), "{name} {what}");
        }
    }
}

#[test]
fn one_adapter_alone_gets_the_bits_it_gets_among_all() {
    let (mut model, batch) = (load("qwen2"), batch("qwen2"));
    adapt(&mut model, "qwen2");
    let all = gradients(&model, &batch);
    let adapters: Vec<ParamId> = model.params.iter().filter(|(_, t)| t.trained).map(|(id, _)| id).collect();
    assert_eq!(adapters.len(), 28);
    for id in adapters {
        freeze(&mut model);
        model.params.get_mut(id).trained = true;
        assert_eq!(gradients(&model, &batch).get(id), all.get(id), "{}", model.params.get(id).name);
    }
}

#[test]
fn checkpointing_and_threads_do_not_change_a_bit() {
    for name in MODELS {
        let (model, batch, ctx) = (load(name), batch(name), Ctx::new(0));
        let run = |gradient_checkpointing: bool| {
            let mut grads = Grads::zeros(&model.params);
            let options = StepOptions { gradient_checkpointing };
            let losses = model.gradients(&batch, 0.5, options, &mut grads, &ctx).unwrap();
            (grads, losses)
        };
        let plain = run(false);
        assert_eq!(plain, run(true), "{name}");
        assert_eq!(plain.1, model.losses(&batch, &ctx).unwrap(), "{name}");
    }
    // Large enough for every product to be shared out.
    let raw = serde_json::json!({"model_type": "qwen3", "vocab_size": 500, "hidden_size": 96, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 24});
    let model = Model::init(Config::from_json(raw).unwrap(), &Ctx::new(5)).unwrap();
    let sequence = |row: u64| {
        let tokens: Vec<u32> = (0..150).map(|i| (i * 7 + 11 * u32::try_from(row).unwrap()) % 500).collect();
        curate_trainer::Sequence { row, labels: tokens.clone(), tokens, weight: 1.0 }
    };
    let batch = Batch::of(&(0..3).map(sequence).collect::<Vec<_>>());
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| (gradients(&model, &batch), model.losses(&batch, &Ctx::new(0)).unwrap()))
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}

#[test]
fn a_batch_is_the_sum_of_its_sequences() {
    for name in MODELS {
        let (model, ctx) = (load(name), Ctx::new(0));
        let sequences = sequences(&golden(name));
        let together = gradients(&model, &batch(name));
        let mut sum = Grads::zeros(&model.params);
        let mut alone = Vec::new();
        for sequence in &sequences {
            let batch = Batch::of([sequence]);
            alone.extend(model.gradients(&batch, 1.0, StepOptions::default(), &mut sum, &ctx).unwrap().nll);
        }
        for (id, tensor) in model.params.iter() {
            let (gap, top) = distance(together.get(id).unwrap(), sum.get(id).unwrap());
            assert!(gap <= 1e-5 * top, "{name} {}: {gap} of {top}", tensor.name);
        }
        let losses = model.losses(&batch(name), &ctx).unwrap();
        assert!(losses.nll.iter().zip(&alone).all(|(a, b)| (a - b).abs() < 1e-4));
    }
}

#[test]
fn nothing_labelled_nothing_learnt() {
    let (model, ctx) = (load("llama"), Ctx::new(0));
    let none = |tokens: Vec<u32>| {
        Batch::of([&curate_trainer::Sequence {
            row: 0,
            labels: vec![curate_trainer::IGNORE; tokens.len()],
            tokens,
            weight: 1.0,
        }])
    };
    for batch in [none(vec![1, 2, 3]), none(vec![1]), none(vec![]), Batch::default()] {
        let grads = gradients(&model, &batch);
        assert_eq!(grads, Grads::zeros(&model.params));
        assert_eq!(model.losses(&batch, &ctx).unwrap().total(), 0.0);
    }
    let mut outside = none(vec![1, 97]);
    assert_eq!(model.losses(&outside, &ctx).unwrap_err().code(), "trainer/batch");
    outside = none(vec![1, 2]);
    outside.labels[1] = 97;
    assert!(model.losses(&outside, &ctx).unwrap_err().to_string().contains("row 0"));
}
