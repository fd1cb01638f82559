//! Notices when a file changes between opening and reading.

use crate::errors::io_at;
use curate_core::{Error, Location, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A local file as it was when the source was opened.
#[derive(Debug)]
pub(crate) struct Watched {
    path: PathBuf,
    name: String,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Watched {
    pub(crate) fn new(path: &Path, name: &str) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|e| io_at(e, name))?;
        Ok(Self { path: path.to_owned(), name: name.to_owned(), bytes: meta.len(), modified: meta.modified().ok() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file, opened anew.
    pub(crate) fn open(&self) -> Result<File> {
        let file = File::open(&self.path).map_err(|e| io_at(e, &self.name))?;
        let meta = file.metadata().map_err(|e| io_at(e, &self.name))?;
        if meta.len() != self.bytes || meta.modified().ok() != self.modified {
            return Err(self.changed());
        }
        Ok(file)
    }

    /// The error for content that is not what the first pass saw.
    pub(crate) fn changed(&self) -> Error {
        Error::data("input/changed", "the file was changed while it was being read")
            .hint("run again once nobody writes to it")
            .at(Location::file(&self.name))
    }
}
