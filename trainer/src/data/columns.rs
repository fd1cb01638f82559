//! Reads the columns that the trainer needs from a pool, chunk by chunk.

use super::LossOn;
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    StructArray, UInt32Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, Int64Type};
use curate_core::{Column, Error, Location, Pool, Result};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// The text a row is trained on, rendered with the model's chat template.
pub const TEXT: &str = "text";

/// Byte ranges of the text that are trained on.
pub const TRAINED: &str = "text.trained";

/// Weight of a row in the loss that is trained on; 1 for every row of a pool without this column.
pub const WEIGHT: &str = "weight";

/// The weights a row may have, besides 0: within them a mean over rows stays a number.
const WEIGHTS: RangeInclusive<f64> = 1e-12..=1e12;

/// What rows are read from: a pool, with the ids of its rows.
pub(super) struct Data<'a> {
    pool: &'a Pool,
    rows: Vec<u64>,
    marked: bool,
}

/// The rows of a chunk.
pub(super) struct Chunk {
    rows: Vec<u64>,
    texts: StringArray,
    marks: Option<Marks>,
    weights: Option<Float64Array>,
}

/// One row as it came: its id, its text, the ranges marked in it (`None`: the whole text).
pub(super) struct RawRow<'a> {
    pub(super) row: u64,
    pub(super) text: &'a str,
    pub(super) marks: Option<Vec<Range<usize>>>,
    pub(super) weight: f32,
}

impl<'a> Data<'a> {
    /// The rows of `pool`.
    ///
    /// # Errors
    /// `column/missing` when there is no text, or no ranges although loss is on answers.
    pub(super) fn open(pool: &'a Pool, loss_on: LossOn) -> Result<Self> {
        pool.require(&[Column::named(TEXT)], "the trainer")?;
        let marked = loss_on == LossOn::Completion;
        if marked && !pool.has(&Column::named(TRAINED)) {
            return Err(Error::usage(
                "column/missing",
                format!("the trainer needs the column '{TRAINED}' to tell answers"),
            )
            .hint("render the rows with a chat template, or train on every token with loss_on = all"));
        }
        Ok(Self { pool, rows: pool.ids()?, marked })
    }

    /// Number of chunks.
    pub(super) fn chunks(&self) -> usize {
        self.pool.chunks()
    }

    /// The rows of chunk `at`.
    pub(super) fn chunk(&self, at: usize) -> Result<Chunk> {
        let (text, trained, weight) = (Column::named(TEXT), Column::named(TRAINED), Column::named(WEIGHT));
        let mut wanted = vec![&text];
        wanted.extend(self.marked.then_some(&trained));
        wanted.extend(self.pool.has(&weight).then_some(&weight));
        let batch: RecordBatch = self.pool.chunk(at, &wanted)?;
        let rows = self.rows[self.pool.chunk_range(at)].to_vec();
        let marks = self.marked.then(|| Marks::read(batch.column(1))).transpose()?;
        let weights = batch.column_by_name(WEIGHT).map(weights).transpose()?;
        Ok(Chunk { rows, texts: texts(batch.column(0))?, marks, weights })
    }
}

impl Chunk {
    pub(super) const fn len(&self) -> usize {
        self.rows.len()
    }

    /// Row `at` of the chunk; a null is an empty text.
    pub(super) fn row(&self, at: usize) -> Result<RawRow<'_>> {
        let row = self.rows[at];
        let text = if self.texts.is_null(at) { "" } else { self.texts.value(at) };
        let marks = self.marks.as_ref().map(|marks| marks.ranges(at, text)).transpose();
        let marks = marks.map_err(|e| e.at(Location::default().row(row).column(TRAINED)))?;
        let weight = self.weights.as_ref().map_or(Ok(1.0), |all| weight(all, at));
        let weight = weight.map_err(|e| e.at(Location::default().row(row).column(WEIGHT)))?;
        Ok(RawRow { row, text, marks, weight })
    }
}

