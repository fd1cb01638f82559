//! From rows to a pool: which columns are wanted, what the cache already has, and the stage that computes the rest unit by
//! unit. Text lives only while its unit is worked on; vectors stay on disk and are loaded by the chunk.

use crate::cache::{Cache, Key};
use crate::signals::{Signals, known_rows};
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, RecordBatchOptions, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, UInt32Type};
use curate_core::{ChunkSource, Column, Ctx, Embedder, Error, Location, Pool, Progress, Result};
use curate_ingest::{Source, Unit, UnitData};
use curate_scorers::text_column;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Which columns the pool must have, and where they come from.
#[derive(Clone, Default)]
pub struct Want {
    /// Embeddings by a model.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Embeddings from a column of the input.
    pub vectors: Option<String>,
    /// Numbers and labels from columns of the input.
    pub taken: Vec<Taken>,
    /// Token counts, by this embedder's tokenizer.
    pub tokens: Option<Arc<dyn Embedder>>,
    /// What models say of the rows.
    pub(crate) signals: Vec<Arc<Signals>>,
    /// The rendered rows, read again chunk by chunk whenever a scorer asks.
    pub text: bool,
}

/// A column of the input that becomes a column of the pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// Its name in the pool; [`Column::CLUSTER`] holds whole numbers from 0, all others finite numbers.
    pub column: Column,
    /// Its name in the input.
    pub from: String,
}

impl Taken {
    fn kind(&self) -> DataType {
        if self.column == Column::CLUSTER { DataType::UInt32 } else { DataType::Float32 }
    }

    /// The word for one of its values.
    fn noun(&self) -> &str {
        self.column.as_str().rsplit('.').next().unwrap_or_default()
    }

    fn check(&self, values: &ArrayRef, row: impl Fn(usize) -> Location) -> Result<()> {
        let numbers = values.as_primitive_opt::<Float32Type>();
        let bad = |i: &usize| values.is_null(*i) || numbers.is_some_and(|n| !n.value(*i).is_finite());
        let Some(i) = (0..values.len()).find(bad) else { return Ok(()) };
        let (code, rule) = match self.kind() {
            DataType::UInt32 => ("column/value", "null, or no whole number from 0 to 4294967295"),
            _ => ("score/not-finite", "null, NaN or infinite"),
        };
        Err(Error::data(code, format!("the {} of a row is {rule}", self.noun()))
            .at(row(i))
            .hint(format!("leave such rows out: --where '{} IS NOT NULL'", self.from)))
    }
}

/// The pool and what became of the rows on the way to it.
pub struct Features {
    /// Columns `row`, `chars` and those wanted.
    pub pool: Pool,
    /// Digest of the pool's content.
    pub digest: Key,
    /// Rows left out as unreadable.
    pub skipped_rows: u64,
    /// Rows of which a model can say nothing: the prompt alone fills its window, or there is no answer. Ascending.
    pub unsaid: Vec<u64>,
    /// Rows left out by `--where`.
    pub filtered_rows: u64,
    /// Units found in the cache.
    pub cached_units: usize,
    /// Units computed now.
    pub computed_units: usize,
}

/// One cached stage of a unit.
#[derive(Clone, Copy)]
enum Stage {
    Rows,
    Embed,
    Vectors,
    Taken(usize),
    Tokens,
    Signals(usize),
}

impl Stage {
    const fn kind(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Embed => "embed",
            Self::Vectors => "vectors",
            Self::Taken(_) => "column",
            Self::Tokens => "tokens",
            Self::Signals(_) => "signals",
        }
    }
}

/// The stage as a whole.
struct Builder<'a> {
    source: &'a Arc<Source>,
    want: &'a Want,
    cache: &'a Cache,
    recipe: Vec<u8>,
    stages: Vec<Stage>,
}

/// Make the pool: compute what the cache lacks, then hang all columns together.
///
/// # Errors
/// What reading, rendering, embedding or the cache gives; `cancelled`.
pub(crate) fn build(source: &Arc<Source>, want: &Want, cache: &Cache, ctx: &Ctx) -> Result<Features> {
    let builder = Builder { source, want, cache, recipe: recipe(source)?, stages: stages(want) };
    let missing = builder.missing();
    builder.compute(&missing, ctx)?;
    builder.assemble(missing.len(), ctx)
}

