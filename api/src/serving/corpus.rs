//! The rows a session hands out: what a selector chose, in its order, or the whole input for a method that chooses as it goes; copied
//! once into a row file that survives the input, shared by all sessions that ask for the same.

use super::rowfile::{RowFile, RowFileWriter};
use crate::choose::{choose, open, prepare, provide};
use crate::features::build;
use crate::gather::write_picks;
use crate::host::Host;
use crate::online::columns::split;
use crate::plan::Plan;
use crate::select::{input_digest, pretty};
use arrow::array::{ArrayRef, AsArray, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, UInt32Type, UInt64Type};
use curate_core::{Column, Ctx, Error, Location, OnlineSelector, Pick, Pool, Result, Selection};
use curate_ingest::{Format, InputSpec, Layout, RowSink, Source, Written};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Columns of a row file beside the original ones.
pub(super) const ROW: &str = "_curate_row";
pub(super) const CONVERSATION: &str = "_curate_conversation";
const SCORE: &str = "_curate_score";
const WEIGHT: &str = "_curate_weight";
const GROUP: &str = "_curate_group";
const FILE: &str = "rows.arrow";
const META: &str = "corpus.json";

/// What is known of a corpus besides its rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CorpusMeta {
    /// Method that chose the rows; none where the whole input is there.
    pub method: Option<String>,
    /// Rows of the input.
    pub input_rows: u64,
    /// Reading of the input, in words.
    pub layout: String,
    /// Shape of a row.
    pub format: Format,
    /// Chat template that the plan named.
    pub template: Option<String>,
    /// Groups of the selection: number, rows, rows chosen.
    pub groups: Vec<(u32, u64, u64)>,
    /// Figures of the selection.
    pub figures: Map<String, Value>,
}

/// Rows on disk, with what a session needs of them in memory.
pub struct Corpus {
    /// Name of the content.
    pub key: String,
    /// Folder of the files.
    pub folder: PathBuf,
    /// The rows.
    pub rows: RowFile,
    /// What is known of them.
    pub meta: CorpusMeta,
    /// Source ids by position; ascending where the whole input is there.
    pub ids: Vec<u64>,
    /// What the selector said of each row; empty where the whole input is there.
    pub picks: Vec<Pick>,
    places: OnceLock<HashMap<u64, usize>>,
}

/// Adds to rows what a session needs besides the original columns.
struct Wide<'a> {
    inner: RowFileWriter,
    layout: Layout,
    picks: Option<&'a [Pick]>,
    rows: Vec<u64>,
    done: usize,
}

impl<'a> Wide<'a> {
    fn create(path: &Path, source: &Source, picks: Option<&'a [Pick]>) -> Result<Self> {
        let mut fields: Vec<Arc<Field>> = source.schema().fields().iter().cloned().collect();
        fields.retain(|field| !field.name().starts_with("_curate_"));
        fields.extend(extra(picks.is_some()).map(Arc::new));
        let inner = RowFileWriter::create(path, &Schema::new(fields))?;
        Ok(Self { inner, layout: source.layout().clone(), picks, rows: Vec::new(), done: 0 })
    }

    /// Write rows with these source ids.
    fn put(&mut self, batch: &RecordBatch, ids: &[u64]) -> Result<()> {
        let mut columns: Vec<(Arc<Field>, ArrayRef)> =
            batch.schema().fields().iter().cloned().zip(batch.columns().iter().cloned()).collect();
        columns.retain(|(field, _)| !field.name().starts_with("_curate_"));
        let mut added: Vec<ArrayRef> =
            vec![Arc::new(UInt64Array::from(ids.to_vec())), Arc::new(conversations(&self.layout, batch, ids)?)];
        if let Some(picks) = self.picks {
            let own = picks.get(self.done..self.done + ids.len()).unwrap_or_default();
            added.push(Arc::new(own.iter().map(|p| p.score).collect::<Float32Array>()));
            added.push(Arc::new(own.iter().map(|p| p.weight).collect::<Float32Array>()));
            added.push(Arc::new(own.iter().map(|p| p.group).collect::<UInt32Array>()));
        }
        columns.extend(extra(self.picks.is_some()).map(Arc::new).zip(added));
        let (fields, columns): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        self.done += ids.len();
        self.rows.extend(ids);
        self.inner.write(&RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }
}

impl RowSink for Wide<'_> {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let picks = self.picks.unwrap_or_default();
        let ids: Vec<u64> = picks.iter().skip(self.done).take(batch.num_rows()).map(|pick| pick.row).collect();
        self.put(batch, &ids)
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        Box::new(self.inner).finish()
    }
}

fn extra(chosen: bool) -> impl Iterator<Item = Field> {
    let all = [
        Field::new(ROW, DataType::UInt64, false),
        Field::new(CONVERSATION, DataType::Utf8, true),
        Field::new(SCORE, DataType::Float32, true),
        Field::new(WEIGHT, DataType::Float32, true),
        Field::new(GROUP, DataType::UInt32, true),
    ];
    all.into_iter().take(if chosen { 5 } else { 2 })
}

