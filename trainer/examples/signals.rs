//! What signals cost: a random Llama with adapters, rows of one length, one JSON line.
//!
//! `cargo run --release -p curate-trainer --example signals -- [hidden layers words rows tokens reps]`, threads by `RAYON_NUM_THREADS`.
//! Seconds are medians. `share` of a set of signals: what it adds to a probe of the loss alone. `uds`: probe for nuclear norms and
//! sketches of all rows, step on one of eight of them, with and without shared activations; `full`: step on all rows.
#![allow(clippy::cast_precision_loss)] // reason: rates

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use curate_core::{Column, Ctx, Learner, Pool, Result};
use curate_trainer::data::LossOn;
use curate_trainer::lora::LoraConfig;
use curate_trainer::model::{Config, Model};
use curate_trainer::sft::{SftConfig, SftLearner, Tuning};
use curate_trainer::signals::SignalOptions;
use curate_trainer::tokenizer::TextTokenizer;
use std::sync::Arc;
use std::time::Instant;

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";

fn tokenizer() -> Result<TextTokenizer> {
    let vocab: serde_json::Map<_, _> =
        LETTERS.chars().zip(0..).map(|(c, i): (char, u32)| (c.to_string(), i.into())).collect();
    let file = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    TextTokenizer::from_json(file.to_string().as_bytes(), Some("a"))
}

fn rows(count: usize, tokens: usize, ctx: &Ctx) -> Result<Pool> {
    let text = |row: usize| -> String {
        let mut rng = ctx.rng("text", row as u64);
        (1..tokens).map(|_| char::from(LETTERS.as_bytes()[usize::try_from(rng.below(26)).unwrap_or(0)])).collect()
    };
    let texts = Arc::new(StringArray::from_iter_values((0..count).map(text))) as ArrayRef;
    Ok(Pool::from_batch(RecordBatch::try_from_iter([("text", texts)])?))
}

fn learner(sizes: &[usize], share_bytes: u64, ctx: &Ctx) -> Result<SftLearner<Model>> {
    let heads = (sizes[0] / 64).max(1);
    let config = serde_json::json!({"model_type": "llama", "vocab_size": sizes[2], "hidden_size": sizes[0],
        "intermediate_size": sizes[0] * 8 / 3 / 16 * 16, "num_hidden_layers": sizes[1], "num_attention_heads": heads,
        "num_key_value_heads": heads});
    let model = Model::init(Config::from_json(config)?, ctx)?;
    let config = SftConfig {
        learning_rate: Some(1e-4),
        loss_on: LossOn::All,
        batch_size: sizes[3],
        max_length: 512.max(sizes[4]),
        tuning: Tuning::Lora(LoraConfig::default()),
        ..SftConfig::default()
    };
    let learner = SftLearner::new(model, tokenizer()?, config, 1000, ctx)?;
    Ok(learner.with_signals(SignalOptions { share_bytes, ..SignalOptions::default() }))
}

fn median(reps: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let mut seconds = Vec::new();
    for _ in 0..reps {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes: Vec<usize> =
        [512, 8, 16_000, 8, 256, 5].iter().enumerate().map(|(at, size)| *given.get(at).unwrap_or(size)).collect();
    let (count, reps, ctx) = (sizes[3], sizes[5], Ctx::new(0));
    let pool = rows(count, sizes[4], &ctx)?;
    let signals = |names: &[&str]| names.iter().map(|name| Column::signal(name)).collect::<Vec<_>>();
    let mut plain = learner(&sizes, 0, &ctx)?;
    let mut probe = |names: &[&str]| {
        let want = signals(names);
        median(reps, || plain.probe(&pool, &want, &ctx).map(drop))
    };
    let loss = probe(&["loss"])?;
    let forward = ["loss", "accuracy", "logprob_p05", "nuclear_norm", "sketch"];
    let share = |seconds: f64| seconds / loss - 1.0;
    let added: Vec<(&str, f64)> = vec![
        ("nuclear_norm", share(probe(&["loss", "nuclear_norm"])?)),
        ("sketch", share(probe(&["loss", "sketch"])?)),
        ("all_forward", share(probe(&forward)?)),
        ("grad_norm_last", share(probe(&["loss", "grad_norm_last"])?)),
        ("grad_norm", share(probe(&["loss", "grad_norm"])?)),
        ("ghost", share(probe(&["loss", "ghost"])?)),
    ];
    let full = median(reps, || plain.step(&pool, &[], &ctx).map(drop))?;
    let chosen = pool.filter(&(0..count.div_ceil(8)).collect::<Vec<_>>())?;
    let uds = |learner: &mut SftLearner<Model>, names: &[&str]| {
        let want = signals(names);
        median(reps, || {
            learner.probe(&pool, &want, &ctx)?;
            learner.step(&chosen, &[], &ctx).map(drop)
        })
    };
    let mut shared = learner(&sizes, 8 << 30, &ctx)?;
    let (with, without) =
        (uds(&mut shared, &["nuclear_norm", "sketch"])?, uds(&mut plain, &["nuclear_norm", "sketch"])?);
    let by_loss = uds(&mut shared, &["loss"])?;
    let per_second = |seconds: f64| count as f64 / seconds;
    let added: serde_json::Map<_, _> = added.into_iter().map(|(name, share)| (name.to_owned(), share.into())).collect();
    println!(
        "{}",
        serde_json::json!({"sizes": sizes, "threads": rayon::current_num_threads(), "loss_s": loss,
            "loss_rows_per_s": per_second(loss), "share": added, "full_s": full, "uds_s": with, "uds_unshared_s": without,
            "uds_scoring_share": with / by_loss - 1.0, "uds_rows_over_full": full / with})
    );
    Ok(())
}
