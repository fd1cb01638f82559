//! Entropic transport and coverage on the device, the host's half of `transport.cu`.

#![allow(clippy::many_single_char_names)] // reason: n rows and m columns of x and y, potentials h

use std::f64::consts::{LN_2, LOG2_E};

use super::buffer::{Arg, Buffer, Plain};
use super::{Cuda, Device, THREADS, narrow, warps};
use crate::backend::Tick;
use crate::transport::{Clouds, Costs, Entropic, Ground, LogSums, Side, Sinkhorn, sinkhorn, solve};
use crate::{KernelError, MatRef};

/// Rows and columns of a tile (`SIDE` in the source).
const SIDE: usize = 64;
/// Blocks that a sweep is cut into, about, and columns of a part at least.
const BLOCKS: usize = 1024;
const PART: usize = 512;

/// Columns of each part for so many rows, and parts: the shapes alone decide.
fn parts(rows: usize, columns: usize) -> (usize, usize) {
    let wanted = (BLOCKS / rows.div_ceil(SIDE).max(1)).clamp(1, columns.div_ceil(PART).max(1));
    let part = columns.div_ceil(wanted).next_multiple_of(SIDE).max(SIDE);
    (part, columns.div_ceil(part).max(1))
}

/// A precision of the kernels.
trait Number: Plain {
    const POINTS: &'static str;
    const DENSE: &'static str;
    fn of(v: f64) -> Self;
    fn wide(self) -> f64;
}

impl Number for f32 {
    const POINTS: &'static str = "log_sums_single";
    const DENSE: &'static str = "dense_single";
    fn of(v: f64) -> Self {
        v as Self
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
}

impl Number for f64 {
    const POINTS: &'static str = "log_sums_double";
    const DENSE: &'static str = "dense_double";
    fn of(v: f64) -> Self {
        v
    }
    fn wide(self) -> f64 {
        self
    }
}

/// One cloud on the device, for each precision: points, and lengths as the kernel wants them.
struct Cloud {
    raw: Buffer<f32>,
    ready: Buffer<f32>,
    norms: Buffer<f32>,
    inverse: Buffer<f64>,
}

/// Costs on the device.
enum Placed {
    Points {
        clouds: [Cloud; 2],
        dim: u32,
        ground: u32,
    },
    /// A matrix and its transpose, and the same in double precision.
    Dense {
        single: [Buffer<f32>; 2],
        double: [Buffer<f64>; 2],
    },
}

pub(super) struct Sums {
    device: Device,
    counts: [usize; 2],
    placed: Placed,
}

impl Cuda {
    /// As [`sinkhorn`]; on the processor where the costs do not fit.
    pub(super) fn entropic(
        &self,
        costs: &dyn Costs,
        a: &[f64],
        b: &[f64],
        params: &Entropic,
        tick: Tick<'_>,
    ) -> Result<Sinkhorn, KernelError> {
        let place = |costs: &dyn Costs| Sums::new(&self.device, costs).map(|sums| Box::new(sums) as Box<dyn LogSums>);
        match solve(costs, a, b, params, tick, place) {
            Err(KernelError::OutOfMemory { .. }) => sinkhorn(costs, a, b, params, tick),
            other => other,
        }
    }

    /// As [`crate::Backend::coverage_gains`]; shapes are checked by the caller.
    pub(super) fn gains(&self, x: MatRef<'_>, c: MatRef<'_>, best: &[f32]) -> Result<Vec<f64>, KernelError> {
        let (candidates, mut gains) = (self.hold(c)?, vec![0.0; c.rows()]);
        self.each_block(x, |rows, range| {
            let (part, count) = parts(c.rows(), range.len());
            let (held, out) = (self.device.upload(&best[range])?, self.device.alloc::<f64>(count * c.rows())?);
            let grid = (c.rows().div_ceil(SIDE) as u32, count as u32, 1);
            let [data, n, dim] = rows.args();
            let them = [candidates.data.arg(), Arg::U64(c.rows() as u64), data, n, dim];
            let args = [&them[..], &[held.arg(), Arg::U64(part as u64), out.arg()]].concat();
            self.device.launch("coverage_gains", grid, THREADS, 0, &args)?;
            let mut found = vec![0.0; count * c.rows()];
            self.device.download(&out, &mut found)?;
            found.chunks_exact(c.rows().max(1)).for_each(|part| gains.iter_mut().zip(part).for_each(|(g, p)| *g += p));
            Ok(())
        })?;
        Ok(gains)
    }
}

impl Sums {
    pub(super) fn new(device: &Device, costs: &dyn Costs) -> Result<Self, KernelError> {
        let counts = [costs.rows(), costs.cols()];
        let placed = match costs.clouds() {
            Some(clouds) => Self::points(device, &clouds)?,
            None => Self::dense(device, costs)?,
        };
        Ok(Self { device: device.clone(), counts, placed })
    }

    fn points(device: &Device, clouds: &Clouds) -> Result<Placed, KernelError> {
        let cloud = |side: usize| -> Result<Cloud, KernelError> {
            Ok(Cloud {
                raw: device.upload(&clouds.raw[side])?,
                ready: device.upload(&clouds.ready[side])?,
                norms: device.upload(&clouds.norms[side])?,
                inverse: device.upload(&clouds.inverse[side])?,
            })
        };
        let ground = match clouds.ground {
            Ground::SqEuclidean => 0,
            Ground::Euclidean => 1,
            Ground::Cosine => 2,
        };
        Ok(Placed::Points { clouds: [cloud(0)?, cloud(1)?], dim: narrow(clouds.dim)?, ground })
    }

