//! Gradients on the device, summed in f32, side by side in one buffer, so that they come back in few transfers.

use super::numbers::Numbers;
use super::ops::Rows;
use super::plan::{Adapter, Map};
use crate::KernelError;
use crate::cuda::{Arg, Buffer, Device};
use std::collections::BTreeMap;

/// Numbers fetched at a time, unless one tensor has more.
const FETCH: usize = 1 << 24;
/// Sums begin at multiples of so many numbers.
const ALIGNED: usize = 64;

/// Sums for the tensors that are trained, by the owner's numbers.
pub(super) struct Grads {
    sums: Numbers,
    /// Where each begins, and its length; in the order in which they lie.
    places: BTreeMap<usize, (usize, usize)>,
}

impl Grads {
    pub(super) fn zeros(device: &Device, trained: &[(usize, usize)]) -> Result<Self, KernelError> {
        let lengths: BTreeMap<usize, usize> = trained.iter().copied().collect();
        let mut end = 0;
        let place = |(id, len): (usize, usize)| {
            let start = end;
            end += len.next_multiple_of(ALIGNED);
            (id, (start, len))
        };
        let places = lengths.into_iter().map(place).collect();
        Ok(Self { sums: Numbers::Wide(device.zeros(end)?), places })
    }

    /// The sum of a matrix with rows of `stride`.
    pub(super) fn rows(&self, id: usize, stride: usize) -> Option<Rows<'_>> {
        self.places.get(&id).map(|(at, _)| Rows { numbers: &self.sums, at: *at, stride })
    }

    /// The sum of a tensor, as kernels take it.
    pub(super) fn arg(&self, id: usize) -> Option<Arg<'_>> {
        self.places.get(&id).map(|(at, _)| self.sums.at(*at))
    }

    /// Whether a tensor is trained.
    pub(super) fn has(&self, id: usize) -> bool {
        self.places.contains_key(&id)
    }

    /// Whether the weights of a map, or of its adapter, are trained: then its input is needed.
    pub(super) fn of_map(&self, map: &Map) -> bool {
        let adapter = |adapter: Adapter| self.has(adapter.a) || self.has(adapter.b);
        self.has(map.weight) || map.adapter.is_some_and(adapter)
    }

    /// Whether anything of these is trained.
    pub(super) fn any(&self, maps: &[Map], vectors: &[usize]) -> bool {
        let map = |map: &Map| self.of_map(map) || map.bias.is_some_and(|bias| self.has(bias));
        maps.iter().any(map) || vectors.iter().any(|id| self.has(*id))
    }

    /// Fetch them, and hand them out one after another. Nothing is handed out where the device has failed before.
    pub(super) fn hand_out(&self, device: &Device, take: &mut dyn FnMut(usize, &[f32])) -> Result<(), KernelError> {
        device.synchronize()?;
        let Numbers::Wide(sums) = &self.sums else { return Ok(()) };
        let (mut room, mut waiting): (Vec<f32>, Vec<(usize, usize, usize)>) = (Vec::new(), Vec::new());
        for (id, (at, len)) in &self.places {
            let first = waiting.first().map_or(*at, |(_, first, _)| *first);
            if at + len - first > FETCH && !waiting.is_empty() {
                fetch(device, sums, (&mut room, &waiting), take)?;
                waiting.clear();
            }
            waiting.push((*id, *at, *len));
        }
        fetch(device, sums, (&mut room, &waiting), take)
    }
}

/// Fetch some neighbours in one transfer.
fn fetch(
    device: &Device,
    sums: &Buffer<f32>,
    (room, waiting): (&mut Vec<f32>, &[(usize, usize, usize)]),
    take: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), KernelError> {
    let (Some((_, first, _)), Some((_, at, len))) = (waiting.first(), waiting.last()) else { return Ok(()) };
    room.resize(at + len - first, 0.0);
    device.download_from(sums, *first, room)?;
    for (id, at, len) in waiting {
        take(*id, &room[at - first..][..*len]);
    }
    Ok(())
}
