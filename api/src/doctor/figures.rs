//! What the chip can do at best, and how near to it the kernels come.

use super::{Figure, Roof, Size, Subject, is_out_of_memory};
use crate::Result;
use curate_core::kernels::cuda::doctor::Measured;
use curate_core::kernels::cuda::{Arg, Cuda};
use curate_core::kernels::nn::{Mat, MatMut, gemm};
use curate_core::kernels::transport::{Entropic, Ground, Points};
use curate_core::kernels::{KernelError, MatRef};
use rayon::prelude::*;
use std::cell::RefCell;
use std::time::Instant;

/// Exponentials a thread takes, and threads of a block, when their rate is measured.
const TURNS: u32 = 4096;
const THREADS: u32 = 256;
/// Bytes that a number of a clustering takes on a device: itself, its image, and some room.
const BYTES: u64 = 8;

/// Large product, large copy, exponentials; what could not be measured comes as a figure that says why.
pub(super) fn roofs(s: &Subject<'_>) -> Result<(Vec<Roof>, Vec<Figure>)> {
    let (mut roofs, mut failed) = (Vec::new(), Vec::new());
    let mut one = |name: &str, unit: &str, measure: &dyn Fn() -> Result<(String, f64)>| -> Result<()> {
        let figure = s.figure(name, String::new(), |figure| {
            let (size, rate) = measure()?;
            (figure.size, figure.rate) = (size, Some(rate));
            Ok(())
        })?;
        match figure.rate {
            Some(rate) => {
                roofs.push(Roof { name: name.to_owned(), size: figure.size, rate, unit: unit.to_owned() });
            }
            None => failed.push(figure),
        }
        Ok(())
    };
    if let Some(cuda) = &s.cuda {
        let (side, bytes) = match s.size {
            Size::Tiny => (32, 1 << 12),
            Size::Quick => (4096, 1 << 30),
            Size::Full => (8192, 1 << 32),
        };
        let bytes = bytes.min(usize::try_from(cuda.device().info().free / 4).unwrap_or(bytes));
        one("product", "TFLOP/s", &|| {
            cuda.measure_product(side).map(|m| (m.name.clone(), m.tflops())).map_err(Into::into)
        })?;
        one("copy", "GB/s", &|| cuda.measure_copy(bytes).map(|m| (m.name.clone(), m.gbytes())).map_err(Into::into))?;
        one("exponentials", "Gexp/s", &|| exponentials(s, cuda))?;
    } else {
        one("product", "TFLOP/s", &|| product(s))?;
        one("copy", "GB/s", &|| copy(s))?;
    }
    Ok((roofs, failed))
}

fn exponentials(s: &Subject<'_>, cuda: &Cuda) -> Result<(String, f64)> {
    let (blocks, turns) = if s.size == Size::Tiny { (1, 4) } else { (1 << 14, TURNS) };
    let count = u64::from(blocks) * u64::from(THREADS);
    let device = cuda.device();
    let out = device.alloc::<f32>(usize::try_from(count).unwrap_or(usize::MAX))?;
    let seconds =
        s.seconds(|| Ok(device.launch("roof_exp", (blocks, 1, 1), THREADS, 0, &[out.arg(), Arg::U32(turns)])?))?;
    let all = 4 * count * u64::from(turns);
    Ok((format!("{:.0e} of exp2f", all as f64), all as f64 / seconds / 1e9))
}

fn product(s: &Subject<'_>) -> Result<(String, f64)> {
    let side = if s.size == Size::Full { 2048 } else { 512 };
    let a: Vec<f32> = (0..side * side).map(|i| (i % 17) as f32 - 8.0).collect();
    let mut c = vec![0.0; side * side];
    let seconds = s.seconds(|| {
        gemm(MatMut::new(&mut c, side, side), 0.0, 1.0, Mat::new(&a, side, side), Mat::new(&a, side, side).t());
        Ok(())
    })?;
    Ok((format!("f32 product {side}^3"), 2.0 * (side as f64).powi(3) / seconds / 1e12))
}