/// The conversations of rows as JSON text; null for rows without text.
fn conversations(layout: &Layout, batch: &RecordBatch, ids: &[u64]) -> Result<StringArray> {
    if layout.format == Format::Table {
        return Ok(StringArray::new_null(ids.len()));
    }
    let found = layout.conversations(batch)?;
    let texts = found.iter().map(|c| serde_json::to_string(c).map_err(|e| Error::io("json", e.to_string())));
    Ok(texts.collect::<Result<Vec<_>>>()?.into())
}

/// Choose and copy the rows of a plan into a folder below `base`, or open them where they are there already.
///
/// # Errors
/// What opening, choosing and copying give; `cancelled`.
pub fn prepare_corpus(plan: &Plan, base: &Path, host: &Host) -> Result<Corpus> {
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let host = &Host { scratch: base.join("scratch"), ..host.clone() };
        std::fs::create_dir_all(&host.scratch)?;
        if plan.select.is_some() { chosen(plan, base, host, &ctx) } else { whole(plan, base, host, &ctx) }
    })
}

/// Name of what a plan gives: its input's content and all that decides the choice.
fn key(plan: &Plan, digests: &[String]) -> Result<String> {
    let own = Plan { output: crate::plan::OutputPlan::default(), train: None, online: None, ..plan.clone() };
    let text = serde_json::to_string(&(own, digests)).map_err(|e| Error::io("json", e.to_string()))?;
    Ok(blake3::hash(text.as_bytes()).to_hex()[..32].to_owned())
}

fn chosen(plan: &Plan, base: &Path, host: &Host, ctx: &Ctx) -> Result<Corpus> {
    let prepared = prepare(plan, host, ctx)?;
    let target = prepared.target.as_ref().map(|(source, _)| input_digest(source)).unwrap_or_default();
    let key = key(plan, &[input_digest(&prepared.source), target])?;
    if let Ok(corpus) = Corpus::open(base, &key) {
        return Ok(corpus);
    }
    let found = choose(prepared, host, ctx)?;
    let selection: &Selection = &found.selection;
    let folder = base.join(&key);
    let mut sink = Wide::create(&folder.join(FILE), &found.source, Some(&selection.picks))?;
    write_picks(&found.source, selection, true, &mut sink, &host.scratch, ctx)?;
    Box::new(sink).finish()?;
    let method = Some(plan.selection()?.name.clone());
    let groups = selection.groups.iter().map(|g| (g.id, g.size_rows, g.picked_rows)).collect();
    let meta = CorpusMeta { method, groups, figures: selection.report.clone(), ..meta_of(&found.source) };
    curate_ingest::write_atomic(&folder.join(META), &pretty(&meta)?)?;
    Corpus::open(base, &key)
}

fn whole(plan: &Plan, base: &Path, host: &Host, ctx: &Ctx) -> Result<Corpus> {
    let source = open(plan, host, ctx)?;
    let key = key(&Plan { select: None, ..plan.clone() }, &[input_digest(&source)])?;
    if let Ok(corpus) = Corpus::open(base, &key) {
        return Ok(corpus);
    }
    let folder = base.join(&key);
    let ctx = ctx.child("copy");
    ctx.progress().set_total(source.rows());
    let mut sink = Wide::create(&folder.join(FILE), &source, None)?;
    for unit in source.units() {
        let data = source.read(unit, None)?;
        sink.put(&data.batch, &data.rows)?;
        ctx.tick(u64::from(unit.rows))?;
    }
    if sink.rows.is_empty() {
        return Err(
            Error::data("input/no-rows", "no row of the input is left").hint("check 'where' and the rows skipped")
        );
    }
    Box::new(sink).finish()?;
    ctx.progress().finish();
    curate_ingest::write_atomic(&folder.join(META), &pretty(&meta_of(&source))?)?;
    Corpus::open(base, &key)
}

fn meta_of(source: &Source) -> CorpusMeta {
    CorpusMeta {
        input_rows: source.rows(),
        layout: source.layout().to_string(),
        format: source.layout().format,
        template: source.template().map(|template| template.source().to_owned()),
        ..CorpusMeta::default()
    }
}

impl Corpus {
    /// Open a corpus that was prepared under `base`.
    ///
    /// # Errors
    /// `rows/broken`, `io/*` when it is not there or damaged.
    pub fn open(base: &Path, key: &str) -> Result<Self> {
        let folder = base.join(key);
        let text = std::fs::read(folder.join(META))?;
        let broken = |e: serde_json::Error| {
            Error::data("rows/broken", format!("{META} cannot be read: {e}"))
                .at(Location::file(folder.join(META).display().to_string()))
        };
        let meta: CorpusMeta = serde_json::from_slice(&text).map_err(broken)?;
        let rows = RowFile::open(&folder.join(FILE))?;
        let (ids, picks) = (numbers(&rows)?, if meta.method.is_some() { picks(&rows)? } else { Vec::new() });
        Ok(Self { key: key.to_owned(), folder, rows, meta, ids, picks, places: OnceLock::new() })
    }

