//! Small files read and written whole, local or in an object store: manifests and what they vouch for.

use super::target::Target;
use crate::errors::io_at;
use crate::expand::file_url;
use crate::store::Stores;
use curate_core::Result;
use std::fs::File;
use std::io::{self, Write};

/// Write a whole file or object: complete under its name, or not there at all. What was there is replaced.
///
/// # Errors
/// `output/unwritable`, `store/*`, `io/*`.
pub fn write_whole(name: &str, bytes: &[u8]) -> Result<()> {
    let mut target = Target::create(name, true, &Stores::default())?;
    target.write_all(bytes).map_err(|e| io_at(e, name))?;
    target.commit().map(|_| ())
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
