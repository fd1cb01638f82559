//! Matrix products: cuBLAS on a real device, plain loops in the emulation.
//!
//! `C = alpha op(A) op(B) + beta C`, row-major, one or a batch at even strides. cuBLAS counts by columns, so it is asked for
//! `C^T = op(B)^T op(A)^T`.

#![allow(clippy::many_single_char_names)] // reason: as in the books

use cudarc::cublas::result::gemm_strided_batched_ex;
use cudarc::cublas::sys::{cublasComputeType_t as Compute, cublasGemmAlgo_t, cublasOperation_t, cudaDataType};

use super::buffer::{Bf16, Buffer, Plain};
use super::device::{Body, Device};
use crate::KernelError;

/// How products of f32 matrices are formed; sums are always in f32. Matrices that are bf16 already are taken as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Math {
    /// Every product in f32.
    #[default]
    F32,
    /// Inputs rounded to 10 bits.
    Tf32,
    /// Inputs rounded to bf16.
    Bf16,
}

/// Shapes of a product.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// Rows of C.
    pub m: usize,
    /// Columns of C.
    pub n: usize,
    /// Terms of each sum.
    pub k: usize,
    /// A lies as `[k, m]`.
    pub a_transposed: bool,
    /// B lies as `[n, k]`.
    pub b_transposed: bool,
    /// Numbers from row to row of A, B and C as they lie.
    pub strides: [usize; 3],
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of what C holds; 0 ignores it.
    pub beta: f32,
    /// Products, and numbers from one matrix of A, B and C to the next.
    pub batch: usize,
    /// See `batch`.
    pub batch_strides: [usize; 3],
    /// How f32 is multiplied.
    pub math: Math,
}

impl Gemm {
    /// One product of matrices without gaps, `alpha` 1, `beta` 0, in f32.
    #[must_use]
    pub const fn new(m: usize, n: usize, k: usize, a_transposed: bool, b_transposed: bool) -> Self {
        let strides = [if a_transposed { m } else { k }, if b_transposed { k } else { n }, n];
        let (alpha, beta, math) = (1.0, 0.0, Math::F32);
        Self { m, n, k, a_transposed, b_transposed, strides, alpha, beta, batch: 1, batch_strides: [0; 3], math }
    }

    /// The same for a batch that lies without gaps.
    #[must_use]
    pub const fn batched(self, batch: usize) -> Self {
        let batch_strides = [self.m * self.k, self.k * self.n, self.m * self.n];
        Self { batch, batch_strides, ..self }
    }

    /// Elements that operand `which` (0: A, 1: B, 2: C) spans.
    fn span(&self, which: usize) -> usize {
        let (rows, columns) = match which {
            0 if self.a_transposed => (self.k, self.m),
            0 => (self.m, self.k),
            1 if self.b_transposed => (self.n, self.k),
            1 => (self.k, self.n),
            _ => (self.m, self.n),
        };
        if rows * columns == 0 {
            0
        } else {
            (rows - 1) * self.strides[which] + columns + (self.batch - 1) * self.batch_strides[which]
        }
    }
}

/// Types cuBLAS multiplies.
pub trait Element: Plain {
    #[doc(hidden)]
    const TYPE: cudaDataType;
    #[doc(hidden)]
    fn to_f32(self) -> f32;
    #[doc(hidden)]
    fn of_f32(v: f32) -> Self;
}

impl Element for f32 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_32F;
    fn to_f32(self) -> f32 {
        self
    }
    fn of_f32(v: f32) -> Self {
        v
    }
}

impl Element for Bf16 {
    const TYPE: cudaDataType = cudaDataType::CUDA_R_16BF;
    fn to_f32(self) -> f32 {
        Self::to_f32(self)
    }
    fn of_f32(v: f32) -> Self {
        Self::from_f32(v)
    }
}

