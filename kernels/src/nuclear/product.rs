//! Products of whole matrices, on the calling thread or by rows on all.

#![expect(clippy::many_single_char_names, reason = "as in the books")]

use crate::MatRef;
use gemm::Parallelism;
use rayon::prelude::*;

/// Rows of a product that one task makes.
const TASK_ROWS: usize = 128;

/// `A -= P^T P` for rows `P`, `[any, n]`, and a whole matrix `A`, `[n, n]`.
pub(super) fn take_away(a: &mut [f64], rows: &[f64], n: usize) {
    let (negative, k): (Vec<f64>, usize) = (rows.iter().map(|v| -v).collect(), rows.len() / n);
    a.par_chunks_mut(TASK_ROWS * n).enumerate().for_each(|(at, part)| {
        product(part, true, (part.len() / n, n, k), (&negative[at * TASK_ROWS..], 1, n), (rows, n, 1));
    });
}

/// `X R^T`, row-major, in double precision; `R^T` is row-major `[dim, rank]`.
pub(super) fn times(x: MatRef<'_>, root: &[f64], rank: usize) -> Vec<f64> {
    let (dim, mut out) = (x.dim(), vec![0.0; x.rows() * rank]);
    let wide: Vec<f64> = x.data().iter().map(|&v| f64::from(v)).collect();
    out.par_chunks_mut(TASK_ROWS * rank).zip(wide.par_chunks(TASK_ROWS * dim)).for_each(|(part, rows)| {
        product(part, false, (rows.len() / dim, rank, dim), (rows, dim, 1), (root, rank, 1));
    });
    out
}

/// A factor of a product: numbers, step from row to row, step from column to column.
pub(super) type Factor<'a, T> = (&'a [T], usize, usize);

/// `C (+)= A B` on the calling thread, `C` row-major `[m, n]`, `A` `[m, k]`, `B` `[k, n]`.
pub(super) fn product<T: Number>(
    c: &mut [T],
    add: bool,
    (m, n, k): (usize, usize, usize),
    a: Factor<'_, T>,
    b: Factor<'_, T>,
) {
    let needs = |(_, rs, cs): Factor<'_, T>, rows: usize, columns: usize| (rows - 1) * rs + (columns - 1) * cs + 1;
    if m * n * k == 0 {
        return;
    }
    assert!(c.len() == m * n && a.0.len() >= needs(a, m, k) && b.0.len() >= needs(b, k, n), "shapes of a product");
    let step = |step: usize| step.cast_signed();
    // SAFETY: the assertion above holds every element that is touched inside the slices; `c` is borrowed to be written.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            step(n),
            add,
            a.0.as_ptr(),
            step(a.2),
            step(a.1),
            b.0.as_ptr(),
            step(b.2),
            step(b.1),
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// What can be multiplied here.
pub(super) trait Number: Copy + 'static {
    const ONE: Self;
}

impl Number for f32 {
    const ONE: Self = 1.0;
}

impl Number for f64 {
    const ONE: Self = 1.0;
}
