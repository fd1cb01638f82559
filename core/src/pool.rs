//! The pool: what walks through the house. Arrow record batches of one schema, each in memory or loaded when asked for,
//! so that a corpus larger than memory is still one pool. Chunking never changes a result.

use crate::{Column, Ctx, Error, Location, Result};
use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Float32Type, Schema, SchemaRef, UInt32Type, UInt64Type};
use curate_kernels::MatRef;
use std::ops::Range;
use std::sync::Arc;

/// A chunk that is loaded only when a stage reads it.
pub trait ChunkSource: Send + Sync {
    /// Rows of the chunk.
    fn rows(&self) -> usize;

    /// Load the chunk; only the named columns need be there, in any order.
    ///
    /// # Errors
    /// Whatever reading gives.
    fn load(&self, columns: &[&str]) -> Result<RecordBatch>;
}

#[derive(Clone)]
enum Chunk {
    Ready(RecordBatch),
    Lazy(Arc<dyn ChunkSource>),
}

impl Chunk {
    fn rows(&self) -> usize {
        match self {
            Self::Ready(batch) => batch.num_rows(),
            Self::Lazy(source) => source.rows(),
        }
    }
}

/// Rows with columns, in chunks. A row's place in the pool is its *position*; its *id* is the position in the source,
/// kept in the column `row` where rows were filtered out, and equal to the position otherwise.
#[derive(Clone)]
pub struct Pool {
    schema: SchemaRef,
    chunks: Arc<[Chunk]>,
    offsets: Arc<[usize]>,
}

/// A block of an embedding column: contiguous rows, shared with Arrow without a copy where possible.
#[derive(Clone, Debug)]
pub struct MatrixBlock {
    values: Float32Array,
    dim: usize,
}

impl MatrixBlock {
    /// The block as a matrix.
    ///
    /// # Errors
    /// `embedding/shape` when the block is not rectangular.
    pub fn view(&self) -> Result<MatRef<'_>> {
        MatRef::new(self.values.values(), self.dim).map_err(Into::into)
    }
}

impl Pool {
    /// A pool of batches in memory.
    ///
    /// # Errors
    /// `pool/schema` when the batches differ in schema.
    pub fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self> {
        if let Some(other) = batches.iter().find(|b| b.schema_ref().fields() != schema.fields()) {
            return Err(Error::data(
                "pool/schema",
                format!("a chunk has the columns {:?}, the pool {:?}", names(other.schema_ref()), names(&schema)),
            ));
        }
        Ok(Self::build(schema, batches.into_iter().map(Chunk::Ready).collect()))
    }

    /// A pool of one batch.
    #[must_use]
    pub fn from_batch(batch: RecordBatch) -> Self {
        Self::build(batch.schema(), vec![Chunk::Ready(batch)])
    }

    /// A pool of chunks that are loaded when read.
    #[must_use]
    pub fn lazy(schema: SchemaRef, sources: Vec<Arc<dyn ChunkSource>>) -> Self {
        Self::build(schema, sources.into_iter().map(Chunk::Lazy).collect())
    }

    fn build(schema: SchemaRef, chunks: Vec<Chunk>) -> Self {
        let mut offsets = vec![0];
        for chunk in &chunks {
            offsets.push(offsets[offsets.len() - 1] + chunk.rows());
        }
        Self { schema, chunks: chunks.into(), offsets: offsets.into() }
    }

    /// Rows of all chunks.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.offsets[self.offsets.len() - 1]
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Columns and types.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Number of chunks.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Positions of the rows of chunk `i`.
    ///
    /// # Panics
    /// When there is no chunk `i`.
    #[must_use]
    pub fn chunk_range(&self, i: usize) -> Range<usize> {
        self.offsets[i]..self.offsets[i + 1]
    }

    /// Whether the pool has this column.
    #[must_use]
    pub fn has(&self, column: &Column) -> bool {
        self.schema.field_with_name(column.as_str()).is_ok()
    }

    /// Check that all of `columns` are there before work starts.
    ///
    /// # Errors
    /// `column/missing` naming the stage, the column and the columns there are.
    pub fn require(&self, columns: &[Column], stage: &str) -> Result<()> {
        match columns.iter().find(|c| !self.has(c)) {
            None => Ok(()),
            Some(missing) => Err(Error::usage(
                "column/missing",
                format!("{stage} needs the column '{missing}', which nobody provides"),
            )
            .hint(format!("columns here: {}", names(&self.schema).join(", ")))),
        }
    }

