//! The cache folder as Python's client lays it out:
//! `models--org--name/{blobs/<etag>, refs/<revision>, snapshots/<commit>/<file> -> blobs, .no_exist/<commit>/<file>}`.

use crate::choice::is_plain_name;
use curate_core::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// One repository at one revision.
#[derive(Debug)]
pub(super) struct Repo {
    pub(super) id: String,
    pub(super) revision: String,
    root: PathBuf,
    locks: PathBuf,
}

impl Repo {
    pub(super) fn new(cache_dir: &Path, id: &str, revision: &str) -> Self {
        let folder = format!("models--{}", id.replace('/', "--"));
        let (root, locks) = (cache_dir.join(&folder), cache_dir.join(".locks").join(folder));
        Self { id: id.to_owned(), revision: revision.to_owned(), root, locks }
    }

    /// The commit this revision stood at when last seen.
    pub(super) fn known_commit(&self) -> Option<String> {
        if is_commit(&self.revision) {
            return Some(self.revision.clone());
        }
        let commit = fs::read_to_string(self.root.join("refs").join(&self.revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    pub(super) fn remember_commit(&self, commit: &str) -> Result<()> {
        if commit != self.revision && self.known_commit().as_deref() != Some(commit) {
            write_whole(&self.root.join("refs").join(&self.revision), commit.as_bytes())?;
        }
        Ok(())
    }

    /// Path of `file` in the snapshot of `commit`.
    pub(super) fn snapshot(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join("snapshots").join(commit).join(file)
    }

    pub(super) fn is_known_missing(&self, commit: &str, file: &str) -> bool {
        self.root.join(".no_exist").join(commit).join(file).exists()
    }

    pub(super) fn remember_missing(&self, commit: &str, file: &str) -> Result<()> {
        write_whole(&self.root.join(".no_exist").join(commit).join(file), b"")
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// A lock file that other processes, Python's included, wait for while a blob is written.
    pub(super) fn lock(&self, etag: &str) -> Result<fs::File> {
        fs::create_dir_all(&self.locks)?;
        let path = self.locks.join(format!("{etag}.lock"));
        let file = fs::File::options().create(true).truncate(false).write(true).open(path)?;
        file.lock()?;
        Ok(file)
    }

    /// Let the snapshot of `commit` show blob `etag` under the name `file`.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit, file);
        if path.exists() {
            return Ok(path);
        }
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent)?;
        let up = "../".repeat(2 + file.split('/').count() - 1);
        // A dangling link of an earlier run is in the way.
        if path.symlink_metadata().is_ok() {
            fs::remove_file(&path)?;
        }
        if symlink(&format!("{up}blobs/{etag}"), &path).is_err() && !path.exists() {
            fs::copy(self.blob(etag), &path)?;
        }
        Ok(path)
    }
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_target: &str, _path: &Path) -> std::io::Result<()> {
    Err(std::io::Error::from(std::io::ErrorKind::Unsupported))
}

/// Write a small file so that it is seen whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().ok_or_else(|| Error::io("io", "a file without a folder"))?;
    fs::create_dir_all(parent)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let part = parent.join(format!(".{name}.{}.part", std::process::id()));
    fs::write(&part, bytes)?;
    Ok(fs::rename(&part, path)?)
}

/// A full commit hash.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A relative path of plain names.
pub(super) fn is_safe_file(file: &str) -> bool {
    file.split('/').all(is_plain_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_reach_the_blob_from_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repo::new(folder.path(), "org/name", "main");
        let commit = "0123456789012345678901234567890123456789";
        fs::create_dir_all(repo.blob("x").parent().unwrap()).unwrap();
        fs::write(repo.blob("x"), "hello").unwrap();
        for file in ["config.json", "1_Pooling/config.json"] {
            assert_eq!(fs::read_to_string(repo.link(commit, file, "x").unwrap()).unwrap(), "hello");
        }
        assert_eq!(repo.known_commit(), None);
        repo.remember_commit(commit).unwrap();
        assert_eq!(repo.known_commit().as_deref(), Some(commit));
    }

    #[test]
    fn climbing_names_are_not_safe() {
        assert!(is_safe_file("1_Pooling/config.json"));
        assert!(["", "/etc/passwd", "../x", "a/../b", "a//b", "a\\b", ".hidden"].iter().all(|f| !is_safe_file(f)));
    }
}
