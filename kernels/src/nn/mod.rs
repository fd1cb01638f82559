//! What a transformer is made of, forward and backward, on plain f32 slices: no graph and no tensors, the caller keeps
//! what the way back needs.
//!
//! Promise: the same bits for any number of threads. Matrix products come from `gemm`, whose order of additions follows
//! from the shapes alone; everything else goes row by row over 16 fixed lanes, with fused multiply-add, so that it also
//! gives the same bits on every instruction set. Lengths are the caller's duty and checked by assertions.
#![allow(clippy::many_single_char_names, clippy::similar_names)] // reason: names are those of the formulas

mod attention;
mod decode;
mod gather;
mod loss;
pub(crate) mod math;
mod mul;
mod norm;
mod rope;
mod swiglu;

pub use attention::{Attention, Seen};
pub use decode::{Step, attend};
pub use gather::{add_rows, column_sums, copy_rows, put_rows, scatter_add};
pub use loss::{TokenLoss, cross_entropy};
pub use mul::{Mat, MatMut, gemm, gemm_alone, rows_apart};
pub use norm::{RmsNorm, gain_gradient};
pub use rope::{Rotation, rotate};
pub use swiglu::{swiglu, swiglu_backward};

use crate::Isa;
use std::sync::LazyLock;

/// The instruction set of this machine.
pub(crate) static ISA: LazyLock<Isa> = LazyLock::new(Isa::detect);

/// Numbers that one task handles at least: below that, handing out the work costs more than the work.
const TASK: usize = 1 << 14;

/// Rows of `width` that make a task.
fn rows_a_task(width: usize) -> usize {
    (TASK / width.max(1)).max(1)
}

/// Build a function three times, for AVX-512, AVX2 and any CPU, and choose when it runs.
macro_rules! wide {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match *crate::nn::ISA {
                    // SAFETY: detected on this machine.
                    crate::Isa::Avx512 | crate::Isa::Avx512Bf16 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    crate::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    crate::Isa::Scalar => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use wide;

/// A slice that several tasks write at once, each its own places.
#[derive(Clone, Copy)]
struct Shared<'a> {
    start: *mut f32,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: the only ways to the data are unsafe, and their callers promise that no two tasks touch one place.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    const fn new(data: &'a mut [f32]) -> Self {
        Self { start: data.as_mut_ptr(), len: data.len(), owner: std::marker::PhantomData }
    }

    /// Numbers `at .. at + len`.
    ///
    /// # Safety
    /// Nobody else touches them while the slice lives.
    unsafe fn slice(&self, at: usize, len: usize) -> &'a mut [f32] {
        assert!(at + len <= self.len, "outside the shared slice");
        // SAFETY: inside the slice that `new` borrowed for 'a; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), len) }
    }

    /// Where number `at` lies, for a strided product.
    fn at(&self, at: usize) -> *mut f32 {
        assert!(at < self.len, "outside the shared slice");
        // SAFETY: inside the slice.
        unsafe { self.start.add(at) }
    }
}

#[cfg(test)]
mod testing {
    /// Numbers in [-1, 1) that look random and are always the same.
    pub(super) fn numbers(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / (1u64 << 23) as f32 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    /// Assert that two slices agree to `bound`, relative to the largest expected magnitude.
    pub(super) fn close(found: &[f32], expected: &[f64], bound: f64) {
        assert_eq!(found.len(), expected.len());
        let top = expected.iter().fold(1e-30f64, |top, e| top.max(e.abs()));
        for (i, (f, e)) in found.iter().zip(expected).enumerate() {
            assert!((f64::from(*f) - e).abs() <= bound * top, "{i}: {f} is not {e}");
        }
    }

    /// Run in a pool of `threads`.
    pub(super) fn with_threads<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    }
}
