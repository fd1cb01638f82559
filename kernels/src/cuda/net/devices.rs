//! Devices by the names that users write, opened once a process, so that all who work on one share its memory and its limit.

use crate::KernelError;
use crate::cuda::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What holds for every device of the process.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Bytes that may be held on each device (`--vram`); all there are when left out.
    pub vram: Option<u64>,
    /// Folder for compiled kernels.
    pub ptx_folder: Option<PathBuf>,
}

/// Settings, and what was opened.
static OPEN: Mutex<(Option<Settings>, BTreeMap<usize, Device>)> = Mutex::new((None, BTreeMap::new()));

/// Set limits; devices opened before take the limit of memory too.
pub fn configure(settings: Settings) {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.1.values().for_each(|device| device.limit_memory(settings.vram.unwrap_or(u64::MAX)));
    open.0 = Some(settings);
}

/// CUDA device `ordinal`.
///
/// # Errors
/// [`KernelError::Device`] that names the cause.
pub fn device(ordinal: usize) -> Result<Device, KernelError> {
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.1.get(&ordinal) {
        return Ok(device.clone());
    }
    let settings = open.0.clone().unwrap_or_default();
    let device = Device::open(ordinal, settings.ptx_folder)?;
    device.limit_memory(settings.vram.unwrap_or(u64::MAX));
    open.1.insert(ordinal, device.clone());
    Ok(device)
}

/// What a name asks for.
enum Wanted {
    None,
    Any,
    All,
    These(BTreeSet<usize>),
}

fn wanted(name: &str) -> Option<Wanted> {
    match name {
        "cpu" | "reference" => Some(Wanted::None),
        "auto" => Some(Wanted::Any),
        "cuda" => Some(Wanted::These(BTreeSet::from([0]))),
        "cuda:all" => Some(Wanted::All),
        _ => {
            let list = name.strip_prefix("cuda:")?.split(',').map(str::parse);
            Some(Wanted::These(list.collect::<Result<_, _>>().ok()?))
        }
    }
}

/// Whether a device can have this name.
#[must_use]
pub fn is_device(name: &str) -> bool {
    wanted(name).is_some()
}

/// The devices of a name: `cpu` and `reference` (none), `auto` (the first CUDA device, or none), `cuda` (the first), `cuda:N`,
/// `cuda:N,M` and `cuda:all`.
///
/// # Errors
/// [`KernelError::Device`] when the name is unknown or a device cannot be used.
pub fn devices(name: &str) -> Result<Vec<Device>, KernelError> {
    match wanted(name) {
        Some(Wanted::None) => Ok(Vec::new()),
        Some(Wanted::Any) => Ok(device(0).into_iter().collect()),
        Some(Wanted::These(ordinals)) => ordinals.into_iter().map(device).collect(),
        Some(Wanted::All) => {
            let first = device(0)?;
            Ok(std::iter::once(first).chain((1..).map_while(|ordinal| device(ordinal).ok())).collect())
        }
        None => Err(KernelError::Device {
            device: name.to_owned(),
            message: "unknown device; use cpu, auto, cuda, cuda:N, cuda:N,M or cuda:all".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(devices("cpu").unwrap().is_empty() && devices("auto").is_ok());
        for name in ["tpu", "cuda:", "cuda:x", "cuda:0,", "cuda:4095", ""] {
            assert!(matches!(devices(name), Err(KernelError::Device { .. })), "{name}");
        }
    }
}
