//! Pools of every shape, and every registered method in every mode.

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use curate_core::{Cancel, ChunkSource, Column, Ctx, Entry, Pool, Result, params_table};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Numbers of one vector.
pub(crate) const DIM: usize = 8;

/// One row of a test pool.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) vector: Vec<f32>,
    pub(crate) quality: f32,
    pub(crate) chars: u32,
    pub(crate) tokens: u32,
    pub(crate) cluster: u32,
    /// Values of [`NUMBERS`].
    pub(crate) numbers: [f32; 5],
}

/// Scores and signals that methods ask for by name.
const NUMBERS: [&str; 5] = ["signal.loss", "score.ifd", "score.instructmining", "score.influence", "score.effort"];

/// `n` rows in four loose groups; ids have gaps, every tenth row repeats the vector of the row before.
pub(crate) fn rows(n: usize, seed: u64) -> Vec<Row> {
    let stream = Ctx::new(seed).stream("test rows");
    let mut rows: Vec<Row> = Vec::new();
    for i in 0..n as u64 {
        let mut rng = stream(i);
        let group = rng.below(4);
        let centre = |t: usize| if t as u64 == group { 3.0 } else { 0.0 };
        let mut vector: Vec<f32> = (0..DIM).map(|t| (centre(t) + rng.uniform() - 0.5) as f32).collect();
        if i % 10 == 9 {
            vector.clone_from(&rows[rows.len() - 1].vector);
        }
        rows.push(Row {
            id: 3 * i + 11,
            vector,
            quality: (rng.uniform() * 4.0 - 1.0) as f32,
            chars: rng.below(500) as u32,
            tokens: 1 + rng.below(50) as u32,
            cluster: [2, 40, 41, 7][group as usize],
            numbers: std::array::from_fn(|_| (rng.uniform() * 2.0) as f32),
        });
    }
    rows
}

/// The rows in another order.
pub(crate) fn shuffled(rows: &[Row], seed: u64) -> Vec<Row> {
    let stream = Ctx::new(seed).stream("test shuffle");
    let mut rows = rows.to_vec();
    rows.sort_by_cached_key(|row| stream(row.id).bits());
    rows
}

/// All columns a method could ask for.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let values: Vec<f32> = rows.iter().flat_map(|row| row.vector.clone()).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vectors = FixedSizeListArray::new(item, DIM as i32, Arc::new(Float32Array::from(values)), None);
    let counts = |of: fn(&Row) -> u32| Arc::new(rows.iter().map(|r| Some(of(r))).collect::<UInt32Array>()) as ArrayRef;
    let quality = Float32Array::from(rows.iter().map(|r| r.quality).collect::<Vec<f32>>());
    let words = rows.iter().map(|r| format!("a text of {} and {} words", r.cluster, r.chars % 7));
    let columns: [(&str, ArrayRef); 7] = [
        ("row", Arc::new(UInt64Array::from(rows.iter().map(|r| r.id).collect::<Vec<u64>>()))),
        ("embedding", Arc::new(vectors)),
        ("score.quality", Arc::new(quality)),
        ("chars", counts(|r| r.chars)),
        ("tokens", counts(|r| r.tokens)),
        ("cluster", counts(|r| r.cluster)),
        ("text", Arc::new(words.map(Some).collect::<StringArray>())),
    ];
    let numbers = NUMBERS.iter().enumerate().map(|(i, name)| {
        let values = rows.iter().map(|r| r.numbers[i]).collect::<Vec<f32>>();
        (*name, Arc::new(Float32Array::from(values)) as ArrayRef)
    });
    RecordBatch::try_from_iter(columns.into_iter().chain(numbers)).unwrap()
}

/// The rows as one chunk in memory.
pub(crate) fn pool(rows: &[Row]) -> Pool {
    Pool::from_batch(batch(rows))
}

fn cut(rows: &[Row], chunks: usize) -> Vec<RecordBatch> {
    let (batch, n) = (batch(rows), rows.len());
    let slice = |i: usize| batch.slice(i * n / chunks, (i + 1) * n / chunks - i * n / chunks);
    (0..chunks).map(slice).collect()
}

