//! The content-addressed cache: one Arrow file an entry, named by a digest of all that decides its content. Entries appear
//! whole or not at all, so that a killed run leaves only finished work and several runs may share one cache.

use arrow::array::RecordBatch;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use curate_core::{Error, Memo, Result, format_bytes};
use serde::Serialize;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Raised whenever the meaning or the numbers of a cached stage change.
pub const CODE_VERSION: u32 = 1;

/// A digest that names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(blake3::Hash);

impl Key {
    /// The key of these parts, in order, under the present code version.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&CODE_VERSION.to_le_bytes());
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        Self(hasher.finalize())
    }

    /// The digest.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

/// A folder of entries.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What one kind of entry takes.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// Kind: `rows`, `embed`, `tokens`, `memo`.
    pub kind: String,
    /// Number of entries.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
}

impl Cache {
    /// The cache in this folder, made if need be.
    ///
    /// # Errors
    /// `cache/unwritable`.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(|e| {
            Error::io("cache/unwritable", format!("cannot use {} as cache: {e}", root.display()))
                .hint("name a writable folder with --cache or CURATE_CACHE, or use --no-cache")
                .because(e)
        })?;
        Ok(Self { root: root.to_owned() })
    }

    /// Where the cache lies.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, kind: &str, key: &Key) -> PathBuf {
        let name = key.0.to_hex();
        self.root.join(kind).join(&name[..2]).join(format!("{}.arrow", &name[2..]))
    }

    /// Whether the entry is there.
    #[must_use]
    pub fn has(&self, kind: &str, key: &Key) -> bool {
        self.path(kind, key).is_file()
    }

    /// Read an entry, only these columns where given; `None` when it is missing or damaged (then it is computed again).
    #[must_use]
    pub fn load(&self, kind: &str, key: &Key, columns: Option<&[&str]>) -> Option<RecordBatch> {
        let bytes = fs::read(self.path(kind, key)).ok()?;
        let projection = columns.map(|names| {
            let reader = FileReader::try_new(Cursor::new(&bytes), None).ok()?;
            names.iter().map(|n| reader.schema().index_of(n).ok()).collect::<Option<Vec<_>>>()
        });
        let mut reader = FileReader::try_new(Cursor::new(&bytes), projection.flatten()).ok()?;
        reader.next()?.ok()
    }

    /// Write an entry: to a temporary file in the same folder, then renamed.
    ///
    /// # Errors
    /// `cache/unwritable`, also when the disk is full; nothing is left behind.
    pub fn store(&self, kind: &str, key: &Key, batch: &RecordBatch) -> Result<()> {
        let path = self.path(kind, key);
        write_entry(&path, batch).map_err(|e| {
            Error::io("cache/unwritable", format!("cannot write the cache entry {}: {e}", path.display()))
                .hint("free some space, run 'curate cache prune', or name another folder with --cache")
                .because(e)
        })
    }

    /// Entries and bytes of every kind.
    ///
    /// # Errors
    /// What reading the folder gives.
    pub fn usage(&self) -> Result<Vec<Usage>> {
        let mut kinds: Vec<Usage> = Vec::new();
        for (kind, _, meta) in self.entries()? {
            match kinds.iter_mut().find(|u| u.kind == kind) {
                Some(usage) => {
                    usage.entries += 1;
                    usage.bytes += meta.len();
                }
                None => kinds.push(Usage { kind, entries: 1, bytes: meta.len() }),
            }
        }
        kinds.sort_by(|a, b| a.kind.cmp(&b.kind));
        Ok(kinds)
    }

    /// Remove entries not touched for `older_than`; says how many and how large.
    ///
    /// # Errors
    /// What reading the folder gives.
    pub fn prune(&self, older_than: Duration) -> Result<Usage> {
        let now = SystemTime::now();
        let mut removed = Usage { kind: "removed".to_owned(), entries: 0, bytes: 0 };
        for (_, path, meta) in self.entries()? {
            let age = meta.modified().ok().and_then(|t| now.duration_since(t).ok()).unwrap_or_default();
            if age >= older_than && fs::remove_file(&path).is_ok() {
                removed.entries += 1;
                removed.bytes += meta.len();
            }
        }
        Ok(removed)
    }

    fn entries(&self) -> Result<Vec<(String, PathBuf, fs::Metadata)>> {
        let mut found = Vec::new();
        for kind in subfolders(&self.root)? {
            let name = kind.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            for shard in subfolders(&kind)? {
                for file in fs::read_dir(&shard)?.flatten() {
                    if let Ok(meta) = file.metadata() {
                        found.push((name.clone(), file.path(), meta));
                    }
                }
            }
        }
        Ok(found)
    }
}

fn subfolders(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    found.sort();
    Ok(found)
}

fn write_entry(path: &Path, batch: &RecordBatch) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let other = std::io::Error::other;
    let mut writer = FileWriter::try_new(std::io::BufWriter::new(&mut file), batch.schema_ref()).map_err(other)?;
    writer.write(batch).map_err(other)?;
    writer.finish().map_err(other)?;
    drop(writer);
    file.persist(path).map(|_| ()).map_err(|e| e.error)
}

/// The cache as the store of a context, bound to the content of a pool.
pub struct PoolMemo {
    cache: Cache,
    pool: Key,
}

impl PoolMemo {
    /// Remember computations over the pool of this digest.
    #[must_use]
    pub const fn new(cache: Cache, pool: Key) -> Self {
        Self { cache, pool }
    }
}

impl Memo for PoolMemo {
    fn load(&self, key: &str) -> Option<RecordBatch> {
        self.cache.load("memo", &Key::of(&[self.pool.bytes(), key.as_bytes()]), None)
    }

    fn save(&self, key: &str, batch: &RecordBatch) -> Result<()> {
        self.cache.store("memo", &Key::of(&[self.pool.bytes(), key.as_bytes()]), batch)
    }
}

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:<8} {:>8} entries  {:>10}", self.kind, self.entries, format_bytes(self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::UInt32Array;
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([
            ("a", Arc::new(UInt32Array::from(vec![1, 2])) as _),
            ("b", Arc::new(UInt32Array::from(vec![3, 4])) as _),
        ])
        .unwrap()
    }

    #[test]
    fn keeps_projects_and_prunes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key::of(&[b"x"]);
        assert!(cache.load("rows", &key, None).is_none());
        cache.store("rows", &key, &batch()).unwrap();
        assert_eq!(cache.load("rows", &key, None).unwrap(), batch());
        assert_eq!(cache.load("rows", &key, Some(&["b"])).unwrap().schema().field(0).name(), "b");
        assert_eq!(cache.usage().unwrap()[0].entries, 1);
        assert_eq!(cache.prune(Duration::ZERO).unwrap().entries, 1);
        assert!(!cache.has("rows", &key));
    }

    #[test]
    fn damaged_entries_count_as_missing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let key = Key::of(&[b"x"]);
        cache.store("rows", &key, &batch()).unwrap();
        let path = cache.path("rows", &key);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(cache.load("rows", &key, None).is_none());
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(Key::of(&[b"ab", b"c"]), Key::of(&[b"a", b"bc"]));
    }
}
