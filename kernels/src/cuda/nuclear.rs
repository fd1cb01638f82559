//! Nuclear norms of many matrices at once, the host's half of `nuclear.cu`.
//!
//! Matrices of one shape go together, as many as the memory takes. Their Gram matrices and eigenvalues come from the device; whether
//! rounding can have changed a norm by more than 2e-7 of it is judged as on the processor, which computes the few such norms again. How a
//! matrix is cut depends on its shape alone, so that its norm does not depend on its company.

use super::buffer::{Arg, Buffer};
use super::{Cuda, THREADS, narrow, warps};
use crate::nuclear::{FEW_ROWS, from_values, mean_step, nuclear_norm};
use crate::{KernelError, MatRef};

/// Rows and columns of a tile (`SIDE` in the source).
const SIDE: usize = 64;
/// Depth of a part at least, and what it must be a multiple of (`BLOCK` in the source); parts at most.
const PART: usize = 2048;
const BLOCK: usize = 256;
const PARTS: usize = 16;
/// Bytes of matrices and their sums that are on the device at once.
const AT_ONCE: u64 = 1 << 30;
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
        let [own, diagonal] = [device.alloc::<f64>(count * n)?, device.alloc(count * n)?];
        let [off, values] = [device.alloc::<f64>(count * n)?, device.alloc(count * n)?];
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
        let args = [gram.arg(), rows, diagonal.arg(), off.arg()];
        device.launch("tridiagonal", (many, 1, 1), REDUCERS, (8 * (2 * n + 33)) as u32, &args)?;
        let args = [diagonal.arg(), off.arg(), rows, values.arg()];
        device.launch("tridiagonal_values", (many, 1, 1), THREADS, (16 * n) as u32, &args)?;
        Ok((values, own))
    }
}

/// Depth of a part, and parts.
fn cut(depth: usize) -> (usize, usize) {
    let part = depth.div_ceil(PARTS).max(PART).next_multiple_of(BLOCK);
    (part, depth.div_ceil(part))
}
