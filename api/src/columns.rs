//! Jobs that add columns for reuse: `curate embed` and `curate cluster` write the input with what they computed beside it.

use crate::cache::PoolMemo;
use crate::choose::{embedder, open, provide};
use crate::features::{Want, build};
use crate::host::Host;
use crate::plan::Plan;
use arrow::array::{ArrayRef, Float32Array, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use curate_core::{Column, Ctx, Error, Pool, Result};
use curate_ingest::{OutputSpec, Source, Written};
use curate_selectors::{ClusterParams, Clustering, clusters};
use serde::Serialize;
use std::sync::Arc;

/// What a column job did.
#[derive(Clone, Debug, Serialize)]
pub struct ColumnsDone {
    /// Rows written.
    pub rows: u64,
    /// Columns added.
    pub columns: Vec<String>,
    /// Files written.
    pub files: Vec<String>,
    /// Figures of the job, such as `inertia`.
    pub report: serde_json::Map<String, serde_json::Value>,
}

/// Write the input with the column `embedding`.
///
/// # Errors
/// What the stages give; nothing is left under the final name then.
pub fn embed(plan: &Plan, host: &Host) -> Result<ColumnsDone> {
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let (source, pool, _) = embedded(plan, host, &ctx)?;
        let dim = pool.dim(&Column::EMBEDDING)?;
        let added = vec![pool.schema().field_with_name(Column::EMBEDDING.as_str())?.clone()];
        let written = write_wide(plan, &source, &pool, &added, &ctx, &|chunk| {
            Ok(vec![pool.chunk(chunk, &[&Column::EMBEDDING])?.column(0).clone()])
        })?;
        Ok(done(&written, &added, [("dim".to_owned(), dim.into())].into_iter().collect()))
    })
}

/// Write the input with the columns `cluster` and `cluster_sq_dist`.
///
/// # Errors
/// What the stages give; nothing is left under the final name then.
pub fn cluster(plan: &Plan, params: &ClusterParams, host: &Host) -> Result<ColumnsDone> {
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let (source, pool, digest) = embedded(plan, host, &ctx)?;
        let ctx = ctx.with_memo(Arc::new(PoolMemo::new(host.cache.clone(), digest)));
        let found = clusters(&pool, params, &ctx.child("select"))?;
        let added = vec![
            Field::new("cluster", DataType::UInt32, false),
            Field::new("cluster_sq_dist", DataType::Float32, false),
        ];
        let written = write_wide(plan, &source, &pool, &added, &ctx, &|chunk| {
            let range = pool.chunk_range(chunk);
            let labels: ArrayRef = Arc::new(UInt32Array::from(found.labels[range.clone()].to_vec()));
            Ok(vec![labels, Arc::new(Float32Array::from(found.sq_dist[range].to_vec()))])
        })?;
        Ok(done(&written, &added, cluster_report(&found)))
    })
}

/// Write the input with a column for every scorer of the plan (`score.<name>`), and `score.quality` where the plan has one. Rows
/// of which a model can say nothing get no score.
///
/// # Errors
/// What the stages give; nothing is left under the final name then.
pub fn score(plan: &Plan, host: &Host) -> Result<ColumnsDone> {
    if plan.score.is_empty() && plan.quality.is_none() {
        return Err(
            Error::usage("score/none", "no scorer is named").hint("add --score mtld; 'curate methods' lists all")
        );
    }
    output(plan)?;
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let source = Arc::new(open(plan, host, &ctx)?);
        let (want, scores) = provide(plan, host, &source, (&[], "the score"), &ctx)?;
        let features = build(&source, &want, &host.cache, &ctx)?;
        let pool = scores.apply(&features.pool, &ctx)?;
        let columns = scores.columns();
        let added: Vec<Field> = columns.iter().map(|c| Field::new(c.as_str(), DataType::Float32, true)).collect();
        let all = columns.iter().map(|c| pool.numbers(c)).collect::<Result<Vec<_>>>()?;
        let ids = pool.ids()?;
        let written = write_rows(plan, &source, &added, &ctx, &|rows| {
            let place: Vec<Option<usize>> = rows.iter().map(|row| ids.binary_search(row).ok()).collect();
            let one = |values: &Vec<f32>| place.iter().map(|at| at.map(|at| values[at])).collect::<Float32Array>();
            Ok(all.iter().map(|values| Arc::new(one(values)) as ArrayRef).collect())
        })?;
        Ok(done(&written, &added, [("scored_rows".to_owned(), ids.len().into())].into_iter().collect()))
    })
}

