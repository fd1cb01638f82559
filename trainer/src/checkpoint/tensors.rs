//! Safetensors files, one tensor in memory at a time: written under another name and placed when whole.

use curate_core::{Error, Location, Result};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, View, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How the numbers of a tensor lie on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats, nothing lost.
    F32,
    /// 16-bit floats of IEEE.
    F16,
    /// The upper half of 32-bit floats, rounded to nearest even.
    Bf16,
}

/// Values of one tensor to write.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers, in this precision.
    Floats(&'a [f32], Precision),
    /// Indices.
    Indices(&'a [u32]),
}

/// One tensor to write.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Name in the file.
    pub name: String,
    /// Shape; its product is the number of values.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Values<'a>,
}

impl<'a> Entry<'a> {
    /// 32-bit floats.
    #[must_use]
    pub fn floats(name: impl Into<String>, shape: &[usize], values: &'a [f32]) -> Self {
        Self { name: name.into(), shape: shape.to_vec(), values: Values::Floats(values, Precision::F32) }
    }

    /// A list of indices.
    #[must_use]
    pub fn indices(name: impl Into<String>, values: &'a [u32]) -> Self {
        Self { name: name.into(), shape: vec![values.len()], values: Values::Indices(values) }
    }
}

/// Values one behind the other, as they lie on disk.
pub(crate) fn bytes<T: Copy, const N: usize>(values: &[T], encode: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * N);
    for value in values {
        bytes.extend_from_slice(&encode(*value));
    }
    bytes
}

impl View for &Entry<'_> {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::Floats(_, Precision::F32) => Dtype::F32,
            Values::Floats(_, Precision::F16) => Dtype::F16,
            Values::Floats(_, Precision::Bf16) => Dtype::BF16,
            Values::Indices(_) => Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.values {
            Values::Floats(v, Precision::F32) => bytes(v, f32::to_le_bytes),
            Values::Floats(v, Precision::F16) => bytes(v, |x| f16::from_f32(x).to_le_bytes()),
            Values::Floats(v, Precision::Bf16) => bytes(v, |x| bf16::from_f32(x).to_le_bytes()),
            Values::Indices(v) => bytes(v, u32::to_le_bytes),
        })
    }

    fn data_len(&self) -> usize {
        match self.values {
            Values::Floats(v, Precision::F32) => v.len() * 4,
            Values::Floats(v, _) => v.len() * 2,
            Values::Indices(v) => v.len() * 4,
        }
    }
}

fn broken(path: &Path, what: impl std::fmt::Display) -> Error {
    Error::data("tensors/broken", format!("not a whole safetensors file: {what}"))
        .hint("the file was cut off or is of another kind; fetch or write it again")
        .at(Location::file(path.display().to_string()))
}

