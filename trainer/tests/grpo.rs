//! Learning from answers: the objective against `PyTorch`, gradients against differences, the learner as others see it.
#![allow(
    clippy::cast_precision_loss,      // reason: small sizes
    clippy::cast_possible_truncation, // reason: small numbers
    clippy::cast_sign_loss,           // reason: counts
    clippy::float_cmp                 // reason: exact shares
)]

mod gradient;
mod learner;
mod objective;
mod sampling;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use curate_core::{Ctx, Pool};
use curate_trainer::grpo::{GrpoConfig, GrpoLearner};
use curate_trainer::model::{Config, Model};
use curate_trainer::sft::SftConfig;
use curate_trainer::tokenizer::TextTokenizer;
use std::sync::Arc;

/// Every character a token; a point ends an answer.
fn tokenizer() -> TextTokenizer {
    let vocab: serde_json::Map<_, _> =
        "0123456789+=.".chars().zip(0..).map(|(c, i): (char, u32)| (c.to_string(), i.into())).collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    TextTokenizer::from_json(file.to_string().as_bytes(), Some(".")).unwrap()
}

fn model(seed: u64) -> Model {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 13, "hidden_size": 24,
        "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 32, "rms_norm_eps": 1e-5, "initializer_range": 0.15, "hidden_act": "silu",
    });
    Model::init(Config::from_json(config).unwrap(), &Ctx::new(seed)).unwrap()
}

fn config(rate: f64) -> GrpoConfig {
    let train = SftConfig {
        learning_rate: Some(rate),
        warmup_ratio: 0.0,
        max_length: 32,
        batch_size: 7,
        ..SftConfig::default()
    };
    GrpoConfig { train, num_generations: 4, max_completion_length: 5, ..GrpoConfig::default() }
}

fn learner(config: GrpoConfig) -> GrpoLearner {
    GrpoLearner::new(model(1), tokenizer(), config, 100, &Ctx::new(0)).unwrap()
}

/// Sums of small numbers; the row id is `11 a + b`.
fn prompts(rows: impl IntoIterator<Item = u64>) -> Pool {
    let rows: Vec<u64> = rows.into_iter().collect();
    let text = |make: fn(u64, u64) -> String| {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| make(row / 11 % 10, row % 11 % 10)))) as ArrayRef
    };
    let columns = [
        ("row", Arc::new(UInt64Array::from(rows.clone())) as ArrayRef),
        ("prompt", text(|a, b| format!("{a}+{b}="))),
        ("completion", text(|a, b| (a + b).to_string())),
    ];
    Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap())
}
