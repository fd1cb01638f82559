//! Arrow IPC files; streams are first rewritten as files in the scratch folder, since only files can be read anywhere in.

use super::unit::{Chunk, Part, Reader, UNIT_BYTES, UNIT_ROWS};
use super::watch::Watched;
use crate::errors::{corrupt, io_at};
use crate::spool::Local;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader, read_footer_length};
use arrow::ipc::root_as_footer;
use arrow::ipc::writer::FileWriter;
use curate_core::{Ctx, Error, Location, Result};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tempfile::TempPath;

/// Decoded record batches kept, so that the slices of a large batch do not decode it again and again.
const BATCHES_KEPT: usize = 2;

struct Decoded {
    batch: usize,
    columns: Vec<usize>,
    data: RecordBatch,
}

/// An opened Arrow file.
pub(crate) struct Ipc {
    file: Watched,
    schema: SchemaRef,
    parts: Vec<Part>,
    batch_rows: Vec<u64>,
    decoded: Mutex<Vec<Decoded>>,
    _local: Local,
    _rewritten: Option<TempPath>,
}

/// Where the footer says that a message lies.
type Span = (u64, u64);

impl Ipc {
    pub(crate) fn open(local: Local, scratch: &Path, ctx: &Ctx) -> Result<Self> {
        let name = local.name.clone();
        let mut head = Vec::new();
        File::open(&local.path).and_then(|f| f.take(6).read_to_end(&mut head)).map_err(|e| io_at(e, &name))?;
        if head.is_empty() {
            return Err(Error::data("input/empty", "the file is empty")
                .hint("give a file that has rows, or leave it out")
                .at(Location::file(&name)));
        }
        let rewritten = if head == b"ARROW1" { None } else { Some(rewrite(&local, scratch, ctx)?) };
        let file = Watched::new(rewritten.as_deref().unwrap_or(&local.path), &name)?;
        let (base, spans) = guarded(&name, || footer(file.open().map_err(external)?))?;
        let reader = guarded(&name, || FileReader::try_new(BufReader::new(file.open().map_err(external)?), None))?;
        let mut this = Self {
            schema: reader.schema(),
            parts: Vec::new(),
            batch_rows: Vec::new(),
            decoded: Mutex::default(),
            file,
            _local: local,
            _rewritten: rewritten,
        };
        this.cut(reader, &base, &spans, ctx)?;
        Ok(this)
    }

    /// Cut every record batch into parts.
    fn cut(
        &mut self,
        reader: FileReader<BufReader<File>>,
        base: &blake3::Hasher,
        spans: &[Span],
        ctx: &Ctx,
    ) -> Result<()> {
        let name = self.file.name().to_owned();
        let mut reader = reader;
        let mut raw = self.file.open()?;
        for (index, span) in spans.iter().enumerate() {
            let batch = guarded(&name, || reader.next().transpose())?.ok_or_else(|| self.file.changed())?;
            let (rows, bytes) = (batch.num_rows() as u64, batch.get_array_memory_size() as u64);
            let mut hasher = base.clone();
            raw.seek(SeekFrom::Start(span.0)).map_err(|e| io_at(e, &name))?;
            hasher.update_reader((&mut raw).take(span.1)).map_err(|e| io_at(e, &name))?;
            let step = (UNIT_BYTES / (bytes / rows.max(1)).max(1)).clamp(1, UNIT_ROWS);
            for start in (0..rows).step_by(usize::try_from(step).unwrap_or(1)) {
                let here = step.min(rows - start);
                let mut own = hasher.clone();
                own.update(&start.to_le_bytes()).update(&here.to_le_bytes());
                self.parts.push(Part {
                    group: index,
                    start,
                    rows: u32::try_from(here).unwrap_or(u32::MAX),
                    digest: *own.finalize().as_bytes(),
                    bytes: bytes.saturating_mul(here) / rows.max(1),
                });
            }
            self.batch_rows.push(rows);
            ctx.tick(rows)?;
        }
        Ok(())
    }

    fn batch(&self, index: usize, columns: &[usize]) -> Result<RecordBatch> {
        let mut decoded = self.decoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = decoded.iter().find(|d| d.batch == index && d.columns == columns) {
            return Ok(found.data.clone());
        }
        let data = guarded(self.file.name(), || {
            let input = BufReader::new(self.file.open().map_err(external)?);
            let mut reader = FileReader::try_new(input, Some(columns.to_vec()))?;
            reader.set_index(index)?;
            reader.next().transpose()
        })?;
        let data = data.ok_or_else(|| self.file.changed())?;
        if decoded.len() >= BATCHES_KEPT {
            decoded.remove(0);
        }
        decoded.push(Decoded { batch: index, columns: columns.to_vec(), data: data.clone() });
        Ok(data)
    }
}