fn texts(array: &ArrayRef) -> Result<StringArray> {
    if !matches!(array.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        let found = array.data_type();
        return Err(Error::data("column/type", format!("the column '{TEXT}' holds {found}, not text"))
            .hint("render the rows to text first"));
    }
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn weights(array: &ArrayRef) -> Result<Float64Array> {
    if !array.data_type().is_numeric() {
        let found = array.data_type();
        return Err(Error::data("column/type", format!("the column '{WEIGHT}' holds {found}, not numbers"))
            .hint("a weight is a number from 0; row_weights=none trains without weights"));
    }
    Ok(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
}

#[expect(clippy::cast_possible_truncation, reason = "the loss is computed in f32")]
fn weight(all: &Float64Array, at: usize) -> Result<f32> {
    let weight = if all.is_null(at) { f64::NAN } else { all.value(at) };
    if weight == 0.0 || WEIGHTS.contains(&weight) {
        return Ok(weight as f32);
    }
    let what =
        if all.is_null(at) { "a row has no weight".to_owned() } else { format!("a row has the weight {weight}") };
    Err(Error::data("data/row-weight", what)
        .hint("a weight is 0 or lies between 1e-12 and 1e12; repair the column, or train with row_weights=none"))
}

/// The ranges of a chunk: for each row a list of (start, end).
struct Marks {
    lists: ListArray,
    starts: Int64Array,
    ends: Int64Array,
}

impl Marks {
    fn read(array: &ArrayRef) -> Result<Self> {
        let list = match array.data_type() {
            DataType::LargeList(item) => cast(array, &DataType::List(item.clone()))?,
            _ => array.clone(),
        };
        let lists = list.as_list_opt::<i32>().ok_or_else(|| wrong_type(array))?.clone();
        let (starts, ends) = bounds(lists.values()).ok_or_else(|| wrong_type(array))?;
        Ok(Self { lists, starts, ends })
    }

    /// The ranges of row `at`, checked against its text and sorted.
    fn ranges(&self, at: usize, text: &str) -> Result<Vec<Range<usize>>> {
        if self.lists.is_null(at) {
            return Ok(Vec::new());
        }
        let offsets = self.lists.value_offsets();
        let whole = |offset: i32| usize::try_from(offset).unwrap_or(0);
        let ranges = (whole(offsets[at])..whole(offsets[at + 1])).map(|i| self.range(i, text));
        let mut ranges = ranges.collect::<Result<Vec<_>>>()?;
        ranges.sort_unstable_by_key(|range| (range.start, range.end));
        Ok(ranges)
    }

    fn range(&self, at: usize, text: &str) -> Result<Range<usize>> {
        let (start, end) = (self.starts.value(at), self.ends.value(at));
        let null = self.starts.is_null(at) || self.ends.is_null(at);
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok()).filter(|(start, end)| {
            !null && start <= end && text.is_char_boundary(*start) && text.is_char_boundary(*end)
        });
        range.map(|(start, end)| start..end).ok_or_else(|| {
            let length = text.len();
            Error::data(
                "data/range",
                format!("the range {start}..{end} does not lie on characters of the {length} bytes of text"),
            )
            .hint("ranges are byte offsets into the column 'text'; render text and ranges together")
        })
    }
}

/// Starts and ends of a list of structs or of pairs.
fn bounds(values: &ArrayRef) -> Option<(Int64Array, Int64Array)> {
    let whole = |array: &ArrayRef| {
        let whole = array.data_type().is_integer().then(|| cast(array, &DataType::Int64).ok())??;
        Some(whole.as_primitive::<Int64Type>().clone())
    };
    if let Some(fields) = values.as_struct_opt() {
        return Some((whole(fields.column_by_name("start")?)?, whole(fields.column_by_name("end")?)?));
    }
    let pairs: &FixedSizeListArray = values.as_fixed_size_list_opt().filter(|list| list.value_length() == 2)?;
    let first = usize::try_from(pairs.value_offset(0)).ok()?;
    let flat = whole(pairs.values())?.slice(first, 2 * pairs.len());
    let every_other = |from: usize| (from..flat.len()).step_by(2).map(|i| flat.is_valid(i).then(|| flat.value(i)));
    Some((every_other(0).collect(), every_other(1).collect()))
}

fn wrong_type(array: &ArrayRef) -> Error {
    Error::data("column/type", format!("the column '{TRAINED}' holds {}, not ranges", array.data_type()))
        .hint("it must be a list of structs {start, end}, or of pairs of whole numbers")
}

/// The column `text.trained` for some rows: a list of structs `{start, end}`.
///
/// # Errors
/// `data/range` for a text of 4 GiB or more, or what Arrow gives.
pub fn trained_column(rows: &[Vec<Range<usize>>]) -> Result<ArrayRef> {
    let flat = || rows.iter().flatten();
    let narrow = |at: usize| u32::try_from(at).map_err(|_| Error::data("data/range", "a text is longer than 4 GiB"));
    let starts = flat().map(|range| narrow(range.start)).collect::<Result<Vec<u32>>>()?;
    let ends = flat().map(|range| narrow(range.end)).collect::<Result<Vec<u32>>>()?;
    let field = |name: &str| Field::new(name, DataType::UInt32, false);
    let fields = Fields::from(vec![field("start"), field("end")]);
    let bounds: Vec<ArrayRef> = vec![Arc::new(UInt32Array::from(starts)), Arc::new(UInt32Array::from(ends))];
    let values = StructArray::try_new(fields.clone(), bounds, None)?;
    let item = Arc::new(Field::new("item", DataType::Struct(fields), false));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(values), None)?))
}
