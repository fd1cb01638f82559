//! Causal language models: their files, and a look at the configuration before any weights are fetched.

use super::cache::Repo;
use super::fetch::Fetcher;
use super::{Hub, SMALL_BYTES, weights};
use crate::choice::{is_hub_id, is_revision};
use curate_core::{Ctx, Error, Result};
use std::path::{Path, PathBuf};

/// What belongs to a model besides configuration, tokenizer and weights.
const EXTRAS: [&str; 4] =
    ["tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja"];

impl Hub {
    /// The folder that holds the files of language model `id` at `revision`, fetching what is missing. `check` sees
    /// `config.json` before anything large is fetched.
    ///
    /// # Errors
    /// As [`Hub::fetch`]; what `check` gives.
    pub fn fetch_language_model(
        &self,
        id: &str,
        revision: &str,
        check: impl FnOnce(&Path) -> Result<()>,
        ctx: &Ctx,
    ) -> Result<PathBuf> {
        if !is_hub_id(id) || !is_revision(revision) {
            return Err(Error::usage("model/missing", format!("'{id}@{revision}' is not a hub id"))
                .hint("write owner/name or owner/name@revision, or name a model folder"));
        }
        let ctx = ctx.child(format!("fetch {id}"));
        let repo = Repo::new(&self.options.cache_dir, id, revision);
        let mut fetcher = Fetcher::new(&self.http, repo, self.options.offline);
        let config = fetcher.required("config.json", SMALL_BYTES, &ctx)?;
        check(&config)?;
        fetcher.required("tokenizer.json", SMALL_BYTES, &ctx)?;
        for name in EXTRAS {
            fetcher.optional(name, SMALL_BYTES, &ctx)?;
        }
        weights(&mut fetcher, &ctx)?;
        ctx.progress().finish();
        Ok(config.parent().map(Path::to_path_buf).unwrap_or_default())
    }
}
