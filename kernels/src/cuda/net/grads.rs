//! Gradients on the device, summed in f32.

use super::numbers::Numbers;
use super::plan::{Adapter, Map};
use crate::KernelError;
use crate::cuda::{Buffer, Device};
use std::collections::BTreeMap;

/// Sums for the tensors that are trained, by the owner's numbers.
pub(super) struct Grads(BTreeMap<usize, (Numbers, usize)>);

impl Grads {
    pub(super) fn zeros(device: &Device, trained: &[(usize, usize)]) -> Result<Self, KernelError> {
        let one = |&(id, len): &(usize, usize)| Ok((id, (Numbers::Wide(device.zeros(len)?), len)));
        trained.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn get(&self, id: usize) -> Option<&Numbers> {
        self.0.get(&id).map(|(sum, _)| sum)
    }

    pub(super) fn wide(&self, id: usize) -> Option<&Buffer<f32>> {
        match self.get(id) {
            Some(Numbers::Wide(sum)) => Some(sum),
            _ => None,
        }
    }

    /// Whether the weights of a map, or of its adapter, are trained: then its input is needed.
    pub(super) fn of_map(&self, map: &Map) -> bool {
        let adapter = |adapter: Adapter| self.0.contains_key(&adapter.a) || self.0.contains_key(&adapter.b);
        self.0.contains_key(&map.weight) || map.adapter.is_some_and(adapter)
    }

    /// Whether anything of these is trained.
    pub(super) fn any(&self, maps: &[Map], vectors: &[usize]) -> bool {
        let map = |map: &Map| self.of_map(map) || map.bias.is_some_and(|bias| self.0.contains_key(&bias));
        maps.iter().any(map) || vectors.iter().any(|id| self.0.contains_key(id))
    }

    /// Fetch them one after another.
    pub(super) fn hand_out(&self, device: &Device, take: &mut dyn FnMut(usize, &[f32])) -> Result<(), KernelError> {
        device.synchronize()?;
        let mut room = Vec::new();
        for (id, (sum, len)) in &self.0 {
            if let Numbers::Wide(sum) = sum {
                room.resize(*len, 0.0);
                device.download(sum, &mut room)?;
                take(*id, &room);
            }
        }
        Ok(())
    }
}
