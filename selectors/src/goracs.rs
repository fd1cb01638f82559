//! Takes the set of rows that together lie nearest to a target by optimal transport, less a reward for rows of large gradients.
//!
//! `POO(S) = OT(C[S]; 1/k, 1/m)`, least; `C_ij = |x_i - y_j| / max - lambda g_i / max g`, scaled to 0..1: the distance to
//! the target minus lambda times the mean gradient norm. A greedy start, then single exchanges while they help. Source: Mei et al.
//! 2025 (GORACS, arXiv 2506.04015), sections on the proxy objective and its two-stage solution; the formulas follow the
//! published code. Deviations, all measured to end lower: the bound uses its true maximiser, the `ceil(m/k)`-th smallest
//! gap (the code takes the largest), members are left out of their own bound (the code means to), pairs are tried by a
//! lower bound of the distance after the exchange, and pairs whose bound shows no gain are not solved; `compat =
//! released` does as the code does. Classes: any number, shared out by largest remainder (the code: two, half to even).
//! Ties go to the lower row id. A budget in tokens repeats the search about log2 n times. Cost: n m d once, n m an
//! exchange at most (rows that a bound rules out are not looked at again) and a few hundred pivots a pair solved; memory
//! 4 n m + 8 k m bytes for m target rows and k picks; without room for 4 n m, distances are made anew row by row.

mod cost;
mod exchange;
mod greedy;
mod view;

use crate::allocate::allocate;
use crate::grouping::labels;
use crate::limit::Limit;
use crate::target::Sides;
use cost::{Matrix, Terms};
use curate_core::kernels::MatRef;
use curate_core::{
    Algorithm, Assessment, Budget, Column, Ctx, Error, Group, Info, Pick, Pool, Result, Selection, Selector,
};
use exchange::{Outcome, Search, refine};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Whose rules to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// The corrected search, which ends nearer to the target.
    #[default]
    Corrected,
    /// The search of the released code.
    Released,
}

/// Parameters of GORACS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Goracs {
    /// Weight of the gradient norms (`signal.grad_norm`); with 0 they are not needed.
    #[schemars(range(min = 0.0, max = 1e6))]
    pub lambda: f64,
    /// Exchanges after the greedy start, at most.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub exchanges: usize,
    /// Rows to spare and rows to bring in that are tried with one another for each exchange.
    #[schemars(range(min = 1, max = 10_000))]
    pub candidates: usize,
    /// Whose rules to follow.
    pub compat: Compat,
    /// Column of class labels (whole numbers) in pool and target: choose class by class, with the classes' shares in the target.
    pub classes: Option<String>,
    /// Scale the embeddings to unit length first. The built-in embedders do that already.
    pub normalize: bool,
}

impl Default for Goracs {
    fn default() -> Self {
        Self { lambda: 0.0, exchanges: 100, candidates: 30, compat: Compat::Corrected, classes: None, normalize: false }
    }
}

impl Algorithm for Goracs {
    const INFO: Info = Info {
        name: "goracs",
        summary: "Takes the set of rows that together lie nearest to a target by optimal transport.",
        source: "Mei et al. 2025 (GORACS, arXiv 2506.04015), proxy objective and two-stage search; the published code",
        cost: "n m d, then n m an exchange at most, for m target rows; 4 n m + 8 k m bytes, or 8 k m and more time",
    };
}

impl Selector for Goracs {
    fn needs(&self) -> Vec<Column> {
        let norms = (self.lambda > 0.0).then(|| Column::signal("grad_norm"));
        self.target_needs().into_iter().chain(norms).collect()
    }

    fn target_needs(&self) -> Vec<Column> {
        std::iter::once(Column::EMBEDDING).chain(self.classes.clone().map(Column::named)).collect()
    }

