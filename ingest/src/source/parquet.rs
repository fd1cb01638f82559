//! Parquet files, local or remote: row groups are cut into slices, and a reader that stopped at the end of one slice goes on
//! with the next, so that a large row group is decoded once.

use super::unit::{BadRow, Chunk, Part, Reader, UNIT_BYTES, UNIT_ROWS};
use super::watch::Watched;
use crate::errors::{corrupt, io_at};
use crate::spool::Local;
use crate::store::{Object, Random, RemoteFile};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use curate_core::{Ctx, Error, Location, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// Readers kept for going on; one a thread is enough.
const READERS_KEPT: usize = 4;

enum Bytes {
    Local(Watched),
    Remote(Arc<RemoteFile>),
}

/// A reader that stopped before row `next` of a row group.
struct Stopped {
    group: usize,
    columns: Vec<usize>,
    next: u64,
    reader: ParquetRecordBatchReader,
}

/// An opened parquet file.
pub(crate) struct Parquet {
    name: String,
    bytes: Bytes,
    meta: ArrowReaderMetadata,
    parts: Vec<Part>,
    group_rows: Vec<u64>,
    stopped: Mutex<Vec<Stopped>>,
    /// Keeps a spooled file alive.
    spool: Option<Local>,
}

impl Parquet {
    pub(crate) fn local(local: Local, ctx: &Ctx) -> Result<Self> {
        let watched = Watched::new(&local.path, &local.name)?;
        let name = local.name.clone();
        let mut this = Self::open(&name, Bytes::Local(watched), None, ctx)?;
        this.spool = Some(local);
        Ok(this)
    }

    /// A remote file. What its store says of its identity stands for its bytes where the store says anything.
    pub(crate) fn remote(object: Object, ctx: &Ctx) -> Result<(Self, u64)> {
        let head = object.head()?;
        let name = object.url.clone();
        let identity = head.e_tag.as_ref().map(|tag| {
            let text = format!("{name}\n{tag}\n{:?}\n{}\n{:?}", head.version, head.size, head.last_modified);
            *blake3::hash(text.as_bytes()).as_bytes()
        });
        let file = Arc::new(RemoteFile::new(object, head.size));
        Ok((Self::open(&name, Bytes::Remote(file), identity, ctx)?, head.size))
    }

    fn open(name: &str, bytes: Bytes, identity: Option<[u8; 32]>, ctx: &Ctx) -> Result<Self> {
        let file = bytes.random()?;
        if parquet::file::reader::Length::len(&file) == 0 {
            return Err(Error::data("input/empty", "the file is empty")
                .hint("give a file that has rows, or leave it out")
                .at(Location::file(name)));
        }
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let meta = guarded(name, || ArrowReaderMetadata::load(&file, options))?;
        let mut this = Self {
            name: name.to_owned(),
            bytes,
            meta,
            parts: Vec::new(),
            group_rows: Vec::new(),
            stopped: Mutex::default(),
            spool: None,
        };
        for group in 0..this.meta.metadata().num_row_groups() {
            this.add_group(group, &file, identity)?;
            ctx.tick(this.group_rows[group])?;
        }
        Ok(this)
    }

    fn add_group(&mut self, group: usize, file: &Random, identity: Option<[u8; 32]>) -> Result<()> {
        let meta = self.meta.metadata().row_group(group);
        let rows = u64::try_from(meta.num_rows()).unwrap_or(0);
        let bytes = u64::try_from(meta.total_byte_size()).unwrap_or(0);
        let digest = match identity {
            Some(identity) => blake3::keyed_hash(&identity, &(group as u64).to_le_bytes()),
            None => digest_of(meta, file, &self.name)?,
        };
        let leaves = format!("{:?}", self.meta.schema().fields());
        let step = slice_rows(rows, bytes);
        for start in (0..rows).step_by(usize::try_from(step).unwrap_or(1)) {
            let here = step.min(rows - start);
            let mut hasher = blake3::Hasher::new();
            hasher
                .update(digest.as_bytes())
                .update(leaves.as_bytes())
                .update(&start.to_le_bytes())
                .update(&here.to_le_bytes());
            self.parts.push(Part {
                group,
                start,
                rows: u32::try_from(here).unwrap_or(u32::MAX),
                digest: *hasher.finalize().as_bytes(),
                bytes: bytes.saturating_mul(here) / rows.max(1),
            });
        }
        self.group_rows.push(rows);
        Ok(())
    }

    /// A reader that stands before `start`: one that stopped there, or a new one.
    fn reader(&self, part: &Part, columns: &[usize]) -> Result<ParquetRecordBatchReader> {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |s: &Stopped| s.group == part.group && s.next == part.start && s.columns == columns;
        if let Some(at) = stopped.iter().position(fits) {
            return Ok(stopped.remove(at).reader);
        }
        drop(stopped);
        let meta = self.meta.metadata().row_group(part.group);
        let step = slice_rows(self.group_rows[part.group], u64::try_from(meta.total_byte_size()).unwrap_or(0));
        let file = self.bytes.random()?;
        guarded(&self.name, || {
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.meta.clone())
                .with_row_groups(vec![part.group])
                .with_projection(ProjectionMask::roots(self.meta.parquet_schema(), columns.iter().copied()))
                .with_offset(usize::try_from(part.start).unwrap_or(usize::MAX))
                .with_batch_size(usize::try_from(step).unwrap_or(1))
                .build()
        })
    }

    fn keep(&self, stopped: Stopped) {
        if stopped.next >= self.group_rows[stopped.group] {
            return;
        }
        let mut kept = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= READERS_KEPT {
            kept.remove(0);
        }
        kept.push(stopped);
    }

    fn read_rows(&self, part: &Part, columns: &[usize]) -> Result<RecordBatch> {
        let mut reader = self.reader(part, columns)?;
        let (mut batches, mut rows) = (Vec::new(), 0);
        while rows < part.rows as usize {
            let batch = guarded(&self.name, || reader.next().transpose()).map_err(|e| e.at(self.group(part.group)))?;
            let Some(batch) = batch else { break };
            rows += batch.num_rows();
            batches.push(batch);
        }
        if rows != part.rows as usize {
            return Err(self.torn(part, rows));
        }
        self.keep(Stopped { group: part.group, columns: columns.to_vec(), next: part.start + rows as u64, reader });
        match batches.len() {
            1 => Ok(batches.remove(0)),
            _ => Ok(concat_batches(&batches[0].schema(), &batches)?),
        }
    }

    fn torn(&self, part: &Part, rows: usize) -> Error {
        Error::data("input/corrupt", format!("the row group gives {rows} rows where its footer says {}", part.rows))
            .hint("the file is damaged; fetch or write it again")
            .at(self.group(part.group))
    }

    fn group(&self, group: usize) -> Location {
        Location::file(&self.name).row_group(group)
    }
}