/// The rows in so many chunks in memory.
pub(crate) fn chunked(rows: &[Row], chunks: usize) -> Pool {
    Pool::new(batch(rows).schema(), cut(rows, chunks)).unwrap()
}

struct OnDemand(RecordBatch);

impl ChunkSource for OnDemand {
    fn rows(&self) -> usize {
        self.0.num_rows()
    }

    fn load(&self, columns: &[&str]) -> Result<RecordBatch> {
        let indices: Vec<usize> = columns.iter().map(|c| self.0.schema_ref().index_of(c).unwrap()).collect();
        Ok(self.0.project(&indices)?)
    }
}

/// The rows in so many chunks that are loaded when read.
pub(crate) fn lazy(rows: &[Row], chunks: usize) -> Pool {
    let source = |batch| Arc::new(OnDemand(batch)) as Arc<dyn ChunkSource>;
    Pool::lazy(batch(rows).schema(), cut(rows, chunks).into_iter().map(source).collect())
}

struct Interrupting(OnDemand, Cancel);

impl ChunkSource for Interrupting {
    fn rows(&self) -> usize {
        self.0.rows()
    }

    fn load(&self, columns: &[&str]) -> Result<RecordBatch> {
        self.1.cancel();
        self.0.load(columns)
    }
}

/// A pool that asks to stop as soon as its last chunk is read, and the context it asks.
pub(crate) fn interrupting(rows: &[Row]) -> (Pool, Ctx) {
    let ctx = ctx(17);
    let mut sources: Vec<Arc<dyn ChunkSource>> = Vec::new();
    for (i, batch) in cut(rows, 3).into_iter().map(OnDemand).enumerate() {
        sources.push(if i == 2 { Arc::new(Interrupting(batch, ctx.cancel().clone())) } else { Arc::new(batch) });
    }
    (Pool::lazy(batch(rows).schema(), sources), ctx)
}

/// A context with a target for the methods that ask for one.
pub(crate) fn ctx(seed: u64) -> Ctx {
    Ctx::new(seed).with_target(chunked(&rows(37, 1234), 2))
}

/// The pool without one of its columns.
pub(crate) fn without(rows: &[Row], column: &Column) -> Pool {
    let batch = batch(rows);
    let kept = (0..batch.num_columns()).filter(|&i| batch.schema_ref().field(i).name() != column.as_str());
    Pool::from_batch(batch.project(&kept.collect::<Vec<_>>()).unwrap())
}

/// A name for messages, and the method.
pub(crate) type Variant<T> = (String, Box<T>);

/// Every method of a table with its defaults, and with each parameter changed alone: every choice, switches turned
/// round, numbers that may be left out set to 5.
pub(crate) fn variants<T: ?Sized>(table: &[Entry<T>]) -> Vec<Variant<T>> {
    let mut all = Vec::new();
    for entry in table {
        let mut params = vec![Map::new()];
        for doc in params_table(&(entry.schema)()) {
            let mut values: Vec<Value> = doc.choices.iter().map(|(name, _)| json!(name)).collect();
            values.extend(doc.default.as_bool().map(|on| json!(!on)));
            values.extend((doc.optional && doc.kind == "integer").then(|| json!(5)));
            params.extend(values.into_iter().map(|value| Map::from_iter([(doc.name.clone(), value)])));
        }
        all.extend(params.into_iter().map(|p| {
            let name = format!("{} {}", entry.info.name, Value::Object(p.clone()));
            let built = entry.build(&p).unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, built)
        }));
    }
    all
}

/// Run with so many threads.
pub(crate) fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

/// A context that was asked to stop before it began.
pub(crate) fn stopped() -> Ctx {
    let ctx = ctx(17);
    ctx.cancel().cancel();
    ctx
}

/// The rows with NaN where `column` is for the row at `at`; false if the column cannot hold it.
pub(crate) fn poison(rows: &mut [Row], column: &Column, at: usize) -> bool {
    match column.as_str() {
        "embedding" => rows[at].vector[DIM - 1] = f32::NAN,
        "score.quality" => rows[at].quality = f32::NAN,
        name => match NUMBERS.iter().position(|number| *number == name) {
            Some(i) => rows[at].numbers[i] = f32::NAN,
            None => return false,
        },
    }
    true
}
