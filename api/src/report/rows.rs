//! Rows shown with their texts: the first of the choice, the best that were left out, and what filters removed.

use super::data::{Blocker, Example, Rejected, Removed};
use super::table::{METHOD_SCORE, State, Table};
use super::texts::Found;
use crate::choose::Chosen;
use crate::explain::{Explanation, describe_place};
use std::collections::BTreeMap;

/// Rows shown of each kind.
const SHOWN: usize = 10;

/// Characters of the text of a row that is shown whole, and of one beside another.
pub(super) const TEXT_CHARS: usize = 1500;
pub(super) const PAIR_CHARS: usize = 400;

/// Which rows are shown, before their texts are known.
pub(super) struct Shown {
    best: Vec<usize>,
    rejected: Vec<usize>,
    rejected_by: Option<String>,
    removed: Vec<Removed>,
}

impl Shown {
    pub(super) fn of(chosen: &Chosen, table: &Table) -> Self {
        let (rejected_by, rejected) = rejected(table);
        let best = table.picks.iter().copied().take(SHOWN).collect();
        Self { best, rejected, rejected_by, removed: removed(chosen) }
    }

    /// Rows shown with a long text.
    pub(super) fn whole<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = u64> + 'a {
        self.best.iter().chain(&self.rejected).map(|&at| table.ids[at])
    }

    /// Rows shown in pairs.
    pub(super) fn pairs(&self) -> impl Iterator<Item = u64> + '_ {
        let blockers = self.removed.iter().flat_map(|removed| &removed.blockers);
        blockers.flat_map(|blocker| blocker.row.into_iter().chain([blocker.example_row]))
    }

    pub(super) fn best(&self, chosen: &Chosen, table: &Table, found: &Found) -> Vec<Example> {
        let picks = self.best.iter().zip(&chosen.selection.picks).enumerate();
        picks.map(|(rank, (&at, pick))| example(at, Some(rank), &pick.reason, table, found)).collect()
    }

    pub(super) fn rejected(&self, chosen: &Chosen, table: &Table, found: &Found) -> Rejected {
        let rows = self.rejected.iter().map(|&at| example(at, None, &why_not(chosen, table.ids[at]), table, found));
        Rejected { by: self.rejected_by.clone(), rows: rows.collect() }
    }

    pub(super) fn removed(self, found: &Found) -> Vec<Removed> {
        let mut all = self.removed;
        for blocker in all.iter_mut().flat_map(|removed| &mut removed.blockers) {
            blocker.text = blocker.row.map(|row| found.text(row, PAIR_CHARS)).unwrap_or_default();
            blocker.example_text = found.text(blocker.example_row, PAIR_CHARS);
        }
        all
    }
}

fn example(at: usize, rank: Option<usize>, because: &str, table: &Table, found: &Found) -> Example {
    let row = table.ids[at];
    let (lengths, unit) = table.lengths();
    let numbers = table.numbers.iter().map(|number| (number.name.clone(), number.values[at]));
    let source = found.sources.as_ref().and_then(|sources| sources.names.get(sources.of[at] as usize).cloned());
    Example {
        row,
        rank,
        because: because.to_owned(),
        source,
        numbers: numbers.filter(|n| n.1.is_finite()).chain([(unit.to_owned(), lengths[at] as f32)]).collect(),
        text: found.text(row, TEXT_CHARS),
    }
}

/// The rows left out with the largest number: the method's score, else the quality, else any score.
fn rejected(table: &Table) -> (Option<String>, Vec<usize>) {
    let named = |name: &str| table.numbers.iter().find(|number| number.name == name);
    let Some(by) = named(METHOD_SCORE).or_else(|| named("quality")).or_else(|| table.numbers.first()) else {
        return (None, Vec::new());
    };
    let mut left: Vec<usize> =
        (0..table.rows()).filter(|&at| table.state[at] == State::Left && by.values[at].is_finite()).collect();
    let order = |a: &usize, b: &usize| by.values[*b].total_cmp(&by.values[*a]).then(a.cmp(b));
    if left.len() > SHOWN {
        left.select_nth_unstable_by(SHOWN, order);
        left.truncate(SHOWN);
    }
    left.sort_unstable_by(order);
    (Some(by.name.clone()), left)
}

fn why_not(chosen: &Chosen, row: u64) -> String {
    let mut found = Explanation { row, ..Explanation::default() };
    if let Some(assessment) = &chosen.selection.assessment {
        describe_place(&mut found, chosen, assessment);
    }
    if found.because.is_empty() { "The method did not choose it.".to_owned() } else { found.because.join(" ") }
}

/// What each filter removed: the rows that made most others superfluous, and one of those others.
fn removed(chosen: &Chosen) -> Vec<Removed> {
    let one = |(filter, judged, verdict): &(String, Vec<u64>, curate_core::Verdict)| {
        let mut by_blocker: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let gone: Vec<usize> = (0..judged.len()).filter(|&at| !verdict.keep[at]).collect();
        for &at in &gone {
            let blocker = verdict.blocker.get(at).copied().unwrap_or(u64::MAX);
            by_blocker.entry(blocker).or_insert((0, judged[at])).0 += 1;
        }
        let mut order: Vec<(u64, (u64, u64))> = by_blocker.into_iter().collect();
        order.sort_by_key(|&(row, (count, _))| (std::cmp::Reverse(count), row));
        let blocker = |&(row, (removed_rows, example_row)): &(u64, (u64, u64))| Blocker {
            row: (row != u64::MAX).then_some(row),
            text: String::new(),
            removed_rows,
            example_row,
            example_text: String::new(),
        };
        Removed {
            filter: filter.clone(),
            judged_rows: judged.len(),
            removed_rows: gone.len(),
            blockers: order.iter().take(SHOWN).map(blocker).collect(),
        }
    };
    chosen.verdicts.iter().map(one).collect()
}
