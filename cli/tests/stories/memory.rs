//! Memory of a real process: adapters against all weights, and the forecast against what is used.
#![cfg(target_os = "linux")]

use crate::story::Story;
use crate::train::questions;
use curate_datasets::tasks::Side;
use serde_json::{Value, json};

/// A model of 6 million numbers, 24 MB.
fn middling(story: &Story, hidden: usize) -> String {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": hidden,
        "intermediate_size": 3 * hidden, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": true
    });
    story.file(&format!("model-{hidden}/config.json"), config.to_string()).replace("/config.json", "")
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().expect("a number")
}

#[test]
fn adapters_need_less_and_the_forecast_holds() {
    let story = Story::new();
    let rows = questions(&story, "questions.parquet", 64, Side::Train);
    let (model, small) = (middling(&story, 352), middling(&story, 16));
    let run = |model: &str, out: &str, more: &[&str]| {
        let out = story.at(out);
        let fixed = ["train", &rows, "--model", model, "-o", &out, "--from-scratch", "--lr", "1e-3", "--json"];
        let steps = ["--batch-size", "32", "--max-steps", "3", "--threads", "1", "--no-cache"];
        story.curate(&[&fixed[..], &steps, more].concat()).json()
    };
    // what the program itself takes
    let floor = number(&run(&small, "floor", &[]), "peak_rss_bytes");
    let mut peaks = Vec::new();
    let kinds: [(&str, &[&str]); 2] = [("full", &[]), ("lora", &["--lora", "4"])];
    for (name, more) in kinds {
        let real = number(&run(&model, name, more), "peak_rss_bytes") - floor;
        let told = number(&run(&model, name, &[more, &["--dry-run"]].concat()), "total_bytes");
        assert!((0.6..1.67).contains(&(real / told)), "{name}: {real} bytes, {told} were foreseen");
        peaks.push(real);
    }
    assert!(peaks[1] < 0.6 * peaks[0], "adapters take {} bytes, all weights {}", peaks[1], peaks[0]);
}
