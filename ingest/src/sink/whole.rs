//! Small files read and written whole, local or in an object store: manifests and what they vouch for.

use super::target::Target;
use crate::errors::io_at;
use crate::expand::file_url;
use crate::store::Stores;
use curate_core::Result;
use std::fs::File;
use std::io::{self, Write};

/// A file or object that will be written whole: its place was found writable, and nothing stands there before
/// [`WholeFile::finish`].
pub struct WholeFile(Target);

impl WholeFile {
    /// Take the place `name`.
    ///
    /// # Errors
    /// `output/exists` unless it may be overwritten, `output/unwritable`, `store/*`, `io/*`.
    pub fn create(name: &str, overwrite: bool) -> Result<Self> {
        Target::create(name, overwrite, &Stores::default()).map(Self)
    }

    /// Write all of it and put it in its place.
    ///
    /// # Errors
    /// `output/exists` when someone else wrote it meanwhile, `store/*`, `io/*`.
    pub fn finish(mut self, bytes: &[u8]) -> Result<()> {
        let name = self.0.name().to_owned();
        self.0.write_all(bytes).map_err(|e| io_at(e, &name))?;
        self.0.commit().map(|_| ())
    }
}

/// Write a whole file or object: complete under its name, or not there at all. What was there is replaced.
///
/// # Errors
/// `output/unwritable`, `store/*`, `io/*`.
pub fn write_whole(name: &str, bytes: &[u8]) -> Result<()> {
    WholeFile::create(name, true)?.finish(bytes)
}

/// Read a whole file or object.
///
/// # Errors
/// `input/not-found`, `store/*`, `io/*`.
pub fn read_whole(name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    copy(name, &mut bytes)?;
    Ok(bytes)
}

/// BLAKE3 of a file or object, in hexadecimal.
///
/// # Errors
/// As [`read_whole`].
pub fn digest_whole(name: &str) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    copy(name, &mut hasher)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn copy(name: &str, to: &mut impl Write) -> Result<()> {
    let local = match name {
        url if url.starts_with("file://") => file_url(url)?,
        url if url.contains("://") => return Stores::default().object(url)?.copy_to(to),
        path => path.to_owned(),
    };
    let mut file = File::open(&local).map_err(|e| io_at(e, &local))?;
    io::copy(&mut file, to).map(|_| ()).map_err(|e| io_at(e, &local))
}
