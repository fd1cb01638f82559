//! One round: the rows shared out over the clusters and drawn inside each.

use crate::allocate::allocate;
use crate::grouping::Grouping;
use crate::online::batch::Batch;
use crate::strata::{Placed, Strata};
use curate_core::{Column, Ctx, Error, Location, Result, Selection};
use serde_json::json;
use std::collections::BTreeMap;

/// One uniform number a candidate: drawn, or taken from a column for replay.
pub(super) fn uniforms(batch: &Batch<'_>, ctx: &Ctx) -> Result<Vec<f64>> {
    let column = Column::signal("draw");
    let Some(given) = batch.signal_if(&column)? else {
        let stream = ctx.stream("draw");
        return Ok(batch.ids().iter().map(|&id| stream(id).uniform()).collect());
    };
    match given.iter().position(|&u| !(u > 0.0 && u < 1.0)) {
        None => Ok(given),
        Some(p) => Err(Error::data("signal/range", format!("{} is not between 0 and 1", given[p]))
            .at(Location::default().row(batch.ids()[p]).column(column.as_str()))
            .hint("leave the column out, or give the numbers that were drawn")),
    }
}

/// A round being drawn.
pub(super) struct Round<'a> {
    pub(super) batch: &'a Batch<'a>,
    pub(super) grouping: &'a Grouping,
    pub(super) weights: &'a BTreeMap<u32, f64>,
    /// From 1.
    pub(super) number: u32,
}

impl Round<'_> {
    /// Share `k` rows out by weight and take the preferred ones of each cluster.
    pub(super) fn select(&self, preference: &[f64], quality: Option<&[f64]>, k: usize) -> Result<Selection> {
        let names = &self.grouping.names;
        let strata = Strata::new(self.batch.ids(), &self.grouping.of, names, preference);
        let open = |j| strata.members(j).partition_point(|&p| preference[p] > f64::NEG_INFINITY) as u64;
        let caps: Vec<u64> = (0..names.len()).map(open).collect();
        if caps.iter().all(|&cap| cap == 0) {
            let message = format!("all {} candidates were drawn in earlier rounds", self.batch.len());
            return Err(Error::data("candidates/drawn", message).hint("ask for fewer rounds or fewer rows a round"));
        }
        let weights: Vec<f64> = names.iter().map(|name| self.weights[name]).collect();
        let quotas = allocate(&weights, &caps, k as u64).rows;
        let score = score(quality, preference);
        let reason = |p: &Placed| self.reason(p, quotas[p.group], quality);
        let picks = strata.picks(&strata.interleave(&quotas), &score, reason);
        let (groups, assessment) = (strata.groups(&quotas), Some(strata.assessment(&score)));
        let mut chosen = Selection { picks, groups, assessment, ..Selection::default() };
        chosen.report.insert("round".into(), json!(self.number));
        chosen.report.insert("clusters".into(), json!(self.weights.keys().collect::<Vec<_>>()));
        chosen.report.insert("weights".into(), json!(self.weights.values().collect::<Vec<_>>()));
        Ok(chosen)
    }

    fn reason(&self, p: &Placed, quota: u64, quality: Option<&[f64]>) -> String {
        let name = self.grouping.names[p.group];
        let why = quality.map_or_else(|| "by lot".to_owned(), |q| format!("with quality {}", q[p.position]));
        let (weight, round) = (self.weights[&name], self.number);
        format!("round {round}: cluster {name} has weight {weight:.4}; place {} of {quota} {why}", p.place)
    }
}

/// What users see as the score: the quality, or the lot (the lowest for rows drawn before).
#[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
fn score(quality: Option<&[f64]>, preference: &[f64]) -> Vec<f32> {
    quality.unwrap_or(preference).iter().map(|&s| (s as f32).max(f32::MIN)).collect()
}
