//! How much of a model an update changed: per tensor and in all.
//!
//! `1 - |{i: |after_i - before_i| > atol}| / n`, also with all bits compared; the rank of the change over full rank on request. Source:
//! Mukherjee et al., Reinforcement Learning Finetunes Small Subnetworks (section 3; atol 1e-5 on bf16 weights). The figure depends
//! on dtype, learning rate and steps: report them beside it. Cost: one pass; ranks `m n min(m, n)` a matrix.

use crate::mask::movement::pairs;
use crate::mask::singular_values;
use crate::optim::groups::layer_of;
use crate::{Params, Tensor};
use curate_core::{Ctx, Result};
use serde::Serialize;

/// What changed in one tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TensorChange {
    /// Name.
    pub name: String,
    /// Block, where it lies in one.
    pub layer: Option<usize>,
    /// Entries.
    pub entries: usize,
    /// Entries whose bits differ.
    pub changed: usize,
    /// Entries that differ by more than the tolerance.
    pub changed_beyond: usize,
    /// Mean size of the change, over all entries.
    pub mean_change: f64,
    /// Rank of the change, of a matrix, where asked.
    pub rank: Option<usize>,
    /// The largest rank it could have.
    pub full_rank: Option<usize>,
}

/// What changed in a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SparsityReport {
    /// Tolerance.
    pub atol: f32,
    /// Share of entries whose bits are the same.
    pub unchanged: f64,
    /// Share of entries within the tolerance.
    pub unchanged_within: f64,
    /// Mean size of the change of each block, lowest first.
    pub movement_by_layer: Vec<f64>,
    /// Tensor by tensor.
    pub tensors: Vec<TensorChange>,
}

/// Compare two states of a model; `ranks` also decomposes the change of every matrix.
///
/// # Errors
/// `model/pair`; when asked to stop.
pub fn update_sparsity(before: &Params, after: &Params, atol: f32, ranks: bool, ctx: &Ctx) -> Result<SparsityReport> {
    let mut tensors = Vec::new();
    for (_, old, new) in pairs(before, after)? {
        ctx.tick(1)?;
        tensors.push(change(old, new, atol, ranks));
    }
    let all: usize = tensors.iter().map(|t| t.entries).sum();
    let unchanged = |changed: usize| 1.0 - share(changed, all);
    Ok(SparsityReport {
        atol,
        unchanged: unchanged(tensors.iter().map(|t| t.changed).sum()),
        unchanged_within: unchanged(tensors.iter().map(|t| t.changed_beyond).sum()),
        movement_by_layer: by_layer(&tensors),
        tensors,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn share(part: usize, all: usize) -> f64 {
    part as f64 / all.max(1) as f64
}

fn by_layer(tensors: &[TensorChange]) -> Vec<f64> {
    let layers = tensors.iter().filter_map(|t| t.layer).max().map_or(0, |top| top + 1);
    let mean = |layer: usize| {
        let here = || tensors.iter().filter(|t| t.layer == Some(layer));
        let entries: usize = here().map(|t| t.entries).sum();
        here().map(|t| t.mean_change * share(t.entries, entries)).sum()
    };
    (0..layers).map(mean).collect()
}

fn change(old: &Tensor, new: &Tensor, atol: f32, ranks: bool) -> TensorChange {
    let deltas: Vec<f32> = old.data.iter().zip(&new.data).map(|(a, b)| b - a).collect();
    let same_bits = old.data.iter().zip(&new.data).filter(|(a, b)| a.to_bits() == b.to_bits()).count();
    let size: f64 = deltas.iter().map(|x| f64::from(x.abs())).sum();
    let sides = (old.shape.len() == 2).then(|| (old.shape[0].min(old.shape[1]), old.shape[1]));
    TensorChange {
        name: old.name.clone(),
        layer: layer_of(&old.name),
        entries: deltas.len(),
        changed: deltas.len() - same_bits,
        changed_beyond: deltas.iter().filter(|x| x.abs() > atol).count(),
        mean_change: size * share(1, deltas.len()),
        rank: sides.filter(|_| ranks).map(|(_, columns)| rank(&deltas, columns)),
        full_rank: sides.map(|(short, _)| short),
    }
}

/// Singular values above the rounding of the largest: `max(m, n) eps s_max`, as `matrix_rank` in `NumPy`.
#[expect(clippy::cast_precision_loss, reason = "sizes of a model fit an f64")]
fn rank(deltas: &[f32], columns: usize) -> usize {
    let values = singular_values(deltas, columns);
    let long = columns.max(deltas.len() / columns.max(1)) as f64;
    let floor = values.first().map_or(0.0, |s| s * long * f64::from(f32::EPSILON));
    values.iter().filter(|s| **s > floor).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_planted_change() {
        let tensor = |data: Vec<f32>| {
            let mut params = Params::default();
            params.push(Tensor { name: "model.layers.1.w".into(), shape: vec![20, 50], data, trained: true });
            params
        };
        let before = tensor(vec![0.5; 1000]);
        // one tenth moves by 0.01, in rows of equal content: rank 1; one more entry by less than the tolerance
        let mut after = vec![0.5f32; 1000];
        (0..1000).filter(|i| i % 50 < 5).for_each(|i| after[i] += 0.01);
        after[49] += 1e-6;
        let report = update_sparsity(&before, &tensor(after), 1e-5, true, &Ctx::new(0)).unwrap();
        assert!((report.unchanged_within - 0.9).abs() < 1e-12 && (report.unchanged - 0.899).abs() < 1e-12);
        assert_eq!((report.tensors[0].rank, report.tensors[0].full_rank), (Some(2), Some(20)));
        assert_eq!(report.movement_by_layer.len(), 2);
        assert!((report.movement_by_layer[1] - 0.001).abs() < 1e-6);
    }
}
