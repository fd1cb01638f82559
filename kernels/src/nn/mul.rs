//! Matrix products of f32 blocks with strides: C = alpha A B + beta C.
//!
//! Source: the `gemm` crate (blocked as in BLIS). Its blocks, and with them the order of additions, follow from the shapes
//! alone; threads only share out whole blocks of C. Cost: 2 m n k operations at about nine tenths of the machine's rate.

use gemm::Parallelism;
use std::ops::Range;

/// A block of numbers to read: `rows x cols` with strides, so that a transpose or a part costs nothing.
#[derive(Clone, Copy, Debug)]
pub struct Mat<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A whole row-major matrix.
    ///
    /// # Panics
    /// When the length is not `rows * cols`.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix of {rows} x {cols}");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Transposed.
    #[must_use]
    pub const fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// Some rows and columns of it.
    ///
    /// # Panics
    /// When they lie outside.
    #[must_use]
    pub fn part(self, rows: Range<usize>, cols: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows && cols.start <= cols.end && cols.end <= self.cols);
        let start = (rows.start * self.row_stride + cols.start * self.col_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: rows.len(), cols: cols.len(), ..self }
    }
}

/// A block of numbers to write.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatMut<'a> {
    /// A whole row-major matrix.
    ///
    /// # Panics
    /// When the length is not `rows * cols`.
    #[must_use]
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "a matrix of {rows} x {cols}");
        Self { data, rows, cols, row_stride: cols }
    }
}

/// `C = alpha A B + beta C` on all threads; with `beta` 0 the old content of C does not matter.
///
/// # Panics
/// When the shapes do not fit.
pub fn gemm(c: MatMut, beta: f32, alpha: f32, a: Mat, b: Mat) {
    let threads = if c.rows * c.cols * a.cols < 1 << 16 { Parallelism::None } else { Parallelism::Rayon(0) };
    product(c, (alpha, beta), a, b, threads);
}

/// Whether each row of `X W^T`, `X` plain `[rows, inner]` and `W` plain `[out, inner]`, has the bits it has among any other number of
/// rows of which this can be said: small products go ways of their own, with sums in another order.
#[must_use]
pub const fn rows_apart(rows: usize, out: usize, inner: usize) -> bool {
    rows > 1 && rows * out > 256 && (rows > 64 || out > 64 || inner <= 512)
}

/// The same on the calling thread, for work that is shared out already.
///
/// # Panics
/// When the shapes do not fit.
pub fn gemm_alone(c: MatMut, beta: f32, alpha: f32, a: Mat, b: Mat) {
    product(c, (alpha, beta), a, b, Parallelism::None);
}

fn product(c: MatMut, factors: (f32, f32), a: Mat, b: Mat, threads: Parallelism) {
    assert!(c.rows == a.rows && c.cols == b.cols && a.cols == b.rows, "shapes of a product");
    let MatMut { data, row_stride, .. } = c;
    // SAFETY: `data` is borrowed to be written and has `rows` rows of `cols` numbers `row_stride` apart.
    unsafe { product_into(data.as_mut_ptr(), row_stride, factors, (a, b), threads) };
}