    /// Load some columns of chunk `i`.
    ///
    /// # Errors
    /// `column/missing`, or what reading gives.
    pub fn chunk(&self, i: usize, columns: &[&Column]) -> Result<RecordBatch> {
        let wanted: Vec<&str> = columns.iter().map(|c| c.as_str()).collect();
        let batch = match &self.chunks[i] {
            Chunk::Ready(batch) => batch.clone(),
            Chunk::Lazy(source) => source.load(&wanted)?,
        };
        let indices = wanted
            .iter()
            .map(|name| {
                batch
                    .schema_ref()
                    .index_of(name)
                    .map_err(|_| Error::usage("column/missing", format!("the pool has no column '{name}'")))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(batch.project(&indices)?)
    }

    /// One whole column, all chunks concatenated.
    ///
    /// # Errors
    /// `column/missing`, or what reading gives.
    pub fn column(&self, column: &Column) -> Result<ArrayRef> {
        let field = self
            .schema
            .field_with_name(column.as_str())
            .map_err(|_| Error::usage("column/missing", format!("the pool has no column '{column}'")))?;
        let parts =
            (0..self.chunks()).map(|i| Ok(self.chunk(i, &[column])?.column(0).clone())).collect::<Result<Vec<_>>>()?;
        if parts.is_empty() {
            return Ok(arrow::array::new_empty_array(field.data_type()));
        }
        Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?)
    }

    /// Row ids of all positions: the column `row` where there is one, else the positions themselves.
    ///
    /// # Errors
    /// `column/type` when `row` is not `u64`.
    pub fn ids(&self) -> Result<Vec<u64>> {
        if !self.has(&Column::ROW) {
            return Ok((0..self.rows() as u64).collect());
        }
        let array = self.column(&Column::ROW)?;
        let ids = array
            .as_primitive_opt::<UInt64Type>()
            .ok_or_else(|| Error::data("column/type", "the column 'row' must be u64"))?;
        Ok(ids.values().to_vec())
    }

    /// A column of finite numbers, cast to `f32`.
    ///
    /// # Errors
    /// `score/not-finite` with the row for a null, NaN or infinite value; `column/type` for a column that holds no numbers.
    pub fn numbers(&self, column: &Column) -> Result<Vec<f32>> {
        let array = self.column(column)?;
        let bad_type =
            || Error::data("column/type", format!("the column '{column}' holds {}, not numbers", array.data_type()));
        if !array.data_type().is_numeric() {
            return Err(bad_type());
        }
        let floats = cast(&array, &DataType::Float32).map_err(|_| bad_type())?;
        let floats = floats.as_primitive::<Float32Type>();
        if let Some(position) = (0..floats.len()).find(|&i| floats.is_null(i) || !floats.value(i).is_finite()) {
            let row = self.ids()?[position];
            return Err(Error::data("score/not-finite", "a score is null, NaN or infinite")
                .at(Location::default().row(row).column(column.as_str()))
                .hint(format!("drop such rows with --where '\"{column}\" IS NOT NULL', or give them a score")));
        }
        Ok(floats.values().to_vec())
    }

    /// A column of `u32` values such as `cluster` or `tokens`.
    ///
    /// # Errors
    /// `column/type` when it is another type or holds nulls.
    pub fn counts(&self, column: &Column) -> Result<Vec<u32>> {
        let array = self.column(column)?;
        let values = array.as_primitive_opt::<UInt32Type>().filter(|v| v.null_count() == 0);
        values
            .map(|v| v.values().to_vec())
            .ok_or_else(|| Error::data("column/type", format!("the column '{column}' must be u32 without nulls")))
    }

    /// Length of the vectors in `column`.
    ///
    /// # Errors
    /// `embedding/type` when it is no fixed-size list of `f32`.
    pub fn dim(&self, column: &Column) -> Result<usize> {
        let field = self
            .schema
            .field_with_name(column.as_str())
            .map_err(|_| Error::usage("column/missing", format!("the pool has no column '{column}'")))?;
        vector_dim(field.data_type()).ok_or_else(|| {
            Error::data(
                "embedding/type",
                format!("the column '{column}' holds {}, not vectors of f32", field.data_type()),
            )
        })
    }

    /// The vectors of chunk `i`, without a copy where they lie in memory.
    ///
    /// # Errors
    /// `embedding/type`, `embedding/null`, or what reading gives.
    pub fn block(&self, i: usize, column: &Column) -> Result<MatrixBlock> {
        let dim = self.dim(column)?;
        let batch = self.chunk(i, &[column])?;
        let list = batch
            .column(0)
            .as_fixed_size_list_opt()
            .ok_or_else(|| Error::data("embedding/type", "not a fixed-size list"))?;
        flat(list, dim)
    }

    /// All vectors as one matrix in memory, checked against the memory limit first.
    ///
    /// # Errors
    /// `memory/too-small`, `embedding/type`, or what reading gives.
    pub fn matrix(&self, column: &Column, ctx: &Ctx) -> Result<MatrixBlock> {
        let dim = self.dim(column)?;
        if self.chunks() == 1 && matches!(self.chunks[0], Chunk::Ready(_)) {
            return self.block(0, column);
        }
        ctx.memory().reserve(4 * (self.rows() * dim) as u64, "the embedding matrix")?;
        let mut values = Vec::with_capacity(self.rows() * dim);
        for i in 0..self.chunks() {
            values.extend_from_slice(self.block(i, column)?.values.values());
            ctx.tick(0)?;
        }
        Ok(MatrixBlock { values: values.into(), dim })
    }

    /// The vectors at these positions (ascending), gathered chunk by chunk.
    ///
    /// # Errors
    /// `memory/too-small`, `embedding/type`, or what reading gives.
    pub fn gather(&self, column: &Column, positions: &[usize], ctx: &Ctx) -> Result<MatrixBlock> {
        let dim = self.dim(column)?;
        ctx.memory().reserve(4 * (positions.len() * dim) as u64, "the gathered vectors")?;
        let mut values = Vec::with_capacity(positions.len() * dim);
        let mut next = positions.iter().peekable();
        for i in 0..self.chunks() {
            let range = self.chunk_range(i);
            if next.peek().is_none_or(|&&p| p >= range.end) {
                continue;
            }
            let block = self.block(i, column)?;
            while let Some(position) = next.next_if(|&&p| p < range.end) {
                values.extend_from_slice(block.view()?.row(position - range.start));
            }
            ctx.tick(0)?;
        }
        if values.len() != positions.len() * dim {
            return Err(Error::data("pool/position", "positions to gather must ascend and lie within the pool"));
        }
        Ok(MatrixBlock { values: values.into(), dim })
    }

    /// The pool with one more column of full length (or with it replaced). Chunks that were lazy stay lazy.
    ///
    /// # Errors
    /// `pool/length` when the column has not one value a row.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
    pub fn with(&self, column: &Column, values: ArrayRef) -> Result<Self> {
        if values.len() != self.rows() {
            return Err(Error::data(
                "pool/length",
                format!("the column '{column}' has {} values for {} rows", values.len(), self.rows()),
            ));
        }
        let field = Field::new(column.as_str(), values.data_type().clone(), values.null_count() > 0);
        let mut fields: Vec<_> = self.schema.fields().iter().filter(|f| f.name() != column.as_str()).cloned().collect();
        fields.push(Arc::new(field));
        let chunks = (0..self.chunks()).map(|i| {
            let range = self.chunk_range(i);
            let added = values.slice(range.start, range.len());
            let rows = range.len();
            Chunk::Lazy(Arc::new(Widened {
                inner: self.chunks[i].clone(),
                name: column.as_str().to_owned(),
                added,
                rows,
            }))
        });
        Ok(Self::build(Arc::new(Schema::new(fields)), chunks.collect()))
    }

    /// The rows at these positions (ascending), with a column `row` that keeps their ids.
    ///
    /// # Errors
    /// What reading gives.
    pub fn filter(&self, positions: &[usize]) -> Result<Self> {
        let ids = self.ids()?;
        let kept: Vec<u64> = positions.iter().map(|&p| ids[p]).collect();
        let mut start = 0;
        let mut chunks = Vec::new();
        for i in 0..self.chunks() {
            let range = self.chunk_range(i);
            let end = start + positions[start..].partition_point(|&p| p < range.end);
            let local = positions[start..end].iter().map(|&p| (p - range.start) as u64).collect::<Vec<_>>();
            chunks.push(Chunk::Lazy(Arc::new(Taken { inner: self.chunks[i].clone(), rows: UInt64Array::from(local) })
                as Arc<dyn ChunkSource>));
            start = end;
        }
        let fields: Vec<_> =
            self.schema.fields().iter().filter(|f| f.name() != Column::ROW.as_str()).cloned().collect();
        Self::build(Arc::new(Schema::new(fields)), chunks).with(&Column::ROW, Arc::new(UInt64Array::from(kept)))
    }
}

/// A chunk with one more column.
struct Widened {
    inner: Chunk,
    name: String,
    added: ArrayRef,
    rows: usize,
}

impl ChunkSource for Widened {
    fn rows(&self) -> usize {
        self.rows
    }

