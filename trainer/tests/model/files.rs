//! Model folders: what is read, what is written, what is refused.

use super::{MODELS, batch, folder, load};
use curate_core::{Ctx, Error};
use curate_trainer::ParamId;
use curate_trainer::model::{Config, Dtype, Family, Model};
use serde_json::{Value, json};
use std::path::Path;

fn config(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder(name).join("config.json")).unwrap()).unwrap()
}

#[test]
fn what_is_saved_is_loaded_again() {
    for name in MODELS {
        let model = load(name);
        let target = tempfile::tempdir().unwrap();
        model.save(target.path()).unwrap();
        let again = Model::load(target.path()).unwrap();
        assert_eq!(again.config, model.config);
        assert!(model.params.iter().zip(again.params.iter()).all(|((_, a), (_, b))| a == b), "{name}");
        let (batch, ctx) = (batch(name), Ctx::new(0));
        assert_eq!(model.losses(&batch, &ctx).unwrap(), again.losses(&batch, &ctx).unwrap());
    }
    assert_eq!(load("mistral").config.dtype, Dtype::Bf16);
}

#[test]
fn fresh_weights_follow_the_seed() {
    let fresh = |seed| Model::init(Config::from_json(config("llama")).unwrap(), &Ctx::new(seed)).unwrap();
    let (a, b, c) = (fresh(1), fresh(1), fresh(2));
    assert_eq!(a.params.get(a.embed), b.params.get(b.embed));
    assert_ne!(a.params.get(a.embed), c.params.get(c.embed));
    let data = &a.params.get(a.embed).data;
    let variance = data.iter().map(|x| x * x).sum::<f32>() / data.len() as f32;
    assert!((variance.sqrt() / 0.02 - 1.0).abs() < 0.05);
    assert!(a.params.get(a.final_norm).data.iter().all(|x| *x == 1.0));
}

/// Load a copy of the golden Llama after something was done to it.
fn spoiled(spoil: impl FnOnce(&Path)) -> Error {
    let target = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(folder("llama").join(name), target.path().join(name)).unwrap();
    }
    spoil(target.path());
    Model::load(target.path()).unwrap_err()
}

fn edit(folder: &Path, change: impl FnOnce(&mut Value)) {
    let mut config = config("llama");
    change(&mut config);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn broken_folders_are_refused_with_what_is_wrong() {
    let error = spoiled(|f| std::fs::remove_file(f.join("model.safetensors")).unwrap());
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    let error = spoiled(|f| std::fs::remove_file(f.join("config.json")).unwrap());
    assert!(error.to_string().contains("config.json"), "{error}");
    let error = spoiled(|f| {
        let path = f.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
    });
    assert_eq!(error.code(), "model/safetensors");
    let error = spoiled(|f| edit(f, |c| c["num_hidden_layers"] = json!(3)));
    assert!(error.to_string().contains("'model.layers.2.input_layernorm.weight' is missing"), "{error}");
    let error = spoiled(|f| edit(f, |c| c["num_hidden_layers"] = json!(1)));
    assert!(error.to_string().contains("has no place"), "{error}");
    let error = spoiled(|f| edit(f, |c| c["intermediate_size"] = json!(41)));
    assert!(error.to_string().contains("has shape [40, 32], config.json asks for [41, 32]"), "{error}");
    assert!(error.hint_text().is_some());
    let error = spoiled(|f| std::fs::write(f.join("config.json"), "{").unwrap());
    assert_eq!(error.code(), "model/config");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let refused = |key: &str, value: Value| {
        let mut config = config("llama");
        config[key] = value;
        Config::from_json(config).unwrap_err()
    };
    let error = refused("architectures", json!(["GPT2LMHeadModel"]));
    assert!(error.to_string().contains("GPT2LMHeadModel") && error.hint_text().unwrap().contains("Qwen3ForCausalLM"));
    for (key, value, word) in [
        ("hidden_act", json!("gelu"), "gelu"),
        ("rope_scaling", json!({"rope_type": "dynamic", "factor": 2.0}), "dynamic"),
        ("rope_scaling", json!({"type": "longrope"}), "longrope"),
        ("rope_scaling", json!({"rope_type": "linear"}), "factor"),
        ("rope_scaling", json!({"rope_type": "linear", "factor": 0.0}), "factor"),
        ("rope_parameters", json!({"rope_type": "default", "partial_rotary_factor": 0.5}), "partial"),
        ("quantization_config", json!({"bits": 4}), "quantization"),
        ("torch_dtype", json!("float8"), "float8"),
        ("num_key_value_heads", json!(3), "multiple"),
        ("head_dim", json!(7), "odd"),
        ("vocab_size", json!(0), "vocab_size"),
        ("hidden_size", json!("x"), "invalid type"),
    ] {
        let error = refused(key, value);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn windows_and_defaults_by_family() {
    let read = |name: &str, changes: Value| {
        let mut config = config(name);
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        Config::from_json(config).unwrap()
    };
    assert_eq!(read("mistral", json!({})).windows, [Some(5); 2]);
    assert_eq!(read("mistral", json!({"sliding_window": null})).windows, [None; 2]);
    let qwen = json!({"use_sliding_window": true, "sliding_window": 7, "max_window_layers": 1, "layer_types": null});
    assert_eq!(read("qwen2", qwen).windows, [None, Some(7)]);
    let typed = json!({"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"]});
    assert_eq!(read("qwen3", typed).windows, [Some(7), None]);
    let qwen2 = read("qwen2", json!({"architectures": null}));
    assert!(qwen2.family == Family::Qwen2 && qwen2.biases.qkv && !qwen2.biases.o);
    assert_eq!(read("qwen3", json!({"head_dim": null})).head_dim, 128);
}

#[test]
fn adapters_are_not_saved_with_the_base() {
    let mut model = load("qwen2");
    super::adapt(&mut model, "qwen2");
    let target = tempfile::tempdir().unwrap();
    model.save(target.path()).unwrap();
    let plain = Model::load(target.path()).unwrap();
    assert_eq!(plain.params.len(), load("qwen2").params.len());
    assert_eq!(plain.params.get(ParamId(0)).data, model.params.get(ParamId(0)).data);
}
