//! Repeated assignment: rows and their images stay on the device when they take at most half of its free memory, else the rows pass
//! through it at every call.

use super::nearest::{Columns, Frame, Images};
use super::{Cuda, Held, Rows, block_rows};
use crate::backend::{Tick, check_assign};
use crate::{KernelError, Lloyd, MatRef, SegmentSums};

/// Rows between two ticks, at most.
const PART_ROWS: usize = 1 << 20;

/// Rows on the device, and their images where the tensor cores are of use.
struct Part {
    held: Held,
    images: Option<Images>,
}

/// Rows that are assigned again and again.
struct Repeated<'a> {
    cuda: &'a Cuda,
    x: MatRef<'a>,
    frame: Option<Frame>,
    /// Empty where the rows do not stay.
    parts: Vec<Part>,
}

/// Keep `x` on the device if it fits.
pub(super) fn open<'a>(cuda: &'a Cuda, x: MatRef<'a>) -> Result<Box<dyn Lloyd + 'a>, KernelError> {
    let frame = cuda.frame(x, usize::MAX, true)?;
    let mut rows = Repeated { cuda, x, frame, parts: Vec::new() };
    let fits = x.data().len() as u64 * 6 <= cuda.device.info().free / 2;
    match if fits { rows.stay() } else { rows.check() } {
        Err(KernelError::OutOfMemory { .. }) => {
            rows.parts.clear();
            rows.check()?;
        }
        other => other?,
    }
    Ok(Box::new(rows))
}

impl Repeated<'_> {
    /// Bring all rows and their images to the device.
    fn stay(&mut self) -> Result<(), KernelError> {
        for start in (0..self.x.rows()).step_by(PART_ROWS) {
            let held = self.cuda.hold(self.x.slice(start..(start + PART_ROWS).min(self.x.rows())))?;
            self.cuda.check_rows("assign", held.rows(), start)?;
            let images = self.frame.as_ref().map(|frame| self.cuda.images(frame, held.rows())).transpose()?;
            self.parts.push(Part { held, images });
        }
        Ok(())
    }

    /// Look at all rows as they pass.
    fn check(&self) -> Result<(), KernelError> {
        self.cuda.each_block(self.x, |part, range| self.cuda.check_rows("assign", part, range.start))
    }

    /// Labels of some rows, with their images if there are any.
    fn label(
        &self,
        x: Rows<'_>,
        images: Option<&Images>,
        c: Rows<'_>,
        columns: Option<&Columns>,
        labels: &mut [u32],
    ) -> Result<(), KernelError> {
        let out = self.cuda.device.alloc::<u32>(labels.len())?;
        match (&self.frame, images, columns) {
            (Some(frame), Some(images), Some(columns)) => {
                self.cuda.label(x, images, c, (frame, columns), &out).map(drop)?;
            }
            _ => self.cuda.label_plainly(x, c, &out, None)?,
        }
        self.cuda.device.download(&out, labels)
    }
}

impl Lloyd for Repeated<'_> {
    fn assign(&mut self, centroids: MatRef<'_>, labels: &mut [u32], tick: Tick<'_>) -> Result<(), KernelError> {
        check_assign(self.x, centroids, labels.len(), labels.len())?;
        let c = self.cuda.hold(centroids)?;
        self.cuda.check_rows("assign: centroids", c.rows(), 0)?;
        let useful = self.frame.as_ref().filter(|_| Frame::serves(centroids.rows()));
        let columns = || useful.map_or(Ok(None), |frame| self.cuda.columns(frame, c.rows()));
        let ask = |rows: u64| if tick(rows) { Ok(()) } else { Err(KernelError::Stopped) };
        if !self.parts.is_empty() {
            let columns = columns()?;
            for (part, labels) in self.parts.iter().zip(labels.chunks_mut(PART_ROWS)) {
                self.label(part.held.rows(), part.images.as_ref(), c.rows(), columns.as_ref(), labels)?;
                ask(part.held.count)?;
            }
            return Ok(());
        }
        self.cuda.each_block(self.x, |part, range| {
            let images = useful.map(|frame| self.cuda.images(frame, part)).transpose()?;
            let columns = columns()?;
            self.label(part, images.as_ref(), c.rows(), columns.as_ref(), &mut labels[range])?;
            ask(part.count)
        })
    }

    fn shift(
        &mut self,
        x: MatRef<'_>,
        before: &[u32],
        after: &[u32],
        sums: &mut SegmentSums,
    ) -> Result<(), KernelError> {
        if self.parts.is_empty() {
            // Few rows move once a clustering has taken shape: the processor reads those alone.
            sums.shift(x, before, after);
            return Ok(());
        }
        let (scale, mut words) = (sums.scale(), sums.words());
        let held = self.cuda.device.upload(&words)?;
        let labels = before.chunks(PART_ROWS).zip(after.chunks(PART_ROWS));
        for (part, (before, after)) in self.parts.iter().zip(labels) {
            self.cuda.add_to_segments(part.held.rows(), Some(before), after, scale, &held)?;
        }
        self.cuda.device.download(&held, &mut words)?;
        sums.finish_shift(&words, before, after);
        Ok(())
    }
}

const _: () = assert!(PART_ROWS < u32::MAX as usize && block_rows(1) < u32::MAX as usize);
