//! Safetensors files, read one tensor at a time: an eight-byte length, a JSON header, the numbers. The header is checked
//! before anything else is read: every tensor fills exactly its place, the places touch and end where the file ends.

use super::Dtype;
use curate_core::{Error, Location, Result};
use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Longest header that is read, as in the reference implementation.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Who wrote the file: decides the codes of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A run: `tensors/*`.
    Run,
    /// Weights that somebody published: `model/*`.
    Model,
}

/// A safetensors file, read tensor by tensor.
#[derive(Debug)]
pub struct TensorFile {
    path: PathBuf,
    origin: Origin,
    file: File,
    data_start: u64,
    metadata: Metadata,
}

impl Origin {
    fn broken(self, path: &Path, what: impl std::fmt::Display) -> Error {
        let code = if self == Self::Run { "tensors/broken" } else { "model/safetensors" };
        Error::data(code, format!("not a whole safetensors file: {what}"))
            .hint("the file was cut off, damaged or is of another kind; fetch or write it again")
            .at(Location::file(path.display().to_string()))
    }
}

impl TensorFile {
    /// Open a file and read its header.
    ///
    /// # Errors
    /// `io` when it cannot be read, `tensors/broken` when it is not whole.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_as(path, Origin::Run)
    }

    /// The same for the weights of a model.
    ///
    /// # Errors
    /// `io` when it cannot be read, `model/safetensors` when it is not whole.
    pub fn open_model(path: &Path) -> Result<Self> {
        Self::open_as(path, Origin::Model)
    }

    fn open_as(path: &Path, origin: Origin) -> Result<Self> {
        let mut file = File::open(path).map_err(|e| Error::from(e).at(Location::file(path.display().to_string())))?;
        let bytes = file.metadata()?.len();
        let mut length = [0u8; 8];
        file.read_exact(&mut length).map_err(|_| origin.broken(path, "shorter than 8 bytes"))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER_BYTES || length > bytes.saturating_sub(8) {
            return Err(origin.broken(path, format!("a header of {length} bytes in a file of {bytes}")));
        }
        let mut header = vec![0u8; usize::try_from(length).map_err(|e| origin.broken(path, e))?];
        file.read_exact(&mut header).map_err(|e| origin.broken(path, e))?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| origin.broken(path, e))?;
        let expected = (8 + length).checked_add(metadata.data_len() as u64);
        if expected != Some(bytes) {
            return Err(origin.broken(path, format!("{bytes} bytes are there, the header promises others")));
        }
        Ok(Self { path: path.to_owned(), origin, file, data_start: 8 + length, metadata })
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

    /// How the numbers of a tensor lie, where it holds floats.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        match self.metadata.info(name)?.dtype {
            safetensors::Dtype::F32 => Some(Dtype::F32),
            safetensors::Dtype::F16 => Some(Dtype::F16),
            safetensors::Dtype::BF16 => Some(Dtype::Bf16),
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
    /// `tensors/missing`; `tensors/type`, of a model `model/dtype`, when it holds no floats.
    pub fn floats(&mut self, name: &str) -> Result<Vec<f32>> {
        let dtype = self.dtype(name);
        let bytes = self.bytes(name)?;
        match dtype {
            Some(Dtype::F32) => Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            Some(Dtype::F16) => Ok(bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
            Some(Dtype::Bf16) => Ok(bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect()),
            None => Err(self.wrong_type(name)),
        }
    }

    /// A list of indices.
    ///
    /// # Errors
    /// `tensors/missing`, `tensors/type` when it holds something else.
    pub fn indices(&mut self, name: &str) -> Result<Vec<u32>> {
        if self.info(name)?.dtype != safetensors::Dtype::U32 {
            return Err(self.wrong_type(name));
        }
        Ok(self.bytes(name)?.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect())
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.metadata.info(name).ok_or_else(|| {
            Error::data("tensors/missing", format!("no tensor '{name}'"))
                .hint("the file belongs to another model or was written by another version")
                .at(Location::file(self.path.display().to_string()))
        })
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>> {
        let (start, end) = self.info(name)?.data_offsets;
        let mut bytes = vec![0u8; end - start];
        self.file
            .seek(SeekFrom::Start(self.data_start + start as u64))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| Error::from(e).at(Location::file(self.path.display().to_string())))?;
        Ok(bytes)
    }

    fn wrong_type(&self, name: &str) -> Error {
        let what = self.metadata.info(name).map_or_else(String::new, |info| format!("{:?}", info.dtype));
        let message = format!("tensor '{name}' holds {what}");
        let error = match self.origin {
            Origin::Run => Error::data("tensors/type", message),
            Origin::Model => Error::device("model/dtype", message),
        };
        error.hint("numbers may be F32, F16 or BF16, indices U32").at(Location::file(self.path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Entry, Values, write};
    use super::*;
    use std::path::PathBuf;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        std::fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn gives_back_what_was_written() {
        let (folder, path) = file(b"");
        let (data, halves) = ([1.0, -2.5, 3.0e-3, 65504.0], [bf16::from_f32(0.1), bf16::from_f32(-7.0)]);
        let numbers =
            |name: &str, dtype| Entry { name: name.into(), shape: vec![2, 2], values: Values::Floats(&data, dtype) };
        let kept = Entry { name: "h".into(), shape: vec![2], values: Values::Halves(&halves) };
        let all = [numbers("b", Dtype::F32), numbers("a", Dtype::Bf16), numbers("c", Dtype::F16), kept];
        let all = [&all[..], &[Entry::indices("i", &[3, 9])]].concat();
        write(&path, &all, Some(&serde_json::json!({"k": 3}))).unwrap();
        let mut found = TensorFile::open(&path).unwrap();
        assert_eq!(found.floats("b").unwrap(), data);
        assert_eq!(found.floats("a").unwrap(), data.map(|x| bf16::from_f32(x).to_f32()));
        assert_eq!(found.floats("c").unwrap(), data.map(|x| f16::from_f32(x).to_f32()));
        assert_eq!(found.floats("h").unwrap(), halves.map(bf16::to_f32));
        assert_eq!(found.indices("i").unwrap(), [3, 9]);
        assert_eq!((found.dtype("a"), found.dtype("i")), (Some(Dtype::Bf16), None));
        assert_eq!((found.shape("a").unwrap(), found.about().unwrap()["k"].as_u64()), (&[2, 2][..], Some(3)));
        assert_eq!(found.floats("z").unwrap_err().code(), "tensors/missing");
        assert_eq!(found.floats("i").unwrap_err().code(), "tensors/type");
        assert_eq!(TensorFile::open_model(&path).unwrap().floats("i").unwrap_err().code(), "model/dtype");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_cut_or_longer_file_is_refused() {
        let (_folder, path) = file(b"");
        write(&path, &[Entry::floats("a", &[3], &[1.0, 2.0, 3.0])], None).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let longer = [&bytes[..], &[0]].concat();
        for bytes in [&bytes[..0], &bytes[..7], &bytes[..20], &bytes[..bytes.len() - 1], &longer] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(TensorFile::open(&path).unwrap_err().code(), "tensors/broken", "{}", bytes.len());
            assert_eq!(TensorFile::open_model(&path).unwrap_err().code(), "model/safetensors", "{}", bytes.len());
        }
    }

    #[test]
    fn broken_headers_are_refused() {
        let with = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.resize(bytes.len() + data, 0);
            let (_folder, path) = file(&bytes);
            TensorFile::open_model(&path).and_then(|mut file| file.floats("a"))
        };
        assert!(with(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8).is_ok());
        for (header, data) in [
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 7),
            (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
            (r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#, 8),
            (r#"{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#, 8),
            (r#"{"a":{"dtype":"F9","shape":[2],"data_offsets":[0,8]}}"#, 8),
            (r#"{"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8),
            // two tensors in one place, and a hole between two
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
                12,
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}}"#,
                16,
            ),
            (r#"{"a":3}"#, 8),
            ("[]", 0),
        ] {
            assert!(with(header, data).is_err(), "{header}");
        }
    }

    #[test]
    fn a_header_is_bounded() {
        for length in [u64::MAX, MAX_HEADER_BYTES + 1] {
            let (_folder, path) = file(&length.to_le_bytes());
            // a file that could hold the header, without its bytes being written
            File::options().write(true).open(&path).unwrap().set_len(MAX_HEADER_BYTES + 100).unwrap();
            assert_eq!(TensorFile::open(&path).unwrap_err().code(), "tensors/broken");
        }
    }
}