/// Write a file at `path` itself and flush it to the disk. `about` becomes `__metadata__.curate`, as JSON.
///
/// # Errors
/// `io` when the disk refuses.
pub fn write_plain(path: &Path, entries: &[Entry<'_>], about: Option<&serde_json::Value>) -> Result<()> {
    // one key only, so that the order of a hash map cannot show in the file; `format` is what transformers asks for
    let (key, value) = about.map_or(("format", "pt".to_owned()), |a| ("curate", a.to_string()));
    let about = HashMap::from([(key.to_owned(), value)]);
    serialize_to_file(entries.iter().map(|e| (e.name.as_str(), e)), Some(about), path).map_err(|e| match e {
        safetensors::SafeTensorError::IoError(e) => Error::from(e).at(Location::file(path.display().to_string())),
        other => broken(path, other),
    })?;
    File::open(path)?.sync_all()?;
    Ok(())
}

/// The same under a temporary name beside `path`, renamed when whole.
///
/// # Errors
/// `io` when the disk refuses; the old file then stays.
pub fn write(path: &Path, entries: &[Entry<'_>], about: Option<&serde_json::Value>) -> Result<()> {
    place(path, |temp| write_plain(temp, entries, about))
}

/// Have `fill` write a file beside `path`, then give it its name.
///
/// # Errors
/// What `fill` gives; `io`. The old file then stays.
pub fn place(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let temp = tempfile::Builder::new().prefix(".partial-").tempfile_in(folder)?.into_temp_path();
    fill(&temp)?;
    usual_permissions(&temp, 0o644)?;
    temp.persist(path).map_err(|e| Error::from(e.error))?;
    Ok(())
}

/// What is made through a temporary name is private; give it the permissions any new file or folder has.
#[cfg(unix)]
pub(super) fn usual_permissions(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

#[cfg(not(unix))]
pub(super) fn usual_permissions(_path: &Path, _mode: u32) -> Result<()> {
    Ok(())
}

/// A safetensors file, read tensor by tensor.
pub struct TensorFile {
    path: PathBuf,
    file: File,
    data_start: u64,
    metadata: Metadata,
}

impl TensorFile {
    /// Open a file and read its header.
    ///
    /// # Errors
    /// `io` when it cannot be read, `tensors/broken` when it is not whole.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || Location::file(path.display().to_string());
        let mut file = File::open(path).map_err(|e| Error::from(e).at(place()))?;
        let bytes = file.metadata()?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length).map_err(|e| broken(path, e))?;
        let length = u64::from_le_bytes(length);
        if length > bytes.saturating_sub(8) {
            return Err(broken(path, format!("a header of {length} bytes in a file of {bytes}")));
        }
        let mut header = vec![0u8; usize::try_from(length).map_err(|e| broken(path, e))?];
        file.read_exact(&mut header).map_err(|e| broken(path, e))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| broken(path, e))?;
        let expected = 8 + length + metadata.data_len() as u64;
        if expected != bytes {
            return Err(broken(path, format!("{bytes} bytes, the header promises {expected}")));
        }
        Ok(Self { path: path.to_owned(), file, data_start: 8 + length, metadata })
    }

    /// Names of the tensors, in the order in which they lie.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// Shape of a tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// Precision in which a tensor of numbers lies.
    #[must_use]
    pub fn precision(&self, name: &str) -> Option<Precision> {
        match self.metadata.info(name)?.dtype {
            Dtype::F32 => Some(Precision::F32),
            Dtype::F16 => Some(Precision::F16),
            Dtype::BF16 => Some(Precision::Bf16),
            _ => None,
        }
    }

    /// The JSON of `__metadata__.curate`.
    #[must_use]
    pub fn about(&self) -> Option<serde_json::Value> {
        let text = self.metadata.metadata().as_ref()?.get("curate")?;
        serde_json::from_str(text).ok()
    }

    /// The numbers of a tensor, in 32 bits.
    ///
    /// # Errors
    /// `tensors/missing`, `tensors/type` when it holds no numbers.
    pub fn floats(&mut self, name: &str) -> Result<Vec<f32>> {
        let (dtype, bytes) = self.bytes(name)?;
        let (pairs, fours) = (bytes.chunks_exact(2), bytes.chunks_exact(4));
        match dtype {
            Dtype::F32 => Ok(fours.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
            Dtype::F16 => Ok(pairs.map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
            Dtype::BF16 => Ok(pairs.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect()),
            other => Err(self.wrong_type(name, other)),
        }
    }

    /// A list of indices.
    ///
    /// # Errors
    /// `tensors/missing`, `tensors/type` when it holds something else.
    pub fn indices(&mut self, name: &str) -> Result<Vec<u32>> {
        match self.bytes(name)? {
            (Dtype::U32, bytes) => {
                Ok(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
            }
            (other, _) => Err(self.wrong_type(name, other)),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<(Dtype, Vec<u8>)> {
        let info = self.metadata.info(name).ok_or_else(|| {
            Error::data("tensors/missing", format!("no tensor '{name}'"))
                .hint("the file belongs to another model or was written by another version")
                .at(Location::file(self.path.display().to_string()))
        })?;
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0u8; end - start];
        self.file.seek(SeekFrom::Start(self.data_start + start as u64))?;
        self.file.read_exact(&mut bytes)?;
        Ok((info.dtype, bytes))
    }

    fn wrong_type(&self, name: &str, dtype: Dtype) -> Error {
        Error::data("tensors/type", format!("tensor '{name}' holds {dtype:?}"))
            .hint("numbers may be F32, F16 or BF16, indices U32")
            .at(Location::file(self.path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let bf = Entry { name: "b".into(), shape: vec![2], values: Values::Floats(&[1.0, 1.001], Precision::Bf16) };
        let entries = [Entry::floats("a", &[2, 1], &[0.1, -3.5]), bf, Entry::indices("i", &[3, 9])];
        write(&path, &entries, Some(&serde_json::json!({"k": 3}))).unwrap();
        let mut file = TensorFile::open(&path).unwrap();
        assert_eq!(file.floats("a").unwrap(), [0.1, -3.5]);
        assert_eq!(file.floats("b").unwrap(), [1.0, 1.0]);
        assert_eq!(file.indices("i").unwrap(), [3, 9]);
        assert_eq!((file.shape("a").unwrap(), file.about().unwrap()["k"].as_u64()), (&[2, 1][..], Some(3)));
        assert_eq!(file.floats("z").unwrap_err().code(), "tensors/missing");
        assert_eq!(file.floats("i").unwrap_err().code(), "tensors/type");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_cut_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        write(&path, &[Entry::floats("a", &[3], &[1.0, 2.0, 3.0])], None).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for keep in [0, 7, 20, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..keep]).unwrap();
            assert_eq!(TensorFile::open(&path).err().map(|e| e.code()), Some("tensors/broken"), "{keep}");
        }
    }
}
