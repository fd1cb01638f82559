//! Where models come from and where they are kept.

use std::fmt;
use std::path::PathBuf;

/// Settings of the hub client. This crate reads no environment itself: [`HubOptions::from_vars`] is given a reader.
#[derive(Clone)]
pub struct HubOptions {
    /// Base URL, without a slash at the end.
    pub endpoint: String,
    /// Bearer token; sent to the endpoint's host only.
    pub token: Option<String>,
    /// Folder of `models--org--name` folders.
    pub cache_dir: PathBuf,
    /// Never use the network.
    pub offline: bool,
}

impl Default for HubOptions {
    /// The public hub, no token, `.cache/huggingface/hub` below the working folder.
    fn default() -> Self {
        Self::from_vars(|_| None)
    }
}

impl HubOptions {
    /// Settings from the variables that Python's client honours: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HOME`, `HF_HUB_OFFLINE`.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let below = |name: &str, rest: &str| set(name).map(|folder| PathBuf::from(folder).join(rest));
        let cache_dir = set("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| below("HF_HOME", "hub"))
            .or_else(|| below("XDG_CACHE_HOME", "huggingface/hub"))
            .or_else(|| below("HOME", ".cache/huggingface/hub"))
            .unwrap_or_else(|| PathBuf::from(".cache/huggingface/hub"));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let yes = |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: set("HF_TOKEN"),
            cache_dir,
            offline: set("HF_HUB_OFFLINE").is_some_and(yes),
        }
    }
}

impl fmt::Debug for HubOptions {
    /// Shows whether there is a token, never the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubOptions")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "(set)"))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_variables() {
        let options = HubOptions::from_vars(|name| match name {
            "HF_ENDPOINT" => Some("http://mirror/".into()),
            "HF_HOME" => Some("/models".into()),
            "HF_TOKEN" => Some("hf_secret".into()),
            "HF_HUB_OFFLINE" => Some("1".into()),
            _ => None,
        });
        assert_eq!((options.endpoint.as_str(), options.offline), ("http://mirror", true));
        assert_eq!(options.cache_dir, PathBuf::from("/models/hub"));
        assert!(!format!("{options:?}").contains("secret"));
    }
}
