//! What the user may write after `--embedder`, and how the named thing is opened.

use crate::HubOptions;
use curate_core::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Which embedder: `static`, a folder (or one static-encoder file), or a hub id `org/name[@revision]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EmbedderChoice {
    /// The static encoder built into the binary.
    Static,
    /// A sentence-transformers folder, or a `.safetensors` file in the format of the built-in static encoder.
    Folder(PathBuf),
    /// A model of the hub.
    Hub {
        /// `org/name`.
        id: String,
        /// Branch, tag or commit; `main` unless given.
        revision: String,
    },
}

/// How to open an embedder.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where hub models come from and go to.
    pub hub: HubOptions,
    /// `cpu`, `auto`, `cuda`, `cuda:N`, `cuda:N,M` or `cuda:all`.
    pub device: String,
    /// Cut every text at this many tokens; the model's own limit when `None`.
    pub max_tokens: Option<usize>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { hub: HubOptions::default(), device: "cpu".to_owned(), max_tokens: None }
    }
}

impl FromStr for EmbedderChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        if text == "static" {
            return Ok(Self::Static);
        }
        if looks_like_path(text) {
            return Ok(Self::Folder(PathBuf::from(text)));
        }
        let (id, revision) = text.split_once('@').unwrap_or((text, "main"));
        if is_hub_id(id) && is_revision(revision) {
            return Ok(Self::Hub { id: id.to_owned(), revision: revision.to_owned() });
        }
        Err(Error::usage("embedder/unknown", format!("embedder '{text}' is neither a known name, a folder nor a hub id"))
            .hint("write static, the path of a sentence-transformers folder (./model), or a hub id (org/name or org/name@revision)"))
    }
}

impl fmt::Display for EmbedderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static => f.write_str("static"),
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Hub { id, revision } if revision == "main" => f.write_str(id),
            Self::Hub { id, revision } => write!(f, "{id}@{revision}"),
        }
    }
}

fn looks_like_path(text: &str) -> bool {
    let path = Path::new(text);
    !text.is_empty() && (path.is_absolute() || text.starts_with('.') || text.starts_with('~') || path.exists())
}

/// Whether `id` has the form `org/name` with harmless characters only.
pub(crate) fn is_hub_id(id: &str) -> bool {
    id.split_once('/').is_some_and(|(org, name)| is_plain_name(org) && is_plain_name(name))
}

/// Whether `revision` is a branch, tag, pull-request ref or commit that is safe in a URL and in a path.
pub(crate) fn is_revision(revision: &str) -> bool {
    revision.len() <= 200 && revision.split('/').all(is_plain_name)
}

/// One path segment of letters, digits, `.`, `_`, `-` that neither starts with a dot or dash nor climbs.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let harmless = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=128).contains(&name.len())
        && name.bytes().all(harmless)
        && !name.starts_with(['.', '-'])
        && !name.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        assert_eq!("static".parse::<EmbedderChoice>().unwrap(), EmbedderChoice::Static);
        assert_eq!("./m".parse::<EmbedderChoice>().unwrap(), EmbedderChoice::Folder("./m".into()));
        let hub = |id: &str, revision: &str| EmbedderChoice::Hub { id: id.into(), revision: revision.into() };
        assert_eq!("BAAI/bge-small-en-v1.5".parse::<EmbedderChoice>().unwrap(), hub("BAAI/bge-small-en-v1.5", "main"));
        assert_eq!("a/b@refs/pr/3".parse::<EmbedderChoice>().unwrap(), hub("a/b", "refs/pr/3"));
        for bad in ["", "word", "a/b/c", "a/..", "a/b@../x", "a/b@", "a b/c", "a/.b"] {
            assert_eq!(bad.parse::<EmbedderChoice>().unwrap_err().code(), "embedder/unknown", "{bad}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["static", "a/b", "a/b@v1", "./folder"] {
            assert_eq!(text.parse::<EmbedderChoice>().unwrap().to_string(), text);
        }
    }
}
