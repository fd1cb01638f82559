//! Nuclear norms of many matrices at once, given or behind a head, the host's half of `nuclear.cu`.
//!
//! Matrices of one shape go together, as many as the memory takes. Their Gram matrices and eigenvalues come from the device; whether
//! rounding can have changed a norm by more than 2e-7 of it is judged as on the processor, which computes the few such norms again. How a
//! matrix is cut depends on its shape alone, so that its norm does not depend on its company.

use super::buffer::{Arg, Buffer};
use super::{Cuda, THREADS, narrow, warps};
use crate::nuclear::{FEW_ROWS, FrozenHead, certified, from_values, mean_step, nuclear_norm};
use crate::{KernelError, MatRef};
use std::collections::BTreeMap;

/// Rows and columns of a tile (`SIDE` in the source).
const SIDE: usize = 64;
/// Depth of a part at least, and what it must be a multiple of (`BLOCK` in the source); parts at most.
const PART: usize = 2048;
const BLOCK: usize = 256;
const PARTS: usize = 16;
/// Bytes of matrices and their sums that are on the device at once.
const AT_ONCE: u64 = 1 << 30;
/// Rows that a text behind a head is filled up to a multiple of.
const STEP: usize = 32;
/// Threads that reduce a matrix.
const REDUCERS: u32 = 512;

impl Cuda {
    /// As [`crate::Backend::nuclear_norms`].
    pub(super) fn norms_of_all(&self, matrices: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        let (mut norms, mut at) = (Vec::with_capacity(matrices.len()), 0);
        while at < matrices.len() {
            let first = matrices[at];
            if first.rows() == 0 || first.rows() > first.dim() || first.rows() > FEW_ROWS {
                norms.push(nuclear_norm(first)?);
                at += 1;
                continue;
            }
            let same = |x: &&MatRef<'_>| (x.rows(), x.dim()) == (first.rows(), first.dim());
            let count = matrices[at..].iter().take_while(same).count().min(self.fitting(first));
            match self.norms_of_some(&matrices[at..at + count]) {
                Err(KernelError::OutOfMemory { .. }) => {
                    for x in &matrices[at..at + count] {
                        norms.push(nuclear_norm(*x)?);
                    }
                }
                found => norms.extend(found?),
            }
            at += count;
        }
        Ok(norms)
    }

    /// Matrices of this shape that go together.
    fn fitting(&self, x: MatRef<'_>) -> usize {
        let (n, parts) = (x.rows(), cut(x.dim()).1);
        let bytes = (4 * x.data().len() + 8 * (parts + 1) * n * n) as u64;
        ((AT_ONCE.min(self.device.info().free / 4) / bytes) as usize).clamp(1, 4096)
    }

    fn norms_of_some(&self, matrices: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        let (n, depth, count) = (matrices[0].rows(), matrices[0].dim(), matrices.len());
        let x = self.device.alloc::<f32>(count * n * depth)?;
        for (i, matrix) in matrices.iter().enumerate() {
            self.device.copy_into(matrix.data(), &x, i * n * depth)?;
        }
        let (values, own) = self.eigenvalues(&x, (count, n, depth))?;
        let (mut found, mut squares) = (vec![0.0; count * n], vec![0.0; count * n]);
        self.device.download(&values, &mut found)?;
        self.device.download(&own, &mut squares)?;
        let largest = |own: &[f64]| own.iter().fold(0.0, |top: f64, v| if v.is_nan() { *v } else { top.max(*v) });
        let all = matrices.iter().zip(found.chunks_exact(n)).zip(squares.chunks_exact(n));
        all.map(|((x, values), own)| from_values(*x, values, largest(own))).collect()
    }

    /// Queue the eigenvalues of the Gram matrices of `count` matrices `[n, depth]`, one after another in `x`, and the squares of their rows
    /// less the mean.
    pub(super) fn eigenvalues(
        &self,
        x: &Buffer<f32>,
        (count, n, depth): (usize, usize, usize),
    ) -> Result<(Buffer<f64>, Buffer<f64>), KernelError> {
        let (part, parts) = cut(depth);
        let device = &self.device;
        let (mean, along) = (device.alloc::<f32>(count * depth)?, device.alloc::<f64>(count * (n + 1))?);
        let (sums, gram) = (device.alloc::<f64>(count * parts * n * n)?, device.alloc::<f64>(count * n * n)?);
        let own = device.alloc::<f64>(count * n)?;
        let (rows, wide, many) = (Arg::U32(n as u32), Arg::U32(narrow(depth)?), count as u32);

        let args = [x.arg(), rows, wide, Arg::U32(mean_step(n) as u32), mean.arg()];
        device.launch("gram_mean", (depth.div_ceil(THREADS as usize) as u32, many, 1), THREADS, 0, &args)?;
        let args = [x.arg(), rows, wide, mean.arg(), along.arg()];
        device.launch("gram_along", (warps(n as u64 + 1).0, many, 1), THREADS, 0, &args)?;
        let side = n.div_ceil(SIDE);
        let args = [x.arg(), rows, wide, mean.arg(), Arg::U32(part as u32), sums.arg()];
        device.launch("gram_centred", ((side * (side + 1) / 2) as u32, parts as u32, many), THREADS, 0, &args)?;
        let args = [sums.arg(), rows, Arg::U32(parts as u32), along.arg(), gram.arg(), own.arg()];
        device.launch("gram_whole", ((n * n).div_ceil(THREADS as usize) as u32, many, 1), THREADS, 0, &args)?;
        Ok((self.eigenvalues_of(&gram, count, n)?, own))
    }

