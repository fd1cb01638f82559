//! Tables to feed the binary and to read back.

use arrow::array::{Array, ArrayRef, Float32Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::sync::Arc;

/// A whole parquet file as one batch.
pub(crate) fn read(path: &str) -> RecordBatch {
    let file = File::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).expect("a parquet file");
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.build().expect("a readable file").map(|b| b.expect("a readable batch")).collect();
    concat_batches(&schema, &batches).expect("batches of one schema")
}

/// Write one parquet file.
pub(crate) fn write(path: &str, batch: &RecordBatch) {
    let file = File::create(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a schema parquet can hold");
    writer.write(batch).expect("the batch can be written");
    writer.close().expect("the file can be closed");
}

/// The table with a numeric column `quality`, whose first value is `first`.
pub(crate) fn with_quality(batch: &RecordBatch, first: f32) -> RecordBatch {
    let score =
        |row: usize| if row == 0 { first } else { f32::from(u16::try_from(row * 7919 % 1000).unwrap_or(0)) / 1000.0 };
    let quality = Float32Array::from_iter_values((0..batch.num_rows()).map(score));
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new("quality", DataType::Float32, false)));
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(Arc::new(quality));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// The table with one more column.
pub(crate) fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> RecordBatch {
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(name, column.data_type().clone(), true)));
    let columns = batch.columns().iter().cloned().chain([column]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of one length")
}

/// A column of whole numbers.
pub(crate) fn integers(batch: &RecordBatch, name: &str) -> Vec<u64> {
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("there is no column {name}"));
    let wide = cast(column, &DataType::UInt64).expect("whole numbers");
    let wide = wide.as_any().downcast_ref::<UInt64Array>().expect("cast to u64");
    wide.values().to_vec()
}

/// The rows as JSON lines.
pub(crate) fn lines(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    writer.write(batch).expect("rows that JSON can hold");
    writer.finish().expect("the last line");
    writer.into_inner()
}
