//! `log.jsonl`: one object a step, one an evaluation. Only `tok_s` depends on the machine.

use crate::checkpoint::{State, place};
use curate_core::Result;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// What one step was like.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) step: u64,
    pub(super) epoch: f64,
    pub(super) loss: f64,
    pub(super) lr: f64,
    pub(super) grad_norm: f64,
    pub(super) tokens: u64,
    pub(super) tok_s: f64,
    pub(super) skipped: Option<String>,
}

impl Record {
    pub(super) fn json(&self) -> Value {
        let mut line = json!({
            "step": self.step,
            "epoch": self.epoch,
            "loss": self.loss,
            "lr": self.lr,
            "grad_norm": self.grad_norm,
            "tokens": self.tokens,
            "tok_s": (self.tok_s * 10.0).round() / 10.0,
        });
        if let Some(tensor) = &self.skipped {
            line["skipped"] = json!(tensor);
        }
        line
    }
}

/// The open file, where the run has a folder.
pub(crate) struct Log(Option<File>);

impl Log {
    /// Begin a log, or go on behind the lines of steps that the checkpoint holds; with the losses of those steps.
    pub(crate) fn open(out: Option<&Path>, state: &State) -> Result<(Self, Vec<f64>)> {
        let Some(out) = out else { return Ok((Self(None), Vec::new())) };
        std::fs::create_dir_all(out)?;
        let path = out.join("log.jsonl");
        let kept = if state.global_step > 0 && path.exists() { kept(&path, state)? } else { String::new() };
        let losses = kept.lines().filter_map(loss).collect();
        place(&path, |temp| Ok(std::fs::write(temp, kept)?))?;
        Ok((Self(Some(OpenOptions::new().append(true).open(path)?)), losses))
    }

    /// Add a line.
    pub(crate) fn write(&mut self, line: &Value) -> Result<()> {
        if let Some(file) = &mut self.0 {
            writeln!(file, "{line}")?;
        }
        Ok(())
    }
}

fn loss(line: &str) -> Option<f64> {
    serde_json::from_str::<Value>(line).ok()?.get("loss")?.as_f64()
}

fn kept(path: &Path, state: &State) -> Result<String> {
    let text = std::fs::read_to_string(path)?;
    let done = |line: &&str| {
        let Ok(value) = serde_json::from_str::<Value>(line) else { return false };
        let limit = if value.get("eval_loss").is_some() { state.evaluated_step } else { state.global_step };
        value["step"].as_u64().is_some_and(|step| step <= limit)
    };
    Ok(text.lines().filter(done).flat_map(|line| [line, "\n"]).collect())
}