impl Bytes {
    fn random(&self) -> Result<Random> {
        Ok(match self {
            Self::Local(file) => Random::Local(Arc::new(file.open()?)),
            Self::Remote(file) => Random::Remote(Arc::clone(file)),
        })
    }
}

/// Rows of one slice of a row group.
fn slice_rows(rows: u64, bytes: u64) -> u64 {
    let row_bytes = (bytes / rows.max(1)).max(1);
    (UNIT_BYTES / row_bytes).clamp(1, UNIT_ROWS)
}

/// Hash of the bytes of all column chunks of a row group.
fn digest_of(meta: &RowGroupMetaData, file: &Random, name: &str) -> Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let size = parquet::file::reader::Length::len(file);
    for column in meta.columns() {
        let range = guarded(name, || Ok::<_, std::io::Error>(column.byte_range()))?;
        if range.0.saturating_add(range.1) > size {
            return Err(corrupt("parquet", name, std::io::Error::other("a column lies beyond the end of the file")));
        }
        let mut left = file.get_read(range.0).map_err(|e| corrupt("parquet", name, e))?.take(range.1);
        loop {
            let n = left.read(&mut buffer).map_err(|e| io_at(e, name))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
        }
    }
    Ok(hasher.finalize())
}

/// Call the parquet library: damaged files make it fail, or panic in places.
fn guarded<T, E: std::error::Error + Send + Sync + 'static>(
    name: &str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T> {
    match curate_core::guarded(call) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(corrupt("parquet", name, error)),
        None => Err(corrupt("parquet", name, std::io::Error::other("the decoder gave up on damaged data"))),
    }
}

impl Reader for Parquet {
    fn schema(&self) -> &SchemaRef {
        self.meta.schema()
    }

    fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn read(&self, index: usize, wanted: &[String]) -> Result<Chunk> {
        let part = &self.parts[index];
        let fields = self.meta.schema().fields();
        let columns: Vec<usize> = (0..fields.len()).filter(|&i| wanted.contains(fields[i].name())).collect();
        if columns.is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(part.rows as usize));
            let schema = Arc::new(arrow::datatypes::Schema::empty());
            let batch = RecordBatch::try_new_with_options(schema, Vec::new(), &options)?;
            return Ok(Chunk { batch, bad: Vec::<BadRow>::new() });
        }
        Ok(Chunk { batch: self.read_rows(part, &columns)?, bad: Vec::new() })
    }

    fn location(&self, index: usize, at: u32) -> Location {
        let part = &self.parts[index];
        let before: u64 = self.group_rows[..part.group].iter().sum();
        self.group(part.group).row(before + part.start + u64::from(at))
    }
}
