//! A corpus as people look at it: every row's place on a plane, its group, its source, and the words of each group.

use super::corpus::{Corpus, rows_of};
use super::keywords::Keywords;
use crate::choose::provide;
use crate::features::build;
use crate::host::Host;
use crate::plan::Plan;
use crate::report::map::{Plane, smallest_of};
use crate::report::texts::column_of_sources;
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use curate_core::kernels::MatRef;
use curate_core::{Column, Ctx, Pool, Result};
use curate_ingest::Source;
use curate_selectors::{ClusterParams, clusters};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows that get a place on the plane, and those that the directions are found of.
const PLACED: usize = 200_000;
const FITTED: usize = 20_000;

/// Rows whose words are read.
const READ: usize = 50_000;

/// Groups where the method has none, and rows for each.
const GROUPS: usize = 24;
const ROWS_A_GROUP: usize = 50;

/// Different sources that are told apart.
const SOURCES: usize = 2000;

/// No group, no source.
const NONE: u32 = u32::MAX;

/// Where a method's groups come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Groups {
    /// The rows say it, or they are found by k-means.
    #[default]
    Own,
    /// The nearest of these centres, by number: all values one after the other.
    Centres(Vec<f32>, usize),
    /// A column of the input.
    Column(Column),
}

/// What is known of a group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupWords {
    /// Rows of it.
    pub rows: u64,
    /// Words that set it apart.
    pub keywords: Vec<String>,
}

/// A corpus at a glance.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Positions of the rows on the plane, ascending.
    pub placed: Vec<usize>,
    /// Their coordinates.
    pub points: Vec<[f32; 2]>,
    /// Share of the vectors' variance along both directions.
    pub variance: [f64; 2],
    /// Group of every position.
    pub group: Vec<Option<u32>>,
    /// Groups by number.
    pub groups: BTreeMap<u32, GroupWords>,
    /// Whether the method knows these groups.
    pub methods_own: bool,
    /// Source of every position, as a number of `sources`; empty where none is known.
    pub source: Vec<Option<u32>>,
    /// Names of the sources.
    pub sources: Vec<String>,
    /// Score of every position, where there are scores.
    pub score: Vec<Option<f32>>,
}

/// Look at a corpus.
///
/// # Errors
/// `column/missing` where rows have no vectors and no text to make some of; what the stages give; `cancelled`.
pub fn survey(plan: &Plan, corpus: &Corpus, groups: &Groups, host: &Host) -> Result<Survey> {
    host.install(|| {
        let ctx = host.ctx(plan.seed)?.child("look");
        let own = rows_of(plan, corpus);
        let source = Arc::new(crate::choose::open(&own, host, &ctx)?);
        let (want, _) = provide(&own, host, &source, (&[Column::EMBEDDING], "the map"), &ctx)?;
        let pool = build(&source, &want, &host.cache, &ctx)?.pool;
        let mut found = Survey { score: scores(corpus, &source)?, ..Survey::default() };
        found.place(&pool, &ctx)?;
        found.sort(&pool, &source, (corpus, groups), &ctx)?;
        found.tell_sources(&source, corpus.ids.len())?;
        found.read(&source, &ctx)?;
        ctx.progress().finish();
        Ok(found)
    })
}

/// The number a choice was made by; else a column of quality.
fn scores(corpus: &Corpus, source: &Source) -> Result<Vec<Option<f32>>> {
    if !corpus.picks.is_empty() {
        return Ok(corpus.picks.iter().map(|pick| pick.score.is_finite().then_some(pick.score)).collect());
    }
    let named = |field: &&Arc<arrow::datatypes::Field>| {
        field.data_type().is_numeric() && (field.name().starts_with("score") || field.name() == "quality")
    };
    let schema = source.schema();
    let Some(field) = schema.fields().iter().find(named) else { return Ok(Vec::new()) };
    let mut all = Vec::with_capacity(corpus.ids.len());
    corpus.rows.column(field.name(), |column| {
        let values = cast(column, &DataType::Float32)?;
        all.extend(values.as_primitive::<arrow::datatypes::Float32Type>().iter().map(|v| v.filter(|v| v.is_finite())));
        Ok(())
    })?;
    Ok(all)
}

impl Survey {
    /// Coordinates of a draw of the rows.
    fn place(&mut self, pool: &Pool, ctx: &Ctx) -> Result<()> {
        let ids = pool.ids()?;
        let stage = ctx.child("map");
        stage.progress().set_total(ids.len() as u64);
        let fitted = smallest_of(&ids, (0..ids.len()).collect(), FITTED, ctx);
        let sample = pool.gather(&Column::EMBEDDING, &fitted, &stage)?;
        let all: Vec<usize> = (0..fitted.len()).collect();
        let plane = Plane::fit(sample.view()?, &all, &stage)?;
        self.variance = plane.variance;
        let drawn = smallest_of(&ids, (0..ids.len()).collect(), PLACED, ctx);
        let mut rest = drawn.iter().copied().peekable();
        for chunk in 0..pool.chunks() {
            let range = pool.chunk_range(chunk);
            let block = pool.block(chunk, &Column::EMBEDDING)?;
            let vectors = block.view()?;
            while let Some(at) = rest.next_if(|at| range.contains(at)) {
                self.placed.push(ids[at] as usize);
                self.points.push(plane.project(vectors.row(at - range.start)).map(|v| v as f32));
            }
            stage.tick(range.len() as u64)?;
        }
        stage.progress().finish();
        Ok(())
    }

