//! Encoders on a device against those on the CPU. The device is the kernels' own source run on the CPU, so that this needs g++ and no GPU.

use crate::common::root;
use curate_core::kernels::cuda::Device;
use curate_core::kernels::cuda::net::Precision;
use curate_core::{Ctx, Embedder};
use curate_embed::SentenceEncoder;

/// The emulation, or none where g++ is missing.
fn device() -> Option<Device> {
    let device = Device::emulated();
    if let Err(why) = &device {
        #[expect(clippy::disallowed_methods, reason = "a test-only switch")]
        let must = std::env::var_os("CURATE_CI").is_some();
        assert!(!must, "{why}");
        eprintln!("SKIPPED: {why}; encoders on a device were NOT tested");
    }
    device.ok()
}

const TEXTS: [&str; 7] = ["a b c", "", "b", "c c c a a b c a b c", "a", "b a b a c", "a b c d e f g a b c d e f g"];

fn vectors(encoder: &SentenceEncoder) -> Vec<f32> {
    let mut out = vec![f32::NAN; TEXTS.len() * encoder.dim()];
    encoder.embed(&TEXTS, &mut out, &Ctx::new(0)).unwrap();
    out
}

/// The least cosine over the texts.
fn cosine(found: &[f32], expected: &[f32], dim: usize) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let one = |(a, b): (&[f32], &[f32])| if a == b { 1.0 } else { dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() };
    found.chunks(dim).zip(expected.chunks(dim)).map(one).fold(1.0, f64::min)
}

#[test]
fn vectors_are_those_of_the_cpu() {
    let Some(device) = device() else { return };
    for family in ["bert", "distilbert", "roberta", "mpnet"] {
        let folder = root().join("embed/tests/tiny").join(family);
        let cpu = SentenceEncoder::open(&folder, "cpu", None).unwrap();
        let expected = vectors(&cpu);
        for (precision, least) in [(Precision::F32, 1.0 - 1e-6), (Precision::Bf16, 0.999)] {
            let gpu = SentenceEncoder::open_on(&folder, vec![device.clone()], precision, None).unwrap();
            let found = vectors(&gpu);
            let cosine = cosine(&found, &expected, cpu.dim());
            println!("{family} {precision:?}: {cosine}");
            assert!(cosine >= least, "{family} {precision:?}: {cosine}");
            assert_eq!(found, vectors(&gpu), "the same bits twice");
            let both =
                SentenceEncoder::open_on(&folder, vec![device.clone(), device.clone()], precision, None).unwrap();
            assert_eq!(found, vectors(&both), "two devices");
            assert_eq!(gpu.digest() == cpu.digest(), precision == Precision::F32);
        }
    }
}

#[test]
fn too_little_memory_makes_smaller_batches() {
    let (Some(device), Some(tight)) = (device(), device()) else { return };
    let folder = root().join("embed/tests/tiny/bert");
    let wide = SentenceEncoder::open_on(&folder, vec![device], Precision::F32, None).unwrap();
    let expected = vectors(&wide);
    let narrow = SentenceEncoder::open_on(&folder, vec![tight.clone()], Precision::F32, None).unwrap();
    // All texts are one batch so far; the least memory that does is that of the longest text alone.
    tight.limit_memory(1 << 30);
    let held = (1 << 30) - tight.info().free;
    let mut found = vec![0.0; expected.len()];
    let least = (1..100).find(|step| {
        tight.limit_memory(held + 2000 * step);
        narrow.embed(&TEXTS, &mut found, &Ctx::new(0)).is_ok()
    });
    println!("{least:?}");
    assert!(least.is_some_and(|step| step > 1));
    assert!(cosine(&found, &expected, wide.dim()) > 1.0 - 1e-6);
    tight.limit_memory(held + 10);
    let mut out = vec![0.0; narrow.dim()];
    let error = narrow.embed(&["a"], &mut out, &Ctx::new(0)).unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("device/out-of-memory", 4));
}
