//! Rows with signals on their way in: from JSON or Arrow to one shape, checked; and back to bytes that are the same for the same content.

use crate::wire::Signals;
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, UInt64Array,
};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
use arrow::ipc::writer::StreamWriter;
use curate_api::{Error, Feedback, Location, Pick, Pool, Result};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Most rows of a body.
pub(crate) const MOST_ROWS: usize = 1 << 20;

/// Rows with signals; columns in order of name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fed {
    pub(crate) rows: Vec<u64>,
    pub(crate) signals: RecordBatch,
}

impl Default for Fed {
    fn default() -> Self {
        Self { rows: Vec::new(), signals: RecordBatch::new_empty(Arc::new(Schema::empty())) }
    }
}

impl Fed {
    /// As candidates, with a column `row`.
    pub(crate) fn pool(&self) -> Result<Pool> {
        Ok(Pool::from_batch(self.with_rows()?))
    }

    fn with_rows(&self) -> Result<RecordBatch> {
        let mut fields = vec![Arc::new(Field::new("row", DataType::UInt64, false))];
        fields.extend(self.signals.schema().fields().iter().cloned());
        let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(self.rows.clone()))];
        columns.extend(self.signals.columns().iter().cloned());
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// Name of the content.
    pub(crate) fn digest(&self) -> Result<String> {
        Ok(blake3::hash(&bytes_of(self)?).to_hex()[..32].to_owned())
    }
}

fn wrong(code: &'static str, what: impl Into<String>) -> Error {
    Error::usage(code, what)
        .hint("send {\"rows\": [..], \"signals\": {\"loss\": [..]}}: one number, or one list, a row")
}

/// From JSON.
pub(crate) fn from_json(said: &Signals) -> Result<Fed> {
    let columns = said.signals.iter().map(|(name, values)| Ok((name.clone(), column(name, values)?)));
    build(said.rows.clone(), columns.collect::<Result<BTreeMap<_, _>>>()?)
}

/// From an Arrow stream with the columns `row` and `signal.*`.
pub(crate) fn from_arrow(bytes: &[u8]) -> Result<Fed> {
    let broken = |e: arrow::error::ArrowError| wrong("signal/arrow", format!("the Arrow stream cannot be read: {e}"));
    let (schema, batches) = crate::guard::arrow::read(bytes, MOST_ROWS)?;
    let all = concat_batches(&schema, &batches)?;
    let ids = all.column_by_name("row").ok_or_else(|| wrong("signal/rows", "the stream has no column 'row'"))?;
    let ids = cast(ids, &DataType::UInt64).map_err(broken)?;
    if ids.null_count() > 0 {
        return Err(wrong("signal/rows", "the column 'row' has gaps"));
    }
    let mut columns = BTreeMap::new();
    for (field, values) in schema.fields().iter().zip(all.columns()) {
        if let Some(name) = field.name().strip_prefix("signal.") {
            columns.insert(name.to_owned(), numeric(name, values)?);
        }
    }
    build(ids.as_primitive::<UInt64Type>().values().to_vec(), columns)
}

fn too_many(rows: usize) -> Error {
    Error::usage("body/too-large", format!("{rows} rows in one body, and at most {MOST_ROWS} are taken"))
        .hint("send fewer rows a call")
}

fn build(rows: Vec<u64>, columns: BTreeMap<String, ArrayRef>) -> Result<Fed> {
    if rows.len() > MOST_ROWS {
        return Err(too_many(rows.len()));
    }
    let mut sorted = rows.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong("signal/rows", format!("row {} comes twice", twice[0])).at(Location::default().row(twice[0])));
    }
    for (name, values) in &columns {
        if values.len() != rows.len() {
            let what = format!("'{name}' has {} values for {} rows", values.len(), rows.len());
            return Err(wrong("signal/length", what).at(Location::default().column(name)));
        }
    }
    columns.iter().try_for_each(|(name, values)| finite(name, values, &rows))?;
    let field =
        |(name, values): (&String, &ArrayRef)| Field::new(format!("signal.{name}"), values.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let signals = RecordBatch::try_new_with_options(schema, columns.into_values().collect(), &options)?;
    Ok(Fed { rows, signals })
}

/// A signal that is no number would stay in a method's memory for ever.
fn finite(name: &str, values: &ArrayRef, rows: &[u64]) -> Result<()> {
    let wrong_at = if values.data_type() == &DataType::Float64 {
        values.as_primitive::<arrow::datatypes::Float64Type>().values().iter().position(|x| !x.is_finite())
    } else {
        let list = values.as_fixed_size_list();
        let flat = list.values().as_primitive::<arrow::datatypes::Float32Type>();
        flat.values().iter().position(|x| !x.is_finite()).map(|at| at / list.value_length() as usize)
    };
    wrong_at.map_or(Ok(()), |at| {
        Err(Error::data("signal/not-finite", format!("'{name}' of row {} is not a finite number", rows[at]))
            .hint("leave the row out, or skip the step")
            .at(Location::default().row(rows[at]).column(name)))
    })
}

/// A column of numbers, or of lists of numbers of one length.
fn column(name: &str, values: &[Value]) -> Result<ArrayRef> {
    let at = |row: usize, what: &str| {
        wrong("signal/not-a-number", format!("'{name}', entry {row}: {what}"))
            .at(Location::default().row(row as u64).column(name))
    };
    if values.first().is_some_and(Value::is_array) {
        let dim = values[0].as_array().map_or(0, Vec::len);
        let mut flat = Vec::with_capacity(values.len() * dim);
        for (row, value) in values.iter().enumerate() {
            let list = value.as_array().filter(|list| list.len() == dim && dim > 0);
            let list = list.ok_or_else(|| at(row, &format!("not a list of {dim} numbers")))?;
            for x in list {
                flat.push(x.as_f64().ok_or_else(|| at(row, "not a list of numbers"))? as f32);
            }
        }
        return vectors(flat, dim);
    }
    let number = |(row, value): (usize, &Value)| value.as_f64().ok_or_else(|| at(row, "not a number"));
    let numbers = values.iter().enumerate().map(number).collect::<Result<Vec<f64>>>()?;
    Ok(Arc::new(Float64Array::from(numbers)))
}

