//! A selector's state in a checkpoint: `selector.json` with its numbers, `selector.<n>.arrow` for each of its tables.

use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use curate_core::{Error, Location, Result, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::Cursor;
use std::path::Path;

/// Name of the file with the numbers.
pub(super) const HEAD: &str = "selector.json";

#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    scalars: Map<String, Value>,
    tables: Vec<String>,
}

/// The state as files: name and content.
pub(crate) fn files(state: &State) -> Result<Vec<(String, Vec<u8>)>> {
    let tables = state.tables.iter().map(|(name, _)| name.clone()).collect();
    let scalars = state.scalars.iter().map(|(name, value)| (name.clone(), to_exact(value))).collect();
    let head = Head { version: state.version, scalars, tables };
    let head = serde_json::to_vec_pretty(&head).map_err(|e| Error::io("json", e.to_string()))?;
    let mut files = vec![(HEAD.to_owned(), head)];
    for (at, (_, table)) in state.tables.iter().enumerate() {
        files.push((table_file(at), ipc(table)?));
    }
    Ok(files)
}

/// Digest of all that the state says.
pub(super) fn digest(state: &State) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for (name, bytes) in files(state)? {
        hasher.update(name.as_bytes()).update(&(bytes.len() as u64).to_le_bytes()).update(&bytes);
    }
    Ok(hasher.finalize().to_hex()[..32].to_owned())
}

/// Read back what [`files`] gave, from a folder.
pub(super) fn read(folder: &Path) -> Result<State> {
    read_files(&|name| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|e| broken(&path, &e.to_string()))
    })
}

/// Read back what [`files`] gave, from wherever `file` finds it.
pub(crate) fn read_files(file: &dyn Fn(&str) -> Result<Vec<u8>>) -> Result<State> {
    let text = file(HEAD)?;
    let head: Head = serde_json::from_slice(&text).map_err(|e| broken(Path::new(HEAD), &e.to_string()))?;
    let scalars = head.scalars.iter().map(|(name, value)| (name.clone(), from_exact(value))).collect();
    let table = |(at, name): (usize, String)| Ok((name, read_table(&table_file(at), file(&table_file(at))?)?));
    let tables = head.tables.into_iter().enumerate().map(table).collect::<Result<_>>()?;
    Ok(State { version: head.version, scalars, tables })
}

fn table_file(at: usize) -> String {
    format!("selector.{at}.arrow")
}

fn ipc(table: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = FileWriter::try_new(Vec::new(), table.schema_ref())?;
    writer.write(table)?;
    Ok(writer.into_inner()?)
}

fn read_table(name: &str, bytes: Vec<u8>) -> Result<RecordBatch> {
    let path = Path::new(name);
    let mut reader = FileReader::try_new(Cursor::new(bytes), None).map_err(|e| broken(path, &e.to_string()))?;
    let schema = reader.schema();
    reader
        .next()
        .transpose()
        .map_err(|e| broken(path, &e.to_string()))
        .map(|batch| batch.unwrap_or_else(|| RecordBatch::new_empty(schema)))
}

fn broken(path: &Path, what: &str) -> Error {
    Error::data("checkpoint/broken", format!("the state of the selector cannot be read: {what}"))
        .hint("resume from another checkpoint")
        .at(Location::file(path.display().to_string()))
}

/// Mark before the bits of a float.
const BITS: &str = "f64:";

/// Floats by their bits: decimal text need not come back to the same.
fn to_exact(value: &Value) -> Value {
    match value {
        Value::Number(n) if n.is_f64() => format!("{BITS}{:016x}", n.as_f64().unwrap_or_default().to_bits()).into(),
        Value::Array(items) => items.iter().map(to_exact).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), to_exact(v))).collect()),
        other => other.clone(),
    }
}

fn from_exact(value: &Value) -> Value {
    let bits = |text: &str| u64::from_str_radix(text.strip_prefix(BITS)?, 16).ok();
    match value {
        Value::String(text) => bits(text).map_or_else(|| value.clone(), |bits| f64::from_bits(bits).into()),
        Value::Array(items) => items.iter().map(from_exact).collect(),
        Value::Object(map) => Value::Object(map.iter().map(|(k, v)| (k.clone(), from_exact(v))).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_state_comes_back_to_the_bit() {
        let third = 1.0 / 3.0 * 1e-7;
        let scalars = json!({"step": 3, "rates": [third, 0.1 + 0.2], "name": "x"}).as_object().unwrap().clone();
        let table = |n: usize| {
            let column = Arc::new(Float64Array::from(vec![third; n])) as ArrayRef;
            RecordBatch::try_from_iter([("alpha", column)]).unwrap()
        };
        let state =
            State { version: 2, scalars, tables: vec![("posterior".into(), table(3)), ("none".into(), table(0))] };
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files(&state).unwrap() {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let back = read(folder.path()).unwrap();
        assert_eq!((back.version, &back.scalars, &back.tables), (2, &state.scalars, &state.tables));
        assert_eq!(digest(&back).unwrap(), digest(&state).unwrap());
        std::fs::remove_file(folder.path().join("selector.1.arrow")).unwrap();
        assert_eq!(read(folder.path()).unwrap_err().code(), "checkpoint/broken");
        std::fs::write(folder.path().join(HEAD), "{").unwrap();
        assert_eq!(read(folder.path()).unwrap_err().code(), "checkpoint/broken");
    }
}
