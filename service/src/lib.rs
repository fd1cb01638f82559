//! The street side of the house: trainers draw batches and send signals over HTTP, people watch. What was promised to whom is kept
//! by the store; how a batch is chosen is not decided here.
//!
//! Async lives in this room alone: handlers hand synchronous work to threads of its own kind.

#![allow(
    clippy::cast_precision_loss,      // reason: counts become rates and figures for people
    clippy::cast_possible_truncation, // reason: positions already checked against lengths
    clippy::cast_sign_loss,
    clippy::needless_for_each
)]

mod app;
pub mod dashboard;
pub mod guard;
mod http;
mod jobs;
mod load;
pub mod meter;
pub mod openapi;
mod options;
pub mod problem;
mod routes;
mod session;
pub mod store;
pub mod tls;
pub mod wire;

pub use options::ServeOptions;
pub use routes::{Content, Route, SchemaOf, problem as problem_schema, scope_of, table};

use crate::app::App;
use crate::guard::{Door, Guard, Hosts, Keyring, Places, Stopping, may_open};
use crate::jobs::Jobs;
use crate::meter::Meter;
use crate::session::{Sessions, Shared};
use crate::store::{Store, StoreOptions};
use crate::tls::Tls;
use curate_api::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// A server that is bound and not yet served.
pub struct Server {
    door: Door,
    tls: Option<Tls>,
    guard: Arc<Guard>,
    app: Arc<App>,
}

impl Server {
    /// Open the store, bind the address, take up sessions and jobs where they stood.
    ///
    /// # Errors
    /// `serve/*`, `store/*`, `tls/*`, `io/*`.
    pub fn open(options: &ServeOptions) -> Result<Self> {
        std::fs::create_dir_all(&options.data)?;
        let place = options.database.clone().unwrap_or_else(|| options.data.to_string_lossy().into_owned());
        let store = store::open(&place, &StoreOptions { fsync: options.fsync, ..StoreOptions::default() })?;
        Self::over(store, options)
    }

    fn over(store: Arc<dyn Store>, options: &ServeOptions) -> Result<Self> {
        let tls = options.tls.as_ref().map(|files| Tls::read(files, guard::now())).transpose()?;
        let tokens = !store.tokens()?.is_empty();
        may_open(options.bind, &options.public_hosts, tokens, tls.is_some() || options.insecure_http)?;
        let door = Door::bind(options.bind)?;
        let meter = Arc::new(Meter::default());
        let keys = Keyring::new(store.clone(), options.bind.ip().is_loopback() && options.public_hosts.is_empty());
        let hosts = Hosts::new(door.address(), &options.public_hosts);
        let guard = Guard::new(keys, hosts, &options.limits, scope_of_all, meter.clone());
        let shared = Shared::new(store, options.data.join("corpora"), options.host.clone());
        let app = App {
            sessions: Sessions::new(shared.clone(), options.limits.sessions),
            jobs: Jobs::open(shared.clone(), options.data.join("jobs"), options.limits.jobs)?,
            places: Places::new(&options.allow)?,
            shared,
            meter,
            load: load::Load::default(),
            started: Instant::now(),
            stopping: guard.stopping().clone(),
            most_rows: options.limits.rows,
        };
        Ok(Self { door, tls, guard: Arc::new(guard), app: Arc::new(app) })
    }

    /// The address it listens at.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Whether it speaks TLS.
    #[must_use]
    pub const fn encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Says when to end.
    #[must_use]
    pub fn stopping(&self) -> Stopping {
        self.guard.stopping().clone()
    }

    /// Everything that is served, behind the guard.
    fn routes(&self) -> axum::Router {
        let routes = routes::router(self.app.clone()).merge(dashboard::routes()).merge(openapi::page());
        self.guard.protect(routes)
    }

    /// Serve until told to end, or until `now` comes.
    ///
    /// # Errors
    /// `serve/failed`.
    pub fn run(self, now: impl Future<Output = ()> + Send) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::from)?;
        let routes = self.routes();
        let limits = self.guard.limits().clone();
        let stopping = self.guard.stopping().clone();
        let served = runtime.block_on(self.door.serve(routes, self.tls, &limits, (stopping, now)));
        runtime.shutdown_timeout(limits.stop_wait);
        served
    }
}

/// Scopes of the contract; all else that is served is open.
fn scope_of_all(method: &axum::http::Method, path: &str) -> Option<guard::Scope> {
    scope_of(method, path)
}
