//! Columns into JSON: as Arrow writes them, except that JSON text stays what it is.

use super::JSON_TEXT;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::FieldRef;
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};
use serde_json::Value;
use std::sync::Arc;

/// Writes JSON text as it is.
struct Verbatim<'a>(&'a StringArray);

impl Encoder for Verbatim<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.value(row).as_bytes());
    }
}

#[derive(Debug)]
struct KeepJson;

impl EncoderFactory for KeepJson {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let texts = array.as_string_opt::<i32>().filter(|_| field.metadata().contains_key(JSON_TEXT));
        Ok(texts.map(|texts| NullableEncoder::new(Box::new(Verbatim(texts)), texts.nulls().cloned())))
    }
}

/// How every column is written.
pub(crate) fn options() -> EncoderOptions {
    EncoderOptions::default().with_encoder_factory(Arc::new(KeepJson))
}

/// One value of any column as JSON.
pub(crate) fn value(array: &ArrayRef, field: &FieldRef, row: usize) -> Result<Value, String> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let options = options();
    let slice = array.slice(row, 1);
    let mut bytes = Vec::new();
    make_encoder(field, slice.as_ref(), &options).map_err(|e| e.to_string())?.encode(0, &mut bytes);
    serde_json::from_slice(&bytes).map_err(|e| e.to_string())
}
