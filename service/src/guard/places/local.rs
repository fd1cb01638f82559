//! Files: what a path means once links and `..` are followed, and whether that lies below an allowed place. The answer for a
//! place outside is the same whether something is there or not.

use super::refused;
use curate_api::{Error, Result};
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Most files of a folder or pattern that are looked at.
const FILES: usize = 200_000;
const WILD: [char; 3] = ['*', '?', '['];

/// Allowed files and folders.
#[derive(Clone, Debug)]
pub(super) struct Roots {
    roots: Vec<PathBuf>,
    never: Vec<PathBuf>,
}

impl Roots {
    pub(super) fn new(allowed: &[&String], never: &[PathBuf]) -> Result<Self> {
        let real = |path: &&String| {
            Path::new(path.strip_prefix("file://").unwrap_or(path)).canonicalize().map_err(|e| {
                Error::usage("allow/missing", format!("cannot allow '{path}': {e}"))
                    .hint("name a file or folder that is there, or a URL such as s3://bucket/prefix")
            })
        };
        let never = never.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
        Ok(Self { roots: allowed.iter().map(real).collect::<Result<_>>()?, never })
    }

    /// Refuse an input (file, folder or pattern) that is or holds or matches anything outside.
    pub(super) fn check_input(&self, text: &str) -> Result<()> {
        if text.contains(WILD) && std::fs::metadata(text).is_err() {
            return self.check_pattern(text);
        }
        self.check_whole(text)
    }

    /// Refuse a file or folder that is or holds anything outside.
    pub(super) fn check_whole(&self, text: &str) -> Result<()> {
        self.check_tree(Path::new(text), &mut 0)
    }

    fn check_pattern(&self, pattern: &str) -> Result<()> {
        let wild = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(WILD);
        let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
        let fixed = parts.iter().position(wild).unwrap_or(parts.len());
        let start: PathBuf = parts[..fixed].iter().collect();
        self.follow(if fixed == 0 { Path::new(".") } else { &start })?;
        if parts[fixed..].contains(&Component::ParentDir) {
            return Err(refused("a pattern may not go up again").hint("leave out '..'"));
        }
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let matches = glob::glob_with(pattern, options).map_err(|e| {
            Error::usage("input/glob", format!("'{pattern}' is not a pattern: {e}")).hint("write folder/*.parquet")
        })?;
        let mut seen = 0;
        matches.filter_map(std::result::Result::ok).try_for_each(|path| self.check_tree(&path, &mut seen))
    }

    /// Check a file, or a folder with everything in it that is not hidden.
    fn check_tree(&self, path: &Path, seen: &mut usize) -> Result<()> {
        let real = self.follow(path)?;
        let mut folders = match std::fs::metadata(&real) {
            Ok(meta) if meta.is_dir() => vec![real],
            Ok(meta) if !meta.is_file() => return Err(refused("this is not a plain file")),
            _ => return Ok(()),
        };
        let mut known: HashSet<PathBuf> = folders.iter().cloned().collect();
        while let Some(folder) = folders.pop() {
            for path in visible(&folder) {
                *seen += 1;
                if *seen > FILES {
                    return Err(refused(&format!("more than {FILES} files")).hint("name fewer files at a time"));
                }
                let real = self.follow(&path)?;
                if real.is_dir() && known.insert(real.clone()) {
                    folders.push(real);
                }
            }
        }
        Ok(())
    }

    /// Where a path leads, if that is allowed.
    fn follow(&self, path: &Path) -> Result<PathBuf> {
        let below = |places: &[PathBuf], path: &Path| places.iter().any(|place| path.starts_with(place));
        real(path).filter(|path| below(&self.roots, path) && !below(&self.never, path)).ok_or_else(|| {
            refused("this place is not allowed")
                .hint("the server reads below its --allow places; without any, below its working directory")
        })
    }
}

/// Entries of a folder whose names do not begin with `.` or `_`, which inputs pass over.
fn visible(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with(['.', '_'])).map(|entry| entry.path())
}

/// Where a path leads once links and `..` are followed; of one that is not there, as far as it is. Nothing for a link that leads
/// nowhere, and for `..` behind what is not there.
fn real(path: &Path) -> Option<PathBuf> {
    let mut head = std::path::absolute(path).ok()?;
    let mut tail: Vec<OsString> = Vec::new();
    loop {
        if let Ok(real) = head.canonicalize() {
            return Some(tail.iter().rev().fold(real, |path, name| path.join(name)));
        }
        if std::fs::symlink_metadata(&head).is_ok_and(|meta| meta.is_symlink()) {
            return None;
        }
        tail.push(head.file_name()?.to_owned());
        head.pop();
    }
}
