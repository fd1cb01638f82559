//! `curate train --online --dry-run`: what the loop would do, and nothing of it done.

use super::columns::{audible, split, split_with_reference};
use super::grpo;
use super::method;
use super::plan::OnlinePlan;
use super::ready::{Ready, ready};
use super::rounds::Rounds;
use super::stream::ended;
use crate::choose::provide;
use crate::host::Host;
use crate::plan::Plan;
use crate::train::{TrainForecast, TrainPlan, samples};
use curate_core::{Column, Ctx, Result};
use curate_trainer::model::Model;
use curate_trainer::sft::{Forecast, SftConfig, Trainer};
use curate_trainer::{IGNORE, Sequence};
use serde::Serialize;

/// What a loop would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OnlineForecast {
    /// The method.
    pub method: String,
    /// Candidates a step; none in rounds, where every row is one.
    pub candidates: Option<usize>,
    /// Rows a step trains on; in rounds those of the first.
    pub rows: usize,
    /// Rounds, and rows drawn over all of them.
    pub rounds: Option<(usize, usize)>,
    /// What the model is asked about candidates at every step.
    pub asked: Vec<String>,
    /// What is read of the corpus before the first step.
    pub columns: Vec<String>,
    /// What the method hears after a step.
    pub heard: Vec<String>,
    /// Whether the next batch is chosen while the model learns from the last.
    pub ahead: bool,
    /// Answers of the model to every prompt, where it learns from its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<usize>,
    /// Most bytes of activations that a look at the candidates keeps for the step.
    pub kept_bytes: u64,
}

/// Look at rows, method and memory.
///
/// # Errors
/// As training.
pub(crate) fn forecast(
    plan: &Plan,
    online: &OnlinePlan,
    wanted: &TrainPlan,
    host: &Host,
    ctx: &Ctx,
) -> Result<TrainForecast> {
    let (ready, model) = ready(plan, wanted, host, ctx)?;
    let (sizes, rounds) = (online.sizes(&ready.config)?, Rounds::of(online, ready.rows)?);
    if ready.rows < sizes.1 as u64 {
        return Err(ended(ready.rows as usize, sizes.1));
    }
    let selector = method::open(online)?;
    let needs = selector.needs();
    let (probed, columns) = split_with_reference(&needs.before, &ready.source);
    audible(&split(&needs.after, &ready.source).0, ready.asks, rounds.is_some())?;
    provide(plan, host, &ready.source, (&columns, &online.name), ctx)?;
    ready.examples(plan, &probed, host, ctx)?;
    let (mut sequences, _) = ready.as_rows().read(ctx)?;
    let answers = wanted.grpo.as_ref().map(|options| grpo::config(&ready.config, options)).transpose()?;
    if let Some(config) = &answers {
        sequences.iter_mut().for_each(|sequence| lengthen(sequence, config.max_completion_length, &ready));
    }
    let memory = memory(&model, ready.config.clone(), &sequences);
    let most = SftConfig { batch_size: sizes.0, ..ready.config.clone() };
    let kept = if probed.is_empty() { 0 } else { self::memory(&model, most, &sequences).activations_bytes };
    let kept_bytes = kept.min(online.signals.share_bytes);
    let names = |columns: &[Column]| columns.iter().map(ToString::to_string).collect();
    let loop_ = OnlineForecast {
        method: online.name.clone(),
        candidates: rounds.is_none().then_some(sizes.0),
        rows: rounds.map_or(sizes.1, |rounds| rounds.share(0)),
        rounds: rounds.map(|rounds| (rounds.count, rounds.budget)),
        asked: names(&probed),
        columns: names(&columns),
        heard: names(&needs.after),
        ahead: selector.may_prefetch() && rounds.is_none(),
        answers: answers.map(|config| config.num_generations),
        kept_bytes,
    };
    let (steps, eval_rows, samples) = (ready.steps(rounds, sizes), ready.eval.len(), samples(&ready.as_rows())?);
    let (data, total_bytes) = (ready.data, memory.total_bytes() + kept_bytes);
    Ok(TrainForecast { data, eval_rows, steps, online: Some(loop_), memory, total_bytes, samples })
}

fn memory(model: &Model, config: SftConfig, sequences: &[Sequence]) -> Forecast {
    Trainer::new(config, sequences).forecast(model)
}

/// A question as long as it may become with its answer.
fn lengthen(sequence: &mut Sequence, answer: usize, ready: &Ready) {
    let question = sequence.labels.iter().position(|label| *label != IGNORE).unwrap_or(sequence.tokens.len());
    sequence.tokens.resize((question + answer).min(ready.config.max_length), 0);
}
