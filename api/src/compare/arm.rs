//! One arm: one method with one seed, chosen, trained, judged. A finished arm is kept in its folder and not run again.

use super::base::Base;
use super::plan::{ComparePlan, label, slug};
use crate::cache::Cache;
use crate::choose::prepare;
use crate::host::Host;
use crate::online::OnlinePlan;
use crate::plan::{OutputPlan, Plan, SelectPlan, Use};
use crate::select::pretty;
use crate::signals::REFERENCE;
use crate::train::{EvalPlan, TrainDone, TrainPlan, judge, picked_already};
use curate_core::{Error, Result};
use curate_ingest::InputSpec;
use curate_selectors::{ONLINE, SELECTORS};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What an arm came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ArmDone {
    /// Method with its parameters.
    pub method: String,
    /// Seed.
    pub seed: u64,
    /// Whether every batch was chosen while the model learned.
    pub online: bool,
    /// Different rows trained on, or chosen to be trained on.
    pub rows: u64,
    /// Steps made.
    pub steps: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Loss on the rows to judge by.
    pub loss: f64,
    /// Share of right answers, where the models were asked.
    pub exact: Option<f64>,
    /// Loss on the rows to judge by, along the way: step and loss.
    pub curve: Vec<(u64, f64)>,
    /// Seconds of choosing, what it reads included.
    pub select_s: f64,
    /// Seconds of training.
    pub train_s: f64,
    /// Operations of the model for choosing.
    pub select_flop: f64,
    /// Operations of the model for training.
    pub train_flop: f64,
    /// Digest of all that decides the arm.
    pub digest: String,
}

/// An arm to be run.
pub(super) struct Arm<'a> {
    pub(super) base: &'a Base,
    pub(super) wanted: &'a ComparePlan,
    pub(super) method: &'a Use,
    pub(super) seed: u64,
}

/// Refuse, before any arm is run, a method that lacks something: quality, a target, a reference, a column.
///
/// # Errors
/// What opening the method's input gives, naming the method.
pub(super) fn possible(base: &Base, wanted: &ComparePlan, method: &Use, host: &Host) -> Result<()> {
    let arms = wanted.seeds.iter().map(|&seed| Arm { base, wanted, method, seed });
    let Some(arm) = arms.into_iter().find(|arm| arm.kept().is_none()) else { return Ok(()) };
    let plan = arm.plan_of()?;
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        if !arm.online() {
            let (select, output) = (Some(arm.select_plan()), OutputPlan::default());
            return prepare(&Plan { select, output, ..plan }, host, &ctx).map(drop);
        }
        let (online, train) = arm.online_plan(base.train.clone())?;
        crate::online::possible(&plan, &online, &train, host, &ctx)
    })
}

/// Seconds and operations of choosing.
type Cost = (f64, f64);

