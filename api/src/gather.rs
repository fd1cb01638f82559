//! Bringing the chosen rows home: the original columns of the picks, in rank order, without holding more than a share of
//! the picks in memory. Picks are split by rank into buckets that fit; each bucket is spilled, put in order and written.

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use curate_core::{Ctx, Error, Result, Selection};
use curate_ingest::{RowSink, Source};
use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

/// Rows handed to the sink at a time.
const WRITE_ROWS: usize = 8192;

/// Columns added to every output row, in order: name here, name in [`Selection::schema`].
pub(crate) const ADDED: [(&str, &str); 6] = [
    ("curate_row", "row"),
    ("curate_rank", "rank"),
    ("curate_score", "score"),
    ("curate_weight", "weight"),
    ("curate_group", "group"),
    ("curate_reason", "reason"),
];

/// Schema of the output: the original columns, then the added ones unless `plain`.
///
/// # Errors
/// `output/column` when the input already has one of the added columns.
pub(crate) fn output_schema(original: &Schema, plain: bool) -> Result<SchemaRef> {
    let mut fields: Vec<Arc<Field>> = original.fields().iter().cloned().collect();
    if !plain {
        if let Some((name, _)) = ADDED.iter().find(|(name, _)| original.field_with_name(name).is_ok()) {
            return Err(Error::usage("output/column", format!("the input already has a column '{name}'"))
                .hint("use --plain to leave out the curate_* columns, or drop them from the input"));
        }
        let selection = Selection::schema();
        for (name, source) in ADDED {
            fields.push(Arc::new(selection.field_with_name(source)?.clone().with_name(name)));
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Write the picks of `selection` to `sink`, best first.
///
/// # Errors
/// What reading or writing gives; `cancelled`.
pub(crate) fn write_picks(
    source: &Source,
    selection: &Selection,
    plain: bool,
    sink: &mut dyn RowSink,
    scratch: &Path,
    ctx: &Ctx,
) -> Result<()> {
    let ctx = ctx.child("write");
    let schema = output_schema(source.schema(), plain)?;
    let buckets = Buckets::plan(source, selection, &ctx);
    let added = if plain { None } else { Some(selection.to_batch()?) };
    ctx.progress().set_total(selection.picks.len() as u64);
    let mut files = buckets.spill(source, selection, scratch, &ctx)?;
    for (bucket, file) in files.iter_mut().enumerate() {
        let first = bucket * buckets.rows;
        let Some(rows) = file.ordered(first)? else { continue };
        write_bucket(&rows, first, added.as_ref(), &schema, sink, &ctx)?;
    }
    ctx.progress().finish();
    Ok(())
}

fn write_bucket(
    rows: &RecordBatch,
    first: usize,
    added: Option<&RecordBatch>,
    schema: &SchemaRef,
    sink: &mut dyn RowSink,
    ctx: &Ctx,
) -> Result<()> {
    for start in (0..rows.num_rows()).step_by(WRITE_ROWS) {
        let len = WRITE_ROWS.min(rows.num_rows() - start);
        let mut columns: Vec<ArrayRef> = rows.slice(start, len).columns().to_vec();
        if let Some(added) = added {
            columns.extend(added.slice(first + start, len).columns().iter().cloned());
        }
        sink.write(&RecordBatch::try_new(schema.clone(), columns)?)?;
        ctx.tick(len as u64)?;
    }
    Ok(())
}

/// How picks are split by rank.
struct Buckets {
    /// Picks of a bucket.
    rows: usize,
    /// Number of buckets.
    count: usize,
    /// (row id, rank), by row id.
    by_row: Vec<(u64, u32)>,
}

impl Buckets {
    /// As few buckets as keep one below an eighth of the memory limit.
    fn plan(source: &Source, selection: &Selection, ctx: &Ctx) -> Self {
        let total_bytes: u64 = source.units().iter().map(|u| u.bytes).sum();
        let picks = selection.picks.len() as u64;
        let picked_bytes = total_bytes / source.rows().max(1) * picks;
        let count = usize::try_from(picked_bytes / (ctx.memory().limit_bytes() / 8).max(1)).unwrap_or(1) + 1;
        let mut by_row: Vec<(u64, u32)> = selection.picks.iter().zip(0u32..).map(|(p, rank)| (p.row, rank)).collect();
        by_row.sort_unstable();
        Self { rows: selection.picks.len().div_ceil(count).max(1), count, by_row }
    }

    /// Read the units that hold picks, once each, and hand each pick to its bucket.
    fn spill(&self, source: &Source, selection: &Selection, scratch: &Path, ctx: &Ctx) -> Result<Vec<Bucket>> {
        let mut buckets: Vec<Bucket> = (0..self.count).map(|_| Bucket::default()).collect();
        for unit in source.units() {
            let start = self.by_row.partition_point(|p| p.0 < unit.first_row);
            let end = self.by_row.partition_point(|p| p.0 < unit.first_row + u64::from(unit.rows));
            if start == end {
                continue;
            }
            let data = source.read(unit, None)?;
            for (number, bucket) in buckets.iter_mut().enumerate() {
                let mine = self.by_row[start..end].iter().filter(|p| p.1 as usize / self.rows == number);
                let (places, ranks) = places(&data.rows, mine)?;
                if !places.is_empty() {
                    let rows = take_record_batch(&data.batch, &UInt32Array::from(places))?;
                    bucket.push(rows, &ranks, (self.count > 1).then_some(scratch))?;
                }
            }
            ctx.tick(0)?;
        }
        let found: usize = buckets.iter().map(|b| b.ranks.len()).sum();
        if found != selection.picks.len() {
            return Err(Error::data(
                "input/changed",
                format!("{found} of {} picks found when reading the input again", selection.picks.len()),
            )
            .hint("the input changed during the run; run the command again"));
        }
        Ok(buckets)
    }
}

/// Places of picks within the rows of a unit, and their ranks.
fn places<'a>(rows: &[u64], picks: impl Iterator<Item = &'a (u64, u32)>) -> Result<(Vec<u32>, Vec<u32>)> {
    let mut found = (Vec::new(), Vec::new());
    for (row, rank) in picks {
        if let Ok(place) = rows.binary_search(row) {
            found.0.push(u32::try_from(place).map_err(|_| Error::data("input/unit", "a unit has too many rows"))?);
            found.1.push(*rank);
        }
    }
    Ok(found)
}

/// The picks of one range of ranks, in memory or spilled.
#[derive(Default)]
struct Bucket {
    ranks: Vec<u32>,
    held: Vec<RecordBatch>,
    spilled: Option<StreamWriter<BufWriter<File>>>,
}

impl Bucket {
    fn push(&mut self, rows: RecordBatch, ranks: &[u32], scratch: Option<&Path>) -> Result<()> {
        self.ranks.extend_from_slice(ranks);
        let Some(scratch) = scratch else {
            self.held.push(rows);
            return Ok(());
        };
        if self.spilled.is_none() {
            std::fs::create_dir_all(scratch)?;
            let file = tempfile::tempfile_in(scratch)?;
            self.spilled = Some(StreamWriter::try_new(BufWriter::new(file), rows.schema_ref())?);
        }
        if let Some(writer) = &mut self.spilled {
            writer.write(&rows)?;
        }
        Ok(())
    }

    /// All rows of the bucket, best first.
    fn ordered(&mut self, first: usize) -> Result<Option<RecordBatch>> {
        if let Some(mut writer) = self.spilled.take() {
            use std::io::{Seek, SeekFrom};
            writer.finish()?;
            let mut file = writer.into_inner()?.into_inner().map_err(|e| Error::from(e.into_error()))?;
            file.seek(SeekFrom::Start(0))?;
            self.held = StreamReader::try_new(BufReader::new(file), None)?.collect::<Result<Vec<_>, _>>()?;
        }
        let held = std::mem::take(&mut self.held);
        let Some(one) = held.first() else { return Ok(None) };
        let all = concat_batches(&one.schema(), &held)?;
        let mut order = vec![0u32; self.ranks.len()];
        for (place, &rank) in (0u32..).zip(&self.ranks) {
            order[rank as usize - first] = place;
        }
        Ok(Some(take_record_batch(&all, &UInt32Array::from(order))?))
    }
}
