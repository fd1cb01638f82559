//! Reading a sentence-transformers folder: which modules there are, how texts are cut, prefixed, pooled and normalised.

use super::config::{Config, unsupported};
use super::pooling::Pooling;
use crate::digest::Digest;
use curate_core::{Error, Location, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A folder being read; every file read goes into the digest.
pub(super) struct Folder {
    path: PathBuf,
    digest: Digest,
}

/// What the folder says besides weights and vocabulary.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Config,
    pub(super) pooling: Pooling,
    pub(super) normalize: bool,
    /// Written before every text.
    pub(super) prompt: String,
    /// Tokens of a text at most, specials included.
    pub(super) max_tokens: usize,
    /// Folder of the transformer's files below the root, with a slash at its end unless it is the root.
    pub(super) transformer: String,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    class: String,
    #[serde(default)]
    path: String,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Ok(Self { path: path.to_owned(), digest: Digest::new() });
        }
        Err(Error::device("model/folder", format!("'{}' is not a folder", path.display()))
            .hint("give the folder of a sentence-transformers model, or a hub id such as sentence-transformers/all-MiniLM-L6-v2"))
    }

    pub(super) fn digest(&mut self) -> &mut Digest {
        &mut self.digest
    }

    /// Content of a file, `None` when there is none.
    pub(super) fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        if name.split('/').any(|part| part == "..") || name.starts_with('/') {
            return Err(self.broken(name, "the name leaves the model's folder"));
        }
        match std::fs::read(self.path.join(name)) {
            Ok(bytes) => {
                self.digest.part(name, &bytes);
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::from(error).at(self.at(name))),
        }
    }

    /// Content of a file that must be there.
    pub(super) fn need(&mut self, name: &str) -> Result<Vec<u8>> {
        self.read(name)?.ok_or_else(|| self.broken(name, "the file is missing"))
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    pub(super) fn at(&self, name: &str) -> Location {
        Location::file(self.path.join(name).display().to_string())
    }

    pub(super) fn broken(&self, name: &str, what: &str) -> Error {
        Error::device("model/folder", what)
            .hint("a model folder needs config.json, tokenizer.json or vocab.txt, and model.safetensors")
            .at(self.at(name))
    }

    pub(super) fn settings(&mut self, max_tokens: Option<usize>) -> Result<Settings> {
        let modules: Option<Vec<Module>> =
            self.read("modules.json")?.map(|json| parse(&json, "modules.json")).transpose()?;
        let (mut transformer, mut pooling, mut normalize) = (String::new(), Pooling::Mean, false);
        for module in modules.iter().flatten() {
            match module.class.rsplit('.').next().unwrap_or_default() {
                "Transformer" if module.path.is_empty() => {}
                "Transformer" => transformer = format!("{}/", module.path),
                "Pooling" => {
                    let name = format!("{}/config.json", module.path);
                    pooling = Pooling::parse(&parse(&self.need(&name)?, &name)?)?;
                }
                "Normalize" => normalize = true,
                other => return Err(unsupported(&format!("the module '{other}' of modules.json"))),
            }
        }
        let config = Config::parse(&self.need(&format!("{transformer}config.json"))?)?;
        let prompt = self.prompt()?;
        let own_limit = self.own_limit(&transformer)?.unwrap_or(config.max_positions).min(config.max_positions);
        let max_tokens = max_tokens.unwrap_or(own_limit).min(config.max_positions);
        self.digest.part("max_tokens", &max_tokens.to_le_bytes());
        Ok(Settings { config, pooling, normalize, prompt, max_tokens, transformer })
    }

    /// The prompt that is on by default; most models have none.
    fn prompt(&mut self) -> Result<String> {
        let name = "config_sentence_transformers.json";
        let Some(json) = self.read(name)? else { return Ok(String::new()) };
        let config: Value = parse(&json, name)?;
        let default = config.get("default_prompt_name").and_then(Value::as_str);
        let prompt = default.and_then(|name| config.get("prompts")?.get(name)?.as_str());
        Ok(prompt.unwrap_or_default().to_owned())
    }

    fn own_limit(&mut self, transformer: &str) -> Result<Option<usize>> {
        for (name, key) in
            [("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")]
        {
            let name = format!("{transformer}{name}");
            let Some(json) = self.read(&name)? else { continue };
            let config: Value = parse(&json, &name)?;
            // model_max_length may be 1e30 for "none".
            let limit = config.get(key).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
            if limit.is_some_and(|limit| limit > 0) {
                return Ok(limit);
            }
        }
        Ok(None)
    }
}

/// JSON with a typed error that names the file.
pub(super) fn parse<T: DeserializeOwned>(json: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(json)
        .map_err(|e| Error::data("model/json", e.to_string()).at(Location::file(name)).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_folder() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "config.json",
            r#"{"model_type":"bert","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"max_position_embeddings":64}"#,
        );
        write(
            "modules.json",
            r#"[{"type":"a.b.Transformer","path":""},{"type":"x.Pooling","path":"1_Pooling"},{"type":"x.Normalize","path":"2"}]"#,
        );
        write("1_Pooling/config.json", r#"{"pooling_mode_cls_token":true}"#);
        write("sentence_bert_config.json", r#"{"max_seq_length":512}"#);
        write("config_sentence_transformers.json", r#"{"prompts":{"query":"q: "},"default_prompt_name":"query"}"#);
        let settings = Folder::open(root.path()).unwrap().settings(None).unwrap();
        assert_eq!((settings.pooling, settings.normalize, settings.max_tokens), (Pooling::Cls, true, 64));
        assert_eq!(settings.prompt, "q: ");
        write("modules.json", r#"[{"type":"x.Dense","path":"2_Dense"}]"#);
        let error = Folder::open(root.path()).unwrap().settings(None).unwrap_err();
        assert!(error.code() == "model/architecture" && error.to_string().contains("Dense"));
        write("modules.json", r#"[{"type":"x.Pooling","path":"../../etc"}]"#);
        assert_eq!(Folder::open(root.path()).unwrap().settings(None).unwrap_err().code(), "model/folder");
    }

    #[test]
    fn a_missing_folder_is_a_model_error() {
        let error = Folder::open(Path::new("/nowhere")).err().unwrap();
        assert_eq!((error.code(), error.exit_code()), ("model/folder", 4));
    }
}
