//! Nearest neighbours, exactly, by comparing every pair.

use super::buffer::Arg;
use super::{Cuda, ROWS_PER_WARP, THREADS, narrow, warps};
use crate::{KernelError, MatRef, Metric, Neighbours};

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
        let (wide, dot) = (narrow(k)?, u32::from(metric == Metric::Dot));
        let mut out = Neighbours { k, ..Neighbours::default() };
        self.each_block(queries, |q, range| {
            self.check_rows("top_k: queries", q, range.start)?;
            let mut index = vec![u32::MAX; range.len() * k];
            let mut value = vec![metric.worst(); range.len() * k];
            let (held_index, held_value) = (self.device.upload(&index)?, self.device.upload(&value)?);
            let skip = skip_self.map_or(-1, |offset| i64::try_from(offset + range.start).unwrap_or(-1));
            self.each_block(base, |b, part| {
                self.check_rows("top_k: base", b, part.start)?;
                let [data, count, dim] = q.args();
                let rows = [data, count, b.data.arg(), Arg::U32(b.count as u32), dim, Arg::U32(part.start as u32)];
                let lists = [Arg::U32(wide), Arg::U32(dot), Arg::I64(skip), held_value.arg(), held_index.arg()];
                let args = [&rows[..], &lists].concat();
                self.device.launch("top_k", warps(q.count.div_ceil(ROWS_PER_WARP)), THREADS, 0, &args)
            })?;
            self.device.download(&held_index, &mut index)?;
            self.device.download(&held_value, &mut value)?;
            out.index.extend(index);
            out.value.extend(value);
            Ok(())
        })?;
        Ok(out)
    }
}
