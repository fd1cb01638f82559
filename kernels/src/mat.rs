//! Borrowed row-major matrices: the only shape in which numbers enter the kernels.

use crate::KernelError;

/// Row-major `f32` view of shape `[rows, dim]`, borrowed without a copy.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    dim: usize,
}

impl<'a> MatRef<'a> {
    /// View `data` as rows of length `dim`.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when `dim` is 0 or does not divide `data.len()`.
    pub fn new(data: &'a [f32], dim: usize) -> Result<Self, KernelError> {
        if dim == 0 || !data.len().is_multiple_of(dim) {
            return Err(KernelError::Shape {
                op: "matrix",
                expected: format!("a multiple of dim = {dim}"),
                got: format!("{} numbers", data.len()),
            });
        }
        Ok(Self { data, rows: data.len() / dim, dim })
    }

    /// Number of rows.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Length of one row.
    #[must_use]
    pub const fn dim(&self) -> usize {
        self.dim
    }

    /// The whole matrix, row after row.
    #[must_use]
    pub const fn data(&self) -> &'a [f32] {
        self.data
    }

    /// Row `i`.
    ///
    /// # Panics
    /// When `i >= rows()`, like slice indexing.
    #[must_use]
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.dim..(i + 1) * self.dim]
    }

    /// Rows `range.start .. range.end` as a view of their own.
    ///
    /// # Panics
    /// When the range does not lie within the rows.
    #[must_use]
    pub fn slice(&self, range: std::ops::Range<usize>) -> MatRef<'a> {
        MatRef { data: &self.data[range.start * self.dim..range.end * self.dim], rows: range.len(), dim: self.dim }
    }
}