/// The same into memory that several tasks share.
///
/// # Safety
/// `c` points to `a.rows` rows of `b.cols` numbers, `stride` apart, which nobody else touches meanwhile.
pub(super) unsafe fn product_into(
    c: *mut f32,
    stride: usize,
    (alpha, beta): (f32, f32),
    (a, b): (Mat, Mat),
    threads: Parallelism,
) {
    let step = |stride: usize| stride.cast_signed();
    // SAFETY: the extents of `a` and `b` were checked when they were made, that of `c` is the caller's promise.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            c,
            1,
            step(stride),
            beta != 0.0,
            a.data.as_ptr(),
            step(a.col_stride),
            step(a.row_stride),
            b.data.as_ptr(),
            step(b.col_stride),
            step(b.row_stride),
            beta,
            alpha,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{close, numbers, with_threads};
    use super::*;

    fn reference(a: &[f32], b: &[f32], (m, k, n): (usize, usize, usize)) -> Vec<f64> {
        let entry = |i: usize, j: usize| (0..k).map(|t| f64::from(a[i * k + t]) * f64::from(b[t * n + j])).sum();
        (0..m * n).map(|at| entry(at / n, at % n)).collect()
    }

    fn transposed(a: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|at| a[at % rows * cols + at / rows]).collect()
    }

    #[test]
    fn every_orientation_is_the_plain_product() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (1, 40, 33), (65, 17, 1), (70, 300, 90), (8, 2, 200)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = reference(&a, &b, (m, k, n));
            let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
            for a in [Mat::new(&a, m, k), Mat::new(&at, k, m).t()] {
                for b in [Mat::new(&b, k, n), Mat::new(&bt, n, k).t()] {
                    let mut c = vec![f32::NAN; m * n];
                    gemm(MatMut::new(&mut c, m, n), 0.0, 1.0, a, b);
                    close(&c, &expected, 1e-6 * (k as f64).sqrt());
                    gemm_alone(MatMut::new(&mut c, m, n), 2.0, -1.0, a, b);
                    close(&c, &expected, 1e-5 * (k as f64).sqrt());
                }
            }
        }
    }

    #[test]
    fn the_number_of_threads_does_not_change_a_bit() {
        for (m, k, n) in [(300, 700, 500), (2048, 256, 8), (8, 2048, 256), (64, 5000, 130), (1, 512, 4096)] {
            let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
            let run = |threads| {
                with_threads(threads, || {
                    let mut c = vec![1.0; m * n];
                    gemm(MatMut::new(&mut c, m, n), 1.0, 0.5, Mat::new(&a, m, k), Mat::new(&b, k, n));
                    c
                })
            };
            let one = run(1);
            assert!([2, 3, 4].into_iter().all(|threads| run(threads) == one), "{m} {k} {n}");
        }
    }

    #[test]
    fn rows_keep_their_bits_in_any_company() {
        for (out, inner) in
            [(700, 96), (96, 700), (8, 300), (8, 700), (64, 2000), (3, 40), (500, 1), (100, 2), (16, 16)]
        {
            let (x, w) = (numbers(400 * inner, 6), numbers(out * inner, 7));
            let run = |rows: Range<usize>| {
                let mut y = vec![0.0; rows.len() * out];
                let x = Mat::new(&x, 400, inner).part(rows.clone(), 0..inner);
                gemm(MatMut::new(&mut y, rows.len(), out), 0.0, 1.0, x, Mat::new(&w, out, inner).t());
                y
            };
            let all = run(0..400);
            for rows in [7..9, 11..28, 20..60, 30..95, 100..310].into_iter().filter(|r| rows_apart(r.len(), out, inner))
            {
                assert_eq!(run(rows.clone()), all[rows.start * out..rows.end * out], "{rows:?} {out} {inner}");
            }
        }
        assert!(
            rows_apart(65, 8, 4096) && !rows_apart(64, 8, 4096) && !rows_apart(32, 8, 64) && !rows_apart(1, 500, 9)
        );
    }

    #[test]
    fn parts() {
        let a = numbers(6 * 5, 5);
        let part = Mat::new(&a, 6, 5).part(2..5, 1..4);
        let unit: Vec<f32> = (0..9).map(|at| f32::from(at % 3 == at / 3)).collect();
        let mut c = vec![0.0; 9];
        gemm_alone(MatMut::new(&mut c, 3, 3), 0.0, 1.0, part, Mat::new(&unit, 3, 3));
        let expected: Vec<f32> = (0..9).map(|at| a[(at / 3 + 2) * 5 + at % 3 + 1]).collect();
        assert_eq!(c, expected);
    }
}
