//! The progress tree: what long work has done, for bars, event streams and dashboards alike.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One node of the tree. Cheap to clone; all clones are the same node.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Node>);

#[derive(Debug)]
struct Node {
    label: String,
    done: AtomicU64,
    total: AtomicU64,
    /// Microseconds at which the node was closed; 0 while it is open.
    finished: AtomicU64,
    started: Instant,
    note: Mutex<String>,
    children: Mutex<Vec<Progress>>,
}

/// A reading of one node.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the node is called, such as `embed`.
    pub label: String,
    /// Units done so far.
    pub done: u64,
    /// Units in all; 0 when not known.
    pub total: u64,
    /// Seconds since the node was opened.
    pub elapsed_secs: f64,
    /// A short word on the present state, such as `iteration 3`.
    pub note: String,
    /// Whether the node was closed.
    pub finished: bool,
    /// Readings of the nodes below, in the order they were opened.
    pub children: Vec<Snapshot>,
}

impl Progress {
    /// A tree of one node.
    #[must_use]
    pub fn root(label: impl Into<String>) -> Self {
        Self(Arc::new(Node {
            label: label.into(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            started: Instant::now(),
            note: Mutex::new(String::new()),
            children: Mutex::new(Vec::new()),
        }))
    }

    /// Open a node below this one.
    #[must_use]
    pub fn child(&self, label: impl Into<String>) -> Self {
        let child = Self::root(label);
        self.0.children.lock().unwrap_or_else(PoisonError::into_inner).push(child.clone());
        child
    }

    /// Count `n` units as done.
    pub fn add(&self, n: u64) {
        self.0.done.fetch_add(n, Ordering::Relaxed);
    }

    /// Units counted so far.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Say how many units there are in all.
    pub fn set_total(&self, total: u64) {
        self.0.total.store(total, Ordering::Relaxed);
    }

    /// Say in a few words what is going on.
    pub fn note(&self, note: impl Into<String>) {
        *self.0.note.lock().unwrap_or_else(PoisonError::into_inner) = note.into();
    }

    /// Close the node; its clock stops.
    pub fn finish(&self) {
        let micros = u64::try_from(self.0.started.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let _ = self.0.finished.compare_exchange(0, micros, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Read the node and all below it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let node = &self.0;
        let finished = node.finished.load(Ordering::Relaxed);
        let elapsed = if finished == 0 { node.started.elapsed() } else { Duration::from_micros(finished) };
        Snapshot {
            label: node.label.clone(),
            done: node.done.load(Ordering::Relaxed),
            total: node.total.load(Ordering::Relaxed),
            elapsed_secs: elapsed.as_secs_f64(),
            note: node.note.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            finished: finished > 0,
            children: node.children.lock().unwrap_or_else(PoisonError::into_inner).iter().map(Self::snapshot).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_node_keeps_its_time_and_counts() {
        let root = Progress::root("run");
        let node = root.child("stage");
        node.set_total(3);
        node.add(2);
        node.finish();
        let before = root.snapshot().children[0].clone();
        std::thread::sleep(Duration::from_millis(3));
        let after = &root.snapshot().children[0];
        assert_eq!((after.done, after.total, after.finished), (2, 3, true));
        assert_eq!(after.elapsed_secs.to_bits(), before.elapsed_secs.to_bits());
    }
}
