//! What people see of a session.

use super::one::{Session, Stage};
use crate::wire::{NeedsInfo, ProgressInfo, SessionInfo};
use arrow::array::AsArray;
use arrow::datatypes::Float64Type;
use curate_api::{Column, Result, State};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Session {
    /// The session at a glance.
    pub(crate) fn info(&self) -> SessionInfo {
        let plan = &self.spec.plan;
        let online = plan.online.as_ref().map(|online| online.name.clone());
        let kind = if online.is_some() { "online" } else { "stream" };
        let method = online.or_else(|| plan.select.as_ref().map(|select| select.name.clone())).unwrap_or_default();
        let mut info = SessionInfo {
            id: self.id.clone(),
            status: "preparing",
            created: self.created,
            method,
            kind,
            seed: plan.seed,
            batch: self.spec.batch,
            ranks: self.spec.ranks,
            lag: self.spec.lag,
            rows: 0,
            step: 0,
            observed: 0,
            epoch: 0,
            epochs: self.spec.epochs,
            paused: false,
            render: self.spec.render,
            needs: NeedsInfo::default(),
            brings_candidates: false,
            cursor: String::new(),
            progress: None,
            error: None,
            spec: self.spec_json.clone(),
        };
        self.fill(&mut info);
        info
    }

    /// What the method wants of the trainer, before anybody knows which of it the input has: with an input, other columns than signals
    /// are made of its rows.
    fn needs(&self) -> NeedsInfo {
        let plan = &self.spec.plan;
        let method = plan.online.as_ref().and_then(|_| curate_api::serving::online_method(plan).ok());
        let mut needs = method.map(|method| method.needs()).unwrap_or_default();
        needs.before.retain(|column| plan.input.paths.is_empty() || column.as_str().starts_with("signal."));
        let names = |columns: Vec<Column>| columns.iter().map(|c| c.as_str().to_owned()).collect();
        NeedsInfo { before: names(needs.before), after: names(needs.after) }
    }

    fn fill(&self, info: &mut SessionInfo) {
        match &*self.lock() {
            Stage::Preparing => {
                info.progress = Some(ProgressInfo::from(&self.progress.snapshot()));
                info.needs = self.needs();
            }
            Stage::Failed(problem) => (info.status, info.error) = ("failed", Some(problem.as_ref().clone())),
            Stage::Ready(ready) => {
                let names = |columns: Vec<Column>| columns.iter().map(|c| c.as_str().to_owned()).collect();
                if let Some(method) = ready.machine.method() {
                    let needs = method.needs();
                    let asked = ready.candidates().map_or_else(|| needs.before.clone(), |c| c.asked.clone());
                    info.needs = NeedsInfo { before: names(asked), after: names(needs.after) };
                }
                info.status = "ready";
                info.rows = ready.ground.corpus.as_ref().map_or(0, |corpus| corpus.ids.len() as u64);
                (info.step, info.observed) = (ready.given, ready.machine.observed.min(ready.given));
                info.epoch = ready.machine.open.get(&ready.given).map_or(0, |step| step.epoch);
                info.brings_candidates = ready.machine.asks();
                info.paused = ready.machine.paused;
                info.cursor = self.cursor(ready.given, ready.chain());
            }
        }
    }

    /// Groups, posteriors and memory of the method.
    ///
    /// # Errors
    /// `session/*`, `store/*`.
    pub(crate) fn state(&self) -> Result<Value> {
        self.with(|ready| {
            let weights = ready.machine.weights();
            let corpus = ready.ground.corpus.as_ref();
            let sizes: BTreeMap<u32, (u64, u64)> =
                corpus.map(|c| c.meta.groups.iter().map(|g| (g.0, (g.1, g.2))).collect()).unwrap_or_default();
            let tallies = &ready.machine.tallies;
            let names: BTreeSet<u32> = sizes.keys().chain(weights.keys()).chain(tallies.keys()).copied().collect();
            let group = |group: u32| {
                let (size, tally) = (sizes.get(&group), tallies.get(&group).copied().unwrap_or_default());
                json!({"group": group, "rows": size.map(|s| s.0), "picked": size.map(|s| s.1), "drawn": tally.drawn,
                    "weight": weights.get(&group), "signal": tally.signal})
            };
            let groups: Vec<Value> = names.into_iter().map(group).collect();
            let state = ready.machine.method().map(curate_api::OnlineSelector::state);
            let posterior = state
                .as_ref()
                .and_then(|state| posterior(state, ready.ground.corpus.as_ref().map_or(0, |c| c.ids.len())));
            let memory = state.as_ref().and_then(memory);
            Ok(json!({"step": ready.given, "observed": ready.machine.observed.min(ready.given), "groups": groups,
                "posterior": posterior, "memory": memory}))
        })
    }

    /// Points of the history after a step.
    ///
    /// # Errors
    /// `store/*`.
    pub(crate) fn history(&self, after: u64, limit: usize) -> Result<Value> {
        let points = self.shared.store.points(&self.id, after, limit.clamp(1, 10_000))?;
        let next = points.last().map_or(after, |(step, _)| *step);
        let points: Vec<Value> = points.into_iter().map(|(_, point)| point).collect();
        Ok(json!({"points": points, "next": next}))
    }

    /// Row ids of the candidates of the next step.
    ///
    /// # Errors
    /// `step/out-of-order`, `candidates/none`, `session/*`.
    pub(crate) fn offer(&self, step: u64) -> Result<Value> {
        self.with(|ready| {
            if step != ready.given + 1 {
                return Err(curate_api::Error::usage(
                    "step/out-of-order",
                    format!("the next step is {}", ready.given + 1),
                )
                .hint("candidates are offered for the next step alone"));
            }
            let rows = ready.offered(step)?;
            let data = ready.ground.corpus.as_deref().zip(ready.renderer.as_ref());
            let data = data.map(|(corpus, renderer)| super::served::rendered(corpus, renderer, &rows)).transpose()?;
            let data = data.filter(|data| data.num_columns() > 0).map(|data| super::json_rows(&data)).transpose()?;
            let parsed = |at: usize| data.as_ref().and_then(|data| serde_json::from_str::<Value>(&data[at]).ok());
            let row = |(at, row): (usize, &u64)| json!({"row": row, "data": parsed(at)});
            let rows: Vec<Value> = rows.iter().enumerate().map(row).collect();
            Ok(json!({"session": self.id, "step": step, "rows": rows}))
        })
    }

    /// One row by its number, all original columns.
    ///
    /// # Errors
    /// `row/unknown`, `session/*`.
    pub(crate) fn row(&self, row: u64) -> Result<Value> {
        self.with(|ready| {
            let unknown = || curate_api::Error::usage("row/unknown", format!("there is no row {row} in this session"));
            let corpus = ready.ground.corpus.as_ref().ok_or_else(unknown)?;
            let place = corpus.position(row).ok_or_else(unknown)?;
            let batch = corpus.rows.read(&[place as u64])?;
            let names = corpus.columns();
            let wanted: Vec<usize> = names.iter().filter_map(|name| batch.schema().index_of(name).ok()).collect();
            let data = super::json_rows(&batch.project(&wanted)?)?;
            let data = data.first().and_then(|data| serde_json::from_str::<Value>(data).ok());
            Ok(json!({"row": row, "data": data}))
        })
    }

    /// Every accepted call after event `after`, for people.
    ///
    /// # Errors
    /// `store/*`.
    pub(crate) fn journal(&self, after: u64, limit: usize) -> Result<Vec<Value>> {
        let events = self.shared.store.events(&self.id, after, limit)?;
        let rows =
            |head: &Value| head["picks"].as_array().map(|all| all.iter().map(|p| p[0].clone()).collect::<Vec<_>>());
        let line = |(n, event): (u64, crate::store::Event)| {
            json!({"n": n, "at": event.at, "kind": event.kind, "step": event.step, "rank": event.rank, "digest": event.digest,
                "rows": rows(&event.head), "head": if event.head["picks"].is_null() { event.head.clone() } else { Value::Null }})
        };
        Ok(events.into_iter().map(line).collect())
    }
}

