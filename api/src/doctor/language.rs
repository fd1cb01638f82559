//! A language model of random weights: its losses and gradients, and how fast it scores and learns.
//!
//! On a device both are compared with the processor's; on the processor the gradient is compared with the change of the loss along it.
//! Operations: two a weight and token of the linear maps and the head, `2 L (L + 1)` a text of L tokens, head number and block times the width of a head for
//! attention; a way back through weights that rest costs the maps once more and attention twice more.

use super::{Check, Figure, Size, Subject, worst};
use crate::Result;
use curate_core::kernels::cuda::net::Precision;
use curate_trainer::lora::{LoraConfig, attach};
use curate_trainer::model::{Config, Losses, Model, StepOptions};
use curate_trainer::{Batch, Grads, ParamId, Sequence};
use serde_json::{Value, json};

/// Errors allowed to losses and gradients on a device, in f32 and in bf16, as shares of the largest loss and of the length of the gradient.
const WIDE: [f64; 2] = [2e-5, 1e-4];
const HALF: [f64; 2] = [2e-2, 6e-2];
/// Error allowed to the change of the loss along its gradient: what the third derivative leaves.
const SLOPE: f64 = 2e-2;

pub(super) fn checks(s: &Subject<'_>) -> Result<Vec<Check>> {
    let (config, lengths): (Value, &[usize]) = match s.size {
        Size::Tiny => (qwen(32, 48, (2, 4, 2), 61), &[9, 3, 14]),
        Size::Quick | Size::Full => (qwen(128, 352, (3, 8, 2), 997), &[120, 33, 7, 64]),
    };
    let model = Model::init(Config::from_json(config)?, &s.ctx.labelled("doctor"))?;
    let batch = batch(s, lengths, model.config.vocab_size);
    let (losses, slope) = pass(s, &model, &batch)?;
    let Some(device) = s.device() else {
        return Ok(vec![s.check("language model: change of the loss along its gradient", SLOPE, || {
            along(s, &model, &batch, &slope)
        })?]);
    };
    let mut all = Vec::new();
    for precision in s.precisions() {
        let (name, bounds) = if precision == Precision::F32 { ("f32", WIDE) } else { ("bf16", HALF) };
        let mut on_device = model.clone();
        on_device.set_accelerators(vec![device.clone()], precision);
        let mut found = None;
        all.push(s.check(format!("language model, {name}: losses"), bounds[0], || {
            let (again, slope) = pass(s, &on_device, &batch)?;
            let top = losses.token_nll.iter().fold(0.0, |top: f32, nll| top.max(nll.abs()));
            let gap = |(a, b): (&f32, &f32)| f64::from((a - b).abs() / top);
            let error = worst(again.token_nll.iter().zip(&losses.token_nll).map(gap));
            found = Some(slope);
            Ok(error)
        })?);
        if let Some(found) = found {
            all.push(s.check(format!("language model, {name}: gradients"), bounds[1], || {
                let (gap, length) = distance(&model, &found, &slope);
                Ok(gap / length)
            })?);
        }
    }
    Ok(all)
}

pub(super) fn figures(s: &Subject<'_>) -> Result<Vec<Figure>> {
    let gpu = s.device().is_some();
    let (config, texts, length): (Value, usize, usize) = match (s.size, gpu) {
        (Size::Tiny, _) => (qwen(32, 48, (1, 4, 2), 61), 2, 8),
        (Size::Quick, true) => (qwen(896, 4864, (4, 14, 2), 151_936), 16, 512),
        (Size::Full, true) => (qwen(896, 4864, (24, 14, 2), 151_936), 64, 512),
        (Size::Quick, false) => (qwen(256, 704, (2, 4, 2), 8192), 4, 256),
        (Size::Full, false) => (qwen(512, 1408, (4, 8, 2), 16_384), 8, 512),
    };
    let mut model = Model::init(Config::from_json(config)?, &s.ctx.labelled("doctor"))?;
    if let Some(device) = s.device() {
        model.set_accelerators(vec![device.clone()], Precision::of(device));
    }
    let batch = batch(s, &vec![length; texts], model.config.vocab_size);
    let weights: usize = model.params.iter().map(|(_, tensor)| tensor.data.len()).sum();
    let size = format!("{:.0}M weights, {texts} texts of {length} tokens", weights as f64 / 1e6);
    let [maps, attention] = operations(&model.config, texts, length);
    let mut all = vec![s.figure("language model, scoring", size.clone(), |figure| {
        let seconds = s.seconds(|| model.losses(&batch, s.ctx).map(drop))?;
        figure.seconds = Some(seconds);
        figure.rate = Some((maps + attention) / seconds / 1e12);
        "TFLOP/s".clone_into(&mut figure.unit);
        figure.goal = gpu.then(|| "40 % of the product".to_owned());
        figure.note = Some(format!("{:.0} tokens/s", batch.tokens.len() as f64 / seconds));
        Ok(())
    })?];
    attach(&mut model, &LoraConfig { r: 16, ..LoraConfig::default() }, s.ctx)?;
    let adapters: Vec<ParamId> = model.params.iter().filter(|(_, t)| t.trained).map(|(id, _)| id).collect();
    let own: usize = adapters.iter().map(|id| model.params.get(*id).data.len()).sum();
    all.push(s.figure("LoRA step, rank 16", size, |figure| {
        let mut grads = Grads::zeros(&model.params);
        let seconds = s.seconds(|| {
            model.gradients(&batch, 1e-4, StepOptions { gradient_checkpointing: false }, &mut grads, s.ctx)?;
            for id in &adapters {
                let step = grads.get(*id).unwrap_or_default().to_vec();
                model.params.get_mut(*id).data.iter_mut().zip(&step).for_each(|(x, g)| *x -= 1e-6 * g);
            }
            Ok(())
        })?;
        let done = 2.0 * maps + 3.0 * attention + 6.0 * own as f64 * batch.tokens.len() as f64;
        figure.seconds = Some(seconds);
        figure.rate = Some(done / seconds / 1e12);
        "TFLOP/s".clone_into(&mut figure.unit);
        figure.goal = gpu.then(|| "30 % of the product".to_owned());
        figure.note = Some("gradients, a plain step on the host, and the adapters sent again".to_owned());
        Ok(())
    })?);
    Ok(all)
}