/// Units a run would have to compute; for `--dry-run`.
///
/// # Errors
/// When the layout cannot be written down.
pub(crate) fn missing_rows(source: &Arc<Source>, want: &Want, cache: &Cache) -> Result<u64> {
    let builder = Builder { source, want, cache, recipe: recipe(source)?, stages: stages(want) };
    Ok(builder.missing().iter().map(|&i| u64::from(source.units()[i].rows)).sum())
}

/// Everything besides the bytes of a unit that decides which rows it has and what their text is.
fn recipe(source: &Source) -> Result<Vec<u8>> {
    let spec = source.spec();
    serde_json::to_vec(&(source.layout(), &spec.where_, spec.on_bad_row, spec.max_row_bytes, spec.embed_text))
        .map_err(|e| Error::data("plan/invalid", e.to_string()))
}

fn stages(want: &Want) -> Vec<Stage> {
    let optional = [
        (want.embedder.is_some(), Stage::Embed),
        (want.vectors.is_some(), Stage::Vectors),
        (want.tokens.is_some(), Stage::Tokens),
    ];
    let listed = (0..want.signals.len()).map(Stage::Signals).chain((0..want.taken.len()).map(Stage::Taken));
    std::iter::once(Stage::Rows).chain(optional.into_iter().filter(|o| o.0).map(|o| o.1)).chain(listed).collect()
}

