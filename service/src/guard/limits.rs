//! How much a client may ask of the server.

use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Bounds; every one has a flag of `curate serve`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Largest body of a request.
    pub body_bytes: u64,
    /// All bodies held in memory at a time.
    pub bodies_bytes: u64,
    /// Most rows in the body of a request.
    pub rows: usize,
    /// Most sessions kept.
    pub sessions: usize,
    /// Most jobs kept.
    pub jobs: usize,
    /// Requests a second of one token or address, on average; 0 for no bound.
    pub rate: f64,
    /// Connections open at a time.
    pub connections: usize,
    /// Requests under way at a time.
    pub requests: usize,
    /// Longest wait for the head of a request, and for a TLS handshake.
    pub header_wait: Duration,
    /// Longest wait for the body of a request.
    pub body_wait: Duration,
    /// Longest time until an answer begins.
    pub request_wait: Duration,
    /// Longest wait for what is under way when the server ends.
    pub stop_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * MIB,
            bodies_bytes: 512 * MIB,
            rows: 1_000_000,
            sessions: 1000,
            jobs: 1000,
            rate: 1000.0,
            connections: 1024,
            requests: 512,
            header_wait: Duration::from_secs(30),
            body_wait: Duration::from_mins(1),
            request_wait: Duration::from_mins(2),
            stop_wait: Duration::from_secs(10),
        }
    }
}