impl Arm<'_> {
    fn folder(&self, of: &str) -> PathBuf {
        Path::new(&self.base.train.out).join(of).join(slug(&label(self.method)))
    }

    /// Digest of all that decides the arm.
    fn digest(&self) -> String {
        let train = TrainPlan { out: String::new(), resume: false, ..self.base.train.clone() };
        let own = json!([self.method, self.seed, self.wanted.budget, self.wanted.candidates, self.base.plan, train]);
        let reference = self.base.reference.as_deref().filter(|_| self.reads_reference()).unwrap_or_default();
        blake3::hash(format!("{} {own}{reference}", self.base.digest).as_bytes()).to_hex().to_string()
    }

    /// The arm as it was finished earlier.
    pub(super) fn kept(&self) -> Option<ArmDone> {
        let path = self.folder("arms").join(format!("seed-{}", self.seed)).join("arm.json");
        let kept: ArmDone = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        (kept.digest == self.digest()).then_some(kept)
    }

    /// Whether this arm was begun and not finished.
    pub(super) fn begun(&self) -> bool {
        let begun = self.folder("arms").join(format!("seed-{}", self.seed)).join("arm.begun");
        std::fs::read_to_string(begun).is_ok_and(|digest| digest == self.digest())
    }

    /// The arm as it was finished earlier; else run it.
    ///
    /// # Errors
    /// What choosing, training and judging give.
    pub(super) fn done(&self, host: &Host) -> Result<ArmDone> {
        let folder = self.folder("arms").join(format!("seed-{}", self.seed));
        if let Some(kept) = self.kept() {
            return Ok(kept);
        }
        let (path, digest) = (folder.join("arm.json"), self.digest());
        let begun = folder.join("arm.begun");
        if std::fs::read_to_string(&begun).ok().as_deref() != Some(&digest) {
            remove(&folder)?;
            std::fs::create_dir_all(&folder)?;
            curate_ingest::write_atomic(&begun, digest.as_bytes())?;
        }
        let done = ArmDone { digest, ..self.run(&folder, host)? };
        curate_ingest::write_atomic(&path, &pretty(&done)?)?;
        if !self.wanted.keep_models {
            clean(&folder)?;
        }
        Ok(done)
    }

    fn run(&self, folder: &Path, host: &Host) -> Result<ArmDone> {
        let train = TrainPlan { out: folder.to_string_lossy().into_owned(), resume: true, ..self.base.train.clone() };
        let plan = self.plan_of()?;
        let ((rows, cost), plan) = if self.online() {
            let (online, train) = self.online_plan(train)?;
            let plan = Plan { online: Some(online), train: Some(train), ..plan };
            ((0, (0.0, 0.0)), plan)
        } else {
            let plan = Plan { select: Some(self.select_plan()), ..plan };
            let chosen = self.select(&plan, folder, host)?;
            (chosen, Plan { select: None, train: Some(train), ..picked_already(&plan, folder) })
        };
        let trained = crate::train::train(&plan, &host.part("train"))?;
        let exact = self.ask(&trained, folder, &host.part("judge"))?;
        self.report(&trained, folder, (rows, cost, exact))
    }

    /// Whether every batch is chosen while the model learns.
    pub(super) fn online(&self) -> bool {
        !SELECTORS.iter().any(|entry| entry.info.name == self.method.name)
    }

    /// The common plan with the arm's seed, and with the target only where the method takes one.
    fn plan_of(&self) -> Result<Plan> {
        let mut plan = Plan { seed: self.seed, ..self.base.plan.clone() };
        let selector = SELECTORS.iter().find(|entry| entry.info.name == self.method.name);
        let selector = selector.map(|entry| entry.build(&self.method.params)).transpose()?;
        if selector.is_some_and(|selector| selector.target_needs().is_empty()) {
            plan.target.clear();
        }
        Ok(plan)
    }

    /// Whether the method compares with a reference model.
    fn reads_reference(&self) -> bool {
        let entry = ONLINE.iter().find(|entry| entry.info.name == self.method.name);
        let built = entry.and_then(|entry| entry.build(&OnlinePlan::of(self.method).ok()?.params).ok());
        built.is_some_and(|method| method.needs().before.iter().any(|column| column.as_str() == REFERENCE))
    }

    /// The loop of an arm. Rounds draw the budget, and share the steps out among themselves.
    fn online_plan(&self, mut train: TrainPlan) -> Result<(OnlinePlan, TrainPlan)> {
        let mut online = OnlinePlan::of(self.method)?;
        if self.reads_reference() {
            online.reference = online.reference.or_else(|| self.wanted.reference.clone());
        }
        let Some(rounds) = online.rounds else {
            online.candidates = online.candidates.or(self.wanted.candidates);
            return Ok((online, train));
        };
        online.budget = online.budget.or(Some(self.wanted.budget));
        let steps = train.sft()?.max_steps.unwrap_or(0) / rounds.max(1) as u64;
        if steps == 0 {
            return Err(Error::usage("compare/rounds", format!("{rounds} rounds are more than there are steps"))
                .hint("raise --max-steps, or take fewer rounds"));
        }
        train.params.extend([("max_steps".to_owned(), steps.into()), ("eval_steps".to_owned(), 1.into())]);
        Ok((online, train))
    }

    fn select_plan(&self) -> SelectPlan {
        SelectPlan { name: self.method.name.clone(), budget: self.wanted.budget, params: self.method.params.clone() }
    }

    /// Choose into `picks.parquet`. Each method has a cache of its own, so that the first seed shows what the method costs by
    /// itself.
    fn select(&self, plan: &Plan, folder: &Path, host: &Host) -> Result<(u64, Cost)> {
        let path = folder.join("picks.parquet").to_string_lossy().into_owned();
        let output = OutputPlan { path, overwrite: true, ..OutputPlan::default() };
        let plan = Plan { output, ..plan.clone() };
        let host = Host { cache: Cache::open(&self.folder("cache"))?, ..host.part("choose") };
        let asked = host.install(|| {
            let prepared = prepare(&plan, &host, &host.ctx(plan.seed)?)?;
            let asked = prepared.want.signals.iter().flat_map(|signals| signals.columns.clone());
            Ok(asked.collect::<Vec<_>>())
        })?;
        let passes = f64::from(u8::from(!asked.is_empty()))
            + f64::from(u8::from(asked.iter().any(|c| c.as_str() == "signal.loss_alone")))
            + f64::from(u8::from(asked.iter().any(|c| c.as_str() == "signal.grad_norm")));
        let manifest = crate::select::select(&plan, &host)?;
        let flop = passes * self.base.forward_flop * self.base.tokens as f64;
        Ok((manifest.counts.selected_rows, (manifest.cost.seconds, flop)))
    }

    /// Let the model answer the questions, where that is asked for.
    fn ask(&self, trained: &TrainDone, folder: &Path, host: &Host) -> Result<Option<f64>> {
        let Some(rule) = self.wanted.judge else { return Ok(None) };
        let adapter = trained.model.ends_with("adapter");
        // where every arm has weights of its own, they lie beside its adapter
        let own = folder.join("start").to_string_lossy().into_owned();
        let base = if self.base.train.from_scratch { own } else { self.base.train.model.clone() };
        let config = self.base.train.sft()?;
        let asked = EvalPlan {
            model: if adapter { base } else { trained.model.clone() },
            adapter: adapter.then(|| trained.model.clone()),
            judge: Some(rule),
            max_new_tokens: self.wanted.max_new_tokens,
            max_length: config.max_length,
            batch_size: config.batch_size,
            ..EvalPlan::default()
        };
        let input = InputSpec { paths: self.base.train.eval.clone(), where_: None, ..self.base.plan.input.clone() };
        let done = judge(&Plan { input, ..self.base.plan.clone() }, &asked, host)?;
        let mut lines = done.report.measures.iter().filter(|m| m.metric == rule.name());
        let found = lines.clone().find(|m| m.task.is_empty() && m.group.is_empty()).or_else(|| lines.next());
        Ok(found.map(|m| m.value))
    }

    fn report(&self, trained: &TrainDone, folder: &Path, of: (u64, Cost, Option<f64>)) -> Result<ArmDone> {
        let (rows, (mut select_s, mut select_flop), exact) = of;
        let report = &trained.report;
        // a step of the loop is a round, where there are rounds
        let rounds = trained.plan.online.as_ref().and_then(|online| online.rounds);
        let of_round = trained.plan.train.as_ref().and_then(|train| train.params.get("max_steps")?.as_u64());
        let each = rounds.and(of_round).unwrap_or(1);
        let Some(loss) = report.eval.as_ref().and_then(curate_trainer::eval::LossTotal::mean) else {
            return Err(Error::data("compare/eval", "the rows to judge by have nothing to judge")
                .hint("look at them with 'curate inspect'"));
        };
        let (curve, rows, train_s) = match &trained.online {
            Some(online) => {
                select_s = online.probe_s + online.choose_s;
                select_flop = online.probed_tokens as f64 * self.base.forward_flop;
                let curve = online.evals.iter().map(|(step, loss)| (step * each, *loss)).collect();
                (curve, online.distinct_rows, (trained.seconds - select_s).max(0.0))
            }
            None => (curve(folder)?, rows, trained.seconds),
        };
        Ok(ArmDone {
            method: label(self.method),
            seed: self.seed,
            online: trained.online.is_some(),
            rows,
            steps: report.steps * each,
            tokens: report.tokens,
            loss,
            exact,
            curve,
            select_s,
            train_s,
            select_flop,
            train_flop: report.tokens as f64 * self.base.train_flop,
            digest: String::new(),
        })
    }
}

/// The evaluations in the log of a run over fixed rows.
fn curve(folder: &Path) -> Result<Vec<(u64, f64)>> {
    let text = std::fs::read_to_string(folder.join("log.jsonl"))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter_map(|line| Some((line["step"].as_u64()?, line["eval_loss"].as_f64()?))).collect())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// Remove models and checkpoints; figures, log and picks stay.
fn clean(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            std::fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}
