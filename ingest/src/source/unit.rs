//! The small public records of a source: files, units, what reading a unit gives.

use crate::kind::Kind;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use curate_core::{Location, Result};
use serde::{Deserialize, Serialize};

/// Most rows of one unit.
pub(crate) const UNIT_ROWS: u64 = 8192;
/// Most bytes of one unit of a columnar file, by the file's own figures.
pub(crate) const UNIT_BYTES: u64 = 32 << 20;

/// One input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Path or URL.
    pub path: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size, packed as it is.
    pub bytes: u64,
    /// What it is.
    pub kind: Kind,
}

/// A piece of work: some contiguous rows of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its place in [`crate::Source::units`].
    pub index: usize,
    /// Its file's place in [`crate::Source::files`].
    pub file: usize,
    /// Row group, block of lines, or record batch within the file.
    pub part: usize,
    /// Source id of its first row.
    pub first_row: u64,
    /// Rows, bad and filtered ones included.
    pub rows: u32,
    /// Identity of its content.
    pub digest: [u8; 32],
    /// Estimated size in memory.
    pub bytes: u64,
    /// First row within the part.
    pub(crate) start: u64,
}

/// A row that was left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedRow {
    /// Source id.
    pub row: u64,
    /// Where it stands.
    pub location: Location,
    /// What is wrong with it.
    pub reason: String,
}

/// What reading a unit gives.
#[derive(Clone, Debug)]
pub struct UnitData {
    /// Place of the unit in [`crate::Source::units`].
    pub unit: usize,
    /// Source ids of the rows of `batch`: bad rows and rows that fail `where` are absent.
    pub rows: Vec<u64>,
    /// The rows, with the columns asked for.
    pub batch: RecordBatch,
    /// Bad rows left out.
    pub skipped: Vec<SkippedRow>,
    /// Rows left out by `where`.
    pub filtered: usize,
}

/// A unit as one reader knows it.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Row group, block or record batch.
    pub(crate) group: usize,
    pub(crate) start: u64,
    pub(crate) rows: u32,
    pub(crate) digest: [u8; 32],
    pub(crate) bytes: u64,
}

/// A row of a part that cannot be read.
#[derive(Clone, Debug)]
pub(crate) struct BadRow {
    pub(crate) at: u32,
    pub(crate) location: Location,
    pub(crate) reason: String,
}

/// The readable rows of a part and the others.
pub(crate) struct Chunk {
    pub(crate) batch: RecordBatch,
    pub(crate) bad: Vec<BadRow>,
}

/// An opened file of any kind.
pub(crate) trait Reader: Send + Sync {
    /// Its own columns.
    fn schema(&self) -> &SchemaRef;
    /// Its parts, in row order.
    fn parts(&self) -> &[Part];
    /// Read part `index`; of the columns only those in `wanted`, in the file's order.
    fn read(&self, index: usize, wanted: &[String]) -> Result<Chunk>;
    /// Where row `at` of part `index` stands.
    fn location(&self, index: usize, at: u32) -> Location;
}
