//! The front door as its callers see it: sources of every kind, bad input, sinks, object stores, the shared data.

mod bad;
mod formats;
mod fuzz;
mod remote;
mod shared;
mod sinks;
mod sources;

use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use curate_core::{Ctx, Error};
use curate_ingest::{InputSpec, OutputSpec, Rendered, RowSink, Source, create};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A folder of inputs.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        if let Some(folder) = self.path(name).parent() {
            std::fs::create_dir_all(folder).unwrap();
        }
        std::fs::write(self.path(name), bytes).unwrap();
        self.name(name)
    }

    fn put_batch(&self, name: &str, batches: &[RecordBatch]) -> String {
        let mut sink: Box<dyn RowSink> = create(&OutputSpec::of(self.name(name)), batches[0].schema()).unwrap();
        for batch in batches {
            sink.write(batch).unwrap();
        }
        sink.finish().unwrap();
        self.name(name)
    }

    fn scratch(&self) -> PathBuf {
        self.path("scratch")
    }

    fn open(&self, spec: &InputSpec) -> Result<Source, Error> {
        Source::open(spec, &self.scratch(), &Ctx::new(1))
    }

    fn open_text(&self, name: &str, text: impl AsRef<[u8]>) -> Result<Source, Error> {
        let path = self.put(name, text);
        self.open(&InputSpec::of(path))
    }

    /// Read everything, or give the first error of opening or reading.
    fn read(&self, spec: &InputSpec) -> Result<Vec<Rendered>, Error> {
        let source = self.open(spec)?;
        let mut all = Vec::new();
        for unit in source.units() {
            all.extend(source.texts(&source.read(unit, None)?)?);
        }
        Ok(all)
    }
}

fn utf8(columns: &[(&str, &[&str])]) -> RecordBatch {
    let array = |values: &[&str]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    RecordBatch::try_from_iter(columns.iter().map(|(name, values)| (*name, array(values)))).unwrap()
}

fn strings(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let array = arrow::compute::cast(batch.column_by_name(column).unwrap(), &arrow::datatypes::DataType::Utf8).unwrap();
    array.as_string::<i32>().iter().map(|t| t.map(str::to_owned)).collect()
}

fn all(source: &Source) -> Vec<RecordBatch> {
    source.units().iter().map(|unit| source.read(unit, None).unwrap().batch).collect()
}

fn shared() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("SKIPPED: {} is not there; the shared data were not read", folder.display());
    None
}
