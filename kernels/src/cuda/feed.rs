//! Rows that do not fit on the device pass through it: two buffers there, two pinned ones here and two streams, so that the next block
//! travels while kernels work on this one.

use std::ops::Range;
use std::sync::PoisonError;

use cudarc::driver::{CudaEvent, PinnedHostSlice, result};

use super::buffer::{Buffer, Plain};
use super::device::{Body, Device};
use super::real::Real;
use crate::KernelError;

/// One of the two lanes.
struct Lane {
    host: PinnedHostSlice<u8>,
    /// The last copy out of `host` has ended.
    sent: Option<CudaEvent>,
    /// The last kernels that read the device's buffer have ended.
    used: Option<CudaEvent>,
}

impl Lane {
    /// With pinned memory left by the last feed where that is enough: to pin is slow.
    fn new(real: &Real, bytes: usize) -> Result<Self, KernelError> {
        let mut spare = real.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = spare.iter().position(|host| host.len() >= bytes) {
            return Ok(Self { host: spare.swap_remove(at), sent: None, used: None });
        }
        // SAFETY: written before it is read.
        let host = unsafe { real.copy.context().alloc_pinned::<u8>(bytes.max(1)) }.map_err(|e| real.failed(e))?;
        Ok(Self { host, sent: None, used: None })
    }
}

impl Device {
    /// Call `body(block, range)` for every `block` elements of `data` in order; `block` holds those of `range` at its start. What `body`
    /// queues runs while the next block travels.
    ///
    /// # Errors
    /// [`KernelError::OutOfMemory`], and those of `body`.
    pub fn feed<T: Plain>(
        &self,
        data: &[T],
        block: usize,
        mut body: impl FnMut(&Buffer<T>, Range<usize>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        let block = block.clamp(1, data.len().max(1));
        let ranges: Vec<_> = (0..data.len()).step_by(block).map(|at| at..(at + block).min(data.len())).collect();
        let buffers = [self.alloc::<T>(block)?, self.alloc::<T>(if ranges.len() > 1 { block } else { 0 })?];
        let Body::Real(real) = &self.core.body else {
            return self.feed_plainly(data, ranges, &buffers, body);
        };
        if ranges.len() < 2 {
            return self.feed_plainly(data, ranges, &buffers, body);
        }
        let mut lanes = [Lane::new(real, block * size_of::<T>())?, Lane::new(real, buffers[1].len() * size_of::<T>())?];
        let result = through(real, data, &ranges, &buffers, &mut lanes, &mut body);
        // Buffers and pinned memory must outlive every copy, also after an error.
        let drained = real.copy.synchronize().and_then(|()| real.main.synchronize()).map_err(|e| real.failed(e));
        if drained.is_ok() {
            let mut spare = real.spare.lock().unwrap_or_else(PoisonError::into_inner);
            spare.clear();
            spare.extend(lanes.map(|lane| lane.host));
        }
        result.and(drained)
    }
}

impl Device {
    fn feed_plainly<T: Plain>(
        &self,
        data: &[T],
        ranges: Vec<Range<usize>>,
        buffers: &[Buffer<T>; 2],
        mut body: impl FnMut(&Buffer<T>, Range<usize>) -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        for (b, range) in ranges.into_iter().enumerate() {
            self.copy_into(&data[range.clone()], &buffers[b % 2], 0)?;
            body(&buffers[b % 2], range)?;
        }
        Ok(())
    }
}

fn through<T: Plain>(
    real: &Real,
    data: &[T],
    ranges: &[Range<usize>],
    buffers: &[Buffer<T>; 2],
    lanes: &mut [Lane; 2],
    body: &mut impl FnMut(&Buffer<T>, Range<usize>) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    let failed = |e| real.failed(e);
    // Memory is given in the order of the main stream: the copies must not begin before.
    let ready = real.main.record_event(None).map_err(failed)?;
    real.copy.wait(&ready).map_err(failed)?;
    let send = |b: usize, lanes: &mut [Lane; 2]| -> Result<(), KernelError> {
        let (lane, part) = (&mut lanes[b % 2], &data[ranges[b].clone()]);
        if let Some(sent) = lane.sent.take() {
            sent.synchronize().map_err(failed)?;
        }
        if let Some(used) = lane.used.take() {
            real.copy.wait(&used).map_err(failed)?;
        }
        let size = size_of_val(part);
        let host = lane.host.as_mut_ptr().map_err(failed)?;
        // SAFETY: the pinned block holds `size` bytes and no copy reads it now; the device's buffer is as large.
        unsafe {
            std::ptr::copy_nonoverlapping(part.as_ptr().cast::<u8>(), host, size);
            let staged = std::slice::from_raw_parts(host, size);
            result::memcpy_htod_async(buffers[b % 2].place(0), staged, real.copy.cu_stream()).map_err(failed)?;
        }
        lane.sent = Some(real.copy.record_event(None).map_err(failed)?);
        Ok(())
    };
    if !ranges.is_empty() {
        send(0, lanes)?;
    }
    for (b, range) in ranges.iter().enumerate() {
        if b + 1 < ranges.len() {
            send(b + 1, lanes)?;
        }
        if let Some(sent) = &lanes[b % 2].sent {
            real.main.wait(sent).map_err(failed)?;
        }
        body(&buffers[b % 2], range.clone())?;
        lanes[b % 2].used = Some(real.main.record_event(None).map_err(failed)?);
    }
    Ok(())
}
