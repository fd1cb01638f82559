//! What a method reads of its candidates: some columns the learner says anew at every step, all others are of the corpus and
//! come from where `curate select` takes them, computed once and cached.

use crate::choose::provide;
use crate::features::build;
use crate::host::Host;
use crate::plan::Plan;
use crate::signals::REFERENCE;
use curate_core::{Column, Ctx, Error, Location, Pool, Result};
use curate_ingest::Source;
use std::sync::Arc;

/// Columns of the corpus that candidates are joined with.
pub(crate) struct Provided {
    pool: Pool,
    ids: Vec<u64>,
    columns: Vec<Column>,
    /// Digest of what they are made of.
    pub(super) digest: String,
}

/// Needs that the learner serves, and those that the corpus serves: a signal that the input has as a column is of the corpus.
pub(crate) fn split(needs: &[Column], source: &Source) -> (Vec<Column>, Vec<Column>) {
    let here = |need: &Column| source.schema().field_with_name(need.as_str()).is_ok();
    let known = |need: &&Column| !["row", "text"].contains(&need.as_str());
    let of_model = |need: &Column| need.as_str().starts_with("signal.") && !here(need);
    needs.iter().filter(known).cloned().partition(of_model)
}

/// The same for a learner of ours, which knows no model but its own: the loss by another one is made like a column of the corpus.
pub(super) fn split_with_reference(needs: &[Column], source: &Source) -> (Vec<Column>, Vec<Column>) {
    let (learner, mut corpus) = split(needs, source);
    let (reference, learner) = learner.into_iter().partition(|need| need.as_str() == REFERENCE);
    corpus.extend::<Vec<Column>>(reference);
    (learner, corpus)
}

/// What a method wants to hear after a step, where the corpus does not say it, is of the learner: of one that answers questions
/// itself, of one that works in rounds, or of any.
///
/// # Errors
/// `online/feedback` naming the column and who could say it.
pub(super) fn audible(heard: &[Column], answers: bool, rounds: bool) -> Result<()> {
    let hint = |need: &Column| match need.as_str() {
        "signal.successes" | "signal.trials" | "signal.reward" if !answers => Some(
            "only a model that answers the rows itself says it: add --grpo and -O grpo.judge=RULE; a column of this name in the input will do, too",
        ),
        "signal.loss_before" if !rounds => {
            Some("it is known where the model learns in rounds: add --rounds 3 --budget 5%")
        }
        _ => None,
    };
    let silent = heard.iter().find_map(|need| Some((need, hint(need)?)));
    silent.map_or(Ok(()), |(need, hint)| {
        Err(Error::usage("online/feedback", format!("nobody says '{need}' after a step")).hint(hint))
    })
}

impl Provided {
    /// Make the columns, where there are any to make.
    ///
    /// # Errors
    /// `column/missing` when nobody provides one; what the stages give.
    pub(crate) fn open(
        plan: &Plan,
        host: &Host,
        source: &Arc<Source>,
        (columns, method): (Vec<Column>, &str),
        ctx: &Ctx,
    ) -> Result<Option<Self>> {
        if columns.is_empty() {
            return Ok(None);
        }
        let (want, scores) = provide(plan, host, source, (&columns, method), ctx)?;
        let features = build(source, &want, &host.cache, ctx)?;
        let digest = format!("{:?} {}", features.digest.bytes(), scores.recipe());
        let pool = scores.apply(&features.pool, ctx)?;
        pool.require(&columns, method)?;
        Ok(Some(Self { ids: pool.ids()?, pool, columns, digest }))
    }

    /// The candidates (in order of row id) with the columns.
    ///
    /// # Errors
    /// `column/row` for a row that has no values; what reading gives.
    pub(crate) fn join(&self, mut candidates: Pool) -> Result<Pool> {
        let place = |id: &u64| {
            self.ids.binary_search(id).map_err(|_| {
                Error::data("column/row", format!("row {id} has no {}", self.columns[0]))
                    .hint("the input changed during the run; run the command again")
                    .at(Location::default().row(*id))
            })
        };
        let places = candidates.ids()?.iter().map(place).collect::<Result<Vec<_>>>()?;
        let own = self.pool.filter(&places)?;
        for column in &self.columns {
            candidates = candidates.with(column, own.column(column)?)?;
        }
        Ok(candidates)
    }
}