    fn load(&self, columns: &[&str]) -> Result<RecordBatch> {
        let others: Vec<&str> = columns.iter().copied().filter(|name| *name != self.name).collect();
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        if !others.is_empty() {
            let batch = load(&self.inner, &others)?;
            for name in &others {
                let index = batch.schema_ref().index_of(name)?;
                fields.push(batch.schema_ref().field(index).clone());
                arrays.push(batch.column(index).clone());
            }
        }
        if columns.contains(&self.name.as_str()) {
            fields.push(Field::new(&self.name, self.added.data_type().clone(), self.added.null_count() > 0));
            arrays.push(self.added.clone());
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }
}

/// Some rows of a chunk.
struct Taken {
    inner: Chunk,
    rows: UInt64Array,
}

impl ChunkSource for Taken {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn load(&self, columns: &[&str]) -> Result<RecordBatch> {
        Ok(arrow::compute::take_record_batch(&load(&self.inner, columns)?, &self.rows)?)
    }
}

fn load(chunk: &Chunk, columns: &[&str]) -> Result<RecordBatch> {
    match chunk {
        Chunk::Ready(batch) => {
            let indices =
                columns.iter().map(|name| batch.schema_ref().index_of(name)).collect::<Result<Vec<_>, _>>()?;
            Ok(batch.project(&indices)?)
        }
        Chunk::Lazy(source) => source.load(columns),
    }
}

fn vector_dim(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::FixedSizeList(item, dim) if *item.data_type() == DataType::Float32 => {
            usize::try_from(*dim).ok().filter(|&d| d > 0)
        }
        _ => None,
    }
}

/// The numbers of a fixed-size list, respecting a sliced parent.
fn flat(list: &FixedSizeListArray, dim: usize) -> Result<MatrixBlock> {
    if list.null_count() > 0 || list.values().null_count() > 0 {
        return Err(Error::data("embedding/null", "an embedding is null").hint("drop such rows with --where"));
    }
    let first = usize::try_from(list.value_offset(0)).unwrap_or(0);
    let values = list.values().as_primitive::<Float32Type>().slice(first, list.len() * dim);
    Ok(MatrixBlock { values, dim })
}

fn names(schema: &Schema) -> Vec<&str> {
    schema.fields().iter().map(|f| f.name().as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        let vectors = |xs: &[f32]| -> ArrayRef {
            let item = Arc::new(Field::new("item", DataType::Float32, false));
            Arc::new(FixedSizeListArray::new(item, 2, Arc::new(Float32Array::from(xs.to_vec())), None))
        };
        let batch = |xs: &[f32], q: &[f32]| {
            RecordBatch::try_from_iter([
                ("embedding", vectors(xs)),
                ("score.quality", Arc::new(Float32Array::from(q.to_vec())) as ArrayRef),
            ])
            .unwrap()
        };
        let first = batch(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &[1.0, 2.0, 3.0]);
        let second = batch(&[6.0, 7.0, 8.0, 9.0], &[4.0, 5.0]);
        Pool::new(first.schema(), vec![first, second]).unwrap()
    }

    #[test]
    fn filter_keeps_ids_and_vectors() {
        let ctx = Ctx::new(0);
        let part = pool().filter(&[1, 3, 4]).unwrap();
        assert_eq!(part.ids().unwrap(), [1, 3, 4]);
        assert_eq!(part.numbers(&Column::QUALITY).unwrap(), [2.0, 4.0, 5.0]);
        assert_eq!(part.matrix(&Column::EMBEDDING, &ctx).unwrap().view().unwrap().row(1), [6.0, 7.0]);
        let again = part.filter(&[2]).unwrap();
        assert_eq!(again.ids().unwrap(), [4]);
        assert_eq!(again.gather(&Column::EMBEDDING, &[0], &ctx).unwrap().view().unwrap().row(0), [8.0, 9.0]);
    }

    #[test]
    fn sliced_batches_view_the_right_rows() {
        let sliced = Pool::from_batch(pool().chunk(0, &[&Column::EMBEDDING]).unwrap().slice(1, 2));
        assert_eq!(sliced.block(0, &Column::EMBEDDING).unwrap().view().unwrap().data(), [2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn nan_scores_are_named_by_row() {
        let bad =
            pool().with(&Column::QUALITY, Arc::new(Float32Array::from(vec![0.0, 0.0, 0.0, f32::NAN, 0.0]))).unwrap();
        let error = bad.numbers(&Column::QUALITY).unwrap_err();
        assert_eq!((error.code(), error.location().unwrap().row), ("score/not-finite", Some(3)));
    }

    #[test]
    fn missing_columns_are_named() {
        assert_eq!(pool().require(&[Column::CLUSTER], "test").unwrap_err().code(), "column/missing");
    }
}
