//! Rows by number, and sums over rows, always in the order of the rows.

use super::rows_a_task;
use rayon::prelude::*;

/// `out[i] = table[ids[i]]`.
///
/// # Panics
/// When lengths do not fit or an id lies outside the table.
pub fn copy_rows(table: &[f32], width: usize, ids: &[u32], out: &mut [f32]) {
    assert_eq!(out.len(), ids.len() * width);
    let rows = rows_a_task(width);
    out.par_chunks_mut(rows * width).zip(ids.par_chunks(rows)).for_each(|(out, ids)| {
        for (row, &id) in out.chunks_exact_mut(width).zip(ids) {
            row.copy_from_slice(&table[id as usize * width..][..width]);
        }
    });
}

/// `table[ids[i]] = rows[i]`, in order.
///
/// # Panics
/// When lengths do not fit or an id lies outside the table.
pub fn put_rows(rows: &[f32], width: usize, ids: &[u32], table: &mut [f32]) {
    assert_eq!(rows.len(), ids.len() * width);
    for (row, &id) in rows.chunks_exact(width).zip(ids) {
        table[id as usize * width..][..width].copy_from_slice(row);
    }
}

/// `table[ids[i]] += rows[i]`, in order.
///
/// # Panics
/// When lengths do not fit or an id lies outside the table.
pub fn scatter_add(rows: &[f32], width: usize, ids: &[u32], table: &mut [f32]) {
    assert_eq!(rows.len(), ids.len() * width);
    for (row, &id) in rows.chunks_exact(width).zip(ids) {
        for (x, b) in table[id as usize * width..][..width].iter_mut().zip(row) {
            *x += b;
        }
    }
}

/// Add `row` to every row of `x`.
///
/// # Panics
/// When `row` is empty.
pub fn add_rows(x: &mut [f32], row: &[f32]) {
    let rows = rows_a_task(row.len());
    x.par_chunks_mut(rows * row.len()).for_each(|x| {
        for x in x.chunks_exact_mut(row.len()) {
            for (x, b) in x.iter_mut().zip(row) {
                *x += b;
            }
        }
    });
}

/// Add the sum over the rows of `x` to `sums`.
///
/// # Panics
/// When `sums` is empty.
pub fn column_sums(x: &[f32], sums: &mut [f32]) {
    for row in x.chunks_exact(sums.len()) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut out = vec![0.0; 6];
        copy_rows(&[1.0, 2.0, 3.0, 4.0], 2, &[1, 0, 1], &mut out);
        assert_eq!(out, [3.0, 4.0, 1.0, 2.0, 3.0, 4.0]);
        let mut table = vec![0.0; 4];
        scatter_add(&out, 2, &[1, 0, 1], &mut table);
        assert_eq!(table, [1.0, 2.0, 6.0, 8.0]);
        put_rows(&[9.0, 9.0], 2, &[0], &mut table);
        add_rows(&mut table, &[1.0, -1.0]);
        assert_eq!(table, [10.0, 8.0, 7.0, 7.0]);
        let mut sums = vec![1.0, 0.0];
        column_sums(&table, &mut sums);
        assert_eq!(sums, [18.0, 15.0]);
    }
}
