//! The server's folder: who may read it, and that one server at a time has it.

use curate_api::{Error, Location, Result};
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// The folder of a store.
#[derive(Clone)]
pub(super) struct Folder(PathBuf);

/// Held as long as the store is open; the system lets go of it when the process dies.
pub(super) struct Lock {
    _file: File,
}

impl Folder {
    /// The folder at `path`, made for its owner alone when missing.
    pub(super) fn make(path: &Path) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|error| at(error, path))?;
        Ok(Self(path.to_owned()))
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.0.join("curate.db")
    }

    /// The journal beside it.
    pub(super) fn journal(&self) -> PathBuf {
        self.0.join("curate.db-wal")
    }

    /// The snapshots.
    pub(super) fn snapshots(&self) -> PathBuf {
        self.0.join("snapshots.db")
    }

    /// Remove the snapshots, which cannot be read.
    pub(super) fn forget_snapshots(&self) -> Result<()> {
        for name in ["snapshots.db", "snapshots.db-wal", "snapshots.db-shm"] {
            let path = self.0.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(error, &path)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Be the only server here.
    pub(super) fn lock(&self) -> Result<Lock> {
        let path = self.0.join("curate.lock");
        let mut file = own(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(self.taken(file)),
            Err(TryLockError::Error(error)) => return Err(at(error, &path)),
        }
        // Who has it, for people; on a full disk the lock alone must do.
        let _ = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }

    fn taken(&self, file: File) -> Error {
        let mut who = String::new();
        let _ = file.take(20).read_to_string(&mut who);
        let who = who.trim().parse::<u32>().map_or(String::new(), |id| format!(" (process {id})"));
        Error::usage("store/locked", format!("another server{who} uses the folder {}", self.0.display()))
            .hint("stop it, or choose another folder with --data; several servers share a PostgreSQL database")
    }
}

/// A file that only its owner may read and write, made when missing.
pub(super) fn own(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).map_err(|error| at(error, path))?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(|error| at(error, path))?;
    Ok(file)
}

/// The system refused something at `path`.
fn at(error: std::io::Error, path: &Path) -> Error {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let code = if full { "store/full" } else { "store/unavailable" };
    Error::io(code, format!("the server's folder cannot be used: {error}"))
        .hint("check the path, its permissions and the free space, or choose another folder with --data")
        .at(Location::file(path.display().to_string()))
        .because(error)
}