/// A Qwen2 configuration: width, width of the feed-forward part, (blocks, heads, key heads), words.
fn qwen(hidden: usize, wide: usize, (blocks, heads, keys): (usize, usize, usize), words: usize) -> Value {
    json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_act": "silu", "hidden_size": hidden,
        "intermediate_size": wide, "num_hidden_layers": blocks, "num_attention_heads": heads,
        "num_key_value_heads": keys, "vocab_size": words, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0, "tie_word_embeddings": true, "initializer_range": 0.05
    })
}

/// Texts of random tokens; every token but the first is a label.
fn batch(s: &Subject<'_>, lengths: &[usize], words: usize) -> Batch {
    let sequence = |(row, length): (u64, &usize)| {
        let mut rng = s.ctx.rng("tokens", row);
        let tokens: Vec<u32> = (0..*length).map(|_| rng.below(words as u64) as u32).collect();
        Sequence { row, labels: tokens.clone(), tokens, weight: 1.0 }
    };
    let sequences: Vec<Sequence> = (0..).zip(lengths).map(sequence).collect();
    Batch::of(&sequences)
}

/// Losses, and the gradient of their sum.
fn pass(s: &Subject<'_>, model: &Model, batch: &Batch) -> Result<(Losses, Grads)> {
    let mut grads = Grads::zeros(&model.params);
    let losses = model.gradients(batch, 1.0, StepOptions { gradient_checkpointing: false }, &mut grads, s.ctx)?;
    Ok((losses, grads))
}

/// Length of the difference of two gradients, and of the second.
fn distance(model: &Model, a: &Grads, b: &Grads) -> (f64, f64) {
    let (mut gap, mut length) = (0.0, 0.0);
    for (id, _) in model.params.iter() {
        let (a, b) = (a.get(id).unwrap_or_default(), b.get(id).unwrap_or_default());
        gap += a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        length += b.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>();
    }
    (gap.sqrt(), length.sqrt())
}

/// The loss a short way up and down its gradient, against what the gradient foretells; as a share of that.
fn along(s: &Subject<'_>, model: &Model, batch: &Batch, slope: &Grads) -> Result<f64> {
    let (_, length) = distance(model, slope, slope);
    let way = 0.05 / length.powi(2);
    let loss = |way: f64| {
        let mut moved = model.clone();
        let ids: Vec<ParamId> = moved.params.iter().map(|(id, _)| id).collect();
        for id in ids {
            let step = slope.get(id).unwrap_or_default();
            moved.params.get_mut(id).data.iter_mut().zip(step).for_each(|(x, g)| *x += (way * f64::from(*g)) as f32);
        }
        Ok::<f64, crate::Error>(moved.losses(batch, s.ctx)?.nll.iter().sum())
    };
    let change = loss(way)? - loss(-way)?;
    let foretold = 2.0 * way * length.powi(2);
    Ok((change - foretold).abs() / foretold)
}

/// Operations of a way up: maps and head, attention.
fn operations(config: &Config, texts: usize, length: usize) -> [f64; 2] {
    let (h, q, kv) = (config.hidden_size, config.q_width(), config.kv_width());
    let block = h * (q + 2 * kv) + q * h + 3 * h * config.intermediate_size;
    let weights = (config.layers() * block + h * config.vocab_size) as f64;
    let pairs = (length * (length + 1) / 2) as f64;
    let attention = 4.0 * pairs * (config.layers() * q * texts) as f64;
    [2.0 * weights * (texts * length) as f64, attention]
}