fn copy(s: &Subject<'_>) -> Result<(String, f64)> {
    const PART: usize = 1 << 18;
    let len: usize = if s.size == Size::Full { 1 << 27 } else { 1 << 23 };
    let from: Vec<u32> = (0..len as u32).collect();
    let mut to = vec![0u32; len];
    let seconds = s.seconds(|| {
        to.par_chunks_mut(PART).zip(from.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
        Ok(())
    })?;
    Ok((format!("copy of {} MiB", len >> 18), 8.0 * len as f64 / seconds / 1e9))
}

/// Clustering, transport, and on a device also nuclear norms.
pub(super) fn kernels(s: &Subject<'_>) -> Result<Vec<Figure>> {
    let Some(cuda) = &s.cuda else { return processor(s) };
    let mut all = Vec::new();
    let (shapes, k, side, norms) = match s.size {
        Size::Tiny => ([(300, 24), (200, 40)], 33, 60, (3, 9, 40)),
        Size::Quick => ([(1 << 20, 128), (1 << 17, 384)], 1024, 8192, (256, 64, 4096)),
        Size::Full => ([(8_000_000, 128), (1_000_000, 384)], 1024, 20_000, (1024, 128, 4096)),
    };
    for (rows, dim) in shapes {
        all.push(s.figure("k-means, assign", format!("{rows} x {dim}, k {k}"), |figure| {
            let room = cuda.device().info().free / 2 / (BYTES * dim as u64);
            let mut rows = rows.min(usize::try_from(room).unwrap_or(rows));
            let found = loop {
                match cuda.measure_assign(rows, dim, k) {
                    Err(error) if is_out_of_memory(&error) && rows > 10_000 => rows /= 2,
                    other => break other?,
                }
            };
            filled(figure, &found, found.tflops(), "TFLOP/s");
            figure.goal = Some("300 TFLOP/s".to_owned());
            figure.note = Some("labels of the processor, to the bit (see checks)".to_owned());
            Ok(())
        })?);
    }
    all.push(s.figure("transport, one sweep", format!("{side} x {side}"), |figure| {
        let found = cuda.measure_sweep(side, side, if s.size == Size::Tiny { 8 } else { 64 })?;
        filled(figure, &found, 2.0 * (side as f64).powi(2) / found.seconds / 1e9, "Gexp/s");
        figure.goal = Some("50 % of the exponentials".to_owned());
        figure.note = Some(format!("{:.1} TFLOP/s of costs made anew", found.tflops()));
        Ok(())
    })?);
    all.push(s.figure("nuclear norms", format!("{norms:?}"), |figure| {
        let found = cuda.measure_norms(norms.0, norms.1, norms.2)?;
        filled(figure, &found, found.tflops(), "TFLOP/s");
        Ok(())
    })?);
    Ok(all)
}

fn filled(figure: &mut Figure, found: &Measured, rate: f64, unit: &str) {
    figure.size.clone_from(&found.name);
    (figure.seconds, figure.rate) = (Some(found.seconds), Some(rate));
    unit.clone_into(&mut figure.unit);
}

/// The same tasks, smaller, on the processor.
fn processor(s: &Subject<'_>) -> Result<Vec<Figure>> {
    let (rows, dim, k, side) = match s.size {
        Size::Tiny => (500, 16, 20, 60),
        Size::Quick => (20_000, 128, 256, 500),
        Size::Full => (200_000, 128, 1024, 3000),
    };
    let rows = rows.min(usize::try_from(s.memory / 16 / dim as u64).unwrap_or(rows)).max(k);
    let assign = s.figure("k-means, assign", format!("{rows} x {dim}, k {k}"), |figure| {
        let (x, c) = (random(1, rows * dim), random(2, k * dim));
        let (x, c, mut labels) = (MatRef::new(&x, dim)?, MatRef::new(&c, dim)?, vec![0; rows]);
        let mut held = s.backend.lloyd(x)?;
        let seconds = s.seconds(|| Ok(held.assign(c, &mut labels, &|rows| s.ctx.tick(rows).is_ok())?))?;
        figure.seconds = Some(seconds);
        figure.rate = Some(2.0 * (rows * k * dim) as f64 / seconds / 1e12);
        "TFLOP/s".clone_into(&mut figure.unit);
        figure.note = Some("all pairs counted, also those that a bound rules out".to_owned());
        Ok(())
    })?;
    let sweep = s.figure("transport, one sweep", format!("{side} x {side}, 64 wide"), |figure| {
        let (x, y) = (random(3, side * 64), random(4, side * 64));
        let clouds = Points::new(MatRef::new(&x, 64)?, MatRef::new(&y, 64)?, Ground::SqEuclidean)?;
        let weights = vec![1.0 / side as f64; side];
        // The time between two calls of the tick is that of a sweep over all rows.
        let (last, best) = (RefCell::new(Instant::now()), RefCell::new((0, f64::INFINITY)));
        let tick = |_| {
            let seconds = last.replace(Instant::now()).elapsed().as_secs_f64();
            let mut best = best.borrow_mut();
            *best = (best.0 + 1, if best.0 > 0 { best.1.min(seconds) } else { best.1 });
            best.0 < 6 && s.ctx.tick(0).is_ok()
        };
        match s.backend.sinkhorn(&clouds, &weights, &weights, &Entropic::new(1.0), &tick) {
            Ok(_) | Err(KernelError::Stopped) => s.ctx.tick(0)?,
            Err(other) => return Err(other.into()),
        }
        let seconds = best.borrow().1;
        figure.seconds = Some(seconds);
        figure.rate = Some((side as f64).powi(2) / seconds / 1e9);
        "Gexp/s".clone_into(&mut figure.unit);
        Ok(())
    })?;
    Ok(vec![assign, sweep])
}

/// Numbers in [-1, 1) by the finaliser of `SplitMix64`, the same for the same seed.
fn random(seed: u64, len: usize) -> Vec<f32> {
    let one = |at: usize| {
        let mut z = (seed << 40 | at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..len).into_par_iter().map(one).collect()
}
