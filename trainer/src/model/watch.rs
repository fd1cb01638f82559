//! What a pass back shows of a linear map to whoever looks at the gradients of single sequences.

use super::{Linear, LoraRef, Model};
use crate::signals::Tap;
use curate_core::kernels::nn::{self, Mat, MatMut};

impl Model {
    /// Whether a tap looks at this map.
    pub(super) fn watched(&self, linear: &Linear, tap: &Tap) -> bool {
        tap.head_only() || self.trained_linear(linear)
    }

    /// Show a map's inputs and output gradients, tensor by tensor.
    pub(super) fn tapped(&self, linear: &Linear, (x, gy): (&[f32], &[f32]), tap: &mut Tap) {
        let (out, input) = self.shape(linear.weight);
        if tap.head_only() || self.trained(linear.weight) {
            tap.add((gy, out), (x, input), 1.0);
        }
        if tap.head_only() {
            return;
        }
        if linear.bias.is_some_and(|bias| self.trained(bias)) {
            tap.add((gy, out), (&vec![1.0; gy.len() / out], 1), 1.0);
        }
        if let Some(lora) = linear.lora {
            self.tapped_adapter(lora, (x, input), (gy, out), tap);
        }
    }

    /// `gA = s (g B)^T x`, `gB = s g^T (x A^T)`.
    fn tapped_adapter(&self, lora: LoraRef, (x, input): (&[f32], usize), (gy, out): (&[f32], usize), tap: &mut Tap) {
        let (rank, rows, square) = (self.shape(lora.a).0, gy.len() / out, f64::from(lora.scale).powi(2));
        if self.trained(lora.a) {
            let mut low = self.arena.take(rows * rank);
            nn::gemm(MatMut::new(&mut low, rows, rank), 0.0, 1.0, Mat::new(gy, rows, out), self.matrix(lora.b));
            tap.add((&low, rank), (x, input), square);
            self.arena.give([low]);
        }
        if self.trained(lora.b) {
            let low = self.low_rank(lora, x);
            tap.add((gy, out), (&low, rank), square);
            self.arena.give([low]);
        }
    }
}
