//! Instruction sets: which one this CPU has, and the few functions that differ between them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod scalar;

/// An instruction set of the CPU body. All give the same bits; they differ in speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust with fused multiply-add.
    Scalar,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 (F, BW, DQ, VL).
    Avx512,
    /// The same with bf16 dot products.
    Avx512Bf16,
}

impl Isa {
    /// The best set this machine runs.
    #[must_use]
    pub fn detect() -> Self {
        Self::all().into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Self::Scalar)
    }

    /// Every set, slowest first.
    #[must_use]
    pub const fn all() -> [Self; 4] {
        [Self::Scalar, Self::Avx2, Self::Avx512, Self::Avx512Bf16]
    }

    /// Whether this machine runs it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Self::Scalar => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx512,
                Self::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Scalar
        }
    }

    /// Name of the backend built on it.
    #[must_use]
    pub const fn backend_name(self) -> &'static str {
        match self {
            Self::Scalar => "cpu-scalar",
            Self::Avx2 => "cpu-avx2",
            Self::Avx512 => "cpu-avx512",
            Self::Avx512Bf16 => "cpu-avx512-bf16",
        }
    }

    /// Whether tiles are multiplied in bf16.
    pub(crate) const fn has_bf16(self) -> bool {
        matches!(self, Self::Avx512Bf16)
    }
}

/// Ask memory for a row that will be read soon.
#[inline]
pub(crate) fn prefetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16) {
        // SAFETY: a prefetch reads nothing and cannot fault; the address lies within `row`.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}
