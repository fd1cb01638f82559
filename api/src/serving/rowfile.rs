//! Rows on disk that can be read one by one: an Arrow IPC file of small blocks, of which a read touches only those it needs. Nothing
//! but the list of blocks is held in memory, and any number of readers share the file.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::compute::{cast, concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{FileDecoder, read_footer_length};
use arrow::ipc::writer::FileWriter;
use arrow::ipc::{Block, root_as_footer};
use curate_core::{Error, Location, Result};
use curate_ingest::{RowSink, Written};
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Aim for blocks of so many bytes.
const BLOCK_BYTES: usize = 32 << 10;

/// Writes a row file; it stands under its name when finished.
pub(super) struct RowFileWriter {
    path: PathBuf,
    schema: SchemaRef,
    file: FileWriter<BufWriter<tempfile::NamedTempFile>>,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    block_rows: Option<usize>,
    rows: u64,
}

/// The schema without dictionaries: their values travel with the rows.
pub(super) fn plain_schema(schema: &Schema) -> SchemaRef {
    let plain = |field: &Arc<Field>| match field.data_type() {
        DataType::Dictionary(_, values) => Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone())),
        _ => field.clone(),
    };
    Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()))
}

fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns =
        columns.map(|(column, field)| Ok(cast(column, field.data_type())?)).collect::<Result<Vec<ArrayRef>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

impl RowFileWriter {
    pub(super) fn create(path: &Path, schema: &Schema) -> Result<Self> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let schema = plain_schema(schema);
        let temporary = tempfile::NamedTempFile::new_in(folder)?;
        let file = FileWriter::try_new(BufWriter::new(temporary), &schema)?;
        let (waiting, waiting_rows, block_rows, rows) = (Vec::new(), 0, None, 0);
        Ok(Self { path: path.to_owned(), schema, file, waiting, waiting_rows, block_rows, rows })
    }

    /// Write whole blocks of what waits; all of it when `last`.
    fn flush(&mut self, last: bool) -> Result<()> {
        let block = self.block_rows.unwrap_or(1);
        if self.waiting_rows < block && !(last && self.waiting_rows > 0) {
            return Ok(());
        }
        let all = concat_batches(&self.schema, &self.waiting)?;
        let whole = if last { all.num_rows() } else { all.num_rows() / block * block };
        for start in (0..whole).step_by(block) {
            self.file.write(&all.slice(start, block.min(whole - start)))?;
        }
        self.waiting_rows = all.num_rows() - whole;
        self.waiting = if self.waiting_rows > 0 { vec![all.slice(whole, self.waiting_rows)] } else { Vec::new() };
        Ok(())
    }
}

impl RowSink for RowFileWriter {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = plain(batch, &self.schema)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if self.block_rows.is_none() {
            let row = batch.get_array_memory_size() / batch.num_rows();
            self.block_rows = Some((BLOCK_BYTES / row.max(1)).clamp(1, 1024));
        }
        self.rows += batch.num_rows() as u64;
        self.waiting_rows += batch.num_rows();
        self.waiting.push(batch);
        self.flush(false)
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        self.flush(true)?;
        self.file.finish()?;
        let file = self.file.into_inner()?.into_inner().map_err(|e| Error::from(e.into_error()))?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|e| Error::from(e.error))?;
        Ok(Written { rows: self.rows, ..Written::default() })
    }
}

/// An open row file.
pub struct RowFile {
    file: File,
    decoder: FileDecoder,
    schema: SchemaRef,
    blocks: Vec<Block>,
    block_rows: u64,
    rows: u64,
}

