//! A model folder, written: `config.json` as it was read and all base tensors in one file.

use super::safefile::{Out, replace, write_tensors};
use super::{Linear, Model};
use curate_core::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

impl Model {
    /// Write `config.json` and `model.safetensors` (base tensors, no adapters) into `folder`, in the format the
    /// configuration names. Each file is written whole or not at all.
    ///
    /// # Errors
    /// When writing fails.
    pub fn save(&self, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let adapters = self.adapter_tensors();
        let tensors: Vec<Out> = self
            .params
            .iter()
            .filter(|(id, _)| !adapters.contains(&id.0))
            .map(|(_, t)| Out { name: &t.name, shape: &t.shape, data: &t.data, dtype: self.config.dtype })
            .collect();
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&folder.join("model.safetensors"), &tensors, &metadata)?;
        replace(&folder.join("config.json"), |file| writeln!(file, "{:#}", self.config.raw))
    }

    /// Places of the tensors that belong to adapters.
    fn adapter_tensors(&self) -> BTreeSet<usize> {
        let linears = self.layers.iter().flat_map(|layer| layer.linears().map(Linear::clone)).chain([self.head]);
        linears.filter_map(|linear| linear.lora).flat_map(|lora| [lora.a.0, lora.b.0]).collect()
    }
}
