//! Trains an adapter for a few steps and writes everything a reader of another make needs to check it:
//! `interop BASE OUT` makes OUT/adapter, OUT/merged, OUT/full (a checkpoint of all weights) and OUT/logits.safetensors.

use curate_core::{Ctx, Error, Result};
use curate_trainer::checkpoint::{self, Entry};
use curate_trainer::lora::{self, LoraConfig};
use curate_trainer::model::Model;
use curate_trainer::sft::{SftConfig, Trainer, Tuning};
use curate_trainer::{Batch, IGNORE, Sequence};
use std::path::{Path, PathBuf};

fn rows(vocab: usize) -> Vec<Sequence> {
    let ctx = Ctx::new(5);
    let row = |row: u64| {
        let mut rng = ctx.rng("tokens", row);
        let tokens: Vec<u32> = (0..12).map(|_| u32::try_from(rng.below(vocab as u64)).unwrap_or(0)).collect();
        let labels = tokens.iter().enumerate().map(|(i, t)| if i < 4 { IGNORE } else { *t }).collect();
        Sequence { row, tokens, labels, weight: 1.0 }
    };
    (0..4).map(row).collect()
}

fn train(base: &Path, tuning: Tuning, out: Option<PathBuf>, rows: &[Sequence]) -> Result<Model> {
    let mut model = Model::load(base)?;
    let config = SftConfig { learning_rate: Some(1e-2), max_steps: Some(10), tuning, ..SftConfig::default() };
    let trainer = Trainer { out, base: Some(base.to_owned()), ..Trainer::new(config, rows) };
    trainer.run(&mut model, &Ctx::new(1))?;
    Ok(model)
}

fn write(base: &Path, out: &Path) -> Result<()> {
    let rows = rows(Model::load(base)?.config.vocab_size);
    let (batch, ctx) = (Batch::of(&rows), Ctx::new(0));
    let config = LoraConfig {
        r: 4,
        lora_alpha: 12.0,
        rank_pattern: [("layers.1.self_attn.q_proj".to_owned(), 2)].into(),
        alpha_pattern: [("layers.1.self_attn.q_proj".to_owned(), 3.0)].into(),
        ..LoraConfig::default()
    };
    let mut model = train(base, Tuning::Lora(config.clone()), None, &rows)?;
    let adapted = model.logits(&batch, &ctx)?;
    lora::save_adapter(&model, &config, &base.display().to_string(), &out.join("adapter"))?;
    lora::merge(&mut model);
    model.save(&out.join("merged"))?;
    let full = train(base, Tuning::Full, Some(out.join("full")), &rows)?.logits(&batch, &ctx)?;
    let shape = [rows.len(), 12, model.config.vocab_size];
    let entries = [
        Entry::indices("tokens", &batch.tokens),
        Entry::floats("adapted", &shape, &adapted),
        Entry::floats("full", &shape, &full),
    ];
    checkpoint::write(&out.join("logits.safetensors"), &entries, None)
}

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [base, out] = arguments.as_slice() else {
        return Err(Error::usage("interop/usage", "interop BASE OUT").hint("BASE is a model folder, OUT a new folder"));
    };
    write(base, out)
}
