//! Rows in groups, each group's rows in order of preference, and how quotas over the groups become one list.
//!
//! Rank of the list: the row at place `i` of the `b` taken from its group comes at `(2 i - 1) / (2 b)`, smallest first,
//! ties to the larger quota and then to the lower row id: every beginning of the list mixes the groups about as the whole
//! does. Source: own work; it is the order in which Webster's apportionment hands out seats. Cost: m log m for m picks.

use crate::limit::Limit;
use curate_core::{Assessment, Group, Pick, Result};

/// Positions of the pool by group.
pub(crate) struct Strata<'a> {
    /// Row id of every position.
    pub(crate) ids: &'a [u64],
    /// Group of every position, as an index into `names`.
    pub(crate) of: &'a [u32],
    /// Number of each group, as users see it.
    pub(crate) names: &'a [u32],
    /// Positions, group after group, best first within each.
    order: Vec<usize>,
    /// Group `j` is `order[ends[j]..ends[j + 1]]`.
    ends: Vec<usize>,
}

/// A row with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Position in the pool.
    pub(crate) position: usize,
    /// Index of its group.
    pub(crate) group: usize,
    /// Place within the group, from 1.
    pub(crate) place: u64,
}

impl<'a> Strata<'a> {
    /// Sort every group by falling `preference` (one number a position), ties by row id.
    pub(crate) fn new(ids: &'a [u64], of: &'a [u32], names: &'a [u32], preference: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by(|&a, &b| {
            let by_preference = preference[b].total_cmp(&preference[a]);
            of[a].cmp(&of[b]).then(by_preference).then(ids[a].cmp(&ids[b])).then(a.cmp(&b))
        });
        let ends = (0..=names.len()).map(|j| order.partition_point(|&p| (of[p] as usize) < j)).collect();
        Self { ids, of, names, order, ends }
    }

    /// Positions of group `j`, best first.
    pub(crate) fn members(&self, j: usize) -> &[usize] {
        &self.order[self.ends[j]..self.ends[j + 1]]
    }

    /// Rows of each group.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        self.ends.windows(2).map(|w| (w[1] - w[0]) as u64).collect()
    }

    /// The quotas that meet `limit`, where `share_out(m)` says the quotas for `m` rows.
    pub(crate) fn quotas(&self, limit: &Limit, share_out: impl Fn(usize) -> Vec<u64>) -> Result<Vec<u64>> {
        let tokens_of = |m: usize, tokens: &[u32]| {
            let taken = share_out(m).into_iter().enumerate().flat_map(|(j, quota)| self.first(j, quota));
            taken.map(|&position| u64::from(tokens[position])).sum()
        };
        Ok(share_out(limit.row_count(self.ids.len(), tokens_of)?))
    }

    /// The first `quota` rows of group `j`.
    fn first(&self, j: usize, quota: u64) -> &[usize] {
        let members = self.members(j);
        &members[..members.len().min(usize::try_from(quota).unwrap_or(usize::MAX))]
    }

    /// The rows within the quotas, best first.
    pub(crate) fn interleave(&self, quotas: &[u64]) -> Vec<Placed> {
        let placed = |j: usize, quota: u64| {
            let rows = self.first(j, quota).iter().zip(1..);
            rows.map(move |(&position, place)| Placed { position, group: j, place })
        };
        let mut list: Vec<Placed> = quotas.iter().enumerate().flat_map(|(j, &quota)| placed(j, quota)).collect();
        list.sort_unstable_by(|a, b| {
            let (of_a, of_b) = (quotas[a.group], quotas[b.group]);
            let (cross_a, cross_b) = (wide(2 * a.place - 1) * wide(of_b), wide(2 * b.place - 1) * wide(of_a));
            let (id_a, id_b) = (self.ids[a.position], self.ids[b.position]);
            cross_a.cmp(&cross_b).then(of_b.cmp(&of_a)).then(id_a.cmp(&id_b)).then(a.position.cmp(&b.position))
        });
        list
    }

    /// The list as picks; `score` is one number a position, `reason` says why.
    pub(crate) fn picks(&self, list: &[Placed], score: &[f32], reason: impl Fn(&Placed) -> String) -> Vec<Pick> {
        let pick = |p: &Placed| Pick {
            row: self.ids[p.position],
            score: score[p.position],
            weight: 1.0,
            group: Some(self.names[p.group]),
            reason: reason(p),
        };
        list.iter().map(pick).collect()
    }

    /// What became of every group that holds rows.
    pub(crate) fn groups(&self, quotas: &[u64]) -> Vec<Group> {
        let group = |(j, size_rows): (usize, u64)| Group {
            id: self.names[j],
            size_rows,
            picked_rows: quotas[j].min(size_rows),
        };
        self.sizes().into_iter().enumerate().filter(|(_, size)| *size > 0).map(group).collect()
    }

    /// Score, group and place of every position.
    pub(crate) fn assessment(&self, score: &[f32]) -> Assessment {
        let mut place = vec![0; self.ids.len()];
        for j in 0..self.names.len() {
            for (&position, at) in self.members(j).iter().zip(1..) {
                place[position] = at;
            }
        }
        Assessment {
            row: self.ids.to_vec(),
            score: score.to_vec(),
            group: self.of.iter().map(|&j| self.names[j as usize]).collect(),
            place,
            blocker: Vec::new(),
        }
    }
}

fn wide(count: u64) -> u128 {
    u128::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_and_two_places_alternate() {
        let ids: Vec<u64> = (0..8).collect();
        let strata = Strata::new(&ids, &[0, 0, 0, 0, 1, 1, 1, 1], &[7, 9], &[1.0, 2.0, 3.0, 4.0, 1.0, 9.0, 3.0, 2.0]);
        let list: Vec<usize> = strata.interleave(&[4, 2]).iter().map(|p| p.position).collect();
        assert_eq!(list, [3, 5, 2, 1, 6, 0], "at 1/8, 1/4, 3/8, 5/8, 3/4, 7/8");
        assert_eq!(strata.groups(&[4, 2])[1], Group { id: 9, size_rows: 4, picked_rows: 2 });
        assert_eq!(strata.assessment(&[0.0; 8]).place, [4, 3, 2, 1, 4, 1, 2, 3]);
    }
}
