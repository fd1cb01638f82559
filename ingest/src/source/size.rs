//! How many bytes some rows of a column hold, whatever buffers they share with others.

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait};
use arrow::datatypes::DataType;
use std::ops::Range;

/// Bytes of the values in `rows`.
pub(crate) fn span_bytes(array: &ArrayRef, rows: Range<usize>) -> u64 {
    let count = rows.len() as u64;
    match array.data_type() {
        DataType::Utf8 => between(array.as_string::<i32>().value_offsets(), &rows),
        DataType::LargeUtf8 => between(array.as_string::<i64>().value_offsets(), &rows),
        DataType::Binary => between(array.as_binary::<i32>().value_offsets(), &rows),
        DataType::LargeBinary => between(array.as_binary::<i64>().value_offsets(), &rows),
        DataType::Utf8View => rows.map(|row| array.as_string_view().value(row).len() as u64).sum(),
        DataType::BinaryView => rows.map(|row| array.as_binary_view().value(row).len() as u64).sum(),
        DataType::List(_) => nested(array.as_list::<i32>().values(), array.as_list::<i32>().value_offsets(), &rows),
        DataType::LargeList(_) => {
            nested(array.as_list::<i64>().values(), array.as_list::<i64>().value_offsets(), &rows)
        }
        DataType::FixedSizeList(..) => {
            let list = array.as_fixed_size_list();
            let width = usize::try_from(list.value_length()).unwrap_or(0);
            span_bytes(list.values(), rows.start * width..rows.end * width)
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| span_bytes(column, rows.clone())).sum(),
        other => count * other.primitive_width().unwrap_or(8) as u64,
    }
}

fn place<O: OffsetSizeTrait>(offsets: &[O], row: usize) -> usize {
    offsets.get(row).map_or(0, |offset| offset.as_usize())
}

fn between<O: OffsetSizeTrait>(offsets: &[O], rows: &Range<usize>) -> u64 {
    place(offsets, rows.end).saturating_sub(place(offsets, rows.start)) as u64
}

fn nested<O: OffsetSizeTrait>(values: &ArrayRef, offsets: &[O], rows: &Range<usize>) -> u64 {
    let (start, end) = (place(offsets, rows.start), place(offsets, rows.end));
    if start < end { span_bytes(values, start..end) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ListArray, StringArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;
    use std::sync::Arc;

    #[test]
    fn only_the_rows_asked_for_count() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "bbbb", "cc"]));
        let field = Arc::new(Field::new("t", DataType::Utf8, true));
        let records: ArrayRef = Arc::new(StructArray::from(vec![(Arc::clone(&field), Arc::clone(&texts))]));
        let item = Arc::new(Field::new("item", records.data_type().clone(), true));
        let list: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 2]), records, None));
        assert_eq!(span_bytes(&texts, 1..2), 4);
        assert_eq!((span_bytes(&list, 0..1), span_bytes(&list, 1..2), span_bytes(&list, 0..2)), (1, 6, 7));
        assert_eq!(span_bytes(&list.slice(1, 1), 0..1), 6);
    }
}