    /// Position of a source row.
    #[must_use]
    pub fn position(&self, row: u64) -> Option<usize> {
        if self.picks.is_empty() {
            return self.ids.binary_search(&row).ok();
        }
        let places = || self.ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        self.places.get_or_init(places).get(&row).copied()
    }

    /// Names of the original columns.
    #[must_use]
    pub fn columns(&self) -> Vec<String> {
        let names = self.rows.schema().fields().iter().map(|field| field.name());
        names.filter(|name| !name.starts_with("_curate_")).cloned().collect()
    }
}

fn numbers(rows: &RowFile) -> Result<Vec<u64>> {
    let mut ids = Vec::with_capacity(rows.rows() as usize);
    rows.column(ROW, |column| {
        ids.extend(column.as_primitive::<UInt64Type>().values());
        Ok(())
    })?;
    Ok(ids)
}

fn picks(rows: &RowFile) -> Result<Vec<Pick>> {
    let pick = |row| Pick { row, score: 0.0, weight: 1.0, group: None, reason: String::new() };
    let mut all: Vec<Pick> = numbers(rows)?.into_iter().map(pick).collect();
    let mut at = 0;
    rows.column(SCORE, |column| {
        column.as_primitive::<Float32Type>().iter().for_each(|score| {
            all[at].score = score.unwrap_or_default();
            at += 1;
        });
        Ok(())
    })?;
    at = 0;
    rows.column(WEIGHT, |column| {
        column.as_primitive::<Float32Type>().iter().for_each(|weight| {
            all[at].weight = weight.unwrap_or(1.0);
            at += 1;
        });
        Ok(())
    })?;
    at = 0;
    rows.column(GROUP, |column| {
        column.as_primitive::<UInt32Type>().iter().for_each(|group| {
            all[at].group = group;
            at += 1;
        });
        Ok(())
    })?;
    Ok(all)
}

/// What a method that chooses as it goes reads of its candidates.
pub struct Candidates {
    /// All rows with the columns that the corpus provides.
    pub pool: Pool,
    /// Columns that the trainer must say of candidates.
    pub asked: Vec<Column>,
}

/// The method of a plan that chooses step by step.
///
/// # Errors
/// `method/unknown`, `params/*`, `online/*`.
pub fn online_method(plan: &Plan) -> Result<Box<dyn OnlineSelector>> {
    let online = plan.online.as_ref().ok_or_else(|| {
        Error::usage("plan/no-online", "the plan has no [online] section")
            .hint("add {\"online\": {\"use\": \"mopps\"}}, or {\"select\": {\"use\": \"kmeans-quality\", \"budget\": \"5%\"}}")
    })?;
    crate::online::method::open(online)
}

/// Provide the columns that the method reads of every row of a corpus.
///
/// # Errors
/// `column/missing` when nobody provides one; what the stages give.
pub fn candidates(plan: &Plan, corpus: &Corpus, needs: &[Column], host: &Host) -> Result<Candidates> {
    host.install(|| {
        let ctx = host.ctx(plan.seed)?;
        let path = corpus.folder.join(FILE).to_string_lossy().into_owned();
        let input = InputSpec { paths: vec![path], format: corpus.meta.format, where_: None, ..plan.input.clone() };
        let own = Plan { input, ..plan.clone() };
        let ids: ArrayRef = Arc::new(UInt64Array::from(corpus.ids.clone()));
        let source = Arc::new(open(&own, host, &ctx)?);
        let (asked, provided) = split(needs, &source);
        if provided.is_empty() {
            let pool = Pool::from_batch(RecordBatch::try_from_iter([(Column::ROW.as_str(), ids)])?);
            return Ok(Candidates { pool, asked });
        }
        let method = plan.online.as_ref().map_or("the method", |online| &online.name);
        let (want, scores) = provide(&own, host, &source, (&provided, method), &ctx)?;
        let pool = scores.apply(&build(&source, &want, &host.cache, &ctx)?.pool, &ctx)?;
        pool.require(&provided, method)?;
        let kept: Vec<usize> = pool.ids()?.iter().map(|at| *at as usize).collect();
        if kept.len() != corpus.ids.len() {
            return Err(Error::data("column/row", "some rows have no value in a column that the method reads")
                .hint("leave those rows out with 'where', or take another method"));
        }
        Ok(Candidates { pool: pool.with(&Column::ROW, ids)?, asked })
    })
}

/// The plan with the copied rows as its input, in their order.
pub(super) fn rows_of(plan: &Plan, corpus: &Corpus) -> Plan {
    let path = corpus.folder.join(FILE).to_string_lossy().into_owned();
    let input = InputSpec { paths: vec![path], format: corpus.meta.format, where_: None, ..plan.input.clone() };
    Plan { input, ..plan.clone() }
}
