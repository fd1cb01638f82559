//! Nearest neighbours, exactly: the host's half. Up to 16 of them by the shortlist of tensor cores, more by comparing every pair.

use super::buffer::{Arg, Buffer};
use super::nearest::{Frame, Images, Sweep};
use super::{Cuda, ROWS_PER_WARP, Rows, THREADS, narrow, warps};
use crate::{KernelError, MatRef, Metric, Neighbours};

/// Neighbours that the bounds of a row can vouch for (twice `LISTS` in the source).
const FEW: usize = 16;
/// Base rows that a query may be compared with before it is compared with all (`CANDIDATES` in the source).
const CANDIDATES: usize = 64;
/// Narrower rows are compared pair by pair as fast.
const NARROW: usize = 16;

/// Lists of the nearest so far, on the device, and what they are lists of.
struct Lists {
    k: u32,
    dot: u32,
    /// Base row that query 0 must not meet, or -1.
    skip: i64,
    value: Buffer<f32>,
    index: Buffer<u32>,
}

impl Lists {
    fn args(&self, start: u32) -> [Arg<'_>; 6] {
        let (k, dot, skip) = (Arg::U32(self.k), Arg::U32(self.dot), Arg::I64(self.skip));
        [Arg::U32(start), k, dot, skip, self.value.arg(), self.index.arg()]
    }
}

impl Cuda {
    /// As [`crate::Backend::top_k`]; shapes are checked by the caller.
    pub(super) fn neighbours(
        &self,
        queries: MatRef<'_>,
        base: MatRef<'_>,
        k: usize,
        metric: Metric,
        skip_self: Option<usize>,
    ) -> Result<Neighbours, KernelError> {
        let dot = metric == Metric::Dot;
        let quick = (1..=FEW).contains(&k) && base.dim() >= NARROW;
        let frame = if quick { self.frame(base, base.rows(), !dot)? } else { None };
        let mut out = Neighbours { k, ..Neighbours::default() };
        self.each_block(queries, |q, range| {
            self.check_rows("top_k: queries", q, range.start)?;
            let mut index = vec![u32::MAX; range.len() * k];
            let mut value = vec![metric.worst(); range.len() * k];
            let lists = Lists {
                k: narrow(k)?,
                dot: u32::from(dot),
                skip: skip_self.map_or(-1, |offset| i64::try_from(offset + range.start).unwrap_or(-1)),
                value: self.device.upload(&value)?,
                index: self.device.upload(&index)?,
            };
            let images = frame.as_ref().map(|frame| self.images(frame, q)).transpose()?;
            self.each_block(base, |b, part| {
                self.check_rows("top_k: base", b, part.start)?;
                let quickly = frame.as_ref().zip(images.as_ref());
                if let Some((frame, images)) = quickly.filter(|_| Frame::serves(part.len()))
                    && self.offer_quickly(frame, (q, images), b, &lists, part.start as u32)?
                {
                    return Ok(());
                }
                let [data, count, dim] = q.args();
                let rows = [data, count, b.data.arg(), Arg::U32(b.count as u32), dim];
                let args = [&rows[..], &lists.args(part.start as u32)].concat();
                self.device.launch("top_k", warps(q.count.div_ceil(ROWS_PER_WARP)), THREADS, 0, &args)
            })?;
            self.device.download(&lists.index, &mut index)?;
            self.device.download(&lists.value, &mut value)?;
            out.index.extend(index);
            out.value.extend(value);
            Ok(())
        })?;
        Ok(out)
    }

    /// Offer base rows by the shortlist; `false` when one of them is too long for the bound.
    fn offer_quickly(
        &self,
        frame: &Frame,
        (q, images): (Rows<'_>, &Images),
        base: Rows<'_>,
        lists: &Lists,
        start: u32,
    ) -> Result<bool, KernelError> {
        let Some(columns) = self.columns(frame, base)? else { return Ok(false) };
        let queries = q.count as usize;
        let candidates = self.device.alloc::<u32>(queries * CANDIDATES)?;
        let (open, count) = (self.device.alloc::<u32>(queries)?, self.device.zeros::<u32>(1)?);
        let out = [candidates.arg(), open.arg(), count.arg()];
        let sweep = Sweep { frame, x: q, images, base, columns: &columns };
        self.sweep("top_k_shortlist", &sweep, &[&lists.args(start)[..], &out].concat())?;
        let them = [q.data.arg(), base.data.arg(), Arg::U32(base.count as u32), Arg::U32(q.dim)];
        let args = [&them[..], &lists.args(start), &out[1..]].concat();
        self.device.launch("top_k_open", (warps(q.count).0.min(4096), 1, 1), THREADS, 0, &args)?;
        Ok(true)
    }
}
