//! What was chosen from each part of the corpus, against the part's size.
//!
//! `lift = (picks of the part / picks) / (rows of the part / rows)`: 1 where a part is chosen from as often as chance would.
//! Source: own work, as in association rules. Cost: n time.

use super::data::{Part, Share};
use super::table::{State, Table};

/// Parts that are listed.
pub(super) const LISTED: usize = 24;

/// Every row's part.
pub(super) struct Labels {
    /// What the parts are.
    pub(super) by: String,
    /// How they were found.
    pub(super) note: String,
    /// Their names.
    pub(super) names: Vec<String>,
    /// Part of every position; those at or beyond the names belong to none.
    pub(super) of: Vec<u32>,
}

impl Labels {
    /// Parts by falling size, ties by number.
    pub(super) fn by_size(&self) -> Vec<usize> {
        let mut rows = vec![0u64; self.names.len()];
        for &part in &self.of {
            rows.get_mut(part as usize).into_iter().for_each(|count| *count += 1);
        }
        let mut order: Vec<usize> = (0..rows.len()).filter(|&part| rows[part] > 0).collect();
        order.sort_by_key(|&part| (std::cmp::Reverse(rows[part]), part));
        order
    }

    /// The same parts without the rows that filters removed.
    pub(super) fn without_removed(&self, table: &Table) -> Self {
        let kept = |(&part, &state): (&u32, &State)| if state == State::Removed { u32::MAX } else { part };
        let of = self.of.iter().zip(&table.state).map(kept).collect();
        Self { by: self.by.clone(), note: self.note.clone(), names: self.names.clone(), of }
    }
}

/// Shares of the parts, the largest listed.
pub(super) fn share(labels: &Labels, table: &Table) -> Share {
    let counted = count(labels, table);
    let order = labels.by_size();
    let (listed, others) = order.split_at(order.len().min(LISTED));
    let sum = |parts: &[(u64, u64)]| parts.iter().fold((0, 0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
    let all = sum(&counted);
    let rest = sum(&others.iter().map(|&p| counted[p]).collect::<Vec<_>>());
    Share {
        by: labels.by.clone(),
        note: labels.note.clone(),
        parts: listed.iter().map(|&p| part(labels.names[p].clone(), counted[p], all)).collect(),
        other: (!others.is_empty()).then(|| part("others".to_owned(), rest, all)),
        other_parts: others.len(),
    }
}

/// Rows and chosen rows of every part.
fn count(labels: &Labels, table: &Table) -> Vec<(u64, u64)> {
    let mut counted = vec![(0u64, 0u64); labels.names.len()];
    for (&label, &state) in labels.of.iter().zip(&table.state) {
        if let Some(own) = counted.get_mut(label as usize) {
            own.0 += 1;
            own.1 += u64::from(state == State::Picked);
        }
    }
    counted
}

/// A part, against all rows that are in any part, and all picks of them.
fn part(name: String, (rows, picked_rows): (u64, u64), (all, all_picked): (u64, u64)) -> Part {
    let of = |count: u64, all: u64| if all == 0 { 0.0 } else { count as f64 / all as f64 };
    let (share, picked_share) = (of(rows, all), of(picked_rows, all_picked));
    let lift = (share > 0.0 && all_picked > 0).then(|| picked_share / share);
    Part { name, rows, picked_rows, share, picked_share, lift, example: None }
}

/// Shares by length of the rows that could be chosen: ten parts of about equal size, shortest first.
pub(super) fn by_length(table: &Table) -> Share {
    let (lengths, unit) = table.lengths();
    let candidates = table.candidates();
    let mut sorted: Vec<u32> = candidates.iter().map(|&at| lengths[at]).collect();
    sorted.sort_unstable();
    let mut last: Vec<u32> =
        (1..=10).filter_map(|i| (sorted.len() * i / 10).checked_sub(1).map(|at| sorted[at])).collect();
    last.dedup();
    let mut counted = vec![(0u64, 0u64); last.len()];
    for &at in &candidates {
        let own = &mut counted[last.partition_point(|&most| most < lengths[at])];
        own.0 += 1;
        own.1 += u64::from(table.state[at] == State::Picked);
    }
    let all = (candidates.len() as u64, table.picks.len() as u64);
    let first =
        std::iter::once(sorted.first().copied().unwrap_or(0)).chain(last.iter().map(|most| most.saturating_add(1)));
    let names =
        first.zip(&last).map(|(low, &high)| if low >= high { high.to_string() } else { format!("{low}–{high}") });
    Share {
        by: "length".to_owned(),
        note: format!("{unit}, tenths of the corpus"),
        parts: names.zip(&counted).map(|(name, own)| part(name, *own, all)).collect(),
        other: None,
        other_parts: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(tokens: Vec<u32>, picks: &[usize]) -> Table {
        let mut state = vec![State::Left; tokens.len()];
        picks.iter().for_each(|&at| state[at] = State::Picked);
        let ids = (0..tokens.len() as u64).collect();
        Table { ids, state, picks: picks.to_vec(), chars: tokens.clone(), tokens, group: None, numbers: Vec::new() }
    }

    #[test]
    fn lift_of_two_sources() {
        let labels = Labels {
            by: "source".into(),
            note: String::new(),
            names: vec!["a".into(), "b".into()],
            of: vec![0, 0, 0, 1],
        };
        let found = share(&labels, &table(vec![1; 4], &[0, 3]));
        assert_eq!(found.parts.iter().map(|p| (p.rows, p.picked_rows)).collect::<Vec<_>>(), [(3, 1), (1, 1)]);
        assert_eq!(found.parts[1].lift, Some(2.0));
        let none = share(&labels, &table(vec![1; 4], &[]));
        assert_eq!((none.parts[0].picked_share.to_bits(), none.parts[0].lift), (0, None));
    }

    #[test]
    fn removed_rows_are_in_no_part() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let labels = Labels { by: "source".into(), note: String::new(), names, of: vec![0, 0, 1, 1] };
        let mut table = table(vec![5, 6, 7, 8], &[3]);
        table.state[0] = State::Removed;
        let found = share(&labels.without_removed(&table), &table);
        assert_eq!(found.parts.iter().map(|p| (p.rows, p.picked_rows)).collect::<Vec<_>>(), [(2, 1), (1, 0)]);
        assert_eq!(by_length(&table).parts.iter().map(|p| p.rows).sum::<u64>(), 3);
    }

    #[test]
    fn many_parts_are_summed_up() {
        let names: Vec<String> = (0..30).map(|i| i.to_string()).collect();
        let labels = Labels { by: "cluster".into(), note: String::new(), names, of: (0..30).collect() };
        let found = share(&labels, &table(vec![1; 30], &[29]));
        assert_eq!((found.parts.len(), found.other_parts), (LISTED, 6));
        assert_eq!(found.other.map(|p| (p.rows, p.picked_rows)), Some((6, 1)));
    }

    #[test]
    fn every_length_has_its_part() {
        let found = by_length(&table((0..20).collect(), &[19]));
        assert_eq!((found.parts.len(), found.parts[0].name.as_str(), found.parts[9].picked_rows), (10, "0–1", 1));
        let equal = by_length(&table(vec![5; 20], &[0]));
        assert_eq!((equal.parts.len(), equal.parts[0].rows), (1, 20));
        assert!(by_length(&table(Vec::new(), &[])).parts.is_empty());
    }
}
