//! What a plan from outside may touch: files and URLs below places that the server's owner named, models of the hub only where
//! they are allowed, and outputs only as plain file names.

mod local;
mod plan;
mod remote;

use curate_api::{Error, Result};
use local::Roots;
use remote::Prefix;
use std::path::PathBuf;

/// What the owner allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allow {
    /// Files, folders and URL prefixes; the working directory when empty.
    pub places: Vec<String>,
    /// Models may be fetched from the hub by id.
    pub hub: bool,
    /// Folders that no plan may read, even below an allowed one, such as that of the server's database.
    pub never: Vec<PathBuf>,
}

/// The allowed places, looked up.
#[derive(Clone, Debug)]
pub struct Places {
    roots: Roots,
    prefixes: Vec<Prefix>,
    hub: bool,
}

impl Places {
    /// Look up what is allowed.
    ///
    /// # Errors
    /// `allow/missing`, `allow/url`.
    pub fn new(allow: &Allow) -> Result<Self> {
        let here = ".".to_owned();
        let given = if allow.places.is_empty() { std::slice::from_ref(&here) } else { &allow.places[..] };
        let (urls, files): (Vec<_>, Vec<_>) = given.iter().partition(|place| is_url(place));
        let prefixes = urls.into_iter().map(|url| Prefix::parse(url)).collect::<Result<_>>()?;
        Ok(Self { roots: Roots::new(&files, &allow.never)?, prefixes, hub: allow.hub })
    }

    /// Refuse an input that lies elsewhere.
    ///
    /// # Errors
    /// `input/not-allowed`, `input/glob`.
    pub fn check_input(&self, text: &str) -> Result<()> {
        if text == "-" {
            return Err(refused("standard input belongs to the server"));
        }
        if let Some(path) = text.starts_with("file://").then(|| file_url(text)) {
            return self.roots.check_input(&path?);
        }
        if text.contains("://") { self.check_url(text, true) } else { self.roots.check_input(text) }
    }

    /// Refuse a file or folder, read as it is, that lies elsewhere.
    ///
    /// # Errors
    /// `input/not-allowed`.
    pub fn check_file(&self, text: &str) -> Result<()> {
        self.roots.check_whole(text)
    }

    /// Refuse a model that is neither built in, nor a folder at an allowed place, nor of the hub where that is allowed.
    ///
    /// # Errors
    /// `input/not-allowed`.
    pub fn check_model(&self, name: &str) -> Result<()> {
        match name {
            "builtin" => Ok(()),
            name if std::fs::symlink_metadata(name).is_err() && is_hub_id(name) => self.check_hub(),
            name => self.check_file(name),
        }
    }

    fn check_hub(&self) -> Result<()> {
        if self.hub {
            return Ok(());
        }
        Err(refused("models of the hub are not allowed").hint("name a folder, or start the server with --allow-hub"))
    }

    /// Refuse a URL outside of every allowed prefix.
    fn check_url(&self, text: &str, object: bool) -> Result<()> {
        if self.prefixes.iter().any(|prefix| prefix.holds(text, object)) {
            return Ok(());
        }
        Err(refused("this URL is not below an allowed one").hint("start the server with --allow URL-PREFIX"))
    }
}

fn refused(why: &str) -> Error {
    Error::usage("input/not-allowed", why)
}

fn is_url(text: &str) -> bool {
    text.contains("://") && !text.starts_with("file://")
}

fn file_url(text: &str) -> Result<String> {
    let path = url::Url::parse(text).ok().and_then(|url| url.to_file_path().ok());
    let path = path.and_then(|path| path.into_os_string().into_string().ok());
    path.ok_or_else(|| refused("this is not the URL of a local file").hint("write file:///absolute/path"))
}

/// `owner/name`, perhaps with `@revision`.
fn is_hub_id(name: &str) -> bool {
    let id = name.split_once('@').map_or(name, |(id, _)| id);
    id.split('/').count() == 2 && !name.starts_with(['.', '/', '~']) && !name.contains('\\')
}