impl Device {
    /// Queue `C = alpha op(A) op(B) + beta C`; each operand is a buffer and the element it starts at.
    ///
    /// # Errors
    /// [`KernelError::Shape`] when an operand reaches beyond its buffer; [`KernelError::Device`].
    pub fn gemm<I: Element, O: Element>(
        &self,
        g: &Gemm,
        a: (&Buffer<I>, usize),
        b: (&Buffer<I>, usize),
        c: (&Buffer<O>, usize),
    ) -> Result<(), KernelError> {
        for (which, end) in
            [a.0.len() - a.1.min(a.0.len()), b.0.len() - b.1.min(b.0.len()), c.0.len() - c.1.min(c.0.len())]
                .into_iter()
                .enumerate()
        {
            if g.span(which) > end {
                let expected = format!("{} elements in operand {which}", g.span(which));
                return Err(KernelError::Shape { op: "gemm", expected, got: end.to_string() });
            }
        }
        if g.m * g.n * g.batch == 0 {
            return Ok(());
        }
        let (a, b, c) = (a.0.place(a.1), b.0.place(b.1), c.0.place(c.1));
        match &self.core.body {
            Body::Real(real) => {
                let int = |v: usize| i32::try_from(v).map_err(|_| self.fail(format!("gemm: {v} is beyond 32 bits")));
                let op = |t| if t { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N };
                let compute = match g.math {
                    Math::Tf32 if I::TYPE == cudaDataType::CUDA_R_32F => Compute::CUBLAS_COMPUTE_32F_FAST_TF32,
                    Math::Bf16 if I::TYPE == cudaDataType::CUDA_R_32F => Compute::CUBLAS_COMPUTE_32F_FAST_16BF,
                    _ => Compute::CUBLAS_COMPUTE_32F,
                };
                let (m, n, k) = (int(g.m)?, int(g.n)?, int(g.k)?);
                let [lda, ldb, ldc] = [int(g.strides[0])?, int(g.strides[1])?, int(g.strides[2])?];
                let [step_a, step_b, step_c] = g.batch_strides.map(|s| (s as u64).cast_signed());
                let (alpha, beta) = (&raw const g.alpha, &raw const g.beta);
                let batch = int(g.batch)?;
                // SAFETY: the spans were checked; handle and buffers are of this device; factors outlive the call.
                real.with_blas(|handle| unsafe {
                    gemm_strided_batched_ex(
                        handle,
                        op(g.b_transposed),
                        op(g.a_transposed),
                        n,
                        m,
                        k,
                        alpha.cast(),
                        b as *const _,
                        I::TYPE,
                        ldb,
                        step_b,
                        a as *const _,
                        I::TYPE,
                        lda,
                        step_a,
                        beta.cast(),
                        c as *mut _,
                        O::TYPE,
                        ldc,
                        step_c,
                        batch,
                        compute,
                        cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
                    )
                })
            }
            Body::Emulated => {
                // SAFETY: the spans were checked and emulated buffers are host memory.
                unsafe { plain::<I, O>(g, a as *const I, b as *const I, c as *mut O) };
                Ok(())
            }
        }
    }
}

/// The product by loops.
///
/// # Safety
/// The pointers must span what `g` says.
unsafe fn plain<I: Element, O: Element>(g: &Gemm, a: *const I, b: *const I, c: *mut O) {
    let round = |v: f32| match g.math {
        Math::F32 => v,
        Math::Tf32 => f32::from_bits((v.to_bits() + 0xFFF + (v.to_bits() >> 13 & 1)) & !0x1FFF),
        Math::Bf16 => Bf16::from_f32(v).to_f32(),
    };
    let step = |transposed: bool, stride: usize| if transposed { (1, stride) } else { (stride, 1) };
    let ((a_row, a_term), (b_term, b_column)) =
        (step(g.a_transposed, g.strides[0]), step(g.b_transposed, g.strides[1]));
    let mut line = vec![0f32; g.n];
    for t in 0..g.batch {
        // SAFETY: within the spans by the contract.
        let read = |p: *const I, at: usize| round(unsafe { *p.add(at) }.to_f32());
        let [a0, b0, c0] = g.batch_strides.map(|s| s * t);
        for i in 0..g.m {
            line.fill(0.0);
            for l in 0..g.k {
                let x = read(a, a0 + i * a_row + l * a_term);
                for (j, sum) in line.iter_mut().enumerate() {
                    *sum = x.mul_add(read(b, b0 + l * b_term + j * b_column), *sum);
                }
            }
            for (j, sum) in line.iter().enumerate() {
                // SAFETY: as above.
                let place = unsafe { &mut *c.add(c0 + i * g.strides[2] + j) };
                let old = if g.beta == 0.0 { 0.0 } else { g.beta * place.to_f32() };
                *place = O::of_f32(g.alpha * sum + old);
            }
        }
    }
}
