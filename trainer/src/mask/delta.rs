//! A sparse change of a model as a file: which entries, their old values and their new ones.
//!
//! Per tensor `<name>.idx` (sorted flat places), `<name>.old` and `<name>.val` (f32); the header holds the digest of the base and the
//! number of entries. Source: the sparse vectors of Ansell et al., Composable Sparse Fine-Tuning (section 3); `theta = theta0 + sum of
//! phi_j`. Deviation: values instead of differences, since `a + b - b` is not `a` in floats: applying and reverting are
//! exact. Cost: 12 bytes a changed entry.

use super::Mask;
use super::movement::{Masks, changed, pairs};
use crate::checkpoint::{self, Entry, TensorFile};
use crate::{ParamId, Params};
use curate_core::{Error, Location, Result};
use half::bf16;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;

/// The change of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct DeltaPart {
    /// Name of the tensor.
    pub name: String,
    /// Which entries.
    pub mask: Mask,
    /// Their values in the base.
    pub old: Vec<f32>,
    /// Their values after.
    pub new: Vec<f32>,
}

/// The change of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct SparseDelta {
    /// [`digest`] of the base.
    pub base: String,
    /// Changed tensors, in the order of the model.
    pub parts: Vec<DeltaPart>,
}

/// Digest of names, shapes and values of all tensors but those of adapters.
#[must_use]
pub fn digest(params: &Params) -> String {
    let mut hasher = blake3::Hasher::new();
    for (id, tensor) in params.iter().filter(|(_, t)| !crate::lora::is_adapter(&t.name)) {
        hasher.update(format!("{} {:?}\n", tensor.name, tensor.shape).as_bytes());
        for block in params.half(id).unwrap_or_default().chunks(16 * 1024) {
            hasher.update(&checkpoint::bytes(block, bf16::to_le_bytes));
        }
        for block in tensor.data.chunks(16 * 1024) {
            hasher.update(&checkpoint::bytes(block, f32::to_le_bytes));
        }
    }
    hasher.finalize().to_hex().to_string()
}

impl SparseDelta {
    /// All entries whose bits differ.
    ///
    /// # Errors
    /// `model/pair`, `mask/too-large`.
    pub fn between(base: &Params, tuned: &Params) -> Result<Self> {
        Self::of(base, tuned, &changed(base, tuned, 0.0)?)
    }

    /// The entries in the masks, changed or not.
    ///
    /// # Errors
    /// `model/pair`.
    pub fn of(base: &Params, tuned: &Params, masks: &Masks) -> Result<Self> {
        let part = |(id, old, new): (ParamId, &crate::Tensor, &crate::Tensor)| {
            let mask = masks.get(&id).filter(|mask| !mask.is_empty())?.clone();
            let gather = |data: &[f32]| mask.indices().iter().map(|i| data[*i as usize]).collect();
            let (old_values, new_values) = (gather(&old.data), gather(&new.data));
            Some(DeltaPart { name: old.name.clone(), mask, old: old_values, new: new_values })
        };
        Ok(Self { base: digest(base), parts: pairs(base, tuned)?.into_iter().filter_map(part).collect() })
    }

    /// Changed entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.parts.iter().map(|part| part.mask.len()).sum()
    }

    /// The entries as masks over the tensors of a model.
    ///
    /// # Errors
    /// `delta/base` when a tensor is missing or too short.
    pub fn masks(&self, params: &Params) -> Result<Masks> {
        self.parts.iter().map(|part| Ok((part.place(params)?, part.mask.clone()))).collect()
    }

    /// Write a safetensors file.
    ///
    /// # Errors
    /// `io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        let entries: Vec<Entry<'_>> = self.parts.iter().flat_map(DeltaPart::entries).collect();
        let names: Vec<&str> = self.parts.iter().map(|part| part.name.as_str()).collect();
        let about = json!({"format": "sparse-delta 1", "base": self.base, "k": self.entries(), "tensors": names});
        checkpoint::write(path, &entries, Some(&about))
    }

    /// Read what [`SparseDelta::save`] wrote.
    ///
    /// # Errors
    /// `delta/format` when it is another kind of file, `tensors/*`, `io`.
    pub fn load(path: &Path) -> Result<Self> {
        let mut file = TensorFile::open(path)?;
        let about = file.about().unwrap_or_default();
        let other = || {
            Error::data("delta/format", "not a sparse change of a model")
                .hint("give a file written by a sparse or LIFT run")
                .at(Location::file(path.display().to_string()))
        };
        let (Some("sparse-delta 1"), Some(base), Some(names)) =
            (about["format"].as_str(), about["base"].as_str(), about["tensors"].as_array())
        else {
            return Err(other());
        };
        let names = names.iter().map(|name| name.as_str().ok_or_else(other));
        let parts = names.map(|name| DeltaPart::read(&mut file, name?)).collect::<Result<_>>()?;
        Ok(Self { base: base.to_owned(), parts })
    }

    /// Give a base model the new values.
    ///
    /// # Errors
    /// `delta/base` when it is not the base of this change.
    pub fn apply(&self, params: &mut Params) -> Result<()> {
        if digest(params) != self.base {
            return Err(stranger("the model is not the base of this change"));
        }
        self.parts.iter().try_for_each(|part| part.set(params, &part.new))
    }

    /// Give back the old values.
    ///
    /// # Errors
    /// `delta/base` when the entries no longer hold the new values.
    pub fn revert(&self, params: &mut Params) -> Result<()> {
        for part in &self.parts {
            let data = &params.get(part.place(params)?).data;
            let same = |(i, new): (&u32, &f32)| data[*i as usize].to_bits() == new.to_bits();
            if !part.mask.indices().iter().zip(&part.new).all(same) {
                return Err(stranger(&format!("'{}' does not hold the values of this change", part.name)));
            }
        }
        self.parts.iter().try_for_each(|part| part.set(params, &part.old))
    }
}

