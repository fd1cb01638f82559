//! Matrix products of either kind of numbers.

use super::numbers::{Numbers, Precision};
use super::ops::{Ops, Rows};
use crate::KernelError;
use crate::cuda::{Gemm, Math};

/// A product `C = alpha op(A) op(B) + beta C`: sizes m, n, k; which of A and B lies transposed; alpha and beta.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) size: [usize; 3],
    pub(super) transposed: [bool; 2],
    pub(super) factors: [f32; 2],
}

impl Product {
    /// `x W^T`: rows of `inner` numbers into rows of `out`.
    pub(super) const fn forward(rows: usize, out: usize, inner: usize) -> Self {
        Self { size: [rows, out, inner], transposed: [false, true], factors: [1.0, 0.0] }
    }

    /// `g W`: back from `out` to `inner`.
    pub(super) const fn back(rows: usize, out: usize, inner: usize) -> Self {
        Self { size: [rows, inner, out], transposed: [false, false], factors: [1.0, 0.0] }
    }

    /// `g^T x`, added to the gradient of a weight.
    pub(super) const fn weight(rows: usize, out: usize, inner: usize) -> Self {
        Self { size: [out, inner, rows], transposed: [true, false], factors: [1.0, 1.0] }
    }

    pub(super) const fn scaled(self, alpha: f32) -> Self {
        Self { factors: [alpha, self.factors[1]], ..self }
    }

    /// Add to what C holds.
    pub(super) const fn added(self) -> Self {
        Self { factors: [self.factors[0], 1.0], ..self }
    }
}

impl Ops<'_> {
    /// Queue a product. A and B hold numbers of one kind; C may be f32 where they are bf16.
    pub(super) fn product(&self, of: Product, a: Rows, b: Rows, c: Rows) -> Result<(), KernelError> {
        let [m, n, k] = of.size;
        let gemm = Gemm {
            strides: [a.stride, b.stride, c.stride],
            alpha: of.factors[0],
            beta: of.factors[1],
            math: Math::F32,
            ..Gemm::new(m, n, k, of.transposed[0], of.transposed[1])
        };
        match (a.numbers, b.numbers, c.numbers) {
            (Numbers::Wide(x), Numbers::Wide(y), Numbers::Wide(z)) => {
                self.device.gemm(&gemm, (x, a.at), (y, b.at), (z, c.at))
            }
            (Numbers::Half(x), Numbers::Half(y), Numbers::Wide(z)) => {
                self.device.gemm(&gemm, (x, a.at), (y, b.at), (z, c.at))
            }
            (Numbers::Half(x), Numbers::Half(y), Numbers::Half(z)) => {
                self.device.gemm(&gemm, (x, a.at), (y, b.at), (z, c.at))
            }
            _ => Err(mixed(self.precision)),
        }
    }
}

fn mixed(precision: Precision) -> KernelError {
    KernelError::Shape {
        op: "product",
        expected: format!("numbers of one kind ({precision:?})"),
        got: "two".to_owned(),
    }
}