    fn select(&self, pool: &Pool, budget: Budget, ctx: &Ctx) -> Result<Selection> {
        pool.require(&self.needs(), Self::INFO.name)?;
        let limit = Limit::of(pool, budget)?;
        let target = ctx.target(&self.target_needs(), Self::INFO.name)?;
        let ids = pool.ids()?;
        ctx.tick(0)?;
        if ids.is_empty() {
            return Ok(Selection::default());
        }
        let ctx = &ctx.child(Self::INFO.name);
        let sides = Sides::read((pool, &ids), target, self.normalize, ctx)?;
        let (norms, clouds) = (self.norms(pool, &sides)?, self.clouds(pool, &sides)?);
        let dim = sides.goals.view()?.dim();
        let parts = clouds.iter().map(|cloud| self.part(cloud, dim, &norms, ctx)).collect::<Result<Vec<_>>>()?;
        let n = ids.len();
        let rows = limit.try_row_count(n, |m, tokens| {
            let count = |position: usize| u64::from(tokens[position]);
            if m == n {
                return Ok((0..n).map(count).sum());
            }
            let found = self.solve(&parts, m, ctx)?;
            let members =
                parts.iter().zip(&found).flat_map(|(part, found)| found.members.iter().map(|&i| part.cloud.rows[i]));
            Ok(members.map(|row| count(sides.by_id[row])).sum())
        })?;
        let found = self.solve(&parts, rows, ctx)?;
        Ok(selection(&sides, &parts, &found))
    }
}

/// Candidates that compete with one another, all or one class, and the target rows they compete for.
struct Cloud<'a> {
    /// Label of the class, if there are classes.
    label: Option<u32>,
    /// Rows in order of their ids.
    rows: Vec<usize>,
    /// Target rows of the class.
    weight: usize,
    from: Cow<'a, [f32]>,
    to: Cow<'a, [f32]>,
}

/// A cloud with its costs.
struct Part<'a> {
    cloud: &'a Cloud<'a>,
    costs: Matrix<'a>,
}

impl Goracs {
    fn clouds<'a>(&self, pool: &Pool, sides: &'a Sides<'_>) -> Result<Vec<Cloud<'a>>> {
        let (x, y) = (sides.candidates.view()?, sides.goals.view()?);
        let Some(classes) = self.classes.clone().map(Column::named) else {
            let (from, to) = (Cow::Borrowed(x.data()), Cow::Borrowed(y.data()));
            return Ok(vec![Cloud { label: None, rows: (0..x.rows()).collect(), weight: y.rows(), from, to }]);
        };
        let of = |label: &[u32], order: &[usize]| {
            let mut groups = BTreeMap::<u32, Vec<usize>>::new();
            order.iter().enumerate().for_each(|(row, &p)| groups.entry(label[p]).or_default().push(row));
            groups
        };
        let goals = of(&labels(sides.target, &classes)?, &sides.target_by_id);
        let everything: Vec<usize> = (0..y.rows()).collect();
        let class = |(label, rows): (u32, Vec<usize>)| {
            let own = goals.get(&label);
            let (from, to) = (Cow::Owned(taken(x, &rows)), Cow::Owned(taken(y, own.unwrap_or(&everything))));
            Cloud { label: Some(label), rows, weight: own.map_or(0, Vec::len), from, to }
        };
        Ok(of(&labels(pool, &classes)?, &sides.by_id).into_iter().map(class).collect())
    }

    fn part<'a>(&self, cloud: &'a Cloud<'a>, dim: usize, norms: &[f32], ctx: &Ctx) -> Result<Part<'a>> {
        let norms: Vec<f32> = cloud.rows.iter().filter_map(|&row| norms.get(row)).copied().collect();
        let terms = Terms { lambda: self.lambda, norms: &norms, divide: cloud.label.is_none() };
        let costs = Matrix::new(MatRef::new(&cloud.from, dim)?, MatRef::new(&cloud.to, dim)?, terms, ctx)?;
        Ok(Part { cloud, costs })
    }

    /// Gradient norms over the largest, in order of ids; none where they have no weight.
    fn norms(&self, pool: &Pool, sides: &Sides<'_>) -> Result<Vec<f32>> {
        if self.lambda <= 0.0 {
            return Ok(Vec::new());
        }
        let column = Column::signal("grad_norm");
        let norms = pool.numbers(&column)?;
        if let Some(position) = norms.iter().position(|&g| g < 0.0) {
            let place = curate_core::Location::default().row(sides.ids[position]).column(column.as_str());
            return Err(Error::data("signal/negative", "a gradient norm is below 0").at(place));
        }
        let largest = norms.iter().fold(0.0f32, |top, &g| top.max(g));
        let divisor = if largest > 0.0 { largest } else { 1.0 };
        Ok(sides.by_id.iter().map(|&position| norms[position] / divisor).collect())
    }