fn cluster_report(found: &Clustering) -> serde_json::Map<String, serde_json::Value> {
    [
        ("k".to_owned(), found.k.into()),
        ("inertia".to_owned(), found.inertia.into()),
        ("iterations".to_owned(), found.iterations.into()),
    ]
    .into_iter()
    .collect()
}

fn done(written: &Written, added: &[Field], report: serde_json::Map<String, serde_json::Value>) -> ColumnsDone {
    ColumnsDone {
        rows: written.rows,
        columns: added.iter().map(|f| f.name().clone()).collect(),
        files: written.files.iter().map(|file| file.path.clone()).collect(),
        report,
    }
}

fn embedded(plan: &Plan, host: &Host, ctx: &Ctx) -> Result<(Arc<Source>, Pool, crate::cache::Key)> {
    output(plan)?;
    let source = Arc::new(open(plan, host, ctx)?);
    let mut want = Want::default();
    match plan.embed.name.strip_prefix("column:") {
        Some(name) => want.vectors = Some(name.to_owned()),
        None => want.embedder = Some(embedder(plan, host)?),
    }
    let features = build(&source, &want, &host.cache, ctx)?;
    Ok((source, features.pool, features.digest))
}

fn output(plan: &Plan) -> Result<OutputSpec> {
    if plan.output.path.is_empty() {
        return Err(Error::usage("output/missing", "no output is named").hint("add -o out.parquet"));
    }
    Ok(OutputSpec {
        path: plan.output.path.clone(),
        overwrite: plan.output.overwrite,
        shard_rows: plan.output.shard_rows,
    })
}

/// New columns of the rows of one chunk of the pool.
type Columns<'a> = &'a dyn Fn(usize) -> Result<Vec<ArrayRef>>;

/// New columns of the rows with these ids.
type RowColumns<'a> = &'a dyn Fn(&[u64]) -> Result<Vec<ArrayRef>>;

/// Stream the input through with columns added; chunks of the pool are units of the source without the rows left out.
fn write_wide(
    plan: &Plan,
    source: &Source,
    pool: &Pool,
    added: &[Field],
    ctx: &Ctx,
    columns: Columns<'_>,
) -> Result<Written> {
    let next = std::cell::Cell::new(0);
    write_rows(plan, source, added, ctx, &|rows| {
        let chunk = next.replace(next.get() + 1);
        if chunk >= pool.chunks() || pool.chunk_range(chunk).len() != rows.len() {
            return Err(Error::data("input/changed", "the input changed during the run").hint("run the command again"));
        }
        columns(chunk)
    })
}

/// Stream the input through with columns added.
fn write_rows(plan: &Plan, source: &Source, added: &[Field], ctx: &Ctx, columns: RowColumns<'_>) -> Result<Written> {
    let ctx = ctx.child("write");
    ctx.progress().set_total(source.rows());
    let schema = widened(source.schema(), added)?;
    let mut sink = curate_ingest::create(&output(plan)?, schema.clone())?;
    for unit in source.units() {
        let data = source.read(unit, None)?;
        if data.rows.is_empty() {
            continue;
        }
        let arrays = data.batch.columns().iter().cloned().chain(columns(&data.rows)?).collect();
        sink.write(&RecordBatch::try_new(schema.clone(), arrays)?)?;
        ctx.tick(data.rows.len() as u64)?;
    }
    ctx.progress().finish();
    sink.finish()
}

fn widened(original: &Schema, added: &[Field]) -> Result<SchemaRef> {
    if let Some(field) = added.iter().find(|f| original.field_with_name(f.name()).is_ok()) {
        return Err(Error::usage("output/column", format!("the input already has a column '{}'", field.name()))
            .hint("drop it from the input, or use it: --embedder column:NAME"));
    }
    let fields: Vec<_> = original.fields().iter().cloned().chain(added.iter().cloned().map(Arc::new)).collect();
    Ok(Arc::new(Schema::new(fields)))
}
