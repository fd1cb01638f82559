//! The rows of a finished choice as plain columns: what became of each, and the numbers known of it.

use crate::choose::Chosen;
use curate_core::{Column, Pool, Result};

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Left,
    Picked,
    Removed,
}

/// One number of every row; NaN where it is not known.
pub(super) struct Numbers {
    pub(super) name: String,
    pub(super) values: Vec<f32>,
}

/// The rows of the pool before filters, by position.
pub(super) struct Table {
    pub(super) ids: Vec<u64>,
    pub(super) state: Vec<State>,
    /// Positions of the picks, best first.
    pub(super) picks: Vec<usize>,
    /// Token counts; empty where there are none.
    pub(super) tokens: Vec<u32>,
    pub(super) chars: Vec<u32>,
    /// Group of every row as the method sees it, `u32::MAX` where it has none.
    pub(super) group: Option<Vec<u32>>,
    pub(super) numbers: Vec<Numbers>,
}

/// Name of the number that the method chose by.
pub(super) const METHOD_SCORE: &str = "the method's score";

impl Table {
    pub(super) fn of(chosen: &Chosen) -> Result<Self> {
        let pool = &chosen.features.pool;
        let ids = pool.ids()?;
        let mut state = vec![State::Left; ids.len()];
        for (_, judged, verdict) in &chosen.verdicts {
            let removed = judged.iter().zip(&verdict.keep).filter(|(_, keep)| !**keep);
            places(&ids, removed.map(|(row, _)| *row)).for_each(|at| state[at] = State::Removed);
        }
        let picks: Vec<usize> = places(&ids, chosen.selection.picks.iter().map(|pick| pick.row)).collect();
        picks.iter().for_each(|&at| state[at] = State::Picked);
        let tokens = if pool.has(&Column::TOKENS) { pool.counts(&Column::TOKENS)? } else { Vec::new() };
        let chars = pool.counts(&Column::CHARS)?;
        let group = group(chosen, &ids);
        let numbers = numbers(chosen, pool, &ids)?;
        Ok(Self { ids, state, picks, tokens, chars, group, numbers })
    }

    pub(super) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Positions of the rows that the method could choose from.
    pub(super) fn candidates(&self) -> Vec<usize> {
        (0..self.rows()).filter(|&at| self.state[at] != State::Removed).collect()
    }

    /// Positions of these rows, for as many as are in the pool.
    pub(super) fn places<'a>(&'a self, rows: impl Iterator<Item = u64> + 'a) -> impl Iterator<Item = usize> + 'a {
        places(&self.ids, rows)
    }

    /// The length of every row and its unit: tokens where counted, else characters.
    pub(super) fn lengths(&self) -> (&[u32], &'static str) {
        if self.tokens.is_empty() { (&self.chars, "characters") } else { (&self.tokens, "tokens") }
    }
}

fn places<'a>(ids: &'a [u64], rows: impl Iterator<Item = u64> + 'a) -> impl Iterator<Item = usize> + 'a {
    rows.filter_map(|row| ids.binary_search(&row).ok())
}

/// Groups as the method saw them, or the clusters that the input came with.
fn group(chosen: &Chosen, ids: &[u64]) -> Option<Vec<u32>> {
    let assessed = chosen.selection.assessment.as_ref().filter(|a| !a.group.is_empty())?;
    let mut group = vec![u32::MAX; ids.len()];
    for (row, &own) in assessed.row.iter().zip(&assessed.group) {
        places(ids, std::iter::once(*row)).for_each(|at| group[at] = own);
    }
    Some(group)
}

/// The method's own score first, then the columns of scores and signals.
fn numbers(chosen: &Chosen, pool: &Pool, ids: &[u64]) -> Result<Vec<Numbers>> {
    let mut all = Vec::new();
    if let Some(assessed) = &chosen.selection.assessment {
        let mut values = vec![f32::NAN; ids.len()];
        for (row, &score) in assessed.row.iter().zip(&assessed.score) {
            places(ids, std::iter::once(*row)).for_each(|at| values[at] = score);
        }
        all.push(Numbers { name: METHOD_SCORE.to_owned(), values });
    }
    for field in pool.schema().fields().iter().filter(|field| field.data_type().is_numeric()) {
        let known = ["score.", "signal."].iter().find_map(|kind| field.name().strip_prefix(kind));
        if let Some(name) = known {
            let values = pool.numbers(&Column::named(field.name().clone()))?;
            all.push(Numbers { name: name.to_owned(), values });
        }
    }
    all.retain(|number| differs(&number.values));
    if all
        .first()
        .is_some_and(|own| own.name == METHOD_SCORE && all[1..].iter().any(|other| same(&own.values, &other.values)))
    {
        all.remove(0);
    }
    Ok(all)
}

/// Whether a column says the same wherever the method's score is known.
fn same(own: &[f32], other: &[f32]) -> bool {
    own.iter().zip(other).all(|(own, other)| own.is_nan() || own.to_bits() == other.to_bits())
}

/// Whether not all known values are equal.
fn differs(values: &[f32]) -> bool {
    let mut known = values.iter().filter(|value| value.is_finite());
    known.next().is_some_and(|first| known.any(|value| value.to_bits() != first.to_bits()))
}
