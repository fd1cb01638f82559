//! A stream of candidates with all columns a method could ask for, a learner that answers, and runs of every method.

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use curate_core::{Ctx, Entry, Feedback, OnlineSelector, Pool, Selection, State, params_table};
use curate_selectors::ONLINE;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Numbers of an embedding and of a sketch.
const DIM: usize = 6;

pub(crate) type Method = Box<dyn OnlineSelector>;

/// A line of the table with parameters.
type Variant = (&'static Entry<dyn OnlineSelector>, Map<String, Value>);

pub(crate) fn floats(values: Vec<f32>) -> ArrayRef {
    Arc::new(Float32Array::from(values))
}

pub(crate) fn lists(values: Vec<f32>, dim: usize) -> ArrayRef {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(Float32Array::from(values)), None))
}

/// A number between 0 and 1 that depends on row and label alone.
fn noise(label: &str, row: u64) -> f32 {
    Ctx::new(5).rng(label, row).uniform() as f32
}

/// Candidates with these row ids.
pub(crate) fn candidates(ids: &[u64]) -> RecordBatch {
    let column = |label: &str| floats(ids.iter().map(|&id| 4.0 * noise(label, id)).collect());
    let list = |label: &str, dim: usize| {
        lists(ids.iter().flat_map(|&id| (0..dim as u64).map(move |t| noise(label, 1000 * id + t))).collect(), dim)
    };
    let whole = |label: &str| -> Vec<f32> { ids.iter().map(|&id| (5.0 * noise(label, id)).floor()).collect() };
    let columns: [(&str, ArrayRef); 13] = [
        ("row", Arc::new(UInt64Array::from(ids.to_vec()))),
        ("embedding", list("embedding", DIM)),
        ("cluster", Arc::new(ids.iter().map(|id| Some((id % 4) as u32 * 3 + 1)).collect::<UInt32Array>())),
        ("score.quality", column("quality")),
        ("signal.nuclear_norm", column("norm")),
        ("signal.sketch", list("sketch", DIM)),
        ("signal.loss", column("loss")),
        ("signal.loss_reference", column("reference")),
        ("signal.grad_norm", column("grad")),
        ("signal.ghost", list("ghost", ids.len().max(1))),
        ("signal.ghost_validation", column("validation")),
        ("signal.successes", floats(whole("successes"))),
        ("signal.trials", floats(whole("successes").iter().map(|s| s + 2.0).collect())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// Row ids of the candidates of a step; batches overlap, and are not in order.
pub(crate) fn ids(step: u64, count: u64) -> Vec<u64> {
    (0..count).map(|i| 11 + 3 * (7 * step + (i * 5) % count)).collect()
}

/// A batch in so many chunks.
pub(crate) fn chunked(batch: &RecordBatch, chunks: usize) -> Pool {
    let n = batch.num_rows();
    let slice = |i: usize| batch.slice(i * n / chunks, (i + 1) * n / chunks - i * n / chunks);
    Pool::new(batch.schema(), (0..chunks).map(slice).collect()).unwrap()
}

/// What a learner says of rows.
pub(crate) fn feedback(step: u64, rows: &[u64]) -> Feedback {
    let column = |label: &str| floats(rows.iter().map(|&id| 2.0 * noise(label, id + 77 * step)).collect());
    let successes = rows.iter().map(|&id| (9.0 * noise("s", id + 31 * step)).floor()).collect();
    let columns = [
        ("signal.loss", column("l")),
        ("signal.loss_generated", column("g")),
        ("signal.loss_before", column("b")),
        ("signal.reward", column("r")),
        ("signal.successes", floats(successes)),
        ("signal.trials", floats(vec![8.0; rows.len()])),
    ];
    Feedback { step, rows: rows.to_vec(), signals: RecordBatch::try_from_iter(columns).unwrap() }
}

/// Parameters of every method: its defaults, and each parameter changed alone.
fn variants() -> Vec<Variant> {
    let mut all = Vec::new();
    for entry in ONLINE {
        let mut params = vec![Map::new()];
        for doc in params_table(&(entry.schema)()) {
            let mut values: Vec<Value> = doc.choices.iter().map(|(name, _)| json!(name)).collect();
            values.extend(doc.default.as_bool().map(|on| json!(!on)));
            values.extend((doc.optional && doc.kind == "integer").then(|| json!(5)));
            values.extend((doc.name == "memory_slots").then(|| json!(3)));
            values.extend((doc.kind == "number").then(|| json!(0.75)));
            params.extend(values.into_iter().map(|value| Map::from_iter([(doc.name.clone(), value)])));
        }
        all.extend(params.into_iter().filter(|p| entry.build(p).is_ok()).map(|p| (entry, p)));
    }
    all
}

/// Every variant with a name for messages.
pub(crate) fn each(check: impl Fn(&str, &dyn Fn() -> Method)) {
    for (entry, params) in variants() {
        let name = format!("{} {}", entry.info.name, Value::Object(params.clone()));
        check(&name, &|| entry.build(&params).unwrap());
    }
}

/// A method of the table.
pub(crate) fn method(name: &str, params: &Value) -> Method {
    curate_core::find(ONLINE, name, "method").unwrap().build(params.as_object().unwrap()).unwrap()
}

/// Some steps of a run: propose, answer, observe.
pub(crate) fn steps(method: &mut Method, range: std::ops::Range<u64>, chunks: usize) -> Vec<Selection> {
    range
        .map(|step| {
            let pool = chunked(&candidates(&ids(step, 24)), chunks);
            let chosen = method.propose(&pool, 5, &Ctx::new(17)).unwrap();
            method.observe(&feedback(step, &chosen.rows()), &Ctx::new(17)).unwrap();
            chosen
        })
        .collect()
}

/// A table as an Arrow stream.
fn bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// A state as it comes back from JSON and Arrow.
pub(crate) fn through_files(state: State) -> State {
    let scalars = serde_json::from_str(&serde_json::to_string(&state.scalars).unwrap()).unwrap();
    let table = |(name, batch): (String, RecordBatch)| {
        let mut batches = StreamReader::try_new(std::io::Cursor::new(bytes(&batch)), None).unwrap();
        (name, batches.next().unwrap().unwrap())
    };
    State { version: state.version, scalars, tables: state.tables.into_iter().map(table).collect() }
}

/// A state in words and bytes, to compare.
pub(crate) fn written(state: &State) -> (String, Vec<Vec<u8>>) {
    let names: Vec<&str> = state.tables.iter().map(|(name, _)| name.as_str()).collect();
    let head = format!("{} {} {names:?}", state.version, Value::Object(state.scalars.clone()));
    (head, state.tables.iter().map(|(_, batch)| bytes(batch)).collect())
}

/// Run with so many threads.
pub(crate) fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}
