//! How long the device takes for what is queued.

use std::time::Instant;

use cudarc::driver::CudaEvent;
use cudarc::driver::sys::CUevent_flags;

use super::device::{Body, Device};
use crate::KernelError;

/// A point in a device's queue.
pub struct Mark(Point);

enum Point {
    Event(CudaEvent),
    Time(Instant),
}

impl Device {
    /// A point in the queue to measure from.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    pub fn mark(&self) -> Result<Mark, KernelError> {
        match &self.core.body {
            Body::Real(real) => {
                let event =
                    real.main.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(|e| real.failed(e))?;
                Ok(Mark(Point::Event(event)))
            }
            Body::Emulated => Ok(Mark(Point::Time(Instant::now()))),
        }
    }

    /// Seconds the device took between two marks; waits for the second.
    ///
    /// # Errors
    /// [`KernelError::Device`].
    pub fn seconds(&self, from: &Mark, to: &Mark) -> Result<f64, KernelError> {
        match (&from.0, &to.0) {
            (Point::Event(from), Point::Event(to)) => {
                from.elapsed_ms(to).map(|ms| f64::from(ms) / 1e3).map_err(|e| self.fail(e.to_string()))
            }
            (Point::Time(from), Point::Time(to)) => Ok(to.duration_since(*from).as_secs_f64()),
            _ => Err(self.fail("marks of two devices")),
        }
    }
}
