//! Record batches into the bytes of each format.

use super::target::Target;
use super::{Shape, jsonl};
use crate::errors::{io_at, writing};
use crate::kind::{Kind, Packing};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::ipc::writer::FileWriter;
use curate_core::Result;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};
use std::sync::Arc;

/// Rows of one parquet row group at most.
const GROUP_ROWS: usize = 65_536;
/// A row group is closed when its encoded size reaches this.
const GROUP_BYTES: usize = 64 << 20;
/// Text is handed on in pieces of about this size.
const TEXT_BYTES: usize = 1 << 20;

/// Encodes rows into a target.
pub(super) struct Encoder {
    name: String,
    kind: Kind,
    to: To,
}

enum To {
    Parquet(Box<ArrowWriter<Target>>),
    Arrow(Box<FileWriter<Target>>),
    Json { out: Box<Packed>, array: bool, first: bool },
    Csv(Box<arrow::csv::Writer<Packed>>),
}

/// Text on its way to a target, packed or not.
enum Packed {
    Plain(Target),
    Gzip(flate2::write::GzEncoder<Target>),
    Zstd(zstd::stream::write::Encoder<'static, Target>),
}

impl Packed {
    fn new(target: Target, packing: Packing) -> io::Result<Self> {
        Ok(match packing {
            Packing::None => Self::Plain(target),
            Packing::Gzip => Self::Gzip(flate2::write::GzEncoder::new(target, flate2::Compression::default())),
            Packing::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(target, 3)?),
        })
    }

    fn close(self) -> io::Result<Target> {
        match self {
            Self::Plain(target) => Ok(target),
            Self::Gzip(packer) => packer.finish(),
            Self::Zstd(packer) => packer.finish(),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
        }
    }
}

impl Encoder {
    pub(super) fn new(shape: Shape, target: Target, schema: SchemaRef) -> Result<Self> {
        let name = target.name().to_owned();
        let at = |e| io_at(e, &name);
        let to = match shape.kind {
            Kind::Parquet => {
                let writer = ArrowWriter::try_new(target, schema, Some(parquet_properties()));
                To::Parquet(Box::new(writer.map_err(|e| writing("parquet", &name, e))?))
            }
            Kind::Arrow => {
                To::Arrow(Box::new(FileWriter::try_new(target, &schema).map_err(|e| writing("arrow", &name, e))?))
            }
            Kind::Jsonl => {
                To::Json { out: Box::new(Packed::new(target, shape.packing).map_err(at)?), array: false, first: true }
            }
            Kind::Json => {
                let mut out = Box::new(Packed::new(target, shape.packing).map_err(at)?);
                out.write_all(b"[").map_err(at)?;
                To::Json { out, array: true, first: true }
            }
            Kind::Csv | Kind::Tsv => {
                let delimiter = if shape.kind == Kind::Tsv { b'\t' } else { b',' };
                let out = Packed::new(target, shape.packing).map_err(at)?;
                let mut writer = arrow::csv::WriterBuilder::new().with_delimiter(delimiter).build(out);
                let empty = flat(&RecordBatch::new_empty(schema)).map_err(|e| writing("csv", &name, e))?;
                writer.write(&empty).map_err(|e| writing("csv", &name, e))?;
                To::Csv(Box::new(writer))
            }
        };
        Ok(Self { name, kind: shape.kind, to })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let (name, kind) = (self.name.as_str(), self.kind.to_string());
        let fail = |e| writing(&kind, name, e);
        match &mut self.to {
            To::Parquet(writer) => {
                writer.write(batch).map_err(|e| writing(&kind, name, e))?;
                if writer.in_progress_size() >= GROUP_BYTES {
                    writer.flush().map_err(|e| writing(&kind, name, e))?;
                }
                Ok(())
            }
            To::Arrow(writer) => writer.write(batch).map_err(fail),
            To::Csv(writer) => flat(batch).and_then(|flat| writer.write(&flat)).map_err(fail),
            To::Json { out, array, first } => {
                let (between, end): (&[u8], &[u8]) = if *array { (b",", b"") } else { (b"", b"\n") };
                for start in (0..batch.num_rows()).step_by(256) {
                    let mut text = Vec::with_capacity(TEXT_BYTES);
                    let piece = batch.slice(start, 256.min(batch.num_rows() - start));
                    jsonl::rows(&piece, between, first, end, &mut text).map_err(fail)?;
                    out.write_all(&text).map_err(|e| io_at(e, name))?;
                }
                Ok(())
            }
        }
    }

    /// Write what is still to be written and give the target back.
    pub(super) fn close(self) -> Result<Target> {
        let (name, kind) = (self.name.as_str(), self.kind.to_string());
        let at = |e| io_at(e, name);
        match self.to {
            To::Parquet(writer) => writer.into_inner().map_err(|e| writing(&kind, name, e)),
            To::Arrow(writer) => writer.into_inner().map_err(|e| writing(&kind, name, e)),
            To::Csv(writer) => writer.into_inner().close().map_err(at),
            To::Json { mut out, array, .. } => {
                if array {
                    out.write_all(b"]\n").map_err(at)?;
                }
                out.close().map_err(at)
            }
        }
    }
}

fn parquet_properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_created_by(concat!("curate ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

/// The same rows with lists and records as JSON text.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut fields: Vec<FieldRef> = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        if field.data_type().is_nested() {
            fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
            columns.push(Arc::new(jsonl::column(field, array.as_ref())?));
        } else {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(array));
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}
