//! The small language model inside the binary: four blocks of the Llama kind, 4.3 million numbers, its own byte-level BPE. It is
//! a surrogate: good enough to tell usual rows from odd ones, and no more. How it was made and how good it is:
//! `datasets/models/README.md`.

use curate_core::{Error, Result};
use flate2::read::DeflateDecoder;
use std::borrow::Cow;
use std::io::Read;

/// What `--model` calls it.
pub const NAME: &str = "builtin";

/// What lies in its folder as it is, by name.
const PLAIN: [(&str, &[u8]); 4] = [
    ("config.json", include_bytes!("../../datasets/models/small-lm/config.json")),
    ("tokenizer.json", include_bytes!("../../datasets/models/small-lm/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../datasets/models/small-lm/tokenizer_config.json")),
    ("generation_config.json", include_bytes!("../../datasets/models/small-lm/generation_config.json")),
];
/// `model.safetensors` as `build.rs` packs it: two thirds of its size.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weights.packed"));

/// A file's name and what is in it.
pub type File = (&'static str, Cow<'static, [u8]>);

/// The files of its folder. Takes some hundredths of a second.
///
/// # Errors
/// `model/builtin` when the binary was built broken.
pub fn files() -> Result<Vec<File>> {
    let mut planes = Vec::new();
    DeflateDecoder::new(PACKED).read_to_end(&mut planes).map_err(|e| {
        Error::data("model/builtin", format!("the built-in model cannot be unpacked: {e}"))
            .hint("the program is damaged; install it anew")
    })?;
    let (low, high) = planes.split_at(planes.len().div_ceil(2));
    let mut weights: Vec<u8> = low.iter().zip(high).flat_map(|(low, high)| [*low, *high]).collect();
    weights.extend(low.get(high.len()));
    let plain = PLAIN.iter().map(|(name, bytes)| (*name, Cow::Borrowed(*bytes)));
    Ok(plain.chain([("model.safetensors", Cow::Owned(weights))]).collect())
}
