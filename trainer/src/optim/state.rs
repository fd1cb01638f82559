//! Moments and masks to and from a file, bit for bit.

use super::{Optimizer, Slot};
use crate::checkpoint::{Entry, TensorFile};
use crate::mask::Mask;
use crate::{Params, Tensor};
use curate_core::{Error, Result};

impl Optimizer {
    /// Everything to write: `<tensor>.m`, `<tensor>.v`, and `<tensor>.idx` where there is a mask.
    #[must_use]
    pub fn entries<'a>(&'a self, params: &'a Params) -> Vec<Entry<'a>> {
        let slots = params.iter().filter_map(|(id, tensor)| Some((tensor, self.slots.get(id.0)?.as_ref()?)));
        slots.flat_map(|(tensor, slot)| slot.entries(tensor)).collect()
    }

    /// Take over what [`Optimizer::entries`] wrote, after `steps` updates.
    ///
    /// # Errors
    /// `tensors/*`, `optimizer/shape` when the file belongs to another model or method.
    pub fn restore(&mut self, params: &Params, file: &mut TensorFile, steps: u64) -> Result<()> {
        for (id, tensor) in params.iter() {
            if let Some(Some(slot)) = self.slots.get_mut(id.0) {
                slot.restore(tensor, file)?;
            }
        }
        self.steps = steps;
        Ok(())
    }
}

impl Slot {
    fn entries<'a>(&'a self, tensor: &'a Tensor) -> Vec<Entry<'a>> {
        let floats = |suffix: &str, values: &'a [f32]| {
            (!values.is_empty()).then(|| Entry::floats(format!("{}.{suffix}", tensor.name), &[values.len()], values))
        };
        let mask = self.mask.as_ref().map(|mask| Entry::indices(format!("{}.idx", tensor.name), mask.indices()));
        [floats("m", &self.first), floats("v", &self.second), mask].into_iter().flatten().collect()
    }

    fn restore(&mut self, tensor: &Tensor, file: &mut TensorFile) -> Result<()> {
        let key = format!("{}.idx", tensor.name);
        if file.shape(&key).is_some() {
            let mask = Mask::new(file.indices(&key)?);
            mask.check(&tensor.name, tensor.data.len())?;
            let len = mask.len();
            self.mask = Some(mask);
            self.first.resize(if self.first.is_empty() { 0 } else { len }, 0.0);
            self.second.resize(if self.second.is_empty() { 0 } else { len }, 0.0);
        }
        for (suffix, moments) in [("m", &mut self.first), ("v", &mut self.second)] {
            if !moments.is_empty() {
                *moments = read(file, &format!("{}.{suffix}", tensor.name), moments.len())?;
            }
        }
        Ok(())
    }
}

fn read(file: &mut TensorFile, name: &str, len: usize) -> Result<Vec<f32>> {
    let values = file.floats(name)?;
    if values.len() == len {
        return Ok(values);
    }
    Err(Error::data("optimizer/shape", format!("moments '{name}' have {} entries, the tensor {len}", values.len()))
        .hint("the checkpoint belongs to another model or tuning method"))
}
