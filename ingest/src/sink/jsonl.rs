//! Rows as JSON text. Null members are left out; columns that were read as JSON text are written as they were.

use crate::json::encode::options;
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;
use arrow::json::writer::make_encoder;

/// Append every row as one JSON object; `between` stands before all rows but the first of all, `first` says which is that.
pub(super) fn rows(
    batch: &RecordBatch,
    between: &[u8],
    first: &mut bool,
    end: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let options = options();
    let schema = batch.schema();
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let name = serde_json::to_vec(field.name()).map_err(|e| ArrowError::ExternalError(Box::new(e)))?;
        columns.push((name, make_encoder(field, array.as_ref(), &options)?));
    }
    for row in 0..batch.num_rows() {
        if !std::mem::take(first) {
            out.extend_from_slice(between);
        }
        let open = out.len();
        out.push(b'{');
        for (name, encoder) in columns.iter_mut().filter(|(_, encoder)| !encoder.is_null(row)) {
            if out.len() > open + 1 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            out.push(b':');
            encoder.encode(row, out);
        }
        out.push(b'}');
        out.extend_from_slice(end);
    }
    Ok(())
}

/// A column as JSON text, for formats that know no lists and records.
pub(super) fn column(field: &FieldRef, array: &dyn Array) -> Result<StringArray, ArrowError> {
    let options = options();
    let mut encoder = make_encoder(field, array, &options)?;
    let mut text = Vec::new();
    let mut texts = Vec::with_capacity(array.len());
    for row in 0..array.len() {
        text.clear();
        if encoder.is_null(row) {
            texts.push(None);
            continue;
        }
        encoder.encode(row, &mut text);
        texts.push(Some(String::from_utf8_lossy(&text).into_owned()));
    }
    Ok(texts.into_iter().collect())
}