impl RowFile {
    /// Open a file that the service wrote.
    ///
    /// # Errors
    /// `rows/broken` for a file that is none; `io/*`.
    pub fn open(path: &Path) -> Result<Self> {
        let broken = |what: &str| {
            Error::data("rows/broken", format!("the stored rows cannot be read: {what}"))
                .hint("delete the session and create it again")
                .at(Location::file(path.display().to_string()))
        };
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        let mut tail = [0u8; 10];
        file.read_exact_at(&mut tail, len.checked_sub(10).ok_or_else(|| broken("it is too short"))?)?;
        let footer_len = read_footer_length(tail).map_err(|e| broken(&e.to_string()))?;
        let start = len.checked_sub(10 + footer_len as u64).ok_or_else(|| broken("its end is damaged"))?;
        let mut bytes = vec![0u8; footer_len];
        file.read_exact_at(&mut bytes, start)?;
        let footer = root_as_footer(&bytes).map_err(|e| broken(&e.to_string()))?;
        let schema = Arc::new(fb_to_schema(footer.schema().ok_or_else(|| broken("it has no schema"))?));
        let decoder = FileDecoder::new(schema.clone(), footer.version());
        let blocks: Vec<Block> = footer.recordBatches().iter().flatten().copied().collect();
        let mut found = Self { file, decoder, schema, blocks, block_rows: 1, rows: 0 };
        if let Some(last) = found.blocks.len().checked_sub(1) {
            found.block_rows = found.block(0)?.num_rows().max(1) as u64;
            found.rows = found.block_rows * last as u64 + found.block(last)?.num_rows() as u64;
        }
        Ok(found)
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Columns.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn block(&self, at: usize) -> Result<RecordBatch> {
        let block = &self.blocks[at];
        let len = block.bodyLength() as usize + block.metaDataLength() as usize;
        let mut bytes = vec![0u8; len];
        self.file.read_exact_at(&mut bytes, block.offset() as u64)?;
        let found = self.decoder.read_record_batch(block, &Buffer::from_vec(bytes))?;
        Ok(found.unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone())))
    }

    /// The rows at these positions, in this order; a position may come twice.
    ///
    /// # Errors
    /// `row/unknown` for a position past the end; `io/*`.
    pub fn read(&self, positions: &[u64]) -> Result<RecordBatch> {
        if let Some(wrong) = positions.iter().find(|at| **at >= self.rows) {
            return Err(Error::usage("row/unknown", format!("there is no row at {wrong}: there are {}", self.rows)));
        }
        let block_of = |at: &u64| (at / self.block_rows) as usize;
        let mut wanted: Vec<usize> = positions.iter().map(block_of).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let blocks = wanted.iter().map(|at| self.block(*at)).collect::<Result<Vec<_>>>()?;
        if blocks.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema.clone()));
        }
        let place = |at: &u64| (wanted.binary_search(&block_of(at)).unwrap_or(0), (at % self.block_rows) as usize);
        let places: Vec<(usize, usize)> = positions.iter().map(place).collect();
        Ok(interleave_record_batch(&blocks.iter().collect::<Vec<_>>(), &places)?)
    }

    /// One column of all rows, a range of positions at a time.
    ///
    /// # Errors
    /// `column/missing`; `io/*`.
    pub fn column(&self, name: &str, mut take: impl FnMut(&ArrayRef) -> Result<()>) -> Result<()> {
        let at =
            self.schema.index_of(name).map_err(|_| Error::data("column/missing", format!("no column '{name}'")))?;
        (0..self.blocks.len()).try_for_each(|block| take(self.block(block)?.column(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, StringArray, UInt64Array};
    use arrow::datatypes::UInt64Type;

    fn batch(range: std::ops::Range<u64>) -> RecordBatch {
        let texts: StringArray = range.clone().map(|i| Some("x".repeat(1000 + i as usize % 7))).collect();
        let columns: [(&str, ArrayRef); 2] =
            [("id", Arc::new(UInt64Array::from_iter_values(range))), ("text", Arc::new(texts))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn any_row_comes_back_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        let mut writer = Box::new(RowFileWriter::create(&path, &batch(0..1).schema()).unwrap());
        for range in [0..5, 5..5, 5..200, 200..201] {
            writer.write(&batch(range)).unwrap();
        }
        assert!(!path.exists());
        assert_eq!(writer.finish().unwrap().rows, 201);
        let file = RowFile::open(&path).unwrap();
        assert_eq!(file.rows(), 201);
        assert!(file.blocks.len() > 3);
        let wanted = [200, 0, 77, 77, 199, 31];
        let found = file.read(&wanted).unwrap();
        assert_eq!(found.column(0).as_primitive::<UInt64Type>().values(), &wanted);
        assert_eq!(found.column(1).as_string::<i32>().value(0).len(), 1000 + 200 % 7);
        assert_eq!(file.read(&[201]).unwrap_err().code(), "row/unknown");
        assert_eq!(file.read(&[]).unwrap().num_rows(), 0);
        let mut all = 0;
        file.column("id", |ids| {
            all += ids.len();
            Ok(())
        })
        .unwrap();
        assert_eq!(all, 201);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(RowFile::open(&path).err().unwrap().code(), "rows/broken");
    }

    #[test]
    fn no_rows_are_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.arrow");
        let writer = Box::new(RowFileWriter::create(&path, &batch(0..1).schema()).unwrap());
        writer.finish().unwrap();
        assert_eq!(RowFile::open(&path).unwrap().rows(), 0);
    }
}
