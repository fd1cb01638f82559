//! CSV and TSV files: a first pass finds types, blocks and bad rows; blocks are decoded when asked for. Cells keep their text
//! unless every cell of a column is a plain number or `true`/`false`; columns that play a role stay text.

use super::lines::is_full;
use super::unit::{BadRow, Chunk, Part, Reader};
use super::watch::Watched;
use crate::errors::io_at;
use crate::json::decode::narrow;
use crate::kind::Kind;
use crate::spec::{InputSpec, OnBadRow};
use crate::spool::Local;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use csv::{ByteRecord, ReaderBuilder};
use curate_core::{Ctx, Error, Location, Result, format_bytes};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::rc::Rc;
use std::sync::Arc;

struct Block {
    offset: u64,
    line: u64,
    first_row: u64,
    bad: Vec<u32>,
}

/// An opened CSV file.
pub(crate) struct Csv {
    file: Watched,
    delimiter: u8,
    schema: SchemaRef,
    blocks: Vec<Block>,
    parts: Vec<Part>,
    rows: u64,
    most_bytes: u64,
    skip: bool,
    _local: Local,
}

/// Fails when one record swallows more bytes than a row may have, as it does after an unclosed quote.
struct Limited<R> {
    inner: R,
    since: Rc<Cell<u64>>,
    most: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        self.since.set(self.since.get() + n as u64);
        if self.since.get() > self.most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "record too long"));
        }
        Ok(n)
    }
}

type Records = csv::Reader<Limited<BufReader<File>>>;

/// What the cells of a column have been so far.
#[derive(Clone, Copy, PartialEq)]
enum Cells {
    Empty,
    Int,
    Float,
    Bool,
    Text,
}

impl Cells {
    fn with(self, cell: &str) -> Self {
        match (self, Self::of(cell)) {
            (Self::Text, _) => Self::Text,
            (before, Self::Empty) => before,
            (Self::Empty, now) => now,
            (before, now) if before == now => before,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            _ => Self::Text,
        }
    }

    fn of(cell: &str) -> Self {
        match cell {
            "" => Self::Empty,
            "true" | "false" => Self::Bool,
            _ if cell.parse::<i64>().is_ok_and(|v| v.to_string() == cell) => Self::Int,
            _ if is_plain_decimal(cell) => Self::Float,
            _ => Self::Text,
        }
    }

    const fn data_type(self) -> DataType {
        match self {
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Empty | Self::Text => DataType::Utf8,
        }
    }
}

/// `-?digits.digits` with few enough digits that an `f64` holds the value.
fn is_plain_decimal(cell: &str) -> bool {
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let Some((whole, part)) = digits.split_once('.') else { return false };
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all(whole) && all(part) && whole.len() + part.len() <= 15 && (whole == "0" || !whole.starts_with('0'))
}

impl Csv {
    /// Read the whole file once; columns named in `texts` stay text whatever they hold.
    pub(crate) fn open(local: Local, spec: &InputSpec, texts: &[String], ctx: &Ctx) -> Result<Self> {
        let mut this = Self {
            file: Watched::new(&local.path, &local.name)?,
            delimiter: if local.kind == Kind::Tsv { b'\t' } else { b',' },
            schema: Arc::new(Schema::empty()),
            blocks: Vec::new(),
            parts: Vec::new(),
            rows: 0,
            most_bytes: spec.max_row_bytes,
            skip: spec.on_bad_row == OnBadRow::Skip,
            _local: local,
        };
        let (header, body, line) = this.header()?;
        let mut kinds: Vec<Cells> =
            header.iter().map(|name| if texts.contains(name) { Cells::Text } else { Cells::Empty }).collect();
        let (mut records, since) = this.records(body)?;
        let mut more = true;
        while more {
            more = this.scan_block(&mut records, &since, (body, line), &mut kinds)?;
            ctx.tick(this.parts.last().map_or(0, |p| u64::from(p.rows)))?;
        }
        let fields: Vec<Field> =
            header.iter().zip(kinds).map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect();
        this.schema = Arc::new(Schema::new(fields));
        this.digest(&header)?;
        Ok(this)
    }

