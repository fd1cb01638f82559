//! The tensors of a model in a fixed order, and the gradients of those that are trained.

use crate::signals::Tap;
use std::collections::BTreeMap;

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
}

impl Params {
    /// Add a tensor; its id is its place.
    pub fn push(&mut self, tensor: Tensor) -> ParamId {
        let id = self.tensors.len();
        self.by_name.insert(tensor.name.clone(), id);
        self.tensors.push(tensor);
        ParamId(id)
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
        &mut self.tensors[id.0]
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
