//! What a loop needs before it begins: rows, model, candidates, and what decides the run.

use super::checkpoint::Identity;
use super::columns::{Provided, audible, split, split_with_reference};
use super::examples::target_of;
use super::method;
use super::plan::OnlinePlan;
use super::pupil::Pupil;
use super::rounds::Rounds;
use super::session::Session;
use super::stream::{Stream, ended, lot};
use crate::choose::{open, provide};
use crate::host::Host;
use crate::plan::Plan;
use crate::select::input_digest;
use crate::train::{Loaded, Renderer, Rows, TrainPlan, empty_side, for_training, learn_tokenizer};
use curate_core::{Ctx, Error, Result};
use curate_ingest::{InputSpec, Source};
use curate_trainer::Sequence;
use curate_trainer::data::{DatasetReport, SequenceOptions};
use curate_trainer::model::Model;
use curate_trainer::sft::SftConfig;
use curate_trainer::tokenizer::TextTokenizer;
use std::path::PathBuf;
use std::sync::Arc;

/// All that a loop needs besides its learner.
pub(super) struct Ready {
    pub(super) config: SftConfig,
    pub(super) source: Arc<Source>,
    pub(super) renderer: Renderer,
    pub(super) tokenizer: TextTokenizer,
    pub(super) folder: PathBuf,
    pub(super) data: DatasetReport,
    pub(super) eval: Vec<Sequence>,
    /// Rows that can be candidates.
    pub(super) rows: u64,
    /// Whether the model is to answer the rows itself.
    pub(super) asks: bool,
    held: Option<f64>,
    pub(super) options: SequenceOptions,
}

/// Open what a loop needs, and look once at every row.
///
/// # Errors
/// Usage errors; what reading gives.
pub(super) fn ready(plan: &Plan, wanted: &TrainPlan, host: &Host, ctx: &Ctx) -> Result<(Ready, Model)> {
    let mut config = wanted.sft()?;
    if !["auto", "none"].contains(&config.row_weights.as_str()) {
        return Err(Error::usage("train/config", "rows that are chosen while the model learns have no weights")
            .hint("leave out row_weights, or choose the rows before training"));
    }
    let source = Arc::new(open(plan, host, ctx)?);
    let loaded = for_training(wanted, host, ctx, |model| learn_tokenizer(&source, model, ctx))?;
    config.max_length = wanted.longest(&config, loaded.model.config.max_position_embeddings)?;
    let options = SequenceOptions { loss_on: config.loss_on, ..SequenceOptions::new(config.max_length) };
    let renderer = Renderer::choose(&source, &loaded.folder)?;
    let held = wanted.eval_share.filter(|_| wanted.eval.is_empty());
    let rows = Rows { source: &source, renderer: &renderer, tokenizer: &loaded.tokenizer, options, weights: None };
    let (mut eval, count, data) = survey(&rows, held, ctx)?;
    if !wanted.eval.is_empty() {
        let input = InputSpec { paths: wanted.eval.clone(), where_: None, ..plan.input.clone() };
        let ctx = ctx.child("eval rows");
        let source = open(&Plan { input, ..plan.clone() }, host, &ctx)?;
        eval = Rows { source: &source, ..rows }.read(&ctx)?.0;
    }
    let Loaded { model, tokenizer, folder } = loaded;
    Ok((
        Ready {
            config,
            source,
            renderer,
            tokenizer,
            folder,
            data,
            eval,
            rows: count,
            asks: wanted.grpo.is_some(),
            held,
            options,
        },
        model,
    ))
}

/// Refuse what a loop could not do, as far as it shows without the model and without making a column.
///
/// # Errors
/// What the method, its columns, its target and its reference give.
pub(crate) fn possible(plan: &Plan, online: &OnlinePlan, wanted: &TrainPlan, host: &Host, ctx: &Ctx) -> Result<()> {
    let source = Arc::new(open(plan, host, ctx)?);
    online.sizes(&wanted.sft()?)?;
    let needs = method::open(online)?.needs();
    let (probed, mut provided) = split_with_reference(&needs.before, &source);
    let (heard, given) = split(&needs.after, &source);
    audible(&heard, wanted.grpo.is_some(), online.rounds.is_some())?;
    provided.extend(given);
    target_of(plan, &probed)?;
    let plan = Plan { online: Some(online.clone()), ..plan.clone() };
    provide(&plan, host, &source, (&provided, &online.name), ctx).map(drop)
}