    /// Column names, and where the first record begins (byte, line).
    fn header(&self) -> Result<(Vec<String>, u64, u64)> {
        let (mut records, _) = self.records(0)?;
        let mut record = ByteRecord::new();
        let found = records.read_byte_record(&mut record).map_err(|e| self.error(&e, 1))?;
        let place = Location::file(self.file.name()).line(1);
        if !found {
            return Err(Error::data("input/empty", "the file is empty")
                .hint("a CSV file begins with a line of column names")
                .at(place));
        }
        let name = |(i, cell): (usize, &[u8])| {
            let cell = if i == 0 { cell.strip_prefix(b"\xef\xbb\xbf").unwrap_or(cell) } else { cell };
            String::from_utf8(cell.to_vec())
        };
        let names = record.iter().enumerate().map(name).collect::<std::result::Result<Vec<_>, _>>().map_err(|e| {
            Error::data("text/utf8", format!("invalid UTF-8 in the header: {e}"))
                .hint("convert the file to UTF-8")
                .at(place)
        })?;
        Ok((names, records.position().byte(), records.position().line()))
    }

    fn records(&self, offset: u64) -> Result<(Records, Rc<Cell<u64>>)> {
        let mut file = self.file.open()?;
        file.seek(SeekFrom::Start(offset)).map_err(|e| io_at(e, self.file.name()))?;
        let since = Rc::new(Cell::new(0));
        let most = self.most_bytes.saturating_add(1 << 18);
        let input = Limited { inner: BufReader::with_capacity(1 << 16, file), since: Rc::clone(&since), most };
        let reader =
            ReaderBuilder::new().delimiter(self.delimiter).has_headers(false).flexible(true).from_reader(input);
        Ok((reader, since))
    }

    /// Read one block; `body` is (byte, line) of the first record, which the reader counts from.
    fn scan_block(
        &mut self,
        records: &mut Records,
        since: &Cell<u64>,
        body: (u64, u64),
        kinds: &mut [Cells],
    ) -> Result<bool> {
        let (start, line) = (records.position().byte(), body.1 - 1 + records.position().line());
        let mut block = Block { offset: body.0 + start, line, first_row: self.rows, bad: Vec::new() };
        let (mut rows, mut record) = (0, ByteRecord::new());
        let mut more = true;
        while more && !is_full(rows, records.position().byte() - start) {
            since.set(0);
            let here = body.1 - 1 + records.position().line();
            more = records.read_byte_record(&mut record).map_err(|e| self.error(&e, here))?;
            if !more {
                continue;
            }
            match self.check(&record, kinds.len()) {
                Ok(()) => learn(&record, kinds),
                Err(_) if self.skip => block.bad.push(rows),
                Err((code, what)) => return Err(self.bad_row(code, what, self.rows, here)),
            }
            rows += 1;
            self.rows += 1;
        }
        if rows > 0 {
            let bytes = records.position().byte() - start;
            self.parts.push(Part { group: self.blocks.len(), start: 0, rows, digest: [0; 32], bytes });
            self.blocks.push(block);
        }
        Ok(more)
    }

    fn check(&self, record: &ByteRecord, columns: usize) -> std::result::Result<(), (&'static str, String)> {
        if record.len() != columns {
            return Err(("csv/fields", format!("{} fields where the header has {columns}", record.len())));
        }
        if record.as_slice().len() as u64 > self.most_bytes {
            return Err(("row/too-large", format!("the row is longer than {}", format_bytes(self.most_bytes))));
        }
        match record.iter().position(|cell| std::str::from_utf8(cell).is_err()) {
            Some(cell) => Err(("text/utf8", format!("invalid UTF-8 in field {}", cell + 1))),
            None => Ok(()),
        }
    }

    fn bad_row(&self, code: &'static str, what: String, row: u64, line: u64) -> Error {
        Error::data(code, what)
            .hint("repair the row, or leave such rows out with --on-bad-row skip; raise max_row_bytes for long rows")
            .at(Location::file(self.file.name()).row(row).line(line))
    }

