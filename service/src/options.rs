//! What a server is told when it starts.

use crate::guard::{Allow, Limits};
use crate::tls::TlsFiles;
use curate_api::Host;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Options of `curate serve`.
#[derive(Clone)]
pub struct ServeOptions {
    /// Address to listen at; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Folder of the server: database, copied rows, results of jobs.
    pub data: PathBuf,
    /// URL of a `PostgreSQL` server, in place of the embedded database.
    pub database: Option<String>,
    /// Wait for the disk at every accepted call.
    pub fsync: bool,
    /// What plans may read.
    pub allow: Allow,
    /// Other names the server is called by.
    pub public_hosts: Vec<String>,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// Serve others without TLS: a proxy in front has it.
    pub insecure_http: bool,
    /// Bounds.
    pub limits: Limits,
    /// Cache, threads, memory, device.
    pub host: Host,
}
