//! The device layer on the emulated device.

#![allow(clippy::many_single_char_names)] // reason: as in the books

use std::ops::Range;

use super::*;
use crate::kmeans::{KMeansParams, fit};

#[test]
fn memory_is_counted_and_its_end_is_typed() {
    let Some(device) = emulated_for_tests() else { return };
    device.limit_memory(1000);
    let held = device.upload(&[1.0f32; 200]).unwrap();
    match device.alloc::<u32>(51) {
        Err(KernelError::OutOfMemory { device, wanted, free }) => {
            assert_eq!((device.as_str(), wanted, free), ("emulated", 204, 200));
        }
        _ => panic!("more than the limit"),
    }
    drop(held);
    assert!(device.alloc::<u32>(51).is_ok(), "what was dropped is free again");
    let both = device.upload(&[1i64, 2, 3]).unwrap();
    let more = device.zeros::<i64>(5).unwrap();
    device.copy_between((&both, 1), (&more, 3), 2).unwrap();
    let mut out = [9; 5];
    device.download(&more, &mut out).unwrap();
    assert_eq!(out, [0, 0, 0, 2, 3]);
    assert!(matches!(device.copy_into(&[1, 2], &more, 4), Err(KernelError::Shape { .. })));
}

#[test]
fn wrong_launches_are_errors() {
    let Some(device) = emulated_for_tests() else { return };
    let (x, out) = (device.upload(&[3.0f32, 4.0]).unwrap(), device.alloc::<f32>(1).unwrap());
    let good = [x.arg(), Arg::U64(1), Arg::U32(2), out.arg()];
    device.launch("row_sq_norms", (1, 1, 1), 32, 0, &good).unwrap();
    let mut norm = [0.0];
    device.download(&out, &mut norm).unwrap();
    assert_eq!(norm, [25.0]);
    let say =
        |kernel, block, args: &[Arg<'_>]| device.launch(kernel, (1, 1, 1), block, 0, args).unwrap_err().to_string();
    assert!(say("row_sq_norms", 32, &good[..3]).contains("number of arguments"));
    assert!(say("row_sq_norms", 32, &[x.arg(), Arg::U32(1), Arg::U32(2), out.arg()]).contains("size of an argument"));
    assert!(say("row_sq_norms", 33, &good).contains("whole warps"));
    assert!(say("no_such_kernel", 32, &good).contains("no kernel"));
    let two = [x.arg(), Arg::U64(2), Arg::U32(1), out.arg()];
    device.launch("row_sq_norms", (1, 1, 1), 64, 0, &two).unwrap();
    assert!(device.download(&out, &mut norm).unwrap_err().to_string().contains("beyond the end"));
}

#[test]
fn products_of_every_layout_and_type() {
    let Some(device) = emulated_for_tests() else { return };
    let (m, n, k, batch) = (3, 5, 4, 2);
    let number = |i: usize| ((i * 37) % 11) as f32 - 5.0;
    let data: Vec<f32> = (0..batch * 20).map(number).collect();
    for (at, bt) in [(false, false), (true, false), (false, true), (true, true)] {
        let g = Gemm { alpha: 2.0, beta: 1.0, math: Math::Bf16, ..Gemm::new(m, n, k, at, bt).batched(batch) };
        let (a, b) = (device.upload(&data[..batch * m * k]).unwrap(), device.upload(&data[..batch * k * n]).unwrap());
        let c = device.upload(&vec![1.0f32; batch * m * n]).unwrap();
        device.gemm(&g, (&a, 0), (&b, 0), (&c, 0)).unwrap();
        let mut out = vec![0.0; batch * m * n];
        device.download(&c, &mut out).unwrap();
        for (at_c, got) in out.iter().enumerate() {
            let (t, i, j) = (at_c / (m * n), at_c / n % m, at_c % n);
            let term = |l: usize| {
                let x = data[t * m * k + if at { l * m + i } else { i * k + l }];
                x * data[t * k * n + if bt { j * k + l } else { l * n + j }]
            };
            assert_eq!(*got, 1.0 + 2.0 * (0..k).map(term).sum::<f32>(), "{at} {bt} {at_c}");
        }
        assert!(matches!(device.gemm(&g, (&a, 1), (&b, 0), (&c, 0)), Err(KernelError::Shape { .. })));
    }
}

#[test]
fn fed_rows_come_in_order() {
    let Some(device) = emulated_for_tests() else { return };
    let data: Vec<u32> = (0..103).collect();
    let mut seen = Vec::new();
    let block = |buffer: &Buffer<u32>, range: Range<usize>| {
        let mut part = vec![0; range.len()];
        device.download(buffer, &mut part)?;
        assert_eq!(range.start, seen.len());
        seen.extend(part);
        Ok(())
    };
    device.feed(&data, 10, block).unwrap();
    assert_eq!(seen, data);
}

#[test]
fn a_missing_device_is_a_typed_error() {
    match Cuda::open(4095) {
        Err(KernelError::Device { device, message }) => {
            assert_eq!(device, "cuda:4095");
            assert!(!message.is_empty());
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("there cannot be that many devices"),
    }
}

#[test]
fn blocks_cover_the_rows() {
    assert_eq!((block_rows(1 << 30), block_rows(16)), (1, 1 << 20));
    assert_eq!(warps(9), (2, 1, 1));
}

#[test]
fn little_memory_makes_smaller_blocks_and_the_same_numbers() {
    let Some(device) = emulated_for_tests() else { return };
    let data: Vec<f32> = (0..600 * 24).map(|i| ((i * 7919) % 1013) as f32 / 97.0).collect();
    let x = MatRef::new(&data, 24).unwrap();
    let cuda = Cuda::on(device.clone());
    let params = KMeansParams { restarts: 1, ..KMeansParams::new(40, 3) };
    let wanted = fit(&crate::Cpu::new(), x, None, &params, &|_| true).unwrap();
    assert_eq!(fit(&cuda, x, None, &params, &|_| true).unwrap(), wanted, "rows stay");
    let near = crate::Cpu::new().top_k(x, x, 5, Metric::SqEuclidean, Some(0)).unwrap();
    // Two buffers of all rows are 115 kB: blocks must be cut, more than once.
    device.limit_memory(60_000);
    assert_eq!(fit(&cuda, x, None, &params, &|_| true).unwrap(), wanted, "rows pass");
    assert_eq!(cuda.top_k(x, x, 5, Metric::SqEuclidean, Some(0)).unwrap(), near);
    device.limit_memory(5_000);
    assert!(matches!(cuda.top_k(x, x, 5, Metric::SqEuclidean, None), Err(KernelError::OutOfMemory { .. })));
    assert_eq!(device.info().free, 5_000, "nothing is left behind");
}
