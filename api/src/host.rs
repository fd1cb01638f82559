//! What the machine gives a run and what must not change its result: cache, scratch space, threads, memory, device, hub.

use crate::cache::Cache;
use curate_core::{Cancel, Ctx, Memory, Progress, Result, kernels};
use curate_embed::HubOptions;
use std::path::PathBuf;

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
    /// `auto`, `cpu` or `cuda:N`.
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
    /// `device/unusable` when the named device cannot be used.
    pub fn ctx(&self, seed: u64) -> Result<Ctx> {
        Ok(Ctx::new(seed)
            .with_backend(kernels::open(&self.device)?)
            .with_memory(self.memory)
            .with_cancel(self.cancel.clone())
            .with_progress(self.progress.clone()))
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
