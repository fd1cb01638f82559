//! Text that cannot be read anywhere in (standard input, packed files, remote text, JSON arrays) is first written to the
//! scratch folder as plain lines; the file goes away with the source.

use crate::errors::{io_at, io_cause};
use crate::expand::{Item, Place};
use crate::json::split;
use crate::kind::{self, Kind, Packing};
use curate_core::{Error, Location, Result};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

/// A local file ready to be read, and what it was made of.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) path: PathBuf,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Whether line numbers of `path` are those of the user's file.
    pub(crate) lines: bool,
    /// Bytes of the user's file, packed as it is.
    pub(crate) bytes: u64,
    _spool: Option<TempPath>,
}

/// Make `item` a local, plain file. `None` for a remote file that is read in place.
pub(crate) fn localise(item: &Item, scratch: &Path) -> Result<Option<Local>> {
    let name = item.name.as_str();
    let (named, packing) = kind::from_name(name);
    let (path, mut spool) = match &item.place {
        Place::Local(path) => (path.clone(), None),
        Place::Remote(_) if named == Some(Kind::Parquet) && packing == Packing::None => return Ok(None),
        Place::Remote(object) => spooled(scratch, name, |out| object.copy_to(out))?,
        Place::Stdin => spooled(scratch, name, |out| copy(io::stdin().lock(), out, name))?,
    };
    let bytes = size(&path, name)?;
    let head = head(&path, name)?;
    let unpacked = match kind::packing_of(&head) {
        Packing::None => (path, spool.take()),
        Packing::Gzip => {
            spooled(scratch, name, |out| copy(flate2::read::MultiGzDecoder::new(open(&path, name)?), out, name))?
        }
        Packing::Zstd => spooled(scratch, name, |out| {
            let plain = zstd::stream::read::Decoder::new(open(&path, name)?).map_err(|e| io_at(e, name))?;
            copy(plain, out, name)
        })?,
    };
    plain(unpacked, name, named, bytes, scratch).map(Some)
}

/// A file without packing: find its kind, and cut JSON arrays into lines.
fn plain(
    (path, spool): (PathBuf, Option<TempPath>),
    name: &str,
    named: Option<Kind>,
    bytes: u64,
    scratch: &Path,
) -> Result<Local> {
    let head = head(&path, name)?;
    let kind = match named.or_else(|| kind::from_magic(&head)) {
        Some(kind) => kind,
        None if name == "-" || head.is_empty() => Kind::Jsonl,
        None => return Err(unknown(name)),
    };
    if kind != Kind::Json {
        return Ok(Local { path, name: name.to_owned(), kind, lines: true, bytes, _spool: spool });
    }
    let (lines, written) = spooled(scratch, name, |out| {
        let cut =
            split::to_lines(BufReader::with_capacity(1 << 16, open(&path, name)?), out).map_err(|e| io_at(e, name))?;
        cut.map(|_| ()).map_err(|what| {
            Error::data("json/broken", what)
                .hint("a .json file holds one array of objects, or objects one after another")
                .at(Location::file(name))
        })
    })?;
    drop(spool);
    Ok(Local { path: lines, name: name.to_owned(), kind, lines: false, bytes, _spool: written })
}

fn unknown(name: &str) -> Error {
    Error::data("input/kind", "neither the extension nor the first bytes tell what this file is")
        .hint("name it .parquet, .jsonl, .json, .csv, .tsv or .arrow (packed: .gz, .zst)")
        .at(Location::file(name))
}

fn open(path: &Path, name: &str) -> Result<File> {
    File::open(path).map_err(|e| io_at(e, name))
}

fn size(path: &Path, name: &str) -> Result<u64> {
    std::fs::metadata(path).map(|m| m.len()).map_err(|e| io_at(e, name))
}

fn head(path: &Path, name: &str) -> Result<Vec<u8>> {
    let mut head = Vec::new();
    open(path, name)?.take(64).read_to_end(&mut head).map_err(|e| io_at(e, name))?;
    Ok(head)
}

/// Write a new file in the scratch folder.
fn spooled(
    scratch: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<()>,
) -> Result<(PathBuf, Option<TempPath>)> {
    let at_scratch = |e| io_at(e, &scratch.to_string_lossy());
    std::fs::create_dir_all(scratch).map_err(at_scratch)?;
    let mut file: NamedTempFile = tempfile::Builder::new().prefix("spool-").tempfile_in(scratch).map_err(at_scratch)?;
    let mut out = BufWriter::with_capacity(1 << 18, file.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(|e| io_at(e, name))?;
    drop(out);
    let path = file.into_temp_path();
    Ok((path.to_path_buf(), Some(path)))
}

fn copy(mut from: impl Read, to: &mut impl Write, name: &str) -> Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n]).map_err(|e| io_at(e, "the scratch folder"))?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if io_cause(&e) == Some(io::ErrorKind::PermissionDenied) => return Err(io_at(e, name)),
            Err(e) => return Err(crate::errors::corrupt("packed", name, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, bytes: &[u8]) -> Result<(Kind, String)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let item = Item { name: path.to_string_lossy().into_owned(), place: Place::Local(path) };
        let local = localise(&item, &dir.path().join("scratch"))?.unwrap();
        Ok((local.kind, std::fs::read_to_string(&local.path).unwrap()))
    }

    #[test]
    fn packed_text_and_arrays_become_plain_lines() {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"{\"a\":1}\n").unwrap();
        let gz = gz.finish().unwrap();
        let lines = (Kind::Jsonl, "{\"a\":1}\n".to_owned());
        assert_eq!(run("x.jsonl.gz", &gz).unwrap(), lines);
        assert_eq!(run("x.jsonl", &gz).unwrap(), lines);
        assert_eq!(run("x.jsonl.zst", &zstd::encode_all(&b"{\"a\":1}\n"[..], 1).unwrap()).unwrap(), lines);
        assert_eq!(run("x.json", b"[{\"a\":1}]").unwrap(), (Kind::Json, "{\"a\":1}\n".to_owned()));
        assert_eq!(run("x", b"{\"a\":1}\n").unwrap(), lines);
        assert_eq!(run("x.gz", &gz[..gz.len() - 9]).unwrap_err().code(), "input/corrupt");
        assert_eq!(run("x.dat", b"hello").unwrap_err().code(), "input/kind");
        assert_eq!(run("x.json", b"[{\"a\":1}").unwrap_err().code(), "json/broken");
    }
}
