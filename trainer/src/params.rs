//! The tensors of a model in a fixed order, and the gradients of those that are trained.

use crate::signals::Tap;
use half::bf16;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers a thread widens at a time.
const BLOCK: usize = 1 << 14;

/// The next version of any tensor.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Place of a tensor in [`Params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub usize);

/// One tensor: f32, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Name in the safetensors file: the base model's as in `transformers`, an adapter's as in PEFT.
    pub name: String,
    /// `[rows, columns]` of a matrix (out x in for a linear map), `[length]` of a vector.
    pub shape: Vec<usize>,
    /// The values.
    pub data: Vec<f32>,
    /// Whether a gradient is wanted. Nothing is computed or stored for a tensor without.
    pub trained: bool,
}

/// All tensors of a model, base and adapters, in the order in which they were pushed.
#[derive(Clone, Debug, Default)]
pub struct Params {
    tensors: Vec<Tensor>,
    by_name: BTreeMap<String, usize>,
    /// Frozen tensors that are kept in 16 bits; their `data` is empty.
    halves: BTreeMap<usize, Vec<bf16>>,
    /// Renewed whenever a tensor may have changed; no two states of tensors have the same.
    versions: Vec<u64>,
}

impl Tensor {
    /// Number of entries, wherever they are kept.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.shape.iter().product()
    }
}

impl Params {
    /// Add a tensor; its id is its place.
    pub fn push(&mut self, tensor: Tensor) -> ParamId {
        let id = self.tensors.len();
        self.by_name.insert(tensor.name.clone(), id);
        self.tensors.push(tensor);
        self.versions.push(0);
        self.touch(id);
        ParamId(id)
    }

    fn touch(&mut self, id: usize) {
        self.versions[id] = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    /// A number that changes whenever the values of this tensor may have changed, and that no other values have.
    #[must_use]
    pub fn version(&self, id: ParamId) -> u64 {
        self.versions[id.0]
    }

    /// The tensor of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<ParamId> {
        self.by_name.get(name).copied().map(ParamId)
    }

    /// One tensor.
    #[must_use]
    pub fn get(&self, id: ParamId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// One tensor, to change.
    pub fn get_mut(&mut self, id: ParamId) -> &mut Tensor {
        self.touch(id.0);
        &mut self.tensors[id.0]
    }

    /// Keep a tensor in 16 bits, rounded to nearest even: half of the memory, and never trained.
    pub fn shrink(&mut self, id: ParamId) {
        let tensor = &mut self.tensors[id.0];
        if !tensor.data.is_empty() {
            tensor.trained = false;
            self.halves.insert(id.0, tensor.data.par_iter().with_min_len(BLOCK).map(|x| bf16::from_f32(*x)).collect());
            tensor.data = Vec::new();
            self.touch(id.0);
        }
    }

    /// The numbers of a tensor that is kept in 16 bits.
    #[must_use]
    pub fn half(&self, id: ParamId) -> Option<&[bf16]> {
        self.halves.get(&id.0).map(Vec::as_slice)
    }

    /// Keep a tensor in 32 bits again.
    pub fn widen(&mut self, id: ParamId) {
        if let Some(half) = self.halves.remove(&id.0) {
            self.tensors[id.0].data = vec![0.0; half.len()];
            widen(&half, &mut self.tensors[id.0].data);
            self.touch(id.0);
        }
    }

    /// Keep every tensor in 32 bits.
    pub fn widen_all(&mut self) {
        (0..self.tensors.len()).for_each(|id| self.widen(ParamId(id)));
    }

    /// Every tensor in order.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Tensor)> {
        self.tensors.iter().enumerate().map(|(id, tensor)| (ParamId(id), tensor))
    }

    /// Number of tensors.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }
}

/// The same numbers in 32 bits: 16 zeros behind each.
pub(crate) fn widen(half: &[bf16], wide: &mut [f32]) {
    wide.par_chunks_mut(BLOCK).zip(half.par_chunks(BLOCK)).for_each(|(wide, half)| {
        wide.iter_mut().zip(half).for_each(|(x, h)| *x = f32::from_bits(u32::from(h.to_bits()) << 16));
    });
}

/// Gradients of the trained tensors, by id; `None` for the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grads {
    sums: Vec<Option<Vec<f32>>>,
    tap: Option<Box<Tap>>,
}

impl Grads {
    /// Zeros for every trained tensor.
    #[must_use]
    pub fn zeros(params: &Params) -> Self {
        let zeros = |tensor: &Tensor| tensor.trained.then(|| vec![0.0; tensor.data.len()]);
        Self { sums: params.iter().map(|(_, tensor)| zeros(tensor)).collect(), tap: None }
    }

    /// No sums at all: a pass back shows what it computes to `tap` and keeps nothing.
    pub(crate) fn tapped(tap: Tap) -> Self {
        Self { sums: Vec::new(), tap: Some(Box::new(tap)) }
    }

    pub(crate) fn tap_mut(&mut self) -> Option<&mut Tap> {
        self.tap.as_deref_mut()
    }

    pub(crate) fn tap(&self) -> Option<&Tap> {
        self.tap.as_deref()
    }

    pub(crate) fn into_tap(self) -> Option<Tap> {
        self.tap.map(|tap| *tap)
    }

    /// The tensors whose gradients are wanted, each with its length.
    pub(crate) fn wanted(&self) -> Vec<(usize, usize)> {
        let each = self.sums.iter().enumerate();
        each.filter_map(|(id, sum)| Some((id, sum.as_ref()?.len()))).collect()
    }

    /// The gradient of one tensor, where one is wanted.
    #[must_use]
    pub fn get(&self, id: ParamId) -> Option<&[f32]> {
        self.sums.get(id.0).and_then(|grad| grad.as_deref())
    }

    /// The same, to add to.
    pub fn get_mut(&mut self, id: ParamId) -> Option<&mut [f32]> {
        self.sums.get_mut(id.0).and_then(|grad| grad.as_deref_mut())
    }

    /// Set all to zero, keeping the memory.
    pub fn clear(&mut self) {
        for grad in self.sums.iter_mut().flatten() {
            grad.fill(0.0);
        }
    }
}
