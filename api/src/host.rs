//! What the machine gives a run and what must not change its result: cache, scratch space, threads, memory, device, hub.

use crate::cache::Cache;
use curate_core::kernels::cuda::{Cuda, Device, net};
use curate_core::kernels::{Backend, MatRef};
use curate_core::{Cancel, Ctx, Error, Memory, Progress, Result, kernels};
use curate_embed::HubOptions;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The machine's side of a run.
#[derive(Clone)]
pub struct Host {
    /// Finished work of earlier runs.
    pub cache: Cache,
    /// Folder for spooled input; emptied when the run ends.
    pub scratch: PathBuf,
    /// Where hub models come from.
    pub hub: HubOptions,
    /// Resident memory allowed.
    pub memory: Memory,
    /// Worker threads; results do not depend on them.
    pub threads: usize,
    /// `auto`, `cpu`, `reference`, `cuda`, `cuda:N`, `cuda:N,M` or `cuda:all`.
    pub device: String,
    /// Progress tree that a display reads.
    pub progress: Progress,
    /// Value of an environment variable, for tokens that a plan names; only the command line may look.
    pub secret: fn(&str) -> Option<String>,
    /// Set to stop.
    pub cancel: Cancel,
}

impl Host {
    /// A context for a run with this seed.
    ///
    /// # Errors
    /// `device/unusable` when the named device cannot be used, `device/unknown` when there is no such name.
    pub fn ctx(&self, seed: u64) -> Result<Ctx> {
        Ok(Ctx::new(seed)
            .with_backend(self.backend()?)
            .with_memory(self.memory)
            .with_cancel(self.cancel.clone())
            .with_progress(self.progress.clone()))
    }

    /// Where kernels run: the first of the named devices, or the processor.
    fn backend(&self) -> Result<Arc<dyn Backend>> {
        match self.device_for_models()? {
            name @ ("cpu" | "reference") => Ok(kernels::open(name)?),
            name => match devices(name)?.into_iter().next() {
                Some(device) => usable(device),
                None => Ok(kernels::cpu()),
            },
        }
    }

    /// The device as models are told: `auto` only where there is one that works.
    ///
    /// # Errors
    /// `device/unknown`.
    pub(crate) fn device_for_models(&self) -> Result<&str> {
        match self.device.as_str() {
            "auto" if why_no_gpu().is_some() => Ok("cpu"),
            "auto" => Ok("cuda"),
            other if net::is_device(other) => Ok(other),
            other => Err(unknown(other)),
        }
    }

    /// What to say before work starts when `auto` means the processor: the reason only where the machine seems to have a GPU.
    #[must_use]
    pub fn without_gpu(&self) -> Option<String> {
        let why = (self.device == "auto").then(why_no_gpu).flatten()?;
        Some(if seems_to_have_gpu() {
            format!("device  cpu, although there is an NVIDIA driver: {why}; see 'curate doctor'")
        } else {
            "device  cpu".to_owned()
        })
    }

    /// Run `work` on a pool of [`Host::threads`] workers.
    ///
    /// # Errors
    /// What `work` gives, or `host/threads` when the pool cannot be made.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build().map_err(|e| {
            curate_core::Error::usage("host/threads", format!("cannot start {} threads: {e}", self.threads))
                .hint("use fewer --threads")
        })?;
        pool.install(work)
    }

    /// The same machine seen by a part of the work that reports under `label`.
    #[must_use]
    pub fn part(&self, label: &str) -> Self {
        Self { progress: self.progress.child(label), ..self.clone() }
    }
}

/// What holds for all devices of the process: bytes that may be held on each, and that compiled kernels are kept in `cache`. To be called
/// before the first device is opened.
pub fn configure_devices(vram: Option<u64>, cache: &Cache) {
    let folder = cache.root().join("ptx");
    let ptx_folder = std::fs::create_dir_all(&folder).is_ok().then_some(folder);
    net::configure(net::Settings { vram, ptx_folder });
}

/// Why `auto` means the processor here; none where there is a GPU that works. Asked once a process.
#[must_use]
pub fn why_no_gpu() -> Option<&'static str> {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    let why = || devices("cuda").and_then(|all| all.into_iter().try_for_each(|d| usable(d).map(drop)));
    WHY.get_or_init(|| why().err().map(|error| error.to_string())).as_deref()
}

/// Whether the system shows an NVIDIA driver, whether or not it can be used.
fn seems_to_have_gpu() -> bool {
    ["/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/proc/driver/nvidia/version"]
        .iter()
        .any(|path| std::path::Path::new(path).exists())
}

/// The devices of a name; none for the processor.
pub(crate) fn devices(name: &str) -> Result<Vec<Device>> {
    if net::is_device(name) { Ok(net::devices(name)?) } else { Err(unknown(name)) }
}

fn unknown(name: &str) -> Error {
    Error::usage("device/unknown", format!("device '{name}' is not known"))
        .hint("write auto, cpu, reference, cuda, cuda:N, cuda:N,M or cuda:all; `curate doctor` says what there is")
}

/// The kernels on a device, after one of them has run: a missing compiler shows here and not in the midst of work.
fn usable(device: Device) -> Result<Arc<dyn Backend>> {
    let cuda = Cuda::on(device);
    let one = MatRef::new(&[1.0], 1)?;
    cuda.own_sq_dist(one, one, &[0], &mut [0.0])?;
    Ok(Arc::new(cuda))
}

/// Peak resident memory of this process so far, in bytes; 0 where the system does not tell.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    status_kib("VmHWM:") * 1024
}

/// Resident memory of this process now, in bytes; 0 where the system does not tell.
#[must_use]
pub fn rss_bytes() -> u64 {
    status_kib("VmRSS:") * 1024
}

fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(field));
    line.and_then(|l| l.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(0)
}

/// Shared by tests: a host whose cache and scratch lie in `folder`.
///
/// # Errors
/// `cache/unwritable`.
pub fn local(folder: &std::path::Path) -> Result<Host> {
    Ok(Host {
        cache: Cache::open(&folder.join("cache"))?,
        scratch: folder.join("scratch"),
        hub: HubOptions::default(),
        memory: Memory::default(),
        threads: 2,
        device: "cpu".to_owned(),
        progress: Progress::root("run"),
        secret: |_| None,
        cancel: Cancel::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_nobody_knows_is_a_usage_error_and_silence_is_kept_where_the_processor_was_named() {
        let folder = tempfile::tempdir().unwrap();
        let host = local(folder.path()).unwrap();
        assert_eq!(host.without_gpu(), None);
        let unknown = Host { device: "abacus".to_owned(), ..host.clone() }.ctx(0).err().unwrap();
        assert_eq!((unknown.code(), unknown.exit_code()), ("device/unknown", 2));
        let auto = Host { device: "auto".to_owned(), ..host };
        assert_eq!(auto.without_gpu().is_some(), why_no_gpu().is_some());
        assert!(auto.without_gpu().is_none_or(|line| line.starts_with("device  cpu")));
    }
}