    fn error(&self, error: &csv::Error, line: u64) -> Error {
        match error.kind() {
            csv::ErrorKind::Io(e) if e.kind() == io::ErrorKind::InvalidData => Error::data(
                "row/too-large",
                format!("the record that begins here is longer than {}", format_bytes(self.most_bytes)),
            )
            .hint("probably a quote that is never closed; otherwise raise max_row_bytes")
            .at(Location::file(self.file.name()).line(line)),
            csv::ErrorKind::Io(e) => io_at(io::Error::new(e.kind(), e.to_string()), self.file.name()),
            _ => Error::data("csv/broken", error.to_string()).at(Location::file(self.file.name()).line(line)),
        }
    }

    /// The digest of each block: its bytes, and the header that names its columns.
    fn digest(&mut self, header: &[String]) -> Result<()> {
        let mut file = self.file.open()?;
        for (block, part) in self.blocks.iter().zip(&mut self.parts) {
            let mut hasher = blake3::Hasher::new();
            hasher.update(header.join("\u{1f}").as_bytes());
            file.seek(SeekFrom::Start(block.offset)).map_err(|e| io_at(e, self.file.name()))?;
            hasher.update_reader((&mut file).take(part.bytes)).map_err(|e| io_at(e, self.file.name()))?;
            part.digest = *hasher.finalize().as_bytes();
        }
        Ok(())
    }
}

fn learn(record: &ByteRecord, kinds: &mut [Cells]) {
    for (cell, kind) in record.iter().zip(kinds) {
        *kind = kind.with(std::str::from_utf8(cell).unwrap_or_default());
    }
}

fn column(cells: &[Option<String>], data_type: &DataType) -> ArrayRef {
    let parsed = |cell: &Option<String>| cell.as_deref().filter(|c| !c.is_empty()).map(str::to_owned);
    match data_type {
        DataType::Int64 => Arc::new(cells.iter().map(|c| parsed(c)?.parse().ok()).collect::<Int64Array>()),
        DataType::Float64 => Arc::new(cells.iter().map(|c| parsed(c)?.parse().ok()).collect::<Float64Array>()),
        DataType::Boolean => Arc::new(cells.iter().map(|c| parsed(c)?.parse().ok()).collect::<BooleanArray>()),
        _ => Arc::new(cells.iter().map(Option::as_deref).collect::<StringArray>()),
    }
}

impl Reader for Csv {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn parts(&self) -> &[Part] {
        &self.parts
    }

    fn read(&self, index: usize, wanted: &[String]) -> Result<Chunk> {
        let (block, part) = (&self.blocks[index], &self.parts[index]);
        let fields = self.schema.fields();
        let places: Vec<usize> = (0..fields.len()).filter(|&i| wanted.contains(fields[i].name())).collect();
        let mut cells: Vec<Vec<Option<String>>> = vec![Vec::new(); places.len()];
        let (mut records, since) = self.records(block.offset)?;
        let (mut record, mut bad) = (ByteRecord::new(), Vec::new());
        for at in 0..part.rows {
            since.set(0);
            let line = block.line - 1 + records.position().line();
            if !records.read_byte_record(&mut record).map_err(|e| self.error(&e, line))? {
                return Err(self.file.changed());
            }
            if let Err((_, reason)) = self.check(&record, fields.len()) {
                let row = block.first_row + u64::from(at);
                bad.push(BadRow { at, location: Location::file(self.file.name()).row(row).line(line), reason });
                continue;
            }
            for (column, &place) in cells.iter_mut().zip(&places) {
                column.push(record.get(place).map(|cell| String::from_utf8_lossy(cell).into_owned()));
            }
        }
        let schema = narrow(&self.schema, Some(wanted));
        let options = RecordBatchOptions::new().with_row_count(Some(part.rows as usize - bad.len()));
        let columns =
            cells.iter().zip(schema.fields()).map(|(cells, field)| column(cells, field.data_type())).collect();
        Ok(Chunk { batch: RecordBatch::try_new_with_options(schema, columns, &options)?, bad })
    }

    fn location(&self, index: usize, at: u32) -> Location {
        Location::file(self.file.name()).row(self.blocks[index].first_row + u64::from(at))
    }
}
