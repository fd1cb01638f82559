//! Arrow streams of strangers. The heads of all messages are read before any of it is decoded: a few bytes may claim a body of
//! exabytes, or rows without end that take no bytes at all.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::{Message, MessageHeader, RecordBatch as Head, root_as_message};
use curate_api::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The schema and batches of an uncompressed Arrow IPC stream with at most `most_rows` rows.
///
/// # Errors
/// `arrow/malformed`, `body/type` for compressed buffers, `body/too-many-rows`.
pub fn read(bytes: &[u8], most_rows: usize) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    check(bytes, most_rows)?;
    let decode = || {
        let reader = StreamReader::try_new(bytes, None).map_err(|e| malformed(&e.to_string()))?;
        let schema = reader.schema();
        let batches = reader.map(|batch| batch.map_err(|e| malformed(&e.to_string()))).collect::<Result<_>>()?;
        Ok((schema, batches))
    };
    // the decoder checks much, yet slices by offsets that it did not check
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(malformed("offsets lie outside of the body")))
}

fn malformed(what: &str) -> Error {
    Error::usage("arrow/malformed", format!("the body is not an Arrow stream: {what}"))
        .hint("write it as pyarrow.ipc.new_stream does, without compression")
}

/// Look at the heads of an Arrow IPC stream, and decode nothing.
///
/// # Errors
/// `arrow/malformed`, `body/type` for compressed buffers, `body/too-many-rows`.
pub(super) fn check(bytes: &[u8], most_rows: usize) -> Result<()> {
    let (mut rest, mut rows) = (bytes, 0);
    while let Some((message, after)) = next(rest)? {
        rest = after;
        let bytes = message.bodyLength();
        match message.header_type() {
            MessageHeader::RecordBatch => {
                let head = message.header_as_record_batch().ok_or_else(|| malformed("a batch without a head"))?;
                rows += lengths(&head, bytes, most_rows)?;
            }
            MessageHeader::DictionaryBatch => {
                let head = message.header_as_dictionary_batch().and_then(|head| head.data());
                lengths(&head.ok_or_else(|| malformed("a dictionary without data"))?, bytes, most_rows)?;
            }
            _ => {}
        }
        if rows > most_rows as u64 {
            return Err(too_many(most_rows));
        }
    }
    Ok(())
}

fn too_many(most_rows: usize) -> Error {
    Error::usage("body/too-many-rows", format!("the body has more than {most_rows} rows"))
        .hint("send fewer at a time, or start the server with a larger --max-rows")
}

/// The first message and what follows its body; nothing at the end of the stream.
fn next(bytes: &[u8]) -> Result<Option<(Message<'_>, &[u8])>> {
    let short = || malformed("it is cut short");
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_le_bytes);
    let (at, size) = match word(0) {
        None if bytes.is_empty() => return Ok(None),
        None => return Err(short()),
        Some(u32::MAX) => (8, word(4).ok_or_else(short)?),
        Some(size) => (4, size),
    };
    if size == 0 {
        return Ok(None);
    }
    let end = at + usize::try_from(size).map_err(|_| short())?;
    let message = root_as_message(bytes.get(at..end).ok_or_else(short)?).map_err(|e| malformed(&e.to_string()))?;
    let body = usize::try_from(message.bodyLength()).map_err(|_| malformed("a negative length"))?;
    let after = end.checked_add(body).and_then(|after| bytes.get(after..)).ok_or_else(short)?;
    Ok(Some((message, after)))
}

