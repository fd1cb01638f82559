//! Fused steps between the matrix products, each one pass in place over the product's memory, on the host.

use super::math::{self, Activation, Norm};
use candle_core::{CpuStorage, D, DType, InplaceOp1, InplaceOp2, Layout, Result, Tensor, bail};

/// A vector of parameters.
pub(super) fn vector(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()
}

/// Gain and shift of a layer norm.
#[derive(Debug)]
pub(super) struct LayerNorm {
    pub(super) gain: Vec<f32>,
    pub(super) shift: Vec<f32>,
    pub(super) eps: f32,
}

impl LayerNorm {
    fn rows(&self) -> Norm<'_> {
        Norm { gain: &self.gain, shift: &self.shift, eps: self.eps }
    }
}

/// Normalise the rows of `x`, shape `[rows, dim]`; `x` must be fresh, here and below.
pub(super) fn norm(x: Tensor, norm: &LayerNorm) -> Result<Tensor> {
    x.inplace_op1(&NormRows(norm.rows()))?;
    Ok(x)
}

/// `x + bias`, row by row.
pub(super) fn add_bias(x: Tensor, bias: &[f32]) -> Result<Tensor> {
    x.inplace_op1(&AddBias(bias))?;
    Ok(x)
}

/// `activation(x + bias)`.
pub(super) fn bias_activation(x: Tensor, bias: &[f32], activation: Activation) -> Result<Tensor> {
    x.inplace_op1(&BiasActivation(bias, activation))?;
    Ok(x)
}

/// `norm(x + bias + residual)`.
pub(super) fn residual_norm(x: Tensor, bias: &[f32], residual: &Tensor, norm: &LayerNorm) -> Result<Tensor> {
    x.inplace_op2(residual, &ResidualNorm(bias, norm.rows()))?;
    Ok(x)
}

/// `softmax(scale * (x + shift))` over the last dimension; `shift` broadcasts to `x`.
pub(super) fn softmax(x: Tensor, scale: f64, shift: Option<&Tensor>) -> Result<Tensor> {
    let x = match shift {
        Some(shift) => x.broadcast_add(shift)?,
        None => x,
    };
    #[expect(clippy::cast_possible_truncation, reason = "a scale near 0.1")]
    x.inplace_op1(&Softmax(scale as f32))?;
    Ok(x)
}

/// Put `heads`, shape `[heads, len, width]`, into rows `row ..` of `rows`, shape `[total, heads * width]`, head beside head.
pub(super) fn place_heads(rows: &Tensor, heads: &Tensor, row: usize) -> Result<()> {
    rows.inplace_op2(heads, &PlaceHeads(row))
}

/// The whole contiguous memory of a fresh f32 tensor and the width of its rows.
fn rows_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<(&'a mut [f32], usize)> {
    let CpuStorage::F32(values) = storage else { bail!("f32 is expected here") };
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a contiguous tensor is expected here") };
    Ok((&mut values[start..end], layout.shape().dim(D::Minus1)?.max(1)))
}

fn rows<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(values) = storage else { bail!("f32 is expected here") };
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a contiguous tensor is expected here") };
    Ok(&values[start..end])
}

struct NormRows<'a>(Norm<'a>);

impl InplaceOp1 for NormRows<'_> {
    fn name(&self) -> &'static str {
        "norm-rows"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (values, width) = rows_mut(storage, layout)?;
        values.chunks_exact_mut(width).for_each(|row| self.0.apply(row));
        Ok(())
    }
}

struct AddBias<'a>(&'a [f32]);

impl InplaceOp1 for AddBias<'_> {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (values, width) = rows_mut(storage, layout)?;
        values.chunks_exact_mut(width).for_each(|row| math::add(row, self.0));
        Ok(())
    }
}

struct BiasActivation<'a>(&'a [f32], Activation);

impl InplaceOp1 for BiasActivation<'_> {
    fn name(&self) -> &'static str {
        "bias-activation"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (values, width) = rows_mut(storage, layout)?;
        values.chunks_exact_mut(width).for_each(|row| math::bias_activation(row, self.0, self.1));
        Ok(())
    }
}

struct Softmax(f32);

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (values, width) = rows_mut(storage, layout)?;
        values.chunks_exact_mut(width).for_each(|row| math::softmax(row, self.0));
        Ok(())
    }
}

struct ResidualNorm<'a>(&'a [f32], Norm<'a>);

impl InplaceOp2 for ResidualNorm<'_> {
    fn name(&self) -> &'static str {
        "residual-norm"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (values, width) = rows_mut(s1, l1)?;
        for (row, residual) in values.chunks_exact_mut(width).zip(rows(s2, l2)?.chunks_exact(width)) {
            math::add(row, self.0);
            math::add(row, residual);
            self.1.apply(row);
        }
        Ok(())
    }
}

struct PlaceHeads(usize);

impl InplaceOp2 for PlaceHeads {
    fn name(&self) -> &'static str {
        "place-heads"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        let (values, width) = rows_mut(s1, l1)?;
        let (_, len, part) = l2.shape().dims3()?;
        let target = &mut values[self.0 * width..][..len * width];
        for (head, source) in rows(s2, l2)?.chunks_exact((len * part).max(1)).enumerate() {
            for (row, source) in target.chunks_exact_mut(width).zip(source.chunks_exact(part)) {
                row[head * part..][..part].copy_from_slice(source);
            }
        }
        Ok(())
    }
}