/// Add several changes of one base: `theta0 + sum of (new - old)`. One change alone is applied exactly.
///
/// # Errors
/// `delta/base` when one belongs to another base.
pub fn compose(params: &mut Params, deltas: &[SparseDelta]) -> Result<()> {
    if let [delta] = deltas {
        return delta.apply(params);
    }
    let base = digest(params);
    if deltas.iter().any(|delta| delta.base != base) {
        return Err(stranger("one of the changes belongs to another base"));
    }
    let mut changes: BTreeMap<ParamId, Vec<Change>> = BTreeMap::new();
    for part in deltas.iter().flat_map(|delta| &delta.parts) {
        let list = changes.entry(part.place(params)?).or_default();
        let values = part.old.iter().zip(&part.new);
        list.extend(part.mask.indices().iter().zip(values).map(|(at, (old, new))| (*at, *old, *new)));
    }
    for (id, mut list) in changes {
        list.sort_by_key(|change| change.0);
        let data = &mut params.get_mut(id).data;
        for same in list.chunk_by(|a, b| a.0 == b.0) {
            data[same[0].0 as usize] = sum(same);
        }
    }
    Ok(())
}

/// Place, old value, new value.
type Change = (u32, f32, f32);

/// The value of one entry that several changes touch.
#[expect(clippy::cast_possible_truncation, reason = "summed in f64, kept in f32")]
fn sum(changes: &[Change]) -> f32 {
    if let [(_, _, new)] = changes {
        return *new;
    }
    let moved: f64 = changes.iter().map(|(_, old, new)| f64::from(*new) - f64::from(*old)).sum();
    (f64::from(changes[0].1) + moved) as f32
}

fn stranger(what: &str) -> Error {
    Error::data("delta/base", what).hint("apply a change to the very model it was made from")
}

impl DeltaPart {
    fn entries(&self) -> [Entry<'_>; 3] {
        let shape = [self.mask.len()];
        [
            Entry::indices(format!("{}.idx", self.name), self.mask.indices()),
            Entry::floats(format!("{}.old", self.name), &shape, &self.old),
            Entry::floats(format!("{}.val", self.name), &shape, &self.new),
        ]
    }

    fn read(file: &mut TensorFile, name: &str) -> Result<Self> {
        let mask = Mask::new(file.indices(&format!("{name}.idx"))?);
        let (old, new) = (file.floats(&format!("{name}.old"))?, file.floats(&format!("{name}.val"))?);
        if old.len() != mask.len() || new.len() != mask.len() {
            return Err(Error::data(
                "delta/format",
                format!("'{name}' has {} places and {} values", mask.len(), new.len()),
            )
            .hint("the file is damaged; write it again"));
        }
        Ok(Self { name: name.to_owned(), mask, old, new })
    }

    fn place(&self, params: &Params) -> Result<ParamId> {
        let id =
            params.find(&self.name).ok_or_else(|| stranger(&format!("the model has no tensor '{}'", self.name)))?;
        self.mask.check(&self.name, params.get(id).data.len())?;
        Ok(id)
    }

    fn set(&self, params: &mut Params, values: &[f32]) -> Result<()> {
        let data = &mut params.get_mut(self.place(params)?).data;
        for (i, value) in self.mask.indices().iter().zip(values) {
            data[*i as usize] = *value;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn params(values: &[f32]) -> Params {
        let mut params = Params::default();
        params.push(Tensor { name: "w".into(), shape: vec![values.len()], data: values.to_vec(), trained: true });
        params
    }

    fn data(params: &Params) -> &[f32] {
        &params.get(ParamId(0)).data
    }

    #[test]
    fn applies_and_reverts_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("delta.safetensors");
        let (base, tuned) = (params(&[0.1, 1e9, -3.0]), params(&[0.1, 1e-9, 0.7]));
        let delta = SparseDelta::between(&base, &tuned).unwrap();
        delta.save(&path).unwrap();
        let delta = SparseDelta::load(&path).unwrap();
        assert_eq!(delta.entries(), 2);
        let mut model = base.clone();
        delta.apply(&mut model).unwrap();
        assert_eq!(data(&model), data(&tuned));
        assert_eq!(delta.apply(&mut model).unwrap_err().code(), "delta/base");
        delta.revert(&mut model).unwrap();
        assert_eq!(data(&model), data(&base));
        assert_eq!(delta.revert(&mut model).unwrap_err().code(), "delta/base");
    }

    #[test]
    fn changes_commute_and_disjoint_ones_stay_whole() {
        let base = params(&[1.0, 2.0, 4.0]);
        let a = SparseDelta::between(&base, &params(&[1.5, 2.0, 4.0])).unwrap();
        let b = SparseDelta::between(&base, &params(&[2.0, 0.1, 4.0])).unwrap();
        let composed = |deltas: &[SparseDelta]| {
            let mut model = base.clone();
            compose(&mut model, deltas).unwrap();
            data(&model).to_vec()
        };
        assert_eq!(composed(&[a.clone(), b.clone()]), [2.5, 0.1, 4.0]);
        assert_eq!(composed(&[b, a.clone()]), [2.5, 0.1, 4.0]);
        assert_eq!(composed(&[a]), [1.5, 2.0, 4.0]);
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        checkpoint::write(&path, &[Entry::floats("w", &[1], &[1.0])], None).unwrap();
        assert_eq!(SparseDelta::load(&path).unwrap_err().code(), "delta/format");
    }
}
