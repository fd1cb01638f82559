//! `curate verify RUN`: the proposals of a finished run once more, and the digests compared.
//!
//! Where the method asks nothing of the model before it chooses, the learner is replaced by the log: feedback is what was
//! logged, and no model is trained. Elsewhere the choice depends on the model of that step, so the run is repeated in a
//! folder of its own, and the trained weights are compared, too.

use super::log::{self, Line, Log};
use super::ready::ready;
use crate::host::Host;
use crate::plan::Plan;
use crate::train::{TrainPlan, picked_already, train};
use crate::verify::Check;
use arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use curate_core::{Column, Ctx, Error, Feedback, Learner, Location, Pool, Result};
use curate_ingest::digest_whole;
use std::path::Path;
use std::sync::Arc;

/// Whether a folder holds a run of the loop.
pub(crate) fn is_run(output: &str) -> bool {
    Path::new(output).join(log::LOG).is_file()
}

/// Check a run.
///
/// # Errors
/// What reading the run or repeating it gives. A difference is not an error here: it is a failed [`Check`].
pub(crate) fn verify(output: &str, host: &Host) -> Result<Vec<Check>> {
    let folder = Path::new(output);
    let plan = plan_of(folder)?;
    let lines = log::read(folder)?;
    let found = host.install(|| replay(&plan, folder, &lines, host))?;
    match found {
        Some(found) => Ok(vec![compare(&lines, &found, choice)]),
        None => repeat(&plan, folder, &lines, host),
    }
}

fn plan_of(folder: &Path) -> Result<Plan> {
    let path = folder.join("curate.json");
    let wrong = |what: String| {
        Error::data("manifest/invalid", what)
            .hint("only a finished run can be checked; resume it first")
            .at(Location::file(path.display().to_string()))
    };
    let text = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let mut done: serde_json::Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    Plan::from_layers([done["plan"].take()])
}

/// The proposals with the log in place of the learner; `None` where they need the model.
fn replay(plan: &Plan, folder: &Path, lines: &[Line], host: &Host) -> Result<Option<Vec<Line>>> {
    let (Some(online), Some(wanted)) = (&plan.online, &plan.train) else { return Ok(None) };
    let plan = picked_already(plan, folder);
    let wanted = TrainPlan { out: folder.to_string_lossy().into_owned(), ..wanted.clone() };
    let ctx = host.ctx(plan.seed)?;
    let (ready, _) = ready(&plan, &wanted, host, &ctx)?;
    let (mut session, _) = ready.session(&plan, online, host, &ctx)?;
    if !session.probed.is_empty() {
        return Ok(None);
    }
    let (mut learner, mut nowhere) = (Logged { lines, at: 0 }, Log::open(None, 0)?);
    let ctx = ctx.child("replay");
    ctx.progress().set_total(lines.len() as u64);
    let mut found = Vec::new();
    for at in 0..lines.len() {
        found.push(session.step(&mut learner, &[], at + 1 == lines.len(), &mut nowhere)?);
        ctx.tick(1)?;
    }
    ctx.progress().finish();
    Ok(Some(found))
}

/// What a proposal is: all of a line that does not come from the learner.
fn choice(line: &Line) -> serde_json::Value {
    serde_json::json!([line.step, line.epoch, line.offered, line.rows, line.scores, line.state])
}

fn compare(was: &[Line], is: &[Line], what: impl Fn(&Line) -> serde_json::Value) -> Check {
    let differs = was.iter().zip(is).find(|(was, is)| what(was) != what(is)).map(|(was, _)| was.step);
    let step = differs.or_else(|| (was.len() != is.len()).then_some(was.len().min(is.len()) as u64 + 1));
    let detail = step.map_or_else(String::new, |step| format!("the repetition differs from step {step} on"));
    Check::new(format!("{} proposals", was.len()), step.is_none(), detail)
}

/// The whole run again.
fn repeat(plan: &Plan, folder: &Path, lines: &[Line], host: &Host) -> Result<Vec<Check>> {
    std::fs::create_dir_all(&host.scratch)?;
    let own = tempfile::tempdir_in(&host.scratch)?;
    let out = own.path().to_string_lossy().into_owned();
    let wanted = plan.train.clone().unwrap_or_default();
    let again = Plan { train: Some(TrainPlan { out, resume: false, ..wanted }), ..plan.clone() };
    train(&again, host)?;
    let mut checks = vec![compare(lines, &log::read(own.path())?, Line::lasting)];
    for name in ["model/model.safetensors", "adapter/adapter_model.safetensors"] {
        let (was, is) = (folder.join(name), own.path().join(name));
        if is.is_file() {
            let same = digest_whole(&was.to_string_lossy())? == digest_whole(&is.to_string_lossy())?;
            checks.push(Check::new(name, same, "training again gives other weights"));
        }
    }
    Ok(checks)
}

/// A learner that says what it said.
struct Logged<'a> {
    lines: &'a [Line],
    at: usize,
}

impl Learner for Logged<'_> {
    fn probe(&mut self, _batch: &Pool, _want: &[Column], _ctx: &Ctx) -> Result<RecordBatch> {
        Err(Error::usage("online/replay", "a log cannot be asked about candidates").hint("repeat the run"))
    }

    fn step(&mut self, batch: &Pool, want: &[Column], _ctx: &Ctx) -> Result<Feedback> {
        let rows = batch.ids()?;
        let line = self.lines.get(self.at);
        self.at += 1;
        let said = |column: &Column| -> ArrayRef {
            let values =
                line.and_then(|line| line.signals.get(column.as_str())?.as_array().cloned()).unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, reason = "signals are f32")]
            let value = |i: usize| values.get(i).and_then(serde_json::Value::as_f64).map(|x| x as f32);
            Arc::new((0..rows.len()).map(value).collect::<Float32Array>())
        };
        let arrays: Vec<ArrayRef> = want.iter().map(said).collect();
        let fields: Vec<Field> =
            want.iter().zip(&arrays).map(|(c, a)| Field::new(c.as_str(), a.data_type().clone(), true)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let signals = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        Ok(Feedback { step: self.at as u64, rows, signals })
    }
}
