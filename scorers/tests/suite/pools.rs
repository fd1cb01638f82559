//! Pools of every shape, and every registered scorer in every mode.

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, StringArray, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use curate_core::{Cancel, ChunkSource, Column, Ctx, Pool, Result, Scorer, params_table};
use curate_scorers::SCORERS;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Numbers of one vector.
pub(crate) const DIM: usize = 8;

/// Columns of numbers that a scorer could ask for.
pub(crate) const NUMBERS: [&str; 12] = [
    "signal.loss",
    "signal.loss_alone",
    "signal.perplexity",
    "signal.grad_norm",
    "signal.labels",
    "score.reward",
    "score.knn-distance",
    "score.understandability",
    "score.naturalness",
    "score.coherence",
    "score.mtld",
    "score.ifd",
];

/// One row of a test pool.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) text: String,
    pub(crate) vector: Vec<f32>,
    pub(crate) tokens: u32,
    /// One for each of [`NUMBERS`].
    pub(crate) numbers: Vec<f32>,
}

const WORDS: [&str; 9] = ["the", "Harbour", "quiet,", "ferry", "and", "baker", "(opened)", "her", "shop."];

/// `n` rows; ids have gaps, every tenth row repeats the vector of the row before.
pub(crate) fn rows(n: usize, seed: u64) -> Vec<Row> {
    let stream = Ctx::new(seed).stream("test rows");
    let mut rows: Vec<Row> = Vec::new();
    for i in 0..n as u64 {
        let mut rng = stream(i);
        let mut vector: Vec<f32> = (0..DIM).map(|_| (rng.uniform() - 0.3) as f32).collect();
        if i % 10 == 9 {
            vector.clone_from(&rows[rows.len() - 1].vector);
        }
        let words = rng.below(60);
        let text: Vec<&str> = (0..words).map(|_| WORDS[rng.below(9) as usize]).collect();
        let numbers = NUMBERS.iter().map(|_| (0.1 + 3.0 * rng.uniform()) as f32).collect();
        rows.push(Row { id: 3 * i + 11, text: text.join(" "), vector, tokens: rng.below(90) as u32, numbers });
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

/// All columns a scorer could ask for.
pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let values: Vec<f32> = rows.iter().flat_map(|row| row.vector.clone()).collect();
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let vectors = FixedSizeListArray::new(item, DIM as i32, Arc::new(Float32Array::from(values)), None);
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("row", Arc::new(UInt64Array::from(rows.iter().map(|r| r.id).collect::<Vec<u64>>()))),
        ("text", Arc::new(rows.iter().map(|r| Some(r.text.as_str())).collect::<StringArray>())),
        ("embedding", Arc::new(vectors)),
        ("tokens", Arc::new(rows.iter().map(|r| Some(r.tokens)).collect::<UInt32Array>())),
    ];
    for (at, name) in NUMBERS.into_iter().enumerate() {
        let numbers: Vec<f32> = rows.iter().map(|r| r.numbers[at]).collect();
        columns.push((name, Arc::new(Float32Array::from(numbers))));
    }
    RecordBatch::try_from_iter(columns).unwrap()
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

struct OnDemand(RecordBatch, Option<Cancel>);

impl ChunkSource for OnDemand {
    fn rows(&self) -> usize {
        self.0.num_rows()
    }

    fn load(&self, columns: &[&str]) -> Result<RecordBatch> {
        if let Some(cancel) = &self.1 {
            cancel.cancel();
        }
        let indices: Vec<usize> = columns.iter().map(|c| self.0.schema_ref().index_of(c).unwrap()).collect();
        Ok(self.0.project(&indices)?)
    }
}

/// The rows in so many chunks that are loaded when read; the last one asks to stop, if there is someone to ask.
pub(crate) fn lazy(rows: &[Row], chunks: usize, stop: Option<&Cancel>) -> Pool {
    let last = |i: usize| stop.filter(|_| i + 1 == chunks).cloned();
    let source = |(i, batch)| Arc::new(OnDemand(batch, last(i))) as Arc<dyn ChunkSource>;
    Pool::lazy(batch(rows).schema(), cut(rows, chunks).into_iter().enumerate().map(source).collect())
}

/// The pool without one of its columns.
pub(crate) fn without(rows: &[Row], column: &Column) -> Pool {
    let batch = batch(rows);
    let kept = (0..batch.num_columns()).filter(|&i| batch.schema_ref().field(i).name() != column.as_str());
    Pool::from_batch(batch.project(&kept.collect::<Vec<_>>()).unwrap())
}

/// A name for messages, and the scorer.
pub(crate) type Variant = (String, Box<dyn Scorer>);

/// Every scorer with its defaults, and with each parameter changed alone: every choice, switches turned round, counts set to 2.
pub(crate) fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for entry in SCORERS {
        let mut params = vec![Map::new()];
        for doc in params_table(&(entry.schema)()) {
            let mut values: Vec<Value> = doc.choices.iter().map(|(name, _)| json!(name)).collect();
            values.extend(doc.default.as_bool().map(|on| json!(!on)));
            values.extend((doc.kind == "integer").then(|| json!(2)));
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

/// The rows with NaN where `column` is for the row at `at`; false if the column cannot hold it.
pub(crate) fn poison(rows: &mut [Row], column: &Column, at: usize) -> bool {
    if column.as_str() == "embedding" {
        rows[at].vector[DIM - 1] = f32::NAN;
        return true;
    }
    let found = NUMBERS.iter().position(|name| *name == column.as_str());
    found.map(|i| rows[at].numbers[i] = f32::NAN).is_some()
}
