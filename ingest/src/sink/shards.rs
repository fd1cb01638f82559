//! A folder of shards with a marker that says it is complete.

use super::encode::Encoder;
use super::target::{self, Target, write_atomic};
use super::{OutputSpec, RowSink, Shape, Written, WrittenFile, shape_of};
use crate::errors::io_at;
use crate::kind::{Kind, Packing};
use crate::store::Stores;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use curate_core::{Error, Result};
use std::io::Write;
use std::path::Path;

/// Written when all shards are there; its absence says that a folder is not complete.
const MARKER: &str = "_SUCCESS";
const SHARD_ROWS: usize = 1_000_000;

/// Writes shards; they get their names when the output is finished.
pub(super) struct Shards {
    folder: String,
    out: OutputSpec,
    shape: Shape,
    extension: String,
    schema: SchemaRef,
    stores: Stores,
    open: Option<(Encoder, usize)>,
    closed: Vec<(Target, u64)>,
    rows: u64,
}

impl Shards {
    pub(super) fn create(out: &OutputSpec, schema: SchemaRef, stores: &Stores) -> Result<Self> {
        let folder = out.path.trim_end_matches('/').to_owned();
        let last = folder.rsplit('/').next().unwrap_or_default();
        let (shape, extension) = match crate::kind::from_name(last).0 {
            Some(_) => (shape_of(last)?, last.split_once('.').map_or("", |(_, ext)| ext).to_owned()),
            None => (Shape { kind: Kind::Parquet, packing: Packing::None }, "parquet".to_owned()),
        };
        let this = Self {
            folder,
            out: out.clone(),
            shape,
            extension,
            schema,
            stores: stores.clone(),
            open: None,
            closed: Vec::new(),
            rows: 0,
        };
        if !out.overwrite && this.is_taken()? {
            return Err(target::exists(&out.path));
        }
        Ok(this)
    }

    fn is_remote(&self) -> bool {
        self.folder.contains("://") && !self.folder.starts_with("file://")
    }

    fn local(&self) -> Result<String> {
        if self.folder.starts_with("file://") { crate::expand::file_url(&self.folder) } else { Ok(self.folder.clone()) }
    }

    fn is_taken(&self) -> Result<bool> {
        if self.is_remote() {
            return Ok(!self.stores.object(&self.folder)?.list()?.is_empty());
        }
        let folder = self.local()?;
        match std::fs::read_dir(&folder) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(io_at(e, &folder)),
        }
    }

    fn shard_rows(&self) -> usize {
        self.out.shard_rows.unwrap_or(SHARD_ROWS).max(1)
    }

    fn name(&self, index: usize) -> String {
        format!("{}/part-{index:05}.{}", self.folder, self.extension)
    }

    fn encoder(&mut self) -> Result<&mut (Encoder, usize)> {
        if self.open.is_none() {
            let target = Target::create(&self.name(self.closed.len()), self.out.overwrite, &self.stores)?;
            self.open = Some((Encoder::new(self.shape, target, self.schema.clone())?, 0));
        }
        self.open.as_mut().ok_or_else(|| Error::io("output/shard", "the shard could not be opened"))
    }

    fn close_shard(&mut self) -> Result<()> {
        if let Some((encoder, rows)) = self.open.take() {
            self.closed.push((encoder.close()?.rest()?, rows as u64));
        }
        Ok(())
    }

    /// Take away the marker and the shards of an earlier output that this one does not replace.
    fn clear(&self) -> Result<()> {
        if self.is_remote() {
            let folder = self.stores.object(&self.folder)?;
            let ours = |path: &object_store::path::Path| path.filename().is_some_and(is_ours);
            return folder.list()?.into_iter().filter(ours).try_for_each(|path| folder.sibling(path).delete());
        }
        let folder = self.local()?;
        for entry in std::fs::read_dir(&folder).map_err(|e| io_at(e, &folder))? {
            let entry = entry.map_err(|e| io_at(e, &folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_ours(&name) {
                std::fs::remove_file(entry.path()).map_err(|e| io_at(e, &entry.path().to_string_lossy()))?;
            }
        }
        Ok(())
    }

    fn mark(&self) -> Result<()> {
        if !self.is_remote() {
            return write_atomic(&Path::new(&self.local()?).join(MARKER), b"");
        }
        let mut marker = Target::create(&format!("{}/{MARKER}", self.folder), true, &self.stores)?;
        marker.flush().map_err(|e| io_at(e, &self.folder))?;
        marker.commit().map(|_| ())
    }
}

/// Whether a name is one that a folder of shards gives.
fn is_ours(name: &str) -> bool {
    name == MARKER || (name.starts_with("part-") && crate::kind::from_name(name).0.is_some())
}

impl RowSink for Shards {
    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut from = 0;
        while from < batch.num_rows() {
            let most = self.shard_rows();
            let (encoder, rows) = self.encoder()?;
            let here = (most - *rows).min(batch.num_rows() - from);
            encoder.write(&batch.slice(from, here))?;
            *rows += here;
            if *rows >= most {
                self.close_shard()?;
            }
            from += here;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Written> {
        if self.closed.is_empty() {
            self.encoder()?;
        }
        self.close_shard()?;
        if !self.out.overwrite && self.is_complete()? {
            return Err(target::exists(&self.out.path));
        }
        if self.out.overwrite {
            self.clear()?;
        }
        let (mut written, mut hasher) = (Written { rows: self.rows, ..Written::default() }, blake3::Hasher::new());
        for (target, rows) in std::mem::take(&mut self.closed) {
            let file = WrittenFile::of(target.commit()?, rows);
            hasher.update(file.digest.as_bytes());
            written.bytes += file.bytes;
            written.files.push(file);
        }
        self.mark()?;
        written.digest = hasher.finalize().to_hex().to_string();
        Ok(written)
    }
}

impl Shards {
    /// Whether someone else completed an output here meanwhile.
    fn is_complete(&self) -> Result<bool> {
        if self.is_remote() {
            return Ok(self.stores.object(&format!("{}/{MARKER}", self.folder))?.head().is_ok());
        }
        Ok(Path::new(&self.local()?).join(MARKER).exists())
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // Temporary files go by themselves; an empty folder that was made for them goes too.
        self.open = None;
        self.closed.clear();
        if let (false, Ok(folder)) = (self.is_remote(), self.local()) {
            let _ = std::fs::remove_dir(folder);
        }
    }
}
