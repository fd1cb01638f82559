//! What signals cost: a random Llama with adapters, rows of one length, one JSON line.
//!
//! `cargo run --release -p curate-trainer --example signals -- [hidden layers words rows tokens reps]`, threads by `RAYON_NUM_THREADS`.
//! Medians of wall-clock and processor seconds: probes for sets of signals; a step on all rows; a probe of all rows with a step on one
//! of eight of them, with and without shared activations.
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

/// Processor seconds of this process so far, where the system says; other work on the machine does not count.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = stat.split_whitespace().skip(13).take(2).filter_map(|ticks| ticks.parse().ok()).collect();
    fields.iter().sum::<u64>() as f64 / 100.0
}

/// One thing to measure: signals of all rows, then a step on the first few of them.
struct Work {
    name: &'static str,
    shared: bool,
    probe: Option<Vec<Column>>,
    step_rows: usize,
}

impl Work {
    fn new(name: &'static str, signals: &[&str]) -> Self {
        let probe = Some(signals.iter().map(|name| Column::signal(name)).collect());
        Self { name, shared: false, probe, step_rows: 0 }
    }

    fn step(self, step_rows: usize, shared: bool) -> Self {
        Self { shared, step_rows, ..self }
    }

    fn run(&self, learner: &mut SftLearner<Model>, pool: &Pool, ctx: &Ctx) -> Result<[f64; 2]> {
        let (wall, busy) = (Instant::now(), processor());
        if let Some(want) = &self.probe {
            learner.probe(pool, want, ctx)?;
        }
        if self.step_rows > 0 {
            learner.step(&pool.filter(&(0..self.step_rows).collect::<Vec<_>>())?, &[], ctx)?;
        }
        Ok([wall.elapsed().as_secs_f64(), processor() - busy])
    }
}

fn works(rows: usize) -> Vec<Work> {
    let forward = ["loss", "accuracy", "logprob_p05", "nuclear_norm", "sketch"];
    let few = rows.div_ceil(8);
    vec![
        Work::new("loss", &["loss"]),
        Work::new("loss_and_nuclear_norm", &["loss", "nuclear_norm"]),
        Work::new("loss_and_sketch", &["loss", "sketch"]),
        Work::new("all_of_the_forward_pass", &forward),
        Work::new("loss_and_grad_norm_last", &["loss", "grad_norm_last"]),
        Work::new("loss_and_grad_norm", &["loss", "grad_norm"]),
        Work::new("loss_and_ghost", &["loss", "ghost"]),
        Work { name: "step_on_all", shared: false, probe: None, step_rows: rows },
        Work::new("max_loss_step", &["loss"]).step(few, false),
        Work::new("uds_step", &["nuclear_norm", "sketch"]).step(few, false),
        Work::new("max_loss_step_shared", &["loss"]).step(few, true),
        Work::new("uds_step_shared", &["nuclear_norm", "sketch"]).step(few, true),
    ]
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<()> {
    let given: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes: Vec<usize> =
        [512, 8, 16_000, 8, 256, 5].iter().enumerate().map(|(at, size)| *given.get(at).unwrap_or(size)).collect();
    let (count, reps, ctx) = (sizes[3], sizes[5].max(1), Ctx::new(0));
    let (pool, works) = (rows(count, sizes[4], &ctx)?, works(count));
    let mut learners = [learner(&sizes, 0, &ctx)?, learner(&sizes, 8 << 30, &ctx)?];
    let mut found: Vec<[Vec<f64>; 2]> = vec![[Vec::new(), Vec::new()]; works.len()];
    // In turns, so that a busy minute falls on all alike; the first turn warms up.
    for turn in 0..=reps {
        for (work, found) in works.iter().zip(&mut found) {
            let seconds = work.run(&mut learners[usize::from(work.shared)], &pool, &ctx)?;
            if turn > 0 {
                found.iter_mut().zip(seconds).for_each(|(all, own)| all.push(own));
            }
        }
    }
    let named = |at: usize| {
        let pairs =
            works.iter().zip(&found).map(|(work, found)| (work.name.to_owned(), median(found[at].clone()).into()));
        pairs.collect::<serde_json::Map<String, serde_json::Value>>()
    };
    println!(
        "{}",
        serde_json::json!({"sizes": sizes, "threads": rayon::current_num_threads(), "wall_s": named(0), "processor_s": named(1)})
    );
    Ok(())
}