impl Builder<'_> {
    fn key(&self, stage: Stage, unit: &Unit) -> Key {
        let by = match stage {
            Stage::Rows => String::new(),
            Stage::Embed => self.want.embedder.as_ref().map(|e| e.digest()).unwrap_or_default(),
            Stage::Tokens => self.want.tokens.as_ref().map(|e| e.digest()).unwrap_or_default(),
            Stage::Vectors => self.want.vectors.clone().unwrap_or_default(),
            Stage::Signals(i) => format!("{}{:?}", self.want.signals[i].digest, self.want.signals[i].columns),
            Stage::Taken(i) => format!("{}\0{}", self.want.taken[i].kind(), self.want.taken[i].from),
        };
        Key::of(&[stage.kind().as_bytes(), &unit.digest, &unit.rows.to_le_bytes(), &self.recipe, by.as_bytes()])
    }

    fn missing(&self) -> Vec<usize> {
        let units = self.source.units();
        let lacks = |unit: &Unit| self.stages.iter().any(|&s| !self.cache.has(s.kind(), &self.key(s, unit)));
        (0..units.len()).filter(|&i| lacks(&units[i])).collect()
    }

    /// Read ahead on one thread, work on the others.
    fn compute(&self, missing: &[usize], ctx: &Ctx) -> Result<()> {
        let ctx = ctx.child(if self.want.embedder.is_some() { "embed" } else { "read" });
        let units = self.source.units();
        ctx.progress().set_total(missing.iter().map(|&i| u64::from(units[i].rows)).sum());
        let (sender, receiver) = sync_channel(1);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for &i in missing {
                    if sender.send((i, self.source.read(&units[i], None))).is_err() {
                        return;
                    }
                }
            });
            self.drain(receiver, &ctx)
        })?;
        ctx.progress().finish();
        Ok(())
    }

    fn drain(&self, receiver: Receiver<(usize, Result<UnitData>)>, ctx: &Ctx) -> Result<()> {
        for (i, data) in receiver {
            let unit = &self.source.units()[i];
            let before = ctx.progress().done();
            self.compute_unit(unit, &data?, ctx)?;
            let counted = ctx.progress().done() - before;
            ctx.tick(u64::from(unit.rows).saturating_sub(counted))?;
        }
        Ok(())
    }

    /// Rows last: an entry of `rows` says that the unit is whole.
    fn compute_unit(&self, unit: &Unit, data: &UnitData, ctx: &Ctx) -> Result<()> {
        let texts = self.source.texts(data)?;
        for &stage in self.stages.iter().rev() {
            let key = self.key(stage, unit);
            if self.cache.has(stage.kind(), &key) {
                continue;
            }
            let batch = match stage {
                Stage::Rows => rows_batch(unit, data, &texts)?,
                Stage::Embed => embed_batch(self.want.embedder.as_deref(), &texts, ctx)?,
                Stage::Tokens => {
                    let uncounted = ctx.clone().with_progress(Progress::root("tokens"));
                    tokens_batch(self.want.tokens.as_deref(), &texts, &uncounted)?
                }
                Stage::Vectors => self.vectors_batch(unit, data)?,
                Stage::Signals(i) => {
                    let uncounted = ctx.clone().with_progress(Progress::root("signals"));
                    self.want.signals[i].of_unit(self.source, data, &uncounted)?
                }
                Stage::Taken(i) => self.taken_batch(&self.want.taken[i], unit, data)?,
            };
            self.cache.store(stage.kind(), &key, &batch)?;
        }
        Ok(())
    }

    fn vectors_batch(&self, unit: &Unit, data: &UnitData) -> Result<RecordBatch> {
        let name = self.want.vectors.as_deref().unwrap_or_default();
        let place = Location::file(&self.source.files()[unit.file].path).column(name);
        let column = data.batch.column_by_name(name).ok_or_else(|| missing_column(self.source, name))?;
        let vectors = curate_ingest::columns_f32_vector(column, None, &place, data.rows.first().copied().unwrap_or(0))?;
        single(Column::EMBEDDING.as_str(), Arc::new(vectors))
    }

    fn taken_batch(&self, taken: &Taken, unit: &Unit, data: &UnitData) -> Result<RecordBatch> {
        let name = taken.from.as_str();
        let column = data.batch.column_by_name(name).ok_or_else(|| missing_column(self.source, name))?;
        let place = || Location::file(&self.source.files()[unit.file].path).column(name);
        if is_list_of_integers(column.data_type()) && taken.kind() == DataType::Float32 {
            return Ok(RecordBatch::try_from_iter_with_nullable([(taken.column.as_str(), Arc::clone(column), true)])?);
        }
        if !column.data_type().is_numeric() {
            let found = format!("{} must be numbers, this is {}", taken.noun(), column.data_type());
            let hint = format!("name a numeric column with --{} column:NAME", taken.noun());
            return Err(Error::data("column/type", found).at(place()).hint(hint));
        }
        let values = arrow::compute::cast(column, &taken.kind())?;
        taken.check(&values, |i| place().row(data.rows[i]))?;
        single(taken.column.as_str(), values)
    }

    fn load(&self, stage: Stage, unit: &Unit) -> Result<RecordBatch> {
        self.cache.load(stage.kind(), &self.key(stage, unit), None).ok_or_else(lost)
    }

    fn assemble(&self, computed: usize, ctx: &Ctx) -> Result<Features> {
        let units = self.source.units();
        let mut flat = Flat::default();
        let mut sources: Vec<Arc<dyn ChunkSource>> = Vec::new();
        let mut digest = blake3::Hasher::new();
        let vectors = self.stages.iter().copied().find(|s| matches!(s, Stage::Embed | Stage::Vectors));
        for unit in units {
            let rows = self.load(Stage::Rows, unit)?;
            let count = rows.num_rows();
            flat.add_rows(unit, &rows);
            for &stage in &self.stages {
                digest.update(self.key(stage, unit).bytes()).update(&unit.first_row.to_le_bytes());
                match stage {
                    Stage::Taken(i) => flat.add_taken(i, self.load(stage, unit)?.column(0).clone()),
                    Stage::Tokens => flat
                        .tokens
                        .extend_from_slice(self.load(stage, unit)?.column(0).as_primitive::<UInt32Type>().values()),
                    Stage::Signals(i) => {
                        let batch = self.load(stage, unit)?;
                        let before: usize = self.want.signals[..i].iter().map(|signals| signals.columns.len()).sum();
                        (before..).zip(batch.columns()).for_each(|(i, array)| flat.add_signal(i, array.clone()));
                    }
                    Stage::Rows | Stage::Embed | Stage::Vectors => {}
                }
            }
            if count > 0 && (vectors.is_some() || self.want.text) {
                let vectors = vectors.map(|stage| (stage.kind(), self.key(stage, unit)));
                let texts = self.want.text.then(|| (Arc::clone(self.source), unit.clone()));
                sources.push(Arc::new(LazyUnit { cache: self.cache.clone(), vectors, texts, rows: count }));
            }
            ctx.tick(0)?;
        }
        let base = match vectors {
            Some(_) => self.vector_pool(sources)?,
            None if self.want.text => Pool::lazy(Arc::new(Schema::new(vec![text_field()])), sources),
            None => Pool::from_batch(single(Column::ROW.as_str(), Arc::new(UInt64Array::from(flat.ids.clone())))?),
        };
        let mut pool = flat.attach(&base, self.want)?;
        let mut unsaid = Vec::new();
        if !self.want.signals.is_empty() {
            let known = known_rows(&flat.signals);
            unsaid = (0..flat.ids.len()).filter(|at| known.binary_search(at).is_err()).map(|at| flat.ids[at]).collect();
            pool = pool.filter(&known)?;
        }
        let digest = Key::of(&[digest.finalize().as_bytes()]);
        let cached_units = units.len() - computed;
        Ok(Features {
            pool,
            digest,
            skipped_rows: flat.skipped,
            unsaid,
            filtered_rows: flat.filtered,
            cached_units,
            computed_units: computed,
        })
    }

    fn vector_pool(&self, sources: Vec<Arc<dyn ChunkSource>>) -> Result<Pool> {
        let column = Column::EMBEDDING;
        let Some(first) = sources.first() else {
            let dim = self.want.embedder.as_ref().map_or(1, |e| e.dim());
            return Pool::new(
                Arc::new(Schema::new(vec![Field::new(column.as_str(), list_type(dim), false)])),
                Vec::new(),
            );
        };
        let schema = first.load(&[column.as_str()])?.schema();
        if self.want.vectors.is_some() {
            check_dims(&sources, &schema)?;
        }
        let texts = self.want.text.then(text_field).map(Arc::new);
        let fields: Vec<_> = schema.fields().iter().cloned().chain(texts).collect();
        Ok(Pool::lazy(Arc::new(Schema::new(fields)), sources))
    }
}