fn external(error: Error) -> ArrowError {
    ArrowError::from_external_error(Box::new(error))
}

/// Hash of schema and dictionaries, and where the record batches lie.
fn footer(mut file: File) -> Result<(blake3::Hasher, Vec<Span>), ArrowError> {
    let size = file.metadata()?.len();
    let mut tail = [0; 10];
    file.seek(SeekFrom::End(-10))?;
    file.read_exact(&mut tail)?;
    let length = read_footer_length(tail)?;
    if length as u64 + 10 > size {
        return Err(ArrowError::ParseError("the footer is longer than the file".into()));
    }
    let mut bytes = vec![0; length];
    file.seek(SeekFrom::Start(size - 10 - length as u64))?;
    file.read_exact(&mut bytes)?;
    let footer = root_as_footer(&bytes).map_err(|e| ArrowError::ParseError(format!("{e:?}")))?;
    let span = |block: &arrow::ipc::Block| {
        let offset = u64::try_from(block.offset()).unwrap_or(u64::MAX);
        let length = u64::try_from(i64::from(block.metaDataLength()).saturating_add(block.bodyLength())).unwrap_or(0);
        (offset, length)
    };
    let schema = footer.schema().ok_or_else(|| ArrowError::ParseError("no schema in the footer".into()))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{:?}", arrow::ipc::convert::fb_to_schema(schema).fields()).as_bytes());
    for block in footer.dictionaries().iter().flatten() {
        let (offset, length) = span(block);
        file.seek(SeekFrom::Start(offset))?;
        hasher.update_reader((&mut file).take(length))?;
    }
    let spans: Vec<Span> = footer.recordBatches().iter().flatten().map(span).collect();
    if spans.iter().any(|(offset, length)| offset.saturating_add(*length) > size) {
        return Err(ArrowError::ParseError("a record batch lies beyond the end of the file".into()));
    }
    Ok((hasher, spans))
}

/// Rewrite a stream as a file.
fn rewrite(local: &Local, scratch: &Path, ctx: &Ctx) -> Result<TempPath> {
    let name = &local.name;
    std::fs::create_dir_all(scratch).map_err(|e| io_at(e, &scratch.to_string_lossy()))?;
    let file = tempfile::Builder::new().prefix("spool-").suffix(".arrow").tempfile_in(scratch);
    let mut file = file.map_err(|e| io_at(e, &scratch.to_string_lossy()))?;
    let input = BufReader::new(File::open(&local.path).map_err(|e| io_at(e, name))?);
    let mut reader = guarded(name, || StreamReader::try_new(input, None))?;
    let mut writer = FileWriter::try_new_buffered(file.as_file_mut(), &reader.schema())?;
    while let Some(batch) = guarded(name, || reader.next().transpose())? {
        ctx.tick(0)?;
        writer.write(&batch).map_err(|e| crate::errors::writing("arrow", "the scratch folder", e))?;
    }
    writer.finish().map_err(|e| crate::errors::writing("arrow", "the scratch folder", e))?;
    drop(writer);
    Ok(file.into_temp_path())
}

/// Call the Arrow library: damaged files make it fail, or panic in places.
fn guarded<T>(name: &str, call: impl FnOnce() -> Result<T, ArrowError>) -> Result<T> {
    match curate_core::guarded(call) {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(corrupt("arrow", name, error)),
        None => Err(corrupt("arrow", name, std::io::Error::other("the decoder gave up on damaged data"))),
    }
}

impl Reader for Ipc {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn read(&self, index: usize, wanted: &[String]) -> Result<Chunk> {
        let part = &self.parts[index];
        let fields = self.schema.fields();
        let columns: Vec<usize> = (0..fields.len()).filter(|&i| wanted.contains(fields[i].name())).collect();
        let batch = self.batch(part.group, &columns)?;
        let start = usize::try_from(part.start).unwrap_or(usize::MAX);
        if batch.num_rows() < start.saturating_add(part.rows as usize) {
            return Err(self.file.changed());
        }
        Ok(Chunk { batch: batch.slice(start, part.rows as usize), bad: Vec::new() })
    }

    fn location(&self, index: usize, at: u32) -> Location {
        let part = &self.parts[index];
        let before: u64 = self.batch_rows[..part.group].iter().sum();
        Location::file(self.file.name()).row(before + part.start + u64::from(at))
    }
}
