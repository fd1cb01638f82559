//! What the server takes of the machine.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ticks of processor time a second, as Linux counts them for programs.
const TICKS: f64 = 100.0;

/// Readings closer than this are not compared.
const SPAN: Duration = Duration::from_secs(1);

/// The processor time of this process, looked at now and then.
#[derive(Default)]
pub(crate) struct Load(Mutex<Option<(Instant, f64, f64)>>);

impl Load {
    /// Processors busy with this process since the last look, such as 1.5.
    pub(crate) fn cpu_share(&self) -> f64 {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, spent) = (Instant::now(), processor_secs());
        let share = match *last {
            Some((at, before, share)) => {
                let passed = now.duration_since(at);
                if passed < SPAN {
                    return share;
                }
                (spent - before) / passed.as_secs_f64()
            }
            None => 0.0,
        };
        *last = Some((now, spent, share));
        share
    }
}

fn processor_secs() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / TICKS
}

/// Bytes that may still be written where `path` lies; none where the system does not tell.
pub(crate) fn disk_free(path: &Path) -> Option<u64> {
    let place = path.ancestors().find(|place| place.exists())?;
    rustix::fs::statvfs(place).ok().map(|found| found.f_bavail.saturating_mul(found.f_frsize))
}