/// Vectors of all units must be of one length; units of one embedder are by construction, columns of the input may not be.
fn check_dims(sources: &[Arc<dyn ChunkSource>], schema: &Schema) -> Result<()> {
    let expected = schema.field(0).data_type();
    for source in sources {
        let found = source.load(&[Column::EMBEDDING.as_str()])?.schema();
        if found.field(0).data_type() != expected {
            return Err(Error::data(
                "embedding/length",
                format!("vectors differ in type or length: {} and {expected}", found.field(0).data_type()),
            )
            .hint("all vectors of the input must have the same length"));
        }
    }
    Ok(())
}

/// Items of a user, which scorers of interaction data read.
fn is_list_of_integers(kind: &DataType) -> bool {
    matches!(kind, DataType::List(item) | DataType::LargeList(item) if item.data_type().is_integer() || item.data_type().is_null())
}

fn lost() -> Error {
    Error::io("cache/lost", "a cache entry vanished or was damaged during the run")
        .hint("run the command again; finished work is kept")
}

/// The error for a column of the input that is not there.
#[must_use]
pub(crate) fn missing_column(source: &Source, name: &str) -> Error {
    let known: Vec<&str> = source.schema().fields().iter().map(|f| f.name().as_str()).collect();
    Error::usage("column/missing", format!("the input has no column '{name}'"))
        .hint(format!("columns: {}", known.join(", ")))
}

fn list_type(dim: usize) -> DataType {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    DataType::FixedSizeList(item, i32::try_from(dim).unwrap_or(i32::MAX))
}

fn single(name: &str, array: ArrayRef) -> Result<RecordBatch> {
    let field = Field::new(name, array.data_type().clone(), false);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array])?)
}

fn rows_batch(unit: &Unit, data: &UnitData, texts: &[curate_ingest::Rendered]) -> Result<RecordBatch> {
    let local = data.rows.iter().map(|&row| u32::try_from(row - unit.first_row).unwrap_or(u32::MAX));
    let counts = HashMap::from([
        ("skipped".to_owned(), data.skipped.len().to_string()),
        ("filtered".to_owned(), data.filtered.to_string()),
    ]);
    let fields = vec![Field::new("local", DataType::UInt32, false), Field::new("chars", DataType::UInt32, false)];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(local.collect::<UInt32Array>()),
        Arc::new(texts.iter().map(|t| t.chars).collect::<UInt32Array>()),
    ];
    Ok(RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, counts)), columns)?)
}

