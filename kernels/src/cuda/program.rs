//! Programs: the sources of the kernels, which kernel lies in which, and their compilation to PTX.
//!
//! A program is `common.cuh` and one source, compiled at run time by libnvrtc for the capability of the device; what was compiled is kept
//! in a folder where the caller names one. A build with `CURATE_PTX_DIR` set carries PTX made ahead (see `examples/ptx.rs`) and needs no
//! libnvrtc. Kernels are found by reading the sources, so nothing is listed twice.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::net;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// What every source begins with.
pub(super) const COMMON: &str = include_str!("common.cuh");

/// One program of kernels.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// Short name, that of the file.
    pub name: &'static str,
    /// Its text, without `common.cuh`; parts follow one another.
    pub text: &'static [&'static str],
    /// Whether products and sums may be contracted: never where bits must equal the CPU's.
    pub contract: bool,
}

/// Programs of this room.
const OWN: &[Source] = &[
    Source { name: "kernels", text: &[CANONICAL, include_str!("kernels.cu")], contract: false },
    Source {
        name: "shortlist",
        text: &[CANONICAL, include_str!("scores.cuh"), include_str!("shortlist.cu")],
        contract: false,
    },
    Source { name: "chance", text: &[include_str!("chance.cu")], contract: false },
    Source { name: "transport", text: &[TILES, include_str!("transport.cu")], contract: true },
    Source { name: "roof", text: &[include_str!("roof.cu")], contract: true },
    Source { name: "nuclear", text: &[TILES, include_str!("nuclear.cu")], contract: true },
];
const TILES: &str = include_str!("tiles.cuh");
const CANONICAL: &str = include_str!("canonical.cuh");

/// Capabilities that PTX is made ahead for; a device takes the highest that is not above its own.
pub const ARCHITECTURES: [u32; 4] = [75, 80, 90, 100];

/// Capabilities that this build carries PTX for; none in an ordinary build.
#[must_use]
pub fn embedded() -> BTreeSet<u32> {
    EMBEDDED.iter().map(|(_, made_for, _)| *made_for).collect()
}

/// All programs.
pub fn sources() -> impl Iterator<Item = &'static Source> {
    OWN.iter().chain(net::SOURCES)
}

impl Source {
    /// The whole text.
    #[must_use]
    pub fn code(&self) -> String {
        format!("{COMMON}\n{}", self.text.join("\n"))
    }

    /// Names of its kernels, in order.
    #[must_use]
    pub fn kernels(&self) -> Vec<&'static str> {
        self.text.iter().flat_map(|text| kernels(text)).collect()
    }

    /// PTX for `compute_<capability>`: embedded, kept in `folder`, or compiled now (and kept there).
    ///
    /// # Errors
    /// The reason as text: no libnvrtc, or what it says of the source.
    pub fn ptx(&self, capability: u32, folder: Option<&Path>) -> Result<String, String> {
        let fits = EMBEDDED.iter().filter(|(name, made_for, _)| *name == self.name && *made_for <= capability);
        if let Some((_, _, ptx)) = fits.max_by_key(|(_, made_for, _)| *made_for) {
            return unpacked(ptx).map_err(|why| format!("the PTX of {} in this build is broken: {why}", self.name));
        }
        if !has_nvrtc() {
            let how = "install CUDA 13 or `pip install nvidia-cuda-nvrtc` and put its lib folder on LD_LIBRARY_PATH";
            return Err(format!("libnvrtc was not found; {how}"));
        }
        let code = self.code();
        let kept = folder.map(|folder| self.file(folder, capability, &code));
        if let Some(ptx) = kept.as_deref().and_then(|path| std::fs::read_to_string(path).ok()) {
            return Ok(ptx);
        }
        let ptx = self.compile(capability)?;
        if let Some(path) = kept {
            keep(&path, &ptx); // A folder that cannot be written costs the next start a second, nothing else.
        }
        Ok(ptx)
    }

    /// Compile for one capability such as 90. [`has_nvrtc`] must have said yes.
    ///
    /// # Errors
    /// What the compiler says, as text.
    pub fn compile(&self, capability: u32) -> Result<String, String> {
        let options = vec![format!("--gpu-architecture=compute_{capability}"), "--std=c++17".to_owned()];
        let options = CompileOptions { fmad: Some(self.contract), options, ..CompileOptions::default() };
        compile_ptx_with_opts(self.code(), options).map(|ptx| ptx.to_src()).map_err(|error| {
            let why = match error {
                CompileError::CompileError { log, .. } => log.to_string_lossy().into_owned(),
                other => other.to_string(),
            };
            format!("{} does not compile for {capability}: {why}", self.name)
        })
    }

    /// Where the PTX of this very text, compiler and capability is kept.
    fn file(&self, folder: &Path, capability: u32, code: &str) -> PathBuf {
        let key = fingerprint(&[code.as_bytes(), &[u8::from(self.contract)], &nvrtc_version().to_le_bytes()]);
        folder.join(format!("{}.compute_{capability}.{key:016x}.ptx", self.name))
    }
}

