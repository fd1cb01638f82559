//! A small client of the Hugging Face hub: fetches the few known files of a sentence encoder into the cache that Python uses too,
//! so that what one side has downloaded the other finds.

mod cache;
mod fetch;
mod http;
mod language;
mod options;
#[cfg(test)]
mod tests;

pub use options::HubOptions;

use crate::choice::{is_hub_id, is_revision};
use cache::Repo;
use curate_core::{Ctx, Error, Result};
use fetch::Fetcher;
use std::path::{Path, PathBuf};

/// Settings and texts: at most this many bytes each.
const SMALL_BYTES: u64 = 64 << 20;
/// Weights: at most this many bytes a file.
const WEIGHTS_BYTES: u64 = 64 << 30;

/// The hub as one run sees it.
#[derive(Debug)]
pub struct Hub {
    options: HubOptions,
    http: http::Http,
}

impl Hub {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// `hub/endpoint` when the endpoint is not an http(s) URL.
    pub fn new(options: &HubOptions) -> Result<Self> {
        Ok(Self { options: options.clone(), http: http::Http::new(options)? })
    }

    /// The folder that holds the files of sentence encoder `id` at `revision`, fetching what is missing.
    ///
    /// # Errors
    /// `hub/not-found`, `hub/forbidden`, `hub/offline`, `hub/checksum`, `hub/unreachable`, `hub/too-large`; `cancelled`.
    pub fn fetch(&self, id: &str, revision: &str, ctx: &Ctx) -> Result<PathBuf> {
        if !is_hub_id(id) || !is_revision(revision) {
            return Err(Error::usage("embedder/unknown", format!("'{id}@{revision}' is not a hub id")));
        }
        let ctx = ctx.child(format!("fetch {id}"));
        let repo = Repo::new(&self.options.cache_dir, id, revision);
        let mut fetcher = Fetcher::new(&self.http, repo, self.options.offline);
        let config = fetcher.required("config.json", SMALL_BYTES, &ctx)?;
        let root = config.parent().map(Path::to_path_buf).unwrap_or_default();
        let modules = fetcher.optional("modules.json", SMALL_BYTES, &ctx)?;
        for name in ["sentence_bert_config.json", "config_sentence_transformers.json", "tokenizer_config.json"] {
            fetcher.optional(name, SMALL_BYTES, &ctx)?;
        }
        if let Some(path) = modules {
            for folder in module_folders(&std::fs::read(path)?)? {
                fetcher.optional(&format!("{folder}/config.json"), SMALL_BYTES, &ctx)?;
            }
        }
        if fetcher.optional("tokenizer.json", SMALL_BYTES, &ctx)?.is_none() {
            fetcher.required("vocab.txt", SMALL_BYTES, &ctx)?;
        }
        weights(&mut fetcher, &ctx)?;
        ctx.progress().finish();
        Ok(root)
    }
}

/// `model.safetensors`, or the shards its index names.
fn weights(fetcher: &mut Fetcher<'_>, ctx: &Ctx) -> Result<()> {
    if fetcher.optional("model.safetensors", WEIGHTS_BYTES, ctx)?.is_some() {
        return Ok(());
    }
    let Some(index) = fetcher.optional("model.safetensors.index.json", SMALL_BYTES, ctx)? else {
        return Err(Error::device("model/no-safetensors", format!("{} has no safetensors weights", fetcher.repo_id()))
            .hint("pickled weights (.bin) are not read because they can run code; choose a revision with model.safetensors (often refs/pr/..)"));
    };
    for shard in shards(&std::fs::read(index)?)? {
        fetcher.required(&shard, WEIGHTS_BYTES, ctx)?;
    }
    Ok(())
}

/// Folders named by `modules.json`, without the root.
fn module_folders(json: &[u8]) -> Result<Vec<String>> {
    let modules: Vec<serde_json::Value> = parse(json, "modules.json")?;
    let folder = |module: &serde_json::Value| module.get("path").and_then(|p| p.as_str()).map(ToOwned::to_owned);
    Ok(modules.iter().filter_map(folder).filter(|folder| !folder.is_empty()).collect())
}

/// Shard files named by a safetensors index, each once, in name order.
pub(crate) fn shards(json: &[u8]) -> Result<Vec<String>> {
    let index: serde_json::Value = parse(json, "model.safetensors.index.json")?;
    let map = index.get("weight_map").and_then(|map| map.as_object());
    let names = map.into_iter().flat_map(|map| map.values()).filter_map(|name| name.as_str());
    let names: std::collections::BTreeSet<&str> = names.collect();
    match names.iter().find(|name| !cache::is_safe_file(name) || !name.ends_with(".safetensors")) {
        Some(name) => Err(Error::data("model/index", format!("the weight index names the file '{name}'"))),
        None => Ok(names.into_iter().map(ToOwned::to_owned).collect()),
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| Error::data("model/json", format!("{name}: {e}")).because(e))
}

#[cfg(test)]
mod names {
    use super::*;

    #[test]
    fn hostile_indexes_are_refused() {
        let index = |name: &str| format!(r#"{{"weight_map": {{"a": "{name}", "b": "{name}"}}}}"#);
        assert_eq!(shards(index("model-1.safetensors").as_bytes()).unwrap(), ["model-1.safetensors"]);
        for bad in ["../x.safetensors", "/x.safetensors", "x.bin", "a/../../x.safetensors"] {
            assert_eq!(shards(index(bad).as_bytes()).unwrap_err().code(), "model/index", "{bad}");
        }
    }

    #[test]
    fn bad_ids_never_reach_the_network() {
        let hub = Hub::new(&HubOptions::default()).unwrap();
        assert_eq!(hub.fetch("../x", "main", &Ctx::new(0)).unwrap_err().code(), "embedder/unknown");
        assert_eq!(hub.fetch("a/b", "../../x", &Ctx::new(0)).unwrap_err().code(), "embedder/unknown");
    }
}