/// Rows of a batch, none of whose columns is longer than its bytes could hold.
fn lengths(head: &Head<'_>, body_bytes: i64, most_rows: usize) -> Result<u64> {
    if head.compression().is_some() {
        return Err(Error::usage("body/type", "the buffers of this Arrow stream are compressed")
            .hint("write it without compression"));
    }
    let most = i64::try_from(most_rows).unwrap_or(i64::MAX).max(body_bytes.saturating_mul(8));
    let nodes = head.nodes().into_iter().flatten();
    if head.length() < 0 || nodes.clone().any(|node| node.length() < 0 || node.null_count() < 0) {
        return Err(malformed("a negative length"));
    }
    if nodes.clone().any(|node| node.length() > most) {
        return Err(too_many(most_rows));
    }
    u64::try_from(head.length()).map_err(|_| malformed("a negative length"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, NullArray, StringArray, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch(rows: u64) -> RecordBatch {
        let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..rows));
        let loss: ArrayRef = Arc::new(Float32Array::from_iter_values((0..rows).map(|i| i as f32)));
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|i| i.to_string())));
        let values = Arc::new(Float32Array::from_iter_values((0..rows * 4).map(|i| i as f32)));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let sketch: ArrayRef = Arc::new(FixedSizeListArray::new(item, 4, values, None));
        RecordBatch::try_from_iter([("row", ids), ("signal.loss", loss), ("text", text), ("signal.sketch", sketch)])
            .unwrap()
    }

    fn stream(batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    fn code(bytes: &[u8], most: usize) -> &'static str {
        read(bytes, most).map_or_else(|e| e.code(), |_| "ok")
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = stream(&[batch(3), batch(2)], IpcWriteOptions::default());
        assert_eq!(read(&bytes, 5).unwrap(), (batch(0).schema(), vec![batch(3), batch(2)]));
        assert_eq!(code(&bytes, 4), "body/too-many-rows");
    }

    #[test]
    fn compressed_buffers_are_refused_undecoded() {
        let zstd = IpcWriteOptions::default().try_with_compression(Some(arrow::ipc::CompressionType::ZSTD)).unwrap();
        assert_eq!(code(&stream(&[batch(1000)], zstd), 10_000), "body/type");
    }

    #[test]
    fn rows_without_bytes_are_counted() {
        let schema = Arc::new(Schema::new(vec![Field::new("row", DataType::Null, true)]));
        let nothing = RecordBatch::try_new(schema, vec![Arc::new(NullArray::new(1 << 40))]).unwrap();
        let bytes = stream(&[nothing], IpcWriteOptions::default());
        assert!(bytes.len() < 1000);
        assert_eq!(code(&bytes, 1_000_000), "body/too-many-rows");
    }

    #[test]
    fn a_claimed_exabyte_is_not_allocated() {
        let bytes = stream(&[batch(2)], IpcWriteOptions::default());
        let (schema, after) = next(&bytes).unwrap().unwrap();
        assert_eq!(schema.bodyLength(), 0);
        let body = next(after).unwrap().unwrap().0.bodyLength().to_le_bytes();
        let start = bytes.len() - after.len();
        let at = start + bytes[start..].windows(8).position(|w| w == body).unwrap();
        let mut bytes = bytes;
        bytes[at..at + 8].copy_from_slice(&(1_i64 << 60).to_le_bytes());
        assert_eq!(code(&bytes, 10), "arrow/malformed");
    }

    #[test]
    fn garbage_has_a_name() {
        for bytes in
            [&b"{}"[..], b"hello, this is text", &[0xff; 64], &[0xff, 0xff, 0xff, 0xff, 0xf0, 0xff, 0xff, 0x7f]]
        {
            assert_eq!(code(bytes, 10), "arrow/malformed");
        }
        assert_eq!(code(b"", 10), "arrow/malformed");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn broken_streams_are_refused_or_read(cut in 0.0..1.0, places in prop::collection::vec((0.0..1.0, any::<u8>()), 0..6)) {
            let mut bytes = stream(&[batch(7)], IpcWriteOptions::default());
            for (place, value) in places {
                let at = (place * bytes.len() as f64) as usize;
                bytes[at] = value;
            }
            bytes.truncate((cut * 2.0 * bytes.len() as f64) as usize);
            let rows = read(&bytes, 100).map_or(0, |(_, all)| all.iter().map(RecordBatch::num_rows).sum());
            prop_assert!(rows <= 100);
        }
    }
}
