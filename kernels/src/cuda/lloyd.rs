//! Repeated assignment: the rows stay on the device when they take at most half of its free memory.

use super::{Cuda, Held};
use crate::backend::{PlainLloyd, TICK_ROWS, Tick, check_assign};
use crate::{KernelError, Lloyd, MatRef};

/// Rows resident on the device, in parts of [`TICK_ROWS`].
struct Resident<'a> {
    cuda: &'a Cuda,
    x: MatRef<'a>,
    parts: Vec<Held>,
    sq_dist: Vec<f32>,
}

/// Keep `x` on the device if it fits, else stream it at every call.
pub(super) fn open<'a>(cuda: &'a Cuda, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
    if x.data().len() as u64 * 4 > cuda.device.info().free / 2 {
        return Ok(Box::new(PlainLloyd { backend: cuda, x, sq_dist: Vec::new() }));
    }
    let mut parts = Vec::new();
    for start in (0..x.rows()).step_by(TICK_ROWS) {
        let held = cuda.hold(x.slice(start..(start + TICK_ROWS).min(x.rows())))?;
        cuda.check_rows("assign", &held, start)?;
        parts.push(held);
    }
    Ok(Box::new(Resident { cuda, x, parts, sq_dist: vec![0.0; x.rows()] }))
}

impl Lloyd for Resident<'_> {
    fn assign(&mut self, centroids: MatRef<'_>, labels: &mut [u32], tick: Tick<'_>) -> Result<(), KernelError> {
        check_assign(self.x, centroids, labels.len(), labels.len())?;
        let c = self.cuda.hold(centroids)?;
        self.cuda.check_rows("assign: centroids", &c, 0)?;
        let outputs = labels.chunks_mut(TICK_ROWS).zip(self.sq_dist.chunks_mut(TICK_ROWS));
        for (held, (labels, sq_dist)) in self.parts.iter().zip(outputs) {
            self.cuda.assign_held(held, &c, labels, sq_dist)?;
            if !tick(held.rows) {
                return Err(KernelError::Stopped);
            }
        }
        Ok(())
    }
}
