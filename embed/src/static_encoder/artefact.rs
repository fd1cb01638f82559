//! The file a static encoder lives in: one safetensors file with `embeddings` i8 `[vocab, dim]`, `scales` f32 `[vocab]`,
//! `bias` f32 `[dim]`, `vocab` u8 (tokens in id order, separated by line feeds) and the settings as metadata strings.

use crate::{WordPiece, WordPieceOptions};
use curate_core::{Error, Result};
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

/// Special tokens that stand for one id wherever they occur in a text, as in the tokenizer the table was made with.
const SPECIAL: &[&str] = &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

#[derive(Debug)]
pub(super) struct Artefact {
    bytes: Cow<'static, [u8]>,
    rows: Range<usize>,
    vocab: Range<usize>,
    scales: Vec<f32>,
    pub(super) bias: Vec<f32>,
    pub(super) name: String,
    pub(super) max_tokens: usize,
    pub(super) skip_unk: bool,
    pub(super) normalize: bool,
    lowercase: bool,
}

impl Artefact {
    pub(super) fn borrowed(bytes: &'static [u8]) -> Result<Self> {
        Self::parse(Cow::Borrowed(bytes))
    }

    pub(super) fn owned(bytes: Vec<u8>) -> Result<Self> {
        Self::parse(Cow::Owned(bytes))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Row of a token id, int8 stored as bytes, and its scale. Ids come from the vocabulary, which has as many entries as rows.
    pub(super) fn row(&self, id: u32) -> (&[u8], f32) {
        let (at, dim) = (id as usize, self.bias.len());
        (&self.bytes[self.rows.clone()][at * dim..][..dim], self.scales[at])
    }

    pub(super) fn tokenizer(&self) -> Result<WordPiece> {
        let text =
            std::str::from_utf8(&self.bytes[self.vocab.clone()]).map_err(|_| bad("the vocabulary is not UTF-8"))?;
        let entries = || text.split('\n').zip(0u32..);
        if entries().count() != self.scales.len() {
            return Err(bad("vocabulary and rows differ in number"));
        }
        let special = entries().filter(|(token, _)| SPECIAL.contains(token)).map(|(t, id)| (t.to_owned(), id));
        let options =
            WordPieceOptions { lowercase: self.lowercase, added: special.collect(), ..WordPieceOptions::default() };
        WordPiece::new(entries(), &options)
    }

    fn parse(bytes: Cow<'static, [u8]>) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| bad("not a safetensors file").because(e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad("broken safetensors file").because(e))?;
        let rows = part(&bytes, &tensors, "embeddings", Dtype::I8)?;
        let vocab = part(&bytes, &tensors, "vocab", Dtype::U8)?;
        let scales = floats(&bytes[part(&bytes, &tensors, "scales", Dtype::F32)?]);
        let bias = floats(&bytes[part(&bytes, &tensors, "bias", Dtype::F32)?]);
        if bias.is_empty() || rows.len() != scales.len() * bias.len() {
            return Err(bad("the shapes of embeddings, scales and bias do not fit"));
        }
        if scales.iter().chain(&bias).any(|x| !x.is_finite()) {
            return Err(bad("scales or bias are not finite"));
        }
        let (name, max_tokens) = (describe(&metadata), number(&metadata, "max_tokens")?);
        expect_setting(&metadata, "pooling", "mean")?;
        let flag = |key: &str| metadata.get(key).is_some_and(|value| value == "true");
        let (skip_unk, normalize, lowercase) = (flag("skip_unk"), flag("normalize"), flag("lowercase"));
        Ok(Self { bytes, rows, vocab, scales, bias, name, max_tokens, skip_unk, normalize, lowercase })
    }

    /// Rows `a = [2, 0]`, `b = [0, 4]` with scale 0.5, bias `[0, 0.5]`; the first entry of `vocab` has a row of noise.
    #[cfg(test)]
    pub(super) fn for_tests(vocab: &[&str], skip_unk: bool) -> Self {
        let bytes: Vec<u8> = [&[9, 9, 2, 0, 0, 4], vocab.join("\n").as_bytes()].concat();
        Self {
            rows: 0..6,
            vocab: 6..bytes.len(),
            scales: vec![0.5; 3],
            bias: vec![0.0, 0.5],
            name: "test".to_owned(),
            max_tokens: 8,
            skip_unk,
            normalize: true,
            lowercase: true,
            bytes: Cow::Owned(bytes),
        }
    }
}

fn bad(what: &str) -> Error {
    Error::data("model/static", format!("not a static encoder: {what}")).hint(
        "datasets/recipes/static_encoder describes the format; a transformer is given as its folder, not as a file",
    )
}

/// Where in the file the data of a tensor stands.
fn part(bytes: &[u8], tensors: &SafeTensors<'_>, name: &str, dtype: Dtype) -> Result<Range<usize>> {
    let view = tensors.tensor(name).map_err(|_| bad(&format!("tensor '{name}' is missing")))?;
    if view.dtype() != dtype {
        return Err(bad(&format!("tensor '{name}' has the wrong type")));
    }
    let start = view.data().as_ptr().addr() - bytes.as_ptr().addr();
    Ok(start..start + view.data().len())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn describe(metadata: &HashMap<String, String>) -> String {
    let get = |key: &str| metadata.get(key).map_or("", String::as_str);
    format!("{} {}", get("name"), get("version")).trim().to_owned()
}

fn number(metadata: &HashMap<String, String>, key: &str) -> Result<usize> {
    let value = metadata.get(key).and_then(|value| value.parse().ok());
    value.filter(|n| *n > 0).ok_or_else(|| bad(&format!("setting '{key}' is not a positive number")))
}

fn expect_setting(metadata: &HashMap<String, String>, key: &str, value: &str) -> Result<()> {
    match metadata.get(key) {
        Some(given) if given != value => Err(bad(&format!("setting {key} = '{given}' is not known"))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_built_in_file() {
        let artefact = Artefact::borrowed(super::super::BUILT_IN).unwrap();
        assert_eq!(artefact.bias.len(), 256);
        assert_eq!(artefact.row(0).0.len(), 256);
        assert!(artefact.tokenizer().is_ok() && artefact.normalize);
    }

    #[test]
    fn refuses_other_files() {
        for bytes in [&b""[..], b"\0\0\0\0\0\0\0\0", b"\x08\0\0\0\0\0\0\0{}      "] {
            assert_eq!(Artefact::owned(bytes.to_vec()).unwrap_err().code(), "model/static");
        }
    }
}
