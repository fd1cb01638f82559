//! Against the numbers `PyTorch` gives.

use super::{MODELS, adapt, batch, distance, floats, folder, golden, gradients, ids, load, sequences};
use curate_core::Ctx;
use curate_trainer::checkpoint::TensorFile;
use curate_trainer::model::{Config, Generator, Model};
use curate_trainer::{Batch, IGNORE, Sequence};
use serde_json::Value;

fn check_logits(model: &Model, name: &str, file: &mut TensorFile) {
    let (batch, ctx) = (batch(name), Ctx::new(0));
    let (logits, vocabulary) = (model.logits(&batch, &ctx).unwrap(), model.config.vocab_size);
    for (i, segment) in batch.segments.iter().enumerate() {
        let expected = file.floats(&format!("logits.{i}")).unwrap();
        let (gap, top) = distance(&logits[segment.start * vocabulary..segment.end * vocabulary], &expected);
        assert!(gap <= 2e-6 * top.max(1.0), "{name} {i}: logits differ by {gap} of {top}");
    }
}

fn check_losses(model: &Model, name: &str, expected: &Value) {
    let batch = batch(name);
    let losses = model.losses(&batch, &Ctx::new(0)).unwrap();
    let expected = floats(expected);
    for (found, expected) in losses.nll.iter().zip(&expected) {
        assert!((found - expected).abs() <= 2e-6 * expected.max(1.0), "{name}: {found} is not {expected}");
    }
    assert_eq!(losses.labels(), batch.labelled());
    let vocabulary = model.config.vocab_size;
    let logits = model.logits(&batch, &Ctx::new(0)).unwrap();
    for i in (1..batch.tokens.len()).filter(|i| batch.labels[*i] != IGNORE) {
        let row = &logits[(i - 1) * vocabulary..i * vocabulary];
        let best = row.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(losses.token_hit[i], row[batch.labels[i] as usize] == best);
    }
}

/// Every gradient to 1e-5 of the tensor's largest.
fn check_gradients(model: &Model, name: &str, file: &mut TensorFile) {
    let grads = gradients(model, &batch(name));
    for (id, tensor) in model.params.iter().filter(|(_, tensor)| tensor.trained) {
        let expected = file.floats(&format!("grad.{}", tensor.name)).unwrap();
        let (gap, top) = distance(grads.get(id).unwrap(), &expected);
        assert!(gap <= 1e-5 * top, "{name} {}: gradients differ by {gap} of {top}", tensor.name);
        assert!(top > 0.0, "{name} {}: no gradient", tensor.name);
    }
}

#[test]
fn logits_losses_and_gradients_are_those_of_pytorch() {
    for name in MODELS {
        let model = load(name);
        let mut file = TensorFile::open(&folder(name).join("golden.safetensors")).unwrap();
        check_logits(&model, name, &mut file);
        check_losses(&model, name, &golden(name)["losses"]);
        check_gradients(&model, name, &mut file);
    }
}

#[test]
fn adapters_are_those_of_peft() {
    for name in ["llama", "qwen2"] {
        let mut model = load(name);
        adapt(&mut model, name);
        let mut file = TensorFile::open(&folder(name).join("adapter/golden.safetensors")).unwrap();
        check_logits(&model, name, &mut file);
        check_losses(&model, name, &golden(name)["adapter_losses"]);
        check_gradients(&model, name, &mut file);
        let grads = gradients(&model, &batch(name));
        assert!(model.params.iter().all(|(id, tensor)| grads.get(id).is_some() == tensor.trained));
    }
}

/// Greedy answers with nothing but full passes.
fn slowly(model: &Model, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        let sequence = Sequence { row: 0, labels: vec![IGNORE; tokens.len()], tokens: tokens.clone(), weight: 1.0 };
        let logits = model.logits(&Batch::of([&sequence]), &Ctx::new(0)).unwrap();
        let last = &logits[logits.len() - model.config.vocab_size..];
        let best = (0..last.len()).max_by(|a, b| last[*a].total_cmp(&last[*b])).unwrap();
        tokens.push(u32::try_from(best).unwrap());
    }
    tokens.split_off(prompt.len())
}

#[test]
fn generation_with_a_cache_is_that_of_full_passes_and_of_pytorch() {
    let ctx = Ctx::new(0);
    for name in MODELS {
        let (model, golden) = (load(name), golden(name));
        let mut prompts: Vec<Vec<u32>> = sequences(&golden).into_iter().map(|s| s.tokens).collect();
        prompts.push(ids(&golden["prompt"]));
        prompts.push(Vec::new());
        let answers = Generator::new(&model).generate(&prompts, 12, &[], &ctx).unwrap();
        for (prompt, answer) in prompts.iter().zip(&answers).take(prompts.len() - 1) {
            assert_eq!(*answer, slowly(&model, prompt, 12), "{name}");
        }
        assert_eq!(answers[prompts.len() - 2], ids(&golden["greedy"]), "{name}");
        assert!(answers[prompts.len() - 1].is_empty());
    }
}

#[test]
fn generation_stops_and_draws_by_seed() {
    let model = load("llama");
    let prompt = ids(&golden("llama")["prompt"]);
    let greedy = ids(&golden("llama")["greedy"]);
    let prompts = [vec![5, 6], prompt];
    let stopped = Generator::new(&model).generate(&prompts, 12, &greedy[3..4], &Ctx::new(0)).unwrap();
    let cut = greedy.iter().position(|token| *token == greedy[3]).unwrap();
    assert_eq!(stopped[1], greedy[..cut]);
    let draw = |seed, t| Generator::new(&model).temperature(t).generate(&prompts, 12, &[], &Ctx::new(seed)).unwrap();
    assert_eq!(draw(1, 1.0), draw(1, 1.0));
    assert_ne!(draw(1, 1.0), draw(2, 1.0));
    assert_eq!(draw(1, 1e-6)[1], greedy);
    let alone = Generator::new(&model).temperature(1.0).generate(&prompts[..1], 12, &[], &Ctx::new(1)).unwrap();
    assert_eq!(draw(1, 1.0)[0], alone[0]);
}

#[test]
fn rope_is_stretched_as_transformers_does() {
    let text = std::fs::read_to_string(folder("rope.json")).unwrap();
    for case in serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap() {
        let config = Config::from_json(case["config"].clone()).unwrap();
        let (frequencies, factor) = config.rope.frequencies();
        for (found, expected) in frequencies.iter().zip(floats(&case["frequencies"])) {
            let gap = (f64::from(*found) / expected - 1.0).abs();
            assert!(gap < 5e-6, "{}: {found} is not {expected}", case["name"]);
        }
        assert!((f64::from(factor) - case["factor"].as_f64().unwrap()).abs() < 1e-6);
    }
}
