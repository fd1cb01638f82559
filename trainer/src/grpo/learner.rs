//! The learner: draws answers, has them judged, learns from them, and says what became of every prompt.

use super::rollout::{Asking, Group, report};
use super::{GrpoConfig, GrpoReport, feedback};
use crate::Grads;
use crate::eval::EvalItem;
use crate::mask::delta::digest;
use crate::model::Model;
use crate::optim::Optimizer;
use crate::schedule::Schedule;
use crate::sft::{self, Log, Tuning};
use crate::tokenizer::TextTokenizer;
use crate::verify::Verifier;
use arrow::array::RecordBatch;
use curate_core::{Column, Ctx, Error, Feedback, Learner, Location, Pool, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A model that learns from its own answers. A step takes a batch of prompts: columns `prompt` and `completion`, the label that
/// the rule judges by.
pub struct GrpoLearner {
    pub(super) model: Model,
    /// The weights at the beginning, where they are needed and no adapter keeps them.
    pub(super) reference: Option<Model>,
    tokenizer: TextTokenizer,
    verifier: Arc<dyn Verifier>,
    pub(super) config: GrpoConfig,
    pub(super) optimizer: Optimizer,
    pub(super) schedule: Schedule,
    pub(super) grads: Grads,
    pub(super) steps: u64,
    /// Digest of configuration and first weights.
    pub(super) plan: String,
    report: GrpoReport,
    pub(super) log: Option<Log>,
}

impl GrpoLearner {
    /// A learner that will make about `total_steps` steps. The weights of `model` are the reference, if one is needed.
    ///
    /// # Errors
    /// `train/config`, `train/learning-rate`, `tokenizer/*`, what attaching gives.
    pub fn new(
        mut model: Model,
        tokenizer: TextTokenizer,
        config: GrpoConfig,
        total_steps: u64,
        ctx: &Ctx,
    ) -> Result<Self> {
        config.check()?;
        tokenizer.fits(model.config.vocab_size)?;
        if tokenizer.stops().is_empty() {
            return Err(Error::data("tokenizer/no-eos", "no token is known to end an answer")
                .hint("name eos_token in tokenizer_config.json"));
        }
        let plan = format!("{}\n{}", serde_json::to_string(&config).unwrap_or_default(), digest(&model.params));
        let reference = (config.beta > 0.0 && config.train.tuning == Tuning::Full).then(|| model.clone());
        sft::mark(&mut model, &config.train, None, &ctx.labelled("train"))?;
        let optimizer = sft::optimizer(&model, &config.train, None)?;
        let (grads, schedule) = (Grads::zeros(&model.params), config.train.schedule(total_steps));
        Ok(Self {
            model,
            reference,
            tokenizer,
            verifier: Arc::new(config.judge),
            config,
            optimizer,
            schedule,
            grads,
            steps: 0,
            plan: blake3::hash(plan.as_bytes()).to_hex().to_string(),
            report: GrpoReport::default(),
            log: None,
        })
    }

    /// Judge by this rule instead of the one the configuration names.
    #[must_use]
    pub fn with_verifier(mut self, verifier: Arc<dyn Verifier>) -> Self {
        self.verifier = verifier;
        self
    }

    /// The model as it stands.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Give the model back.
    #[must_use]
    pub fn into_model(self) -> Model {
        self.model
    }

    /// What the last step was like.
    #[must_use]
    pub const fn report(&self) -> &GrpoReport {
        &self.report
    }

    /// Draw answers: to all prompts, or with dynamic sampling until enough groups teach something.
    fn roll_out(&self, items: &[EvalItem], ctx: &Ctx) -> Result<Vec<Group>> {
        let (model, tokenizer, config) = (&self.model, &self.tokenizer, &self.config);
        let asking = Asking { model, tokenizer, verifier: &*self.verifier, config };
        let Some(wanted) = self.config.dynamic_groups else { return asking.groups(items, ctx) };
        let mut groups: Vec<Group> = Vec::new();
        for part in items.chunks(wanted) {
            groups.extend(asking.groups(part, ctx)?);
            if groups.iter().filter(|group| group.informative()).count() >= wanted {
                break;
            }
        }
        Ok(groups)
    }
}

/// Refuse a prompt that comes twice: its answers would be the same.
fn distinct(items: &[EvalItem]) -> Result<()> {
    let mut seen = BTreeSet::new();
    items.iter().find(|item| !seen.insert(item.row)).map_or(Ok(()), |item| {
        Err(Error::usage("grpo/repeated-row", "a prompt comes twice in one step; its answers would be the same")
            .hint("propose every row once a step; num_generations sets the answers to a prompt")
            .at(Location::default().row(item.row)))
    })
}

impl Learner for GrpoLearner {
    /// Nothing is known of a prompt before it is answered.
    fn probe(&mut self, batch: &Pool, want: &[Column], _ctx: &Ctx) -> Result<RecordBatch> {
        let rows = batch.rows();
        let Some(column) = want.first() else { return feedback::none(rows) };
        Err(Error::usage(
            "column/unknown-signal",
            format!("'{column}' of {rows} prompts is not known before answers are drawn"),
        )
        .hint("take a selector that asks for signals after a step only, such as mopps"))
    }

    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    fn step(&mut self, batch: &Pool, want: &[Column], ctx: &Ctx) -> Result<Feedback> {
        feedback::known(want)?;
        let items = EvalItem::read(batch)?;
        distinct(&items)?;
        let ctx = ctx.labelled(&format!("grpo step {}", self.steps));
        let groups = self.roll_out(&items, &ctx)?;
        let mut losses = vec![0.0; groups.len()];
        let learned = self.learn(&groups, &mut losses, &ctx)?;
        let lr = self.schedule.lr(self.config.train.one_rate()?, self.steps);
        self.steps += 1;
        self.report = GrpoReport { step: self.steps, lr, ..report(&groups) };
        learned.enter(&mut self.report, self.config.beta > 0.0);
        if let Some(log) = &mut self.log {
            log.write(&serde_json::to_value(self.report).unwrap_or_default())?;
        }
        losses.iter_mut().zip(&groups).for_each(|(loss, group)| *loss /= group.tokens().max(1) as f64);
        let signals = feedback::columns(&groups, &losses, want)?;
        Ok(Feedback { step: self.steps, rows: groups.iter().map(|group| group.row).collect(), signals })
    }
}