/// Rows to judge by, number of the others, and what became of all.
fn survey(rows: &Rows<'_>, held: Option<f64>, ctx: &Ctx) -> Result<(Vec<Sequence>, u64, DatasetReport)> {
    let holds = lot(held, ctx);
    let (mut eval, mut count) = (Vec::new(), 0);
    let data = rows.each(ctx, |found| {
        let (judge, train): (Vec<_>, Vec<_>) = found.into_iter().partition(|sequence| holds(sequence.row));
        eval.extend(judge);
        count += train.len() as u64;
    })?;
    match held {
        Some(share) if eval.is_empty() || count == 0 => Err(empty_side(share)),
        _ => Ok((eval, count, data)),
    }
}

impl Ready {
    /// The loop at its beginning, and the steps it is to make.
    pub(super) fn session(
        &self,
        plan: &Plan,
        online: &OnlinePlan,
        host: &Host,
        ctx: &Ctx,
    ) -> Result<(Session<'_>, u64)> {
        let sizes = online.sizes(&self.config)?;
        let selector = method::open(online)?;
        if self.rows < sizes.1 as u64 {
            return Err(ended(self.rows as usize, sizes.1));
        }
        let needs = selector.needs();
        let (probed, mut provided) = split_with_reference(&needs.before, &self.source);
        let (heard, given) = split(&needs.after, &self.source);
        audible(&heard, self.asks, online.rounds.is_some())?;
        provided.extend(given.iter().filter(|column| !needs.before.contains(column)).cloned());
        let provided = Provided::open(plan, host, &self.source, (provided, &online.name), ctx)?;
        let mut stream = Stream::new(self.as_rows(), self.held, online.window_rows, ctx);
        stream.asks = self.asks;
        let mut session = Session::new(selector, stream, sizes, &ctx.labelled("online"));
        (session.provided, session.probed, session.given) = (provided, probed, given);
        session.rounds = Rounds::of(online, self.rows)?;
        let steps = self.steps(session.rounds, sizes);
        Ok((session, steps))
    }

    /// Steps of the loop: rounds, or as many as the rows and the options of training give.
    pub(super) fn steps(&self, rounds: Option<Rounds>, sizes: (usize, usize)) -> u64 {
        let by_epochs = || self.config.total_steps(steps_per_epoch(self.rows, sizes));
        rounds.map_or_else(by_epochs, |rounds| rounds.count as u64)
    }

    /// The rows of the input, as the learner reads them.
    pub(super) fn as_rows(&self) -> Rows<'_> {
        let (source, options) = (self.source.as_ref(), self.options);
        Rows { source, renderer: &self.renderer, tokenizer: &self.tokenizer, options, weights: None }
    }

    pub(super) fn identity(&self, plan: &Plan, columns: &str, learner: &impl Pupil) -> Result<Identity> {
        let json = |value: serde_json::Result<String>| value.map_err(|e| Error::io("json", e.to_string()));
        let digest = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
        let tokenizer = std::fs::read(self.folder.join("tokenizer.json"))?;
        let rows = format!("{} {}", input_digest(&self.source), json(serde_json::to_string(&plan.input))?);
        let made = json(serde_json::to_string(&(&plan.embed, &plan.quality, &plan.score, &plan.target)))?;
        Ok([
            ("the seed", plan.seed.to_string()),
            ("the tokenizer", blake3::hash(&tokenizer).to_hex().to_string()),
            ("the input", digest(&rows)),
            ("the share of rows held back", format!("{:?}", self.held)),
            ("the method or its columns", digest(&(json(serde_json::to_string(&plan.online))? + &made + columns))),
            ("the model or how it is trained", learner.digest()),
        ]
        .map(|(part, digest)| (part.to_owned(), digest))
        .into())
    }
}

/// Steps for which an epoch has rows: one for every full set of candidates, and one for a remainder that fills a batch.
fn steps_per_epoch(rows: u64, (candidates, least): (usize, usize)) -> u64 {
    let (candidates, least) = (candidates as u64, least as u64);
    rows / candidates + u64::from(rows % candidates >= least.max(1))
}

#[cfg(test)]
mod tests {
    use super::steps_per_epoch;

    #[test]
    fn a_remainder_counts_when_it_fills_a_batch() {
        assert_eq!(steps_per_epoch(100, (32, 8)), 3);
        assert_eq!(steps_per_epoch(104, (32, 8)), 4);
        assert_eq!(steps_per_epoch(7, (32, 8)), 0);
        assert_eq!(steps_per_epoch(3, (1, 1)), 3);
    }
}
