//! safetensors files, read one tensor at a time and written in one go: an eight-byte length, a JSON header, the numbers.
//! Weights become f32 on reading; on writing they take the asked format, rounded to nearest even.

use super::Dtype;
use curate_core::{Error, Location, Result};
use half::{bf16, f16};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longest header that is read, as in the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// An open safetensors file.
#[derive(Debug)]
pub struct SafeFile {
    path: PathBuf,
    file: File,
    start: u64,
    entries: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

fn broken(path: &Path, message: impl Into<String>) -> Error {
    Error::data("model/safetensors", message)
        .hint("the file is damaged or was only half written; fetch or save it again")
        .at(Location::file(path.display().to_string()))
}

impl Entry {
    const fn bytes(&self) -> u64 {
        self.data_offsets.1.saturating_sub(self.data_offsets.0)
    }

    /// Whether the numbers of this shape fill exactly the place given, inside `size` bytes of data.
    fn fits(&self, size: u64) -> bool {
        let count = self.shape.iter().try_fold(1u64, |count, side| count.checked_mul(*side as u64));
        let wide = match self.dtype.as_str() {
            "F64" | "I64" | "U64" => 8,
            "F32" | "I32" | "U32" => 4,
            "F16" | "BF16" | "I16" | "U16" => 2,
            _ => 1,
        };
        let (start, end) = self.data_offsets;
        start <= end && end <= size && count.and_then(|count| count.checked_mul(wide)) == Some(self.bytes())
    }
}

impl SafeFile {
    /// Open a file and read its header.
    ///
    /// # Errors
    /// When it is missing, truncated or no safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::from(e).at(Location::file(path.display().to_string())))?;
        let size = file.metadata()?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| broken(path, "shorter than 8 bytes"))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length + 8 > size {
            return Err(broken(path, format!("announces a header of {length} bytes, the file has {size}")));
        }
        let mut header = vec![0; usize::try_from(length).unwrap_or(0)];
        file.read_exact(&mut header)?;
        let mut table: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|e| broken(path, format!("header is not JSON: {e}")))?;
        let metadata = table.remove("__metadata__").and_then(|m| serde_json::from_value(m).ok()).unwrap_or_default();
        let mut entries = BTreeMap::new();
        for (name, value) in table {
            let entry = Entry::deserialize(value).map_err(|e| broken(path, format!("tensor '{name}': {e}")))?;
            if !entry.fits(size - 8 - length) {
                return Err(broken(path, format!("tensor '{name}' does not lie inside the file as its shape asks")));
            }
            entries.insert(name, entry);
        }
        Ok(Self { path: path.to_owned(), file, start: 8 + length, entries, metadata })
    }

    /// Names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The strings in the header's metadata.
    #[must_use]
    pub const fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Shape of a tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// One tensor as f32.
    ///
    /// # Errors
    /// When there is none of this name, its numbers are no floats, or reading fails.
    pub fn read(&mut self, name: &str) -> Result<Vec<f32>> {
        let entry = self.entries.get(name).ok_or_else(|| broken(&self.path, format!("tensor '{name}' is missing")))?;
        let bytes = read_bytes(&mut self.file, self.start + entry.data_offsets.0, entry.bytes())?;
        match entry.dtype.as_str() {
            "F32" => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            "F16" => Ok(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            "BF16" => Ok(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            other => Err(Error::device("model/dtype", format!("tensor '{name}' holds {other}"))
                .hint("supported: F32, F16, BF16")
                .at(Location::file(self.path.display().to_string()))),
        }
    }
}

fn read_bytes(file: &mut File, at: u64, len: u64) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A tensor to write.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape.
    pub shape: &'a [usize],
    /// Its numbers.
    pub data: &'a [f32],
    /// The format on disk.
    pub dtype: Dtype,
}

impl Dtype {
    const fn bytes(self) -> usize {
        if matches!(self, Self::F32) { 4 } else { 2 }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
        }
    }

    fn encode(self, x: f32, to: &mut Vec<u8>) {
        match self {
            Self::F32 => to.extend(x.to_le_bytes()),
            Self::F16 => to.extend(f16::from_f32(x).to_le_bytes()),
            Self::Bf16 => to.extend(bf16::from_f32(x).to_le_bytes()),
        }
    }
}

fn header(tensors: &[Out], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let mut table = Map::new();
    table.insert("__metadata__".into(), json!(metadata));
    let mut at = 0;
    for tensor in tensors {
        let end = at + tensor.data.len() * tensor.dtype.bytes();
        let entry = json!({"dtype": tensor.dtype.name(), "shape": tensor.shape, "data_offsets": [at, end]});
        table.insert(tensor.name.to_owned(), entry);
        at = end;
    }
    let mut text = Value::Object(table).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    text
}

/// Write tensors, in the order given, to `path` by way of a temporary file beside it.
///
/// # Errors
/// When writing fails; the old file, if any, is then untouched.
pub fn write_tensors(path: &Path, tensors: &[Out], metadata: &BTreeMap<String, String>) -> Result<()> {
    replace(path, |file| {
        let mut file = BufWriter::new(file);
        let header = header(tensors, metadata);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        let mut bytes = Vec::new();
        for (tensor, part) in tensors.iter().flat_map(|t| t.data.chunks(1 << 14).map(move |part| (t, part))) {
            bytes.clear();
            for x in part {
                tensor.dtype.encode(*x, &mut bytes);
            }
            file.write_all(&bytes)?;
        }
        file.flush()
    })
}

/// Write a file whole or not at all.
pub(super) fn replace(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let at = |e: std::io::Error| Error::from(e).at(Location::file(path.display().to_string()));
    crate::checkpoint::place(path, |temp| {
        let mut file = File::options().write(true).open(temp)?;
        write(&mut file).map_err(at)?;
        Ok(file.sync_all()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_written_is_read() {
        let (_folder, path) = write(b"");
        let data = [1.0, -2.5, 3.0e-3, 65504.0];
        let out = |name, dtype| Out { name, shape: &[2, 2], data: &data, dtype };
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&path, &[out("b", Dtype::F32), out("a", Dtype::Bf16), out("c", Dtype::F16)], &metadata).unwrap();
        let mut file = SafeFile::open(&path).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(file.metadata(), &metadata);
        assert_eq!(file.shape("a"), Some(&[2, 2][..]));
        assert_eq!(file.read("b").unwrap(), data);
        assert_eq!(file.read("a").unwrap(), data.map(|x| bf16::from_f32(x).to_f32()));
        assert_eq!(file.read("c").unwrap(), data.map(|x| f16::from_f32(x).to_f32()));
        let whole = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&whole).unwrap();
        assert_eq!(reference.tensor("b").unwrap().shape(), [2, 2]);
        for cut in [0, 5, 40, whole.len() - 1] {
            let (_folder, path) = write(&whole[..cut]);
            assert_eq!(SafeFile::open(&path).unwrap_err().code(), "model/safetensors", "{cut}");
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        let with = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.resize(bytes.len() + data, 0);
            let (_folder, path) = write(&bytes);
            SafeFile::open(&path).and_then(|mut file| file.read("a"))
        };
        assert!(with(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8).is_ok());
        for (header, data) in [
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7),
            (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#, 8),
            (r#"{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#, 8),
            (r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":3}"#, 8),
            ("[]", 0),
        ] {
            assert!(with(header, data).is_err(), "{header}");
        }
        let (_folder, path) = write(&u64::MAX.to_le_bytes());
        assert!(SafeFile::open(&path).is_err());
    }
}