fn embed_batch(embedder: Option<&dyn Embedder>, texts: &[curate_ingest::Rendered], ctx: &Ctx) -> Result<RecordBatch> {
    let Some(embedder) = embedder else { return Err(lost()) };
    let dim = embedder.dim();
    let inputs: Vec<&str> = texts.iter().map(|t| t.embed.as_str()).collect();
    let mut values = vec![0.0f32; inputs.len() * dim];
    embedder.embed(&inputs, &mut values, ctx)?;
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let size = i32::try_from(dim).map_err(|_| Error::device("model/dim", "the embedding dimension is too large"))?;
    single(
        Column::EMBEDDING.as_str(),
        Arc::new(FixedSizeListArray::try_new(item, size, Arc::new(Float32Array::from(values)), None)?),
    )
}

fn tokens_batch(counter: Option<&dyn Embedder>, texts: &[curate_ingest::Rendered], ctx: &Ctx) -> Result<RecordBatch> {
    let Some(counter) = counter else { return Err(lost()) };
    let inputs: Vec<&str> = texts.iter().map(|t| t.full.as_str()).collect();
    single(Column::TOKENS.as_str(), Arc::new(UInt32Array::from(counter.count_tokens(&inputs, ctx)?)))
}

/// Columns small enough to stay in memory.
#[derive(Default)]
struct Flat {
    ids: Vec<u64>,
    chars: Vec<u32>,
    tokens: Vec<u32>,
    taken: Vec<Vec<ArrayRef>>,
    signals: Vec<Vec<ArrayRef>>,
    skipped: u64,
    filtered: u64,
}

impl Flat {
    fn add_rows(&mut self, unit: &Unit, rows: &RecordBatch) {
        let local = rows.column(0).as_primitive::<UInt32Type>().values();
        self.ids.extend(local.iter().map(|&l| unit.first_row + u64::from(l)));
        self.chars.extend_from_slice(rows.column(1).as_primitive::<UInt32Type>().values());
        let count =
            |name: &str| rows.schema_ref().metadata().get(name).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        self.skipped += count("skipped");
        self.filtered += count("filtered");
    }

    fn add_taken(&mut self, i: usize, values: ArrayRef) {
        self.taken.resize(self.taken.len().max(i + 1), Vec::new());
        self.taken[i].push(values);
    }

    fn add_signal(&mut self, i: usize, values: ArrayRef) {
        self.signals.resize(self.signals.len().max(i + 1), Vec::new());
        self.signals[i].push(values);
    }

    fn attach(&self, base: &Pool, want: &Want) -> Result<Pool> {
        let mut pool = base
            .with(&Column::ROW, Arc::new(UInt64Array::from(self.ids.clone())))?
            .with(&Column::CHARS, Arc::new(UInt32Array::from(self.chars.clone())))?;
        if want.tokens.is_some() {
            pool = pool.with(&Column::TOKENS, Arc::new(UInt32Array::from(self.tokens.clone())))?;
        }
        for (taken, parts) in want.taken.iter().zip(&self.taken) {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            pool = pool.with(&taken.column, arrow::compute::concat(&parts)?)?;
        }
        let signals = want.signals.iter().flat_map(|signals| &signals.columns);
        for (column, parts) in signals.zip(&self.signals) {
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            pool = pool.with(column, arrow::compute::concat(&parts)?)?;
        }
        Ok(pool)
    }
}

/// Vectors and texts of one unit, on disk until read.
struct LazyUnit {
    cache: Cache,
    vectors: Option<(&'static str, Key)>,
    texts: Option<(Arc<Source>, Unit)>,
    rows: usize,
}

fn text_field() -> Field {
    Field::new(text_column().as_str(), DataType::Utf8, false)
}

impl ChunkSource for LazyUnit {
    fn rows(&self) -> usize {
        self.rows
    }

    fn load(&self, columns: &[&str]) -> Result<RecordBatch> {
        let (mut fields, mut arrays): (Vec<Arc<Field>>, Vec<ArrayRef>) = (Vec::new(), Vec::new());
        if let Some((kind, key)) = self.vectors.as_ref().filter(|_| columns.contains(&Column::EMBEDDING.as_str())) {
            let batch = self.cache.load(kind, key, None).ok_or_else(lost)?;
            fields.extend(batch.schema_ref().fields().iter().cloned());
            arrays.extend(batch.columns().iter().cloned());
        }
        if let Some((source, unit)) = self.texts.as_ref().filter(|_| columns.contains(&text_column().as_str())) {
            let texts = source.texts(&source.read(unit, None)?)?;
            fields.push(Arc::new(text_field()));
            arrays.push(Arc::new(texts.iter().map(|t| Some(t.full.as_str())).collect::<arrow::array::StringArray>()));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
    }
}
