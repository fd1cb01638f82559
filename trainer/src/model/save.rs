//! A model folder, written: `config.json` as it was read and all base tensors in one file.

use super::Model;
use crate::checkpoint::{self, Entry, Values};
use crate::lora::is_adapter;
use crate::{ParamId, Tensor};
use curate_core::{Error, Location, Result};
use std::path::Path;

impl Model {
    /// Write `config.json` and `model.safetensors` (base tensors, no adapters) into `folder`, in the format the
    /// configuration names. Each file is written whole or not at all.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let base = self.params.iter().filter(|(_, t)| !is_adapter(&t.name));
        let entries: Vec<Entry<'_>> = base.map(|(id, tensor)| self.entry(id, tensor)).collect();
        checkpoint::write(&folder.join("model.safetensors"), &entries, None)?;
        let path = folder.join("config.json");
        checkpoint::place(&path, |temp| {
            std::fs::write(temp, format!("{:#}\n", self.config.raw))
                .and_then(|()| std::fs::File::open(temp)?.sync_all())
                .map_err(|e| Error::from(e).at(Location::file(path.display().to_string())))
        })
    }

    fn entry<'a>(&'a self, id: ParamId, tensor: &'a Tensor) -> Entry<'a> {
        let values = self.params.half(id).map_or(Values::Floats(&tensor.data, self.config.dtype), Values::Halves);
        Entry { name: tensor.name.clone(), shape: tensor.shape.clone(), values }
    }
}
