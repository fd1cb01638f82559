//! The model against `PyTorch`: logits, losses, gradients, adapters and generation of five small random models.
#![allow(clippy::float_cmp, clippy::cast_precision_loss)] // reason: same bits is the promise; sizes become numbers

mod builtin;
mod compact;
pub(crate) mod device;
mod files;
mod golden;
mod gradients;

use curate_core::Ctx;
use curate_trainer::checkpoint::TensorFile;
use curate_trainer::model::{LoraRef, Model, StepOptions};
use curate_trainer::{Batch, Grads, IGNORE, Sequence, Tensor};
use serde_json::Value;
use std::path::PathBuf;

pub(crate) const MODELS: [&str; 5] = ["llama", "llama-tied", "mistral", "qwen2", "qwen3"];

pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/golden/trainer")).join(name)
}

pub(crate) fn load(name: &str) -> Model {
    Model::load(&folder(name)).unwrap()
}

pub(crate) fn golden(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder(name).join("golden.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

pub(crate) fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    numbers(value).into_iter().map(|id| u32::try_from(id).unwrap_or(IGNORE)).collect()
}

/// The sequences of a golden batch.
pub(crate) fn sequences(golden: &Value) -> Vec<Sequence> {
    let pairs = golden["tokens"].as_array().unwrap().iter().zip(golden["labels"].as_array().unwrap());
    pairs
        .zip(0..)
        .map(|((tokens, labels), row)| Sequence { row, tokens: ids(tokens), labels: ids(labels), weight: 1.0 })
        .collect()
}

pub(crate) fn batch(name: &str) -> Batch {
    Batch::of(&sequences(&golden(name)))
}

/// Put the golden adapter on a model and freeze everything else.
pub(crate) fn adapt(model: &mut Model, name: &str) {
    let mut file = TensorFile::open(&folder(name).join("adapter/adapter_model.safetensors")).unwrap();
    for at in 0..model.params.len() {
        model.params.get_mut(curate_trainer::ParamId(at)).trained = false;
    }
    let paths: Vec<String> = model.linears().map(|(path, _)| path).collect();
    for path in paths {
        let key = |side: &str| format!("base_model.model.{path}.lora_{side}.weight");
        let Some(shape) = file.shape(&key("A")).map(<[usize]>::to_vec) else { continue };
        let out = model.params.find(&format!("{path}.weight")).map(|id| model.params.get(id).shape[0]).unwrap();
        let mut push = |name: String, shape: Vec<usize>| {
            let data = file.floats(&name).unwrap();
            model.params.push(Tensor { name, shape, data, trained: true })
        };
        let (a, b) = (push(key("A"), shape.clone()), push(key("B"), vec![out, shape[0]]));
        let lora = LoraRef { a, b, scale: 6.0 / 4.0 };
        model.linears_mut().find(|(at, _)| *at == path).unwrap().1.lora = Some(lora);
    }
}

pub(crate) fn gradients(model: &Model, batch: &Batch) -> Grads {
    let mut grads = Grads::zeros(&model.params);
    model.gradients(batch, 1.0, StepOptions::default(), &mut grads, &Ctx::new(0)).unwrap();
    grads
}

/// Largest difference, and largest expected magnitude.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> (f32, f32) {
    assert_eq!(found.len(), expected.len());
    let gap = found
        .iter()
        .zip(expected)
        .map(|(f, e)| (f - e).abs())
        .fold(0.0, |a: f32, b| if b > a || b.is_nan() { b } else { a });
    (gap, expected.iter().fold(0.0, |top, e| top.max(e.abs())))
}