    /// Choose `n` rows, shared out over the parts.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "numbers of rows")]
    fn solve(&self, parts: &[Part<'_>], n: usize, ctx: &Ctx) -> Result<Vec<Outcome>> {
        let weights: Vec<f64> = parts.iter().map(|part| part.cloud.weight as f64).collect();
        let sizes: Vec<u64> = parts.iter().map(|part| part.cloud.rows.len() as u64).collect();
        let shares = allocate(&weights, &sizes, n as u64).rows;
        let search = Search {
            max_exchanges: self.exchanges,
            candidates: self.candidates,
            released: self.compat == Compat::Released,
        };
        let solve = |(part, &share): (&Part<'_>, &u64)| {
            if share == 0 {
                return Ok(Outcome { estimate: vec![0.0; part.cloud.rows.len()], ..Outcome::default() });
            }
            let start = greedy::start(&part.costs.rows, share as usize, ctx)?;
            refine(&part.costs.rows, start, search, ctx)
        };
        parts.iter().zip(&shares).map(solve).collect()
    }
}

fn taken(x: MatRef<'_>, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| x.row(row)).copied().collect()
}

/// Members first by what they add, then by id.
#[expect(clippy::cast_possible_truncation, reason = "for display; the choice is made in double precision")]
fn selection(sides: &Sides<'_>, parts: &[Part<'_>], found: &[Outcome]) -> Selection {
    let n = sides.ids.len();
    let mut assessment =
        Assessment { row: sides.ids.to_vec(), score: vec![0.0; n], place: vec![0; n], ..Assessment::default() };
    let mut members: Vec<(f64, usize, Option<u32>)> = Vec::new();
    for (part, found) in parts.iter().zip(found) {
        for (&row, estimate) in part.cloud.rows.iter().zip(&found.estimate) {
            assessment.score[sides.by_id[row]] = (-estimate + 0.0) as f32;
        }
        members.extend(found.members.iter().map(|&i| (found.estimate[i], part.cloud.rows[i], part.cloud.label)));
    }
    members.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    for (member, place) in members.iter().zip(1..) {
        assessment.place[sides.by_id[member.1]] = place;
    }
    let pick = |&(estimate, row, group): &(f64, usize, Option<u32>)| Pick {
        row: sides.ids[sides.by_id[row]],
        score: (-estimate + 0.0) as f32,
        weight: 1.0,
        group,
        reason: format!(
            "one of {} rows that together lie near the target; its share {:.4}",
            members.len(),
            -estimate + 0.0
        ),
    };
    let picks = members.iter().map(pick).collect();
    let report = report(parts, found);
    Selection { picks, groups: groups(parts, found), assessment: Some(assessment), report }
}

fn groups(parts: &[Part<'_>], found: &[Outcome]) -> Vec<Group> {
    let group = |(part, found): (&Part<'_>, &Outcome)| {
        let (size_rows, picked_rows) = (part.cloud.rows.len() as u64, found.members.len() as u64);
        part.cloud.label.map(|id| Group { id, size_rows, picked_rows })
    };
    parts.iter().zip(found).filter_map(group).collect()
}

fn report(parts: &[Part<'_>], found: &[Outcome]) -> serde_json::Map<String, serde_json::Value> {
    let one = |(part, found): (&Part<'_>, &Outcome)| {
        json!({
            "class": part.cloud.label, "target_rows": part.cloud.weight, "picked_rows": found.members.len(),
            "cost_min": part.costs.min, "cost_max": part.costs.max,
            "start": found.distance.0, "objective": found.distance.1, "exchanges": found.exchanges,
            "transports_solved": found.solved, "rows_measured": found.measured, "pairs_ruled_out": found.skipped,
        })
    };
    serde_json::Map::from_iter([("parts".to_owned(), parts.iter().zip(found).map(one).collect())])
}