    /// Every row's group.
    fn sort(&mut self, pool: &Pool, source: &Source, (corpus, groups): (&Corpus, &Groups), ctx: &Ctx) -> Result<()> {
        let n = corpus.ids.len();
        self.methods_own = true;
        self.group = match groups {
            Groups::Centres(centres, dim) if *dim > 0 && pool.dim(&Column::EMBEDDING)? == *dim => {
                spread(&pool.ids()?, &nearest(pool, MatRef::new(centres, *dim)?, ctx)?, n)
            }
            Groups::Column(column) if source.schema().field_with_name(column.as_str()).is_ok() => {
                column_of(corpus, column)?
            }
            _ if corpus.picks.iter().any(|pick| pick.group.is_some()) => {
                corpus.picks.iter().map(|pick| pick.group).collect()
            }
            _ => {
                self.methods_own = false;
                let k = (pool.rows() / ROWS_A_GROUP).clamp(1, GROUPS);
                let params = ClusterParams { k: Some(k), iterations: 15, restarts: 1, normalize: false };
                if pool.rows() == 0 {
                    vec![None; n]
                } else {
                    spread(&pool.ids()?, &clusters(pool, &params, ctx)?.labels, n)
                }
            }
        };
        for group in self.group.iter().flatten() {
            self.groups.entry(*group).or_default().rows += 1;
        }
        Ok(())
    }

    /// Every row's source, where a column names it.
    fn tell_sources(&mut self, source: &Source, n: usize) -> Result<()> {
        let Some(column) = column_of_sources(source) else { return Ok(()) };
        let mut known: BTreeMap<String, u32> = BTreeMap::new();
        let mut of = vec![None; n];
        for unit in source.units() {
            let data = source.read(unit, Some(std::slice::from_ref(&column)))?;
            let Some(array) = data.batch.column_by_name(&column) else { continue };
            let texts = cast(array, &DataType::Utf8)?;
            for (at, text) in data.rows.iter().zip(texts.as_string::<i32>()) {
                let next = known.len() as u32;
                let number = text.map(|text| *known.entry(text.trim().chars().take(60).collect()).or_insert(next));
                if let Some(place) = of.get_mut(*at as usize) {
                    *place = number;
                }
            }
            if known.len() > SOURCES {
                return Ok(());
            }
        }
        self.sources = vec![String::new(); known.len()];
        known.into_iter().for_each(|(name, number)| self.sources[number as usize] = name);
        self.source = of;
        Ok(())
    }

    /// The words of the groups, from a draw of the rows.
    fn read(&mut self, source: &Source, ctx: &Ctx) -> Result<()> {
        let stage = ctx.child("words");
        stage.progress().set_total(source.rows());
        let every = source.rows().div_ceil(READ as u64).max(1);
        let mut words = Keywords::default();
        for unit in source.units() {
            let data = source.read(unit, None)?;
            stage.tick(u64::from(unit.rows))?;
            // Rows of a table without text have no words.
            let Ok(texts) = source.texts(&data) else { continue };
            for (&at, text) in data.rows.iter().zip(&texts).filter(|(at, _)| *at % every == 0) {
                if let Some(group) = self.group.get(at as usize).copied().flatten() {
                    words.add(group, &text.full);
                }
            }
        }
        for (group, keywords) in words.found() {
            self.groups.entry(group).or_default().keywords = keywords;
        }
        stage.progress().finish();
        Ok(())
    }
}

/// Labels of some positions among all.
fn spread(ids: &[u64], labels: &[u32], n: usize) -> Vec<Option<u32>> {
    let mut all = vec![None; n];
    for (&at, &label) in ids.iter().zip(labels) {
        if let Some(place) = all.get_mut(at as usize) {
            *place = (label != NONE).then_some(label);
        }
    }
    all
}

fn nearest(pool: &Pool, centres: MatRef<'_>, ctx: &Ctx) -> Result<Vec<u32>> {
    let mut labels = Vec::with_capacity(pool.rows());
    for chunk in 0..pool.chunks() {
        let block = pool.block(chunk, &Column::EMBEDDING)?;
        let vectors = block.view()?;
        let (mut own, mut distances) = (vec![0; vectors.rows()], vec![0.0; vectors.rows()]);
        ctx.backend().assign(vectors, centres, &mut own, &mut distances)?;
        labels.extend(own);
        ctx.tick(0)?;
    }
    Ok(labels)
}

fn column_of(corpus: &Corpus, column: &Column) -> Result<Vec<Option<u32>>> {
    let mut all = Vec::with_capacity(corpus.ids.len());
    corpus.rows.column(column.as_str(), |values| {
        let values = cast(values, &DataType::UInt32)?;
        all.extend(values.as_primitive::<arrow::datatypes::UInt32Type>().iter());
        Ok(())
    })?;
    Ok(all)
}

/// Scores of drawn rows and of the rest in the same bins: borders, drawn, rest.
#[must_use]
pub fn score_histogram(drawn: Vec<f64>, rest: Vec<f64>) -> (Vec<f64>, Vec<u64>, Vec<u64>) {
    crate::report::scores::histogram(drawn, rest)
}
