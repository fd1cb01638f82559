//! Outputs: one file or a folder of shards, by extension, complete under their final name or not there at all.

mod encode;
mod jsonl;
mod shards;
mod target;
mod whole;

pub use target::write_atomic;
pub use whole::{WholeFile, digest_whole, read_whole, write_whole};

use crate::kind::{self, Kind, Packing};
use crate::store::Stores;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use curate_core::{Error, Location, Result};
use encode::Encoder;
use serde::{Deserialize, Serialize};
use target::{Done, Target};

/// Where rows go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutputSpec {
    /// A file (parquet, jsonl, json, csv, tsv, arrow by extension; text also `.gz` or `.zst`), a folder of shards when it ends
    /// in `/`, or an object-store URL.
    pub path: String,
    /// Replace what is there.
    pub overwrite: bool,
    /// Rows of one shard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_rows: Option<usize>,
}

impl OutputSpec {
    /// An output that must not exist yet.
    #[must_use]
    pub fn of(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// One file of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Path or URL.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub digest: String,
}

impl WrittenFile {
    fn of(done: Done, rows: u64) -> Self {
        Self { path: done.name, rows, bytes: done.bytes, digest: done.hasher.finalize().to_hex().to_string() }
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// The files, in row order.
    pub files: Vec<WrittenFile>,
    /// Rows in all.
    pub rows: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// BLAKE3 of the file, or of the digests of all shards, in hexadecimal.
    pub digest: String,
}

/// Takes rows; nothing stands under the final name before [`RowSink::finish`], and nothing ever if it is dropped before.
pub trait RowSink: Send {
    /// Write rows of the schema the sink was made with.
    ///
    /// # Errors
    /// `io/*`, `store/*`, `output/encode` for columns the format cannot hold.
    fn write(&mut self, batch: &RecordBatch) -> Result<()>;

    /// Complete the output.
    ///
    /// # Errors
    /// `io/*`, `store/*`, `output/exists` when someone else wrote it meanwhile.
    fn finish(self: Box<Self>) -> Result<Written>;
}

/// Open an output for rows of `schema`.
///
/// # Errors
/// `output/exists` unless it may be overwritten, `output/format` for an unknown extension, `io/*`, `store/*`.
pub fn create(out: &OutputSpec, schema: SchemaRef) -> Result<Box<dyn RowSink>> {
    create_with(out, schema, &Stores::default())
}

/// Like [`create`] with object stores of the caller's.
///
/// # Errors
/// As [`create`].
pub fn create_with(out: &OutputSpec, schema: SchemaRef, stores: &Stores) -> Result<Box<dyn RowSink>> {
    if out.path.ends_with('/') {
        return Ok(Box::new(shards::Shards::create(out, schema, stores)?));
    }
    let shape = shape_of(&out.path)?;
    let target = Target::create(&out.path, out.overwrite, stores)?;
    Ok(Box::new(Single { encoder: Encoder::new(shape, target, schema)?, rows: 0 }))
}

/// Kind and packing of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    kind: Kind,
    packing: Packing,
}

/// The shape an extension asks for.
fn shape_of(path: &str) -> Result<Shape> {
    let (kind, packing) = kind::from_name(path);
    match kind {
        Some(kind @ (Kind::Parquet | Kind::Arrow)) if packing != Packing::None => {
            Err(Error::usage("output/format", format!("{kind} files are packed inside"))
                .hint("leave out .gz or .zst")
                .at(Location::file(path)))
        }
        Some(kind) => Ok(Shape { kind, packing }),
        None if target::is_device(path) => Ok(Shape { kind: Kind::Jsonl, packing: Packing::None }),
        None => Err(Error::usage("output/format", format!("'{path}' does not tell the format to write"))
            .hint("end it in .parquet, .jsonl, .json, .csv, .tsv or .arrow, or in / for a folder of parquet shards")),
    }
}

/// One file.
struct Single {
    encoder: Encoder,
    rows: u64,
}

impl RowSink for Single {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        self.encoder.write(batch)
    }

    fn finish(self: Box<Self>) -> Result<Written> {
        let file = WrittenFile::of(self.encoder.close()?.commit()?, self.rows);
        Ok(Written { rows: file.rows, bytes: file.bytes, digest: file.digest.clone(), files: vec![file] })
    }
}
