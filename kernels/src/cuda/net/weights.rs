//! The weights of a decoder on the device. Maps of one input (queries, keys, values; gates and ups) lie stacked, so that one
//! product serves them all. What the owner has changed is sent again, nothing else.

use super::numbers::{Numbers, Precision, Values};
use super::plan::{Map, Plan, Tensors, width};
use crate::KernelError;
use crate::cuda::{Buffer, Device};
use std::collections::HashMap;

/// Maps of one input: `[sum of outs, in]`, and their biases where any has one.
pub(super) struct Stack {
    weight: Option<Numbers>,
    pub(super) bias: Option<Buffer<f32>>,
}

/// Where a tensor lies.
#[derive(Clone, Copy)]
enum Place {
    /// A gain.
    Vector,
    /// The table or an adapter.
    Matrix,
    /// From a number on in the weights of the stack whose first weight this is.
    Weight(usize, usize),
    /// The same in its biases.
    Bias(usize, usize),
}

/// All of them.
pub(super) struct Weights {
    vectors: HashMap<usize, Buffer<f32>>,
    matrices: HashMap<usize, Numbers>,
    stacks: HashMap<usize, Stack>,
    /// Every tensor with its place and the version that lies there.
    places: Vec<(usize, Place, u64)>,
}

impl Weights {
    /// Make room for everything and send it.
    pub(super) fn new(
        device: &Device,
        precision: Precision,
        plan: &Plan,
        tensors: &dyn Tensors,
    ) -> Result<Self, KernelError> {
        let mut weights = Self::empty();
        for (id, width) in plan.gains() {
            weights.vectors.insert(id, device.alloc(width)?);
            weights.note(id, Place::Vector);
        }
        weights.matrix(device, precision, (plan.embed, plan.vocab * plan.hidden))?;
        for (maps, inner) in plan.stacks() {
            weights.stack(device, precision, (maps, inner), maps[0].weight == plan.embed)?;
            for (map, adapter) in maps.iter().filter_map(|map| Some((map, map.adapter?))) {
                weights.matrix(device, precision, (adapter.a, adapter.rank * inner))?;
                weights.matrix(device, precision, (adapter.b, map.out * adapter.rank))?;
            }
        }
        weights.refresh(device, tensors)?;
        Ok(weights)
    }

    /// None at all.
    pub(super) fn empty() -> Self {
        Self { vectors: HashMap::new(), matrices: HashMap::new(), stacks: HashMap::new(), places: Vec::new() }
    }

    fn note(&mut self, id: usize, place: Place) {
        self.places.push((id, place, u64::MAX));
    }

    fn matrix(&mut self, device: &Device, precision: Precision, (id, len): (usize, usize)) -> Result<(), KernelError> {
        self.matrices.insert(id, Numbers::alloc(device, precision, len)?);
        self.note(id, Place::Matrix);
        Ok(())
    }

    /// A stack; that of a head whose weight is the table has no weight of its own.
    fn stack(
        &mut self,
        device: &Device,
        precision: Precision,
        (maps, inner): (&[Map], usize),
        tied: bool,
    ) -> Result<(), KernelError> {
        let (first, biased) = (maps[0].weight, maps.iter().any(|map| map.bias.is_some()));
        let weight = if tied { None } else { Some(Numbers::alloc(device, precision, width(maps) * inner)?) };
        let bias = if biased { Some(device.zeros(width(maps))?) } else { None };
        let mut row = 0;
        for map in maps {
            if !tied {
                self.note(map.weight, Place::Weight(first, row * inner));
            }
            if let Some(bias) = map.bias {
                self.note(bias, Place::Bias(first, row));
            }
            row += map.out;
        }
        self.stacks.insert(first, Stack { weight, bias });
        Ok(())
    }

    /// Send what has changed.
    pub(super) fn refresh(&mut self, device: &Device, tensors: &dyn Tensors) -> Result<(), KernelError> {
        let mut places = std::mem::take(&mut self.places);
        let sent = places.iter_mut().try_for_each(|(id, place, seen)| {
            let now = tensors.version(*id);
            if *seen != now {
                self.send(device, (*id, *place), tensors.values(*id))?;
                *seen = now;
            }
            Ok(())
        });
        self.places = places;
        sent
    }

    fn send(&self, device: &Device, (id, place): (usize, Place), values: Values<'_>) -> Result<(), KernelError> {
        let vector = |to: &Buffer<f32>, at: usize| match values {
            Values::Wide(x) => device.copy_into(x, to, at),
            Values::Half(_) => Err(missing(id)),
        };
        let stack = |first: usize| self.stacks.get(&first).ok_or_else(|| missing(first));
        match place {
            Place::Vector => vector(self.vector(id)?, 0),
            Place::Bias(first, at) => vector(stack(first)?.bias.as_ref().ok_or_else(|| missing(id))?, at),
            Place::Matrix => self.whole(id)?.write(device, 0, values),
            Place::Weight(first, at) => self.weight(first)?.write(device, at, values),
        }
    }

    /// A gain.
    pub(super) fn vector(&self, id: usize) -> Result<&Buffer<f32>, KernelError> {
        self.vectors.get(&id).ok_or_else(|| missing(id))
    }

    /// The table or an adapter's matrix.
    pub(super) fn whole(&self, id: usize) -> Result<&Numbers, KernelError> {
        self.matrices.get(&id).ok_or_else(|| missing(id))
    }

    /// The weights of a stack, by its first.
    pub(super) fn weight(&self, first: usize) -> Result<&Numbers, KernelError> {
        match self.stacks.get(&first).and_then(|stack| stack.weight.as_ref()) {
            Some(weight) => Ok(weight),
            None => self.whole(first),
        }
    }

    /// The biases of a stack, where it has any.
    pub(super) fn bias(&self, first: usize) -> Option<&Buffer<f32>> {
        self.stacks.get(&first)?.bias.as_ref()
    }
}

fn missing(id: usize) -> KernelError {
    KernelError::Shape { op: "network", expected: format!("tensor {id} on the device"), got: "none".to_owned() }
}