/// PTX as a build carries it: gzip, a tenth of the size.
///
/// # Errors
/// None in practice; writing to memory may fail by its signature.
pub fn packed(ptx: &str) -> io::Result<Vec<u8>> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::best());
    writer.write_all(ptx.as_bytes())?;
    writer.finish()
}

/// The reverse of [`packed`].
fn unpacked(bytes: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).read_to_string(&mut text)?;
    Ok(text)
}

/// Write beside and rename, so that no reader sees half a file.
fn keep(path: &Path, text: &str) {
    let part = path.with_extension(format!("{}.part", std::process::id()));
    if std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path)).is_err() {
        let _ = std::fs::remove_file(&part);
    }
}

/// FNV-1a, 64 bits: names files, protects nothing.
pub(super) fn fingerprint(parts: &[&[u8]]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    parts.iter().flat_map(|part| part.iter()).fold(0xCBF2_9CE4_8422_2325, step)
}

/// Names of the kernels in a source: what stands between `__global__` and its argument list.
fn kernels(text: &'static str) -> Vec<&'static str> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or(""));
    code.filter_map(|line| {
        let (_, rest) = line.split_once("__global__")?;
        let rest = match rest.split_once("__launch_bounds__(") {
            Some((_, bounds)) => bounds.split_once(')')?.1,
            None => rest,
        };
        let name = rest.split('(').next()?.trim().trim_start_matches("void").trim();
        (!name.is_empty()).then_some(name)
    })
    .collect()
}

/// Whether the run-time compiler can be loaded.
#[must_use]
pub fn has_nvrtc() -> bool {
    // SAFETY: tries to load the library and nothing else; its initialisers are NVIDIA's.
    unsafe { cudarc::nvrtc::sys::is_culib_present() }
}

pub(super) fn nvrtc_version() -> i32 {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the library was found; both places are valid.
    let _ = unsafe { cudarc::nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    1000 * major + minor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_in_the_text() {
        let text = "__device__ int f();\nextern \"C\" __global__ void one(int n) {\n// __global__ void no(\nextern \"C\" \
                    __global__ void __launch_bounds__(256) two(";
        assert_eq!(kernels(text), ["one", "two"]);
        let all: Vec<_> = sources().flat_map(Source::kernels).collect();
        let mut names = all.clone();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "two kernels share a name");
        assert!(all.contains(&"segment_sums"));
    }

    #[test]
    fn what_a_build_carries_is_unpacked_or_called_broken() {
        let text = "// Käse\n".repeat(1000);
        let mut bytes = packed(&text).unwrap();
        assert!(bytes.len() < text.len() / 10);
        assert_eq!(unpacked(&bytes).unwrap(), text);
        bytes.truncate(bytes.len() - 1);
        assert!(unpacked(&bytes).is_err());
    }

    #[test]
    fn programs_compile_where_the_compiler_is_found() {
        if !has_nvrtc() {
            eprintln!("SKIPPED: libnvrtc was not found, the kernels were NOT compiled (put it on LD_LIBRARY_PATH)");
            return;
        }
        for (source, capability) in sources().flat_map(|s| ARCHITECTURES.map(|c| (s, c))) {
            let ptx = source.compile(capability).unwrap_or_else(|why| panic!("{why}"));
            for name in source.kernels() {
                assert!(ptx.contains(&format!(".entry {name}(")), "{capability}: {name}");
            }
        }
    }
}