fn vectors(flat: Vec<f32>, dim: usize) -> Result<ArrayRef> {
    let item = Arc::new(Field::new("item", DataType::Float32, false));
    let dim = i32::try_from(dim).map_err(|_| wrong("signal/length", "a list is too long"))?;
    Ok(Arc::new(FixedSizeListArray::try_new(item, dim, Arc::new(Float32Array::from(flat)), None)?))
}

/// Arrow columns in the same shape as those from JSON.
fn numeric(name: &str, values: &ArrayRef) -> Result<ArrayRef> {
    let not = || {
        wrong("signal/not-a-number", format!("'{name}' holds {}, not numbers", values.data_type()))
            .at(Location::default().column(name))
    };
    if values.null_count() > 0 {
        return Err(wrong("signal/not-a-number", format!("'{name}' has gaps")).at(Location::default().column(name)));
    }
    match values.data_type() {
        DataType::FixedSizeList(_, dim) => {
            let list = values.as_fixed_size_list();
            let dim = usize::try_from(*dim).map_err(|_| not())?;
            let inner = list.values().slice(list.offset() * dim, list.len() * dim);
            let inner = cast(&inner, &DataType::Float32).map_err(|_| not())?;
            vectors(inner.as_primitive::<arrow::datatypes::Float32Type>().values().to_vec(), dim)
        }
        DataType::List(_) => {
            let list = values.as_list::<i32>();
            let dim = if list.is_empty() { 0 } else { list.value_length(0) as usize };
            let even = (0..list.len()).all(|at| list.value_length(at) as usize == dim);
            let inner = list.values().slice(list.value_offsets()[0] as usize, list.len() * dim * usize::from(even));
            let inner = cast(&inner, &DataType::Float32).map_err(|_| not())?;
            if even && dim > 0 {
                vectors(inner.as_primitive::<arrow::datatypes::Float32Type>().values().to_vec(), dim)
            } else {
                Err(not())
            }
        }
        kind if kind.is_numeric() => Ok(cast(values, &DataType::Float64)?),
        _ => Err(not()),
    }
}

/// Bytes of rows with signals.
pub(crate) fn bytes_of(fed: &Fed) -> Result<Vec<u8>> {
    let batch = fed.with_rows()?;
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

/// Read back what [`bytes_of`] gave.
pub(crate) fn fed_from(bytes: &[u8]) -> Result<Fed> {
    from_arrow(bytes)
}

/// What several ranks said of a step, in the order of the step's rows.
pub(crate) fn merge(step: u64, parts: &[&Fed], picks: &[Pick]) -> Result<Feedback> {
    let Some(one) = parts.first() else {
        return Ok(Feedback { step, rows: Vec::new(), signals: Fed::default().signals });
    };
    let same = parts.iter().all(|part| part.signals.schema() == one.signals.schema());
    if !same {
        return Err(wrong("signal/columns", format!("the ranks of step {step} sent different signals")));
    }
    let signals: Vec<RecordBatch> = parts.iter().map(|part| part.signals.clone()).collect();
    let all = concat_batches(one.signals.schema_ref(), &signals)?;
    let rows: Vec<u64> = parts.iter().flat_map(|part| part.rows.iter().copied()).collect();
    let place: HashMap<u64, usize> = picks.iter().enumerate().map(|(at, pick)| (pick.row, at)).collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| place.get(&rows[at]).copied().unwrap_or(usize::MAX));
    let indices: arrow::array::UInt32Array = order.iter().map(|&at| at as u32).collect();
    let signals = if all.num_columns() == 0 { all } else { take_record_batch(&all, &indices)? };
    Ok(Feedback { step, rows: order.into_iter().map(|at| rows[at]).collect(), signals })
}

/// Mean of every signal that is one number a row.
pub(crate) fn means(fed: &Fed) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (field, values) in fed.signals.schema().fields().iter().zip(fed.signals.columns()) {
        if let (Some(values), Some(name)) =
            (values.as_primitive_opt::<arrow::datatypes::Float64Type>(), field.name().strip_prefix("signal."))
        {
            let sum: f64 = values.values().iter().sum();
            if !values.is_empty() && sum.is_finite() {
                found.insert(name.to_owned(), sum / values.len() as f64);
            }
        }
    }
    found
}

/// Mean of the leading signal for each group: the loss, else the reward, else successes, else the first there is.
pub(crate) fn by_group(fed: &Fed, picks: &[Pick]) -> BTreeMap<u32, f64> {
    let leading = ["loss", "reward", "successes"].iter().map(|name| format!("signal.{name}"));
    let column = leading
        .into_iter()
        .find_map(|name| fed.signals.column_by_name(&name))
        .or_else(|| fed.signals.columns().first());
    let Some(values) = column.and_then(|values| values.as_primitive_opt::<arrow::datatypes::Float64Type>()) else {
        return BTreeMap::new();
    };
    let group: HashMap<u64, u32> = picks.iter().filter_map(|pick| Some((pick.row, pick.group?))).collect();
    let mut sums: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for (row, value) in fed.rows.iter().zip(values.values()) {
        if let Some(group) = group.get(row) {
            let sum = sums.entry(*group).or_default();
            *sum = (sum.0 + value, sum.1 + 1.0);
        }
    }
    sums.into_iter().map(|(group, (sum, count))| (group, sum / count)).collect()
}
