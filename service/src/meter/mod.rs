//! What the server counts of itself: for Prometheus, for the dashboard, and one line of log a request.

mod log;
mod recent;
mod text;

pub use log::{LogFormat, start_log};
pub use recent::Lately;
pub use text::Gauge;

use recent::Recent;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Add so many.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request that ended.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// Method.
    pub method: &'static str,
    /// Route, as the table of routes writes it.
    pub route: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Time until the answer began.
    pub took: Duration,
}

/// Requests of one method, route and status.
#[derive(Debug, Default)]
struct Series {
    buckets: [Count; BOUNDS.len()],
    count: Count,
    nanos: Count,
}

type Key = (Arc<str>, &'static str, u16);

/// The counters of a server.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    series: RwLock<BTreeMap<Key, Arc<Series>>>,
    recent: Recent,
    under_way: AtomicI64,
    /// Bytes of bodies that came.
    pub bytes_in: Count,
    /// Bytes of answers.
    pub bytes_out: Count,
    /// Batches handed out, replays not counted.
    pub batches: Count,
    /// Rows in them.
    pub rows: Count,
    /// Calls of feedback taken in, replays not counted.
    pub feedback: Count,
    /// Calls answered again with what was answered before.
    pub replays: Count,
    /// Calls of the database that failed.
    pub store_errors: Count,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            series: RwLock::default(),
            recent: Recent::default(),
            under_way: AtomicI64::new(0),
            bytes_in: Count::default(),
            bytes_out: Count::default(),
            batches: Count::default(),
            rows: Count::default(),
            feedback: Count::default(),
            replays: Count::default(),
            store_errors: Count::default(),
        }
    }
}

/// A request under way until dropped.
#[must_use]
pub struct UnderWay<'a>(&'a AtomicI64);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meter {
    /// A request begins.
    pub fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(&self.under_way)
    }

    /// A request ended.
    pub fn done(&self, done: &Done<'_>) {
        let series = self.of(done);
        let secs = done.took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| secs <= *bound) {
            series.buckets[bucket].add(1);
        }
        series.count.add(1);
        series.nanos.add(u64::try_from(done.took.as_nanos()).unwrap_or(u64::MAX));
        self.recent.add(self.start.elapsed(), done.took);
    }

    fn of(&self, done: &Done<'_>) -> Arc<Series> {
        let key: Key = (done.route.into(), done.method, done.status);
        if let Some(found) = self.series.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Arc::clone(found);
        }
        Arc::clone(self.series.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Requests ended so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.series.read().unwrap_or_else(PoisonError::into_inner).values().map(|series| series.count.get()).sum()
    }

    /// Requests of the last minute.
    #[must_use]
    pub fn lately(&self) -> Lately {
        self.recent.look(self.start.elapsed())
    }

    /// Time since the server started.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.start.elapsed()
    }
}