    fn dense(device: &Device, costs: &dyn Costs) -> Result<Placed, KernelError> {
        let (n, m) = (costs.rows(), costs.cols());
        let single = [device.alloc::<f32>(n * m)?, device.alloc::<f32>(n * m)?];
        let double = [device.alloc::<f64>(n * m)?, device.alloc::<f64>(n * m)?];
        let mut row = vec![0.0; m];
        let mut narrow = vec![0.0; m];
        for i in 0..n {
            costs.row(i, &mut row);
            if row.iter().any(|c| !c.is_finite()) {
                return Err(KernelError::NotFinite { op: "transport", row: i });
            }
            narrow.iter_mut().zip(&row).for_each(|(to, from)| *to = *from as f32);
            device.copy_into(&row, &double[0], i * m)?;
            device.copy_into(&narrow, &single[0], i * m)?;
        }
        let grid = (m.div_ceil(32) as u32, n.div_ceil(32) as u32, 1);
        let size = [Arg::U64(n as u64), Arg::U64(m as u64)];
        device.launch("turn_single", grid, 256, 0, &[single[0].arg(), size[0], size[1], single[1].arg()])?;
        device.launch("turn_double", grid, 256, 0, &[double[0].arg(), size[0], size[1], double[1].arg()])?;
        Ok(Placed::Dense { single, double })
    }

    /// Largest exponents, sums and paid sums of one side, in parts one after another.
    fn run<T: Number>(&self, side: Side, h: &[T], scale: f64) -> Result<[Vec<f64>; 3], KernelError> {
        let (own, other) = if side == Side::Rows { (0, 1) } else { (1, 0) };
        let (n, m) = (self.counts[own], self.counts[other]);
        let (part, count) = match &self.placed {
            Placed::Points { .. } => parts(n, m),
            Placed::Dense { .. } => (m, 1),
        };
        let held = self.device.upload(h)?;
        let (top, sum) = (self.device.alloc::<T>(n * count)?, self.device.alloc::<f64>(n * count)?);
        let paid = self.device.alloc::<f64>(n * count)?;
        let (n_arg, m_arg, out) = (Arg::U64(n as u64), Arg::U64(m as u64), [top.arg(), sum.arg(), paid.arg()]);
        let single = size_of::<T>() == 4;
        match &self.placed {
            Placed::Points { clouds, dim, ground } => {
                let cloud = |c: usize| {
                    let c = &clouds[c];
                    if single { (c.ready.arg(), c.norms.arg()) } else { (c.raw.arg(), c.inverse.arg()) }
                };
                let ((x, x_size), (y, y_size)) = (cloud(own), cloud(other));
                let args = [x, x_size, n_arg, y, y_size, m_arg, Arg::U32(*dim), Arg::U32(*ground), held.arg()];
                let args = [&args[..], &[Arg::F64(scale), Arg::U64(part as u64)], &out].concat();
                self.device.launch(T::POINTS, (n.div_ceil(SIDE) as u32, count as u32, 1), THREADS, 0, &args)?;
            }
            Placed::Dense { single: narrow, double } => {
                let costs = if single { narrow[own].arg() } else { double[own].arg() };
                let args = [&[costs, n_arg, m_arg, held.arg(), Arg::F64(scale)][..], &out].concat();
                self.device.launch(T::DENSE, warps(n as u64), THREADS, 0, &args)?;
            }
        }
        let mut tops = vec![T::of(0.0); n * count];
        let (mut sums, mut pays) = (vec![0.0; n * count], vec![0.0; n * count]);
        self.device.download(&top, &mut tops)?;
        self.device.download(&sum, &mut sums)?;
        self.device.download(&paid, &mut pays)?;
        Ok([tops.into_iter().map(T::wide).collect(), sums, pays])
    }

    fn half_in<T: Number>(
        &self,
        side: Side,
        h: &[f64],
        eps: f64,
        paid: Option<&mut Vec<f64>>,
    ) -> Result<Vec<f64>, KernelError> {
        let h: Vec<T> = h.iter().map(|h| T::of(h * LOG2_E)).collect();
        let [tops, sums, pays] = self.run::<T>(side, &h, LOG2_E / eps)?;
        let n = self.counts[usize::from(side == Side::Columns)];
        let place = |i: usize| (i..tops.len()).step_by(n);
        let best = |i: usize| place(i).map(|at| tops[at]).fold(f64::NEG_INFINITY, f64::max);
        let total = |i: usize, of: &[f64], best: f64| {
            place(i)
                .map(|at| if tops[at] > f64::NEG_INFINITY { of[at] * (tops[at] - best).exp2() } else { 0.0 })
                .sum::<f64>()
        };
        let all: Vec<(f64, f64)> = (0..n).map(|i| (best(i), total(i, &sums, best(i)))).collect();
        if let Some(paid) = paid {
            *paid = all.iter().enumerate().map(|(i, (best, sum))| total(i, &pays, *best) / sum).collect();
        }
        Ok(all.into_iter().map(|(best, sum)| (best + sum.log2()) * LN_2).collect())
    }
}

impl LogSums for Sums {
    fn half(
        &self,
        side: Side,
        h: &[f64],
        eps: f64,
        wide: bool,
        paid: Option<&mut Vec<f64>>,
    ) -> Result<Vec<f64>, KernelError> {
        if wide { self.half_in::<f64>(side, h, eps, paid) } else { self.half_in::<f32>(side, h, eps, paid) }
    }

    /// With no weights and a scale of -1 the largest exponent is the largest cost.
    fn largest(&self) -> Result<f64, KernelError> {
        let [tops, ..] = self.run::<f32>(Side::Rows, &vec![0.0; self.counts[1]], -1.0)?;
        match tops.iter().position(|t| !t.is_finite()) {
            Some(at) => Err(KernelError::NotFinite { op: "transport", row: at % self.counts[0] }),
            None => Ok(tops.into_iter().fold(0.0, f64::max)),
        }
    }
}
