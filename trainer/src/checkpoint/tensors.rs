//! Safetensors files, written one tensor at a time under another name and placed when whole.

use super::folder::PARTIAL;
use curate_core::{Error, Location, Result};
use half::{bf16, f16};
use safetensors::tensor::{View, serialize_to_file};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

/// How the numbers of a tensor lie on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit floats, nothing lost.
    #[default]
    F32,
    /// 16-bit floats of IEEE.
    F16,
    /// The upper half of 32-bit floats, rounded to nearest even.
    Bf16,
}

impl Dtype {
    /// Its name in `config.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Whether it holds this number to the bit.
    #[must_use]
    pub fn holds(self, x: f32) -> bool {
        let kept = match self {
            Self::F32 => x,
            Self::F16 => f16::from_f32(x).to_f32(),
            Self::Bf16 => bf16::from_f32(x).to_f32(),
        };
        kept.to_bits() == x.to_bits()
    }
}

/// Values of one tensor to write.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// Numbers, in this precision.
    Floats(&'a [f32], Dtype),
    /// Numbers that are kept in 16 bits, as they are.
    Halves(&'a [bf16]),
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
        Self { name: name.into(), shape: shape.to_vec(), values: Values::Floats(values, Dtype::F32) }
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
    fn dtype(&self) -> safetensors::Dtype {
        match self.values {
            Values::Floats(_, Dtype::F32) => safetensors::Dtype::F32,
            Values::Floats(_, Dtype::F16) => safetensors::Dtype::F16,
            Values::Floats(_, Dtype::Bf16) | Values::Halves(_) => safetensors::Dtype::BF16,
            Values::Indices(_) => safetensors::Dtype::U32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(match self.values {
            Values::Floats(v, Dtype::F32) => bytes(v, f32::to_le_bytes),
            Values::Floats(v, Dtype::F16) => bytes(v, |x| f16::from_f32(x).to_le_bytes()),
            Values::Floats(v, Dtype::Bf16) => bytes(v, |x| bf16::from_f32(x).to_le_bytes()),
            Values::Halves(v) => bytes(v, bf16::to_le_bytes),
            Values::Indices(v) => bytes(v, u32::to_le_bytes),
        })
    }

    fn data_len(&self) -> usize {
        match self.values {
            Values::Floats(v, Dtype::F32) => v.len() * 4,
            Values::Floats(v, _) => v.len() * 2,
            Values::Halves(v) => v.len() * 2,
            Values::Indices(v) => v.len() * 4,
        }
    }
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
        other => Error::data("tensors/write", other.to_string())
            .hint("a name is used twice, or a shape does not fit its numbers")
            .at(Location::file(path.display().to_string())),
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
    let temp = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(folder)?.into_temp_path();
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
