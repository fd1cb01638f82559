//! One Beta posterior a prompt, in flat columns; a prompt never heard of has the prior.

use super::slots::Slots;
use crate::online::stored::{Stored, broken, put, same_length};
use arrow::array::{ArrayRef, Float64Array, UInt64Array};
use arrow::datatypes::{Float64Type, UInt64Type};
use curate_core::kernels::chance::Beta;
use curate_core::{Result, State};
use std::sync::Arc;

/// How posteriors start and change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The prior.
    pub(crate) prior: Beta,
    /// What an observation leaves of the distance to the prior.
    pub(crate) decay: f64,
    /// What a proposal leaves of it.
    pub(crate) clock_decay: f64,
}

/// The posteriors of all prompts heard of, in the order they were heard of.
#[derive(Debug, Default)]
pub(crate) struct Posteriors {
    slots: Slots,
    rows: Vec<u64>,
    laws: Vec<Beta>,
    /// Proposals made when the posterior last changed.
    seen: Vec<u64>,
}

impl Posteriors {
    /// Prompts heard of.
    pub(crate) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// The posterior of a prompt after so many proposals.
    #[inline]
    pub(crate) fn of(&self, row: u64, rule: &Rule, now: u64) -> Beta {
        self.slots.get(row).map_or(rule.prior, |slot| self.at(slot, rule, now))
    }

    /// The posteriors of many prompts, most of which have not been heard of.
    pub(crate) fn of_all(&self, rows: &[u64], rule: &Rule, now: u64, laws: &mut Vec<Beta>) {
        laws.clear();
        laws.resize(rows.len(), rule.prior);
        for (law, row) in laws.iter_mut().zip(rows) {
            if let Some(slot) = self.slots.get(*row) {
                *law = self.at(slot, rule, now);
            }
        }
    }

    /// Whether the prompt has been heard of.
    pub(crate) fn knows(&self, row: u64) -> bool {
        self.slots.get(row).is_some()
    }

    #[inline]
    fn at(&self, slot: usize, rule: &Rule, now: u64) -> Beta {
        let law = self.laws[slot];
        if rule.clock_decay >= 1.0 {
            return law;
        }
        let passed = i32::try_from(now.saturating_sub(self.seen[slot])).unwrap_or(i32::MAX);
        let left = rule.clock_decay.powi(passed);
        Beta::new([0, 1].map(|i| left * law.shape[i] + (1.0 - left) * rule.prior.shape[i]))
    }

    /// `shape <- decay shape + (1 - decay) prior + [successes, failures]`.
    pub(crate) fn update(&mut self, row: u64, outcome: [f64; 2], rule: &Rule, now: u64) {
        let slot = self.slots.enter(row);
        if slot == self.rows.len() {
            self.rows.push(row);
            self.laws.push(rule.prior);
            self.seen.push(now);
        }
        let (old, prior) = (self.at(slot, rule, now).shape, rule.prior.shape);
        let shape = [0, 1].map(|i| rule.decay * old[i] + (1.0 - rule.decay) * prior[i] + outcome[i]);
        self.laws[slot] = Beta::new(shape);
        self.seen[slot] = now;
    }

    /// Add the table `posteriors` to a state.
    pub(crate) fn save(&self, state: &mut State) {
        let whole = |values: &[u64]| Arc::new(UInt64Array::from(values.to_vec())) as ArrayRef;
        let shape =
            |i: usize| Arc::new(self.laws.iter().map(|law| Some(law.shape[i])).collect::<Float64Array>()) as ArrayRef;
        let columns =
            [("row", whole(&self.rows)), ("alpha", shape(0)), ("beta", shape(1)), ("seen", whole(&self.seen))];
        put(state, "posteriors", columns);
    }

    /// Read them back.
    pub(crate) fn load(stored: &Stored<'_>) -> Result<Self> {
        let whole = |name| stored.column::<UInt64Type>("posteriors", name);
        let (rows, seen) = (whole("row")?, whole("seen")?);
        let alpha = stored.column::<Float64Type>("posteriors", "alpha")?;
        let beta = stored.column::<Float64Type>("posteriors", "beta")?;
        same_length(&[rows.len(), alpha.len(), beta.len(), seen.len()])?;
        let laws: Vec<Beta> = alpha.into_iter().zip(beta).map(|(a, b)| Beta::new([a, b])).collect();
        if !laws.iter().flat_map(|law| law.shape).all(|s| s.is_finite() && s > 0.0) {
            return Err(broken("a posterior is not above 0"));
        }
        let mut slots = Slots::default();
        let entered = rows.iter().enumerate().all(|(slot, &row)| slots.enter(row) == slot);
        if entered { Ok(Self { slots, rows, laws, seen }) } else { Err(broken("a prompt has two posteriors")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_by_observation_and_by_the_clock() {
        let rule = Rule { prior: Beta::new([1.0; 2]), decay: 0.5, clock_decay: 1.0 };
        let mut all = Posteriors::default();
        all.update(7, [6.0, 2.0], &rule, 0);
        let of = |all: &Posteriors, row, rule, now| <[f64; 2] as Into<(f64, f64)>>::into(all.of(row, rule, now).shape);
        assert_eq!((of(&all, 7, &rule, 9), of(&all, 8, &rule, 9)), ((7.0, 3.0), (1.0, 1.0)));
        all.update(7, [0.0, 8.0], &rule, 1);
        assert_eq!(of(&all, 7, &rule, 1), (4.0, 10.0));
        let fading = Rule { clock_decay: 0.5, ..rule };
        assert_eq!(of(&all, 7, &fading, 3), (1.75, 3.25), "a quarter of the distance to the prior is left");
        assert_eq!(of(&all, 7, &fading, u64::MAX), (1.0, 1.0));
    }
}
