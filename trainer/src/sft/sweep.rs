//! Several learning rates from one start; the model of the lowest loss stays.

use super::{SftConfig, TrainReport, Trainable, Trainer};
use crate::lora::Adaptable;
use crate::model::LoraRef;
use crate::{ParamId, Params};
use curate_core::{Ctx, Result};
use serde::Serialize;

/// One learning rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Arm {
    /// The rate.
    pub learning_rate: f64,
    /// [`TrainReport::judged_loss`] of its run; infinite when it failed.
    pub loss: f64,
    /// Why it failed.
    pub error: Option<String>,
}

/// All learning rates, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sweep {
    /// The runs.
    pub arms: Vec<Arm>,
    /// The rate of the lowest loss; of equals the first.
    pub best: f64,
}

/// A model's tensors and which maps carry which adapter.
struct Snapshot(Params, Vec<(ParamId, Option<LoraRef>)>);

impl Snapshot {
    fn of<M: Trainable>(model: &M) -> Self {
        Self(model.params().clone(), model.linears())
    }

    fn put_back<M: Trainable>(&self, model: &mut M) {
        *model.params_mut() = self.0.clone();
        self.1.iter().for_each(|(weight, adapter)| Adaptable::set_adapter(model, *weight, *adapter));
    }
}

/// Train once with each rate, in folders `lr-<rate>`.
pub(super) fn run<M: Trainable>(trainer: &Trainer<'_>, model: &mut M, ctx: &Ctx) -> Result<TrainReport> {
    let start = Snapshot::of(model);
    let mut best: Option<(f64, f64, TrainReport, Snapshot)> = None;
    let mut failure = None;
    let mut arms = Vec::new();
    for rate in &trainer.config.lr_sweep {
        start.put_back(model);
        let config = SftConfig { learning_rate: Some(*rate), lr_sweep: Vec::new(), ..trainer.config.clone() };
        let arm = match trainer.below(config, &format!("lr-{rate:e}")).run(model, ctx) {
            Ok(report) => {
                let loss = report.judged_loss();
                if best.as_ref().is_none_or(|(lowest, ..)| loss < *lowest) {
                    best = Some((loss, *rate, report, Snapshot::of(model)));
                }
                Arm { learning_rate: *rate, loss, error: None }
            }
            Err(error) if error.code() == "train/not-finite" => {
                let arm = Arm { learning_rate: *rate, loss: f64::INFINITY, error: Some(error.to_string()) };
                failure = Some(error);
                arm
            }
            Err(error) => return Err(error),
        };
        arms.push(arm);
    }
    match (best, failure) {
        (Some((_, rate, report, end)), _) => {
            end.put_back(model);
            Ok(TrainReport { sweep: Some(Sweep { arms, best: rate }), ..report })
        }
        (None, Some(error)) => Err(error.hint("every learning rate of the sweep failed; try lower ones")),
        (None, None) => Ok(TrainReport::default()),
    }
}