/// How sure `mopps` is of its prompts.
fn posterior(state: &State, rows: usize) -> Option<Value> {
    let (_, table) = state.tables.iter().find(|(name, _)| name == "posteriors")?;
    let alpha = table.column_by_name("alpha")?.as_primitive_opt::<Float64Type>()?.values();
    let beta = table.column_by_name("beta")?.as_primitive_opt::<Float64Type>()?.values();
    let (mut histogram, mut informative) = ([0u64; 20], 0.0);
    for (a, b) in alpha.iter().zip(beta) {
        let mean = a / (a + b);
        histogram[((mean * 20.0) as usize).min(19)] += 1;
        // Chance that eight answers are neither all right nor all wrong.
        informative += 1.0 - mean.powi(8) - (1.0 - mean).powi(8);
    }
    let tried = alpha.len();
    let expected = (tried > 0).then(|| informative / tried as f64);
    Some(
        json!({"prompts": rows.max(tried), "tried": tried, "mean_histogram": histogram, "informative_expected": expected}),
    )
}

/// What `uds` remembers.
fn memory(state: &State) -> Option<Value> {
    let (_, table) = state.tables.iter().find(|(name, _)| name == "memory")?;
    Some(json!({"slots": table.num_rows(), "held": table.num_rows()}))
}
