//! Where bytes go: a temporary file that is renamed when complete, a device, or an object that appears when complete.

use crate::errors::io_at;
use crate::expand::file_url;
use crate::store::{Object, Stores, failed, wait};
use bytes::Bytes;
use curate_core::{Error, Location, Result};
use object_store::{MultipartUpload, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::{NamedTempFile, TempPath};

/// Bytes of one part of an upload.
const PART_BYTES: usize = 8 << 20;

/// Takes the bytes of one file, counting and hashing them.
pub(super) struct Target {
    name: String,
    place: Place,
    bytes: u64,
    hasher: blake3::Hasher,
}

enum Place {
    File {
        file: NamedTempFile,
        path: PathBuf,
        overwrite: bool,
    },
    /// A complete temporary file, closed.
    Resting {
        file: TempPath,
        path: PathBuf,
        overwrite: bool,
    },
    Device(File),
    Object(Box<Upload>),
}

struct Upload {
    object: Object,
    overwrite: bool,
    buffer: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
}

/// A complete file.
pub(super) struct Done {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) hasher: blake3::Hasher,
}

/// Whether a path is there and is neither file nor folder.
pub(super) fn is_device(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

pub(super) fn exists(name: &str) -> Error {
    Error::usage("output/exists", "the output exists already")
        .hint("use --overwrite, or choose another name")
        .at(Location::file(name))
}

/// Create the folder of a file, and a temporary file in it.
fn temp_beside(path: &Path) -> Result<NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |e: io::Error| {
        let code = e.kind();
        let name = folder.to_string_lossy().into_owned();
        match code {
            io::ErrorKind::StorageFull => io_at(e, &name),
            _ => Error::io("output/unwritable", format!("cannot write into this folder: {e}"))
                .hint("check that the folder is there and may be written to, or choose another output")
                .at(Location::file(name))
                .because(e),
        }
    };
    std::fs::create_dir_all(folder).map_err(unwritable)?;
    tempfile::Builder::new().prefix(".curate-").suffix(".part").tempfile_in(folder).map_err(unwritable)
}

/// Files made through a temporary file are private; give them the permissions any new file has.
#[cfg(unix)]
fn usual_permissions(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn usual_permissions(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Make a complete temporary file durable and close it.
fn settle(file: NamedTempFile, name: &str) -> Result<TempPath> {
    usual_permissions(file.as_file()).and_then(|()| file.as_file().sync_all()).map_err(|e| io_at(e, name))?;
    Ok(file.into_temp_path())
}

/// Put a complete temporary file in its place.
fn persist(file: TempPath, path: &Path, overwrite: bool) -> Result<()> {
    let name = path.to_string_lossy().into_owned();
    let placed = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    placed.map_err(|e| {
        if e.error.kind() == io::ErrorKind::AlreadyExists { exists(&name) } else { io_at(e.error, &name) }
    })?;
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        // Not every file system lets a folder be synchronised; the file itself is safe already.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// Write a whole file at once: complete under its name, or not there at all. What was there is replaced.
///
/// # Errors
/// `output/unwritable`, `io/*`.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.to_string_lossy().into_owned();
    let mut file = temp_beside(path)?;
    file.write_all(bytes).map_err(|e| io_at(e, &name))?;
    persist(settle(file, &name)?, path, true)
}

impl Target {
    pub(super) fn create(name: &str, overwrite: bool, stores: &Stores) -> Result<Self> {
        let place = match name {
            url if url.starts_with("file://") => Self::file(&file_url(url)?, overwrite)?,
            url if url.contains("://") => Self::object(stores.object(url)?, overwrite)?,
            path => Self::file(path, overwrite)?,
        };
        Ok(Self { name: name.to_owned(), place, bytes: 0, hasher: blake3::Hasher::new() })
    }

    fn file(name: &str, overwrite: bool) -> Result<Place> {
        let path = PathBuf::from(name);
        if is_device(name) {
            return OpenOptions::new().write(true).open(&path).map(Place::Device).map_err(|e| io_at(e, name));
        }
        if path.is_dir() {
            return Err(Error::usage("output/folder", "the output is a folder")
                .hint("end it in / to write shards into it")
                .at(Location::file(name)));
        }
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(name));
        }
        Ok(Place::File { file: temp_beside(&path)?, path, overwrite })
    }

    fn object(object: Object, overwrite: bool) -> Result<Place> {
        if !overwrite && object.head().is_ok() {
            return Err(exists(&object.url));
        }
        Ok(Place::Object(Box::new(Upload { object, overwrite, buffer: Vec::new(), parts: None })))
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Close a complete file until it is committed, so that many can wait without many open handles.
    pub(super) fn rest(mut self) -> Result<Self> {
        if let Place::File { file, path, overwrite } = self.place {
            self.place = Place::Resting { file: settle(file, &self.name)?, path, overwrite };
        }
        Ok(self)
    }

    /// Put the complete file under its final name.
    pub(super) fn commit(self) -> Result<Done> {
        match self.place {
            Place::File { file, path, overwrite } => persist(settle(file, &self.name)?, &path, overwrite)?,
            Place::Resting { file, path, overwrite } => persist(file, &path, overwrite)?,
            Place::Device(mut file) => file.flush().map_err(|e| io_at(e, &self.name))?,
            Place::Object(upload) => upload.commit()?,
        }
        Ok(Done { name: self.name, bytes: self.bytes, hasher: self.hasher })
    }
}

impl Upload {
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PART_BYTES { self.flush_part() } else { Ok(()) }
    }

    fn flush_part(&mut self) -> Result<()> {
        let url = self.object.url.clone();
        if self.parts.is_none() {
            let (store, path) = (Arc::clone(&self.object.store), self.object.path.clone());
            self.parts = Some(wait(async move { store.put_multipart(&path).await })?.map_err(|e| failed(e, &url))?);
        }
        let part = Bytes::from(std::mem::take(&mut self.buffer));
        if let Some(parts) = &mut self.parts {
            wait(parts.put_part(PutPayload::from_bytes(part)))?.map_err(|e| failed(e, &url))?;
        }
        Ok(())
    }

    fn commit(mut self) -> Result<()> {
        let url = self.object.url.clone();
        if self.parts.is_some() {
            self.flush_part()?;
        }
        let (store, path) = (Arc::clone(&self.object.store), self.object.path.clone());
        let done = if let Some(mut parts) = self.parts.take() {
            wait(async move { parts.complete().await })?
        } else {
            let mode = if self.overwrite { PutMode::Overwrite } else { PutMode::Create };
            let payload = PutPayload::from_bytes(Bytes::from(std::mem::take(&mut self.buffer)));
            wait(async move { store.put_opts(&path, payload, PutOptions::from(mode)).await })?
        };
        done.map(|_| ()).map_err(|e| failed(e, &url))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut parts) = self.parts.take() {
            // An upload that is given up leaves no object; a store that cannot be reached now cleans up by itself.
            let _ = wait(async move { parts.abort().await });
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.place {
            Place::File { file, .. } => file.write_all(bytes)?,
            Place::Resting { .. } => return Err(io::Error::other("the file is closed")),
            Place::Device(file) => file.write_all(bytes)?,
            Place::Object(upload) => upload.push(bytes).map_err(io::Error::other)?,
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.place {
            Place::File { file, .. } => file.flush(),
            Place::Device(file) => file.flush(),
            Place::Object(_) | Place::Resting { .. } => Ok(()),
        }
    }
}
