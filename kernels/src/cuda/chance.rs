//! Beta draws on the device, the host's half of `chance.cu`.

use super::buffer::Arg;
use super::{Cuda, THREADS, threads};
use crate::KernelError;
use crate::chance::tables;

/// Rows sent at once.
const ROWS: usize = 1 << 22;

impl Cuda {
    /// As [`crate::Backend::beta_draws`]; lengths and shapes are checked by the caller.
    pub(super) fn draws(&self, key: u64, rows: &[u64], shapes: &[[f64; 2]]) -> Result<Vec<f64>, KernelError> {
        let table = self.device.upload(&tables())?;
        let mut draws = vec![0.0; rows.len()];
        for ((rows, shapes), draws) in rows.chunks(ROWS).zip(shapes.chunks(ROWS)).zip(draws.chunks_mut(ROWS)) {
            let (held, shapes) = (self.device.upload(rows)?, self.device.upload(shapes.as_flattened())?);
            let (n, out) = (rows.len() as u64, self.device.alloc::<f64>(rows.len())?);
            let args = [Arg::U64(key), held.arg(), shapes.arg(), Arg::U64(n), table.arg(), out.arg()];
            self.device.launch("beta_draws", threads(n), THREADS, 0, &args)?;
            self.device.download(&out, draws)?;
        }
        Ok(draws)
    }
}
