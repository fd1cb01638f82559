//! The ids that begin and end a text, gathered from the files of a model folder.

use curate_core::{Error, Location, Result};
use serde_json::Value;
use std::path::Path;
use tokenizers::Tokenizer;

/// Special ids of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Specials {
    /// Begins a text.
    pub(super) bos: Option<u32>,
    /// Whether the model wants BOS in front of a text that has none.
    pub(super) adds_bos: bool,
    /// End a text; the first is the one to train on.
    pub(super) stops: Vec<u32>,
    /// Pads.
    pub(super) pad: Option<u32>,
}

impl Specials {
    /// Read `tokenizer_config.json`, then `generation_config.json`, then `config.json`: the first that says something wins,
    /// except that every id that ends a text is collected.
    pub(super) fn read(folder: &Path, inner: &Tokenizer) -> Result<Self> {
        let tokens = json(folder, "tokenizer_config.json")?;
        let numbers = [json(folder, "generation_config.json")?, json(folder, "config.json")?];
        let named = |key: &str| token(&tokens, key).map(|name| id_of(inner, &name, key)).transpose();
        let first = |key: &str| numbers.iter().find_map(|config| ids(config, key).first().copied());
        let bos = named("bos_token")?.or_else(|| first("bos_token_id"));
        let pad = named("pad_token")?.or_else(|| first("pad_token_id"));
        let mut stops: Vec<u32> = named("eos_token")?.into_iter().collect();
        for id in numbers.iter().flat_map(|config| ids(config, "eos_token_id")) {
            if !stops.contains(&id) {
                stops.push(id);
            }
        }
        let explicit = tokens.get("add_bos_token").and_then(Value::as_bool);
        let adds_bos = bos.is_some_and(|bos| explicit.unwrap_or_else(|| puts_in_front(inner, bos)));
        Ok(Self { bos, adds_bos, stops, pad })
    }
}

/// Whether the tokenizer's own post-processor begins a text with `bos`.
fn puts_in_front(inner: &Tokenizer, bos: u32) -> bool {
    inner.encode("", true).is_ok_and(|encoding| encoding.get_ids().first() == Some(&bos))
}

/// The id of a special token that a configuration names.
pub(super) fn id_of(inner: &Tokenizer, token: &str, key: &str) -> Result<u32> {
    inner.token_to_id(token).ok_or_else(|| {
        Error::data("tokenizer/special", format!("{key} is '{token}', which tokenizer.json does not have"))
            .hint("take tokenizer.json and tokenizer_config.json from the same model")
    })
}

/// A token of `tokenizer_config.json`: a text, or an object with `content`.
fn token(config: &Value, key: &str) -> Option<String> {
    let token = config.get(key)?;
    token.as_str().or_else(|| token.get("content")?.as_str()).map(str::to_owned)
}

/// Ids of a configuration: a number or a list of numbers.
fn ids(config: &Value, key: &str) -> Vec<u32> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match config.get(key) {
        Some(Value::Array(several)) => several.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A JSON file of the folder; null where there is none.
fn json(folder: &Path, name: &str) -> Result<Value> {
    let path = folder.join(name);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Value::Null),
        other => other.map_err(|e| Error::from(e).at(Location::file(path.to_string_lossy())))?,
    };
    serde_json::from_slice(&bytes).map_err(|e| {
        Error::data("tokenizer/config", format!("not a JSON file: {e}"))
            .hint("download the file again")
            .at(Location::file(path.to_string_lossy()))
    })
}
