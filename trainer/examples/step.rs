//! One training step, timed: a random Llama with adapters on queries and values, as the peers' benchmark builds it.
//!
//! `cargo run --release -p curate-trainer --example step -- [lora|lora-bf16|full|score] [reps]`, threads by `RAYON_NUM_THREADS`.
//! Prints one JSON line: seconds and tokens a second (median), peak memory, loss before and after.

use curate_core::{Ctx, Result};
use curate_trainer::model::{Config, Linear, LoraRef, Model, StepOptions};
use curate_trainer::sft::Differentiable;
use curate_trainer::{Batch, Grads, ParamId, Sequence, Tensor};
use std::time::Instant;

const SEQ: usize = 256;
const BATCH: u64 = 8;
const VOCAB: u64 = 8000;
const RANK: usize = 8;

/// The toy stream of the peers' benchmark: the next token is three times the last, plus 0 or 1.
fn batch(ctx: &Ctx) -> Batch {
    let sequence = |row: u64| {
        let mut rng = ctx.rng("tokens", row);
        let mut token = rng.below(VOCAB);
        let tokens: Vec<u32> = (0..SEQ)
            .map(|_| {
                let now = token;
                token = (3 * token + rng.below(2)) % VOCAB;
                u32::try_from(now).unwrap_or(0)
            })
            .collect();
        Sequence { row, labels: tokens.clone(), tokens, weight: 1.0 }
    };
    Batch::of(&(0..BATCH).map(sequence).collect::<Vec<_>>())
}

fn model(ctx: &Ctx) -> Result<Model> {
    let config = serde_json::json!({"model_type": "llama", "vocab_size": VOCAB, "hidden_size": 256,
        "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8});
    Model::init(Config::from_json(config)?, ctx)
}

fn adapt(model: &mut Model, ctx: &Ctx) {
    for at in 0..model.params.len() {
        model.params.get_mut(ParamId(at)).trained = false;
    }
    for index in 0..model.layers.len() {
        let layer = &mut model.layers[index];
        let (params, mut rng) = (&mut model.params, ctx.rng("lora", index as u64));
        for (name, linear) in [("q_proj", &mut layer.q), ("v_proj", &mut layer.v)] {
            attach(params, (linear, &format!("{index}.{name}")), || {
                #[allow(clippy::cast_possible_truncation)] // reason: weights are f32
                let x = (2.0 * rng.uniform() - 1.0) as f32;
                x / 16.0
            });
        }
    }
}

fn attach(params: &mut curate_trainer::Params, (linear, name): (&mut Linear, &str), mut draw: impl FnMut() -> f32) {
    let shape = params.get(linear.weight).shape.clone();
    let mut push = |side: &str, shape: Vec<usize>, data: Vec<f32>| {
        params.push(Tensor { name: format!("{name}.{side}"), shape, data, trained: true })
    };
    let a = push("a", vec![RANK, shape[1]], (0..RANK * shape[1]).map(|_| draw()).collect());
    let b = push("b", vec![shape[0], RANK], vec![0.0; RANK * shape[0]]);
    linear.lora = Some(LoraRef { a, b, scale: 2.0 });
}

/// A plain `AdamW` without decay: what the step costs besides the model.
fn update(model: &mut Model, grads: &Grads, moments: &mut [(Vec<f32>, Vec<f32>)], step: i32) {
    let (c1, c2) = (1.0 - 0.9f32.powi(step), 1.0 - 0.999f32.powi(step));
    for (at, (m, v)) in moments.iter_mut().enumerate() {
        let Some(grad) = grads.get(ParamId(at)) else { continue };
        m.resize(grad.len(), 0.0);
        v.resize(grad.len(), 0.0);
        let data = &mut model.params.get_mut(ParamId(at)).data;
        for (((x, g), m), v) in data.iter_mut().zip(grad).zip(m).zip(v) {
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            *x -= 1e-3 * (*m / c1) / ((*v / c2).sqrt() + 1e-8);
        }
    }
}

/// Peak resident memory in MiB, where the system says.
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = arguments.first().map_or("lora", String::as_str);
    let reps: usize = arguments.get(1).and_then(|reps| reps.parse().ok()).unwrap_or(10);
    let checkpointing = arguments.get(2).is_some();
    let ctx = Ctx::new(0);
    let (mut model, batch) = (model(&ctx)?, batch(&ctx));
    if mode.starts_with("lora") {
        adapt(&mut model, &ctx);
    }
    if mode == "lora-bf16" {
        model.compactable().into_iter().for_each(|id| model.params.shrink(id));
    }
    let scale = 1.0 / 2040.0;
    let mut grads = if mode == "score" { Grads::default() } else { Grads::zeros(&model.params) };
    let mut moments = vec![(Vec::new(), Vec::new()); model.params.len()];
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 0..reps + 2 {
        let start = Instant::now();
        let loss = if mode == "score" {
            model.losses(&batch, &ctx)?.mean()
        } else {
            grads.clear();
            let options = StepOptions { gradient_checkpointing: checkpointing };
            let loss = model.gradients(&batch, scale, options, &mut grads, &ctx)?.mean();
            update(&mut model, &grads, &mut moments, i32::try_from(step).unwrap_or(0) + 1);
            loss
        };
        losses.push(loss);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let mut timed = seconds.split_off(2);
    timed.sort_by(f64::total_cmp);
    let median = timed[timed.len() / 2];
    println!(
        "{}",
        serde_json::json!({"mode": mode, "checkpointing": checkpointing, "threads": rayon::current_num_threads(),
            "median_s": median, "min_s": timed[0], "tokens_per_s": 2048.0 / median,
            "peak_mib": peak_mib(), "first_loss": losses[0], "last_loss": losses.last()})
    );
    Ok(())
}
