//! Memory on a device, and the arguments of kernels.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::device::{Body, Core};
use super::emulated;

/// Types whose every bit pattern is a value, laid out alike on host and device.
///
/// # Safety
/// No padding, no invalid bit patterns, no pointers.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: plain numbers.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for f64 {}
// SAFETY: as above.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for u64 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for i64 {}

/// A bf16 number: the upper half of an f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(pub u16);
// SAFETY: a plain number.
unsafe impl Plain for Bf16 {}

impl Bf16 {
    /// Nearest, ties to even; NaN stays NaN.
    #[must_use]
    pub fn from_f32(v: f32) -> Self {
        let bits = v.to_bits();
        Self(if v.is_nan() { 0x7FFF } else { ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) as u16 })
    }

    /// Exact.
    #[must_use]
    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

/// Memory on a device, given back when dropped.
pub struct Buffer<T: Plain> {
    core: Arc<Core>,
    address: u64,
    len: usize,
    kind: PhantomData<T>,
}

/// One argument of a kernel. Types must be those of its signature; the emulation checks their sizes.
#[derive(Clone, Copy, Debug)]
pub enum Arg<'a> {
    /// A place in a buffer.
    Pointer(u64, PhantomData<&'a ()>),
    /// `int`.
    I32(i32),
    /// `unsigned int`.
    U32(u32),
    /// `long long`.
    I64(i64),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
    /// `double`.
    F64(f64),
}

impl Arg<'_> {
    /// No place at all, for what a kernel may do without.
    pub const NULL: Self = Self::Pointer(0, PhantomData);

    /// Where the value lies, and its bytes.
    pub(super) fn place(&self) -> (*const c_void, u32) {
        match self {
            Self::Pointer(v, _) | Self::U64(v) => ((&raw const *v).cast(), 8),
            Self::I64(v) => ((&raw const *v).cast(), 8),
            Self::F64(v) => ((&raw const *v).cast(), 8),
            Self::I32(v) => ((&raw const *v).cast(), 4),
            Self::U32(v) => ((&raw const *v).cast(), 4),
            Self::F32(v) => ((&raw const *v).cast(), 4),
        }
    }
}

impl<T: Plain> Buffer<T> {
    pub(super) const fn new(core: Arc<Core>, address: u64, len: usize) -> Self {
        Self { core, address, len, kind: PhantomData }
    }

    /// Elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// As an argument: its start.
    #[must_use]
    pub const fn arg(&self) -> Arg<'_> {
        Arg::Pointer(self.address, PhantomData)
    }

    /// As an argument: from element `offset` on.
    #[must_use]
    pub const fn at(&self, offset: usize) -> Arg<'_> {
        Arg::Pointer(self.place(offset), PhantomData)
    }

    pub(super) const fn place(&self, offset: usize) -> u64 {
        debug_assert!(offset <= self.len);
        self.address + (offset * size_of::<T>()) as u64
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.core.used.fetch_sub((self.len * size_of::<T>()).max(1) as u64, Ordering::Relaxed);
        match &self.core.body {
            Body::Real(real) => real.release(self.address),
            Body::Emulated => {
                let bytes = (self.len * size_of::<T>()).max(1);
                // SAFETY: allocated with this size by `Device::alloc`, dropped once.
                unsafe {
                    self.core.torn.fetch_add(u64::from(!emulated::is_whole(self.address, bytes)), Ordering::Relaxed);
                    emulated::release(self.address, bytes);
                }
            }
        }
    }
}