    /// Queue the eigenvalues of `count` symmetric matrices, `[n, n]` each, which are used up: ascending.
    fn eigenvalues_of(&self, gram: &Buffer<f64>, count: usize, n: usize) -> Result<Buffer<f64>, KernelError> {
        let (device, rows, many) = (&self.device, Arg::U32(n as u32), count as u32);
        let [diagonal, off] = [device.alloc::<f64>(count * n)?, device.alloc(count * n)?];
        let values = device.alloc::<f64>(count * n)?;
        let args = [gram.arg(), rows, diagonal.arg(), off.arg()];
        device.launch("tridiagonal", (many, 1, 1), REDUCERS, (8 * (2 * n + 33)) as u32, &args)?;
        let args = [diagonal.arg(), off.arg(), rows, values.arg()];
        device.launch("tridiagonal_values", (many, 1, 1), THREADS, (16 * n) as u32, &args)?;
        Ok(values)
    }

    /// As [`crate::Backend::head_norms`]: images in the root of the head's Gram matrix, their Gram matrices and eigenvalues, all in f64.
    /// Texts are filled up with rows of zeros to a multiple of [`STEP`] rows and go with those that then are as long.
    pub(super) fn norms_of_head(&self, head: &FrozenHead, hidden: &[MatRef<'_>]) -> Result<Vec<f64>, KernelError> {
        let (dim, rank) = (head.dim(), head.rank());
        let mut norms = vec![0.0; hidden.len()];
        let mut lengths: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, x) in hidden.iter().enumerate() {
            head.check(*x)?;
            let length = x.rows().next_multiple_of(STEP);
            if length.min(rank) > FEW_ROWS {
                norms[at] = head.nuclear_norm(*x)?;
            } else if length.min(rank) > 0 {
                lengths.entry(length).or_default().push(at);
            }
        }
        if lengths.is_empty() {
            return Ok(norms);
        }
        let root = match self.device.upload(head.root()) {
            Err(KernelError::OutOfMemory { .. }) => return hidden.iter().map(|x| head.nuclear_norm(*x)).collect(),
            root => root?,
        };
        for (length, all) in lengths {
            let bytes = (4 * dim + 8 * rank) * length + 8 * length.min(rank).pow(2);
            let together = (AT_ONCE.min(self.device.info().free / 4) as usize / bytes).clamp(1, 4096);
            for some in all.chunks(together) {
                let values = self.head_values((&root, dim, rank), length, some, hidden);
                for (nth, &at) in some.iter().enumerate() {
                    let alone = || head.nuclear_norm(hidden[at]);
                    norms[at] = match &values {
                        // Zeros that filled up made eigenvalues of zero, which are the least.
                        Ok(values) => {
                            let (n, real) = (length.min(rank), hidden[at].rows().min(rank));
                            certified(&values[(nth + 1) * n - real..(nth + 1) * n], |_| 0.0).map_or_else(alone, Ok)?
                        }
                        Err(KernelError::OutOfMemory { .. }) => alone()?,
                        Err(_) => return values.map(|_| norms),
                    };
                }
            }
        }
        Ok(norms)
    }

    /// Eigenvalues for the texts at `some`, of `length` rows each.
    fn head_values(
        &self,
        (root, dim, rank): (&Buffer<f64>, usize, usize),
        length: usize,
        some: &[usize],
        hidden: &[MatRef<'_>],
    ) -> Result<Vec<f64>, KernelError> {
        let (device, count) = (&self.device, some.len());
        let mut rows = vec![0f32; count * length * dim];
        for (to, &at) in rows.chunks_exact_mut(length * dim).zip(some) {
            to[..hidden[at].data().len()].copy_from_slice(hidden[at].data());
        }
        let (x, images) = (device.upload(&rows)?, device.alloc::<f64>(count * length * rank)?);
        let tiles = |n: usize| n.div_ceil(SIDE) as u32;
        let (wide, columns) = (Arg::U32(narrow(dim)?), Arg::U32(narrow(rank)?));
        let args = [x.arg(), root.arg(), Arg::U64((count * length) as u64), wide, columns, images.arg()];
        device.launch("head_images", (tiles(count * length), tiles(rank), 1), THREADS, 0, &args)?;
        let by_rows = length <= rank;
        let (n, depth) = if by_rows { (length, rank) } else { (rank, length) };
        let (along, step) = if by_rows { (rank as u64, 1) } else { (1, rank as u64) };
        let gram = device.alloc::<f64>(count * n * n)?;
        let args =
            [images.arg(), Arg::U32(n as u32), Arg::U32(narrow(depth)?), Arg::U64(along), Arg::U64(step), gram.arg()];
        device.launch("gram_wide", (tiles(n) * (tiles(n) + 1) / 2, count as u32, 1), THREADS, 0, &args)?;
        let mut values = vec![0.0; count * n];
        device.download(&self.eigenvalues_of(&gram, count, n)?, &mut values)?;
        Ok(values)
    }
}

/// Depth of a part, and parts.
fn cut(depth: usize) -> (usize, usize) {
    let part = depth.div_ceil(PARTS).max(PART).next_multiple_of(BLOCK);
    (part, depth.div_ceil(part))
}
