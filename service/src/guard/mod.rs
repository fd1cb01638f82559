//! Who may come in, with what, and how often. Every request passes here before a handler sees it.

pub mod arrow;
mod body;
mod connections;
mod frame;
mod hosts;
mod keys;
mod limits;
mod places;
mod rate;
mod stop;
mod token;

pub use body::{ARROW, JSON};
pub use connections::Door;
pub use frame::RequestId;
pub use hosts::{Hosts, may_open};
pub use keys::{Caller, Keyring};
pub use limits::Limits;
pub use places::{Allow, Places};
pub use stop::Stopping;
pub use token::{Scope, issue, lasts, now};

use crate::meter::Meter;
use crate::problem::{Failure, Problem};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use body::Held;
use curate_api::{Error, Result};
use rate::{Client, Rate};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// The scope that a route asks for; none where there is no such route.
pub type ScopeOf = fn(&Method, &str) -> Option<Scope>;

/// Everything that is asked before a handler runs.
pub struct Guard {
    limits: Limits,
    keys: Keyring,
    hosts: Hosts,
    rate: Rate,
    scope_of: ScopeOf,
    stopping: Stopping,
    meter: Arc<Meter>,
    held: Arc<AtomicU64>,
    slots: Semaphore,
}

impl Guard {
    /// A guard with these rules.
    #[must_use]
    pub fn new(keys: Keyring, hosts: Hosts, limits: &Limits, scope_of: ScopeOf, meter: Arc<Meter>) -> Self {
        Self {
            keys,
            hosts,
            scope_of,
            meter,
            rate: Rate::new(limits.rate),
            slots: Semaphore::new(limits.requests),
            limits: limits.clone(),
            stopping: Stopping::default(),
            held: Arc::default(),
        }
    }

    /// The word that the server ends.
    #[must_use]
    pub const fn stopping(&self) -> &Stopping {
        &self.stopping
    }

    /// What is allowed.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Put every route behind this guard.
    pub fn protect(self: &Arc<Self>, routes: Router) -> Router {
        routes
            .layer(from_fn_with_state(Arc::clone(self), admit))
            .layer(from_fn_with_state(Arc::clone(self), frame::frame))
    }

    /// Who calls, if they may: by the right name, in time, not too often, with the right token.
    async fn caller(&self, request: &Parts) -> Result<Caller, Response> {
        self.hosts.check(&request.headers, &request.uri).map_err(refusal)?;
        let scope = scope(self.scope_of, request);
        if self.stopping.is() {
            return Err(refusal(ending()));
        }
        let open = || Caller { token: None, scope: Scope::Open };
        let found = if scope == Scope::Open { Ok(open()) } else { self.keys.caller(&request.headers).await };
        let client = match found.as_ref().ok().and_then(|caller| caller.token.clone()) {
            Some(token) => Client::Token(token),
            None => Client::at(address(request)),
        };
        self.rate.take(client, Instant::now()).map_err(|wait| too_often(self.limits.rate, wait))?;
        let caller = found.map_err(refusal)?;
        keys::demand(&caller, scope).map_err(refusal)?;
        Ok(caller)
    }

    async fn answer(&self, parts: Parts, body: Body, next: Next) -> Result<Response> {
        let busy = || Error::usage("server/busy", "too many requests are under way").hint("send it again");
        let _slot = self.slots.try_acquire().map_err(|_| busy())?;
        let mut held = Held::new(Arc::clone(&self.held));
        let body = body::whole(&parts.headers, body, &self.limits, &mut held).await?;
        self.meter.bytes_in.add(body.len() as u64);
        if body::is_arrow(&parts.headers) {
            arrow::check(&body, self.limits.rows)?;
        }
        let slow = || {
            Error::usage("server/busy", format!("no answer within {:?}", self.limits.request_wait))
                .hint("send it again")
        };
        tokio::select! {
            response = next.run(Request::from_parts(parts, Body::from(body))) => Ok(response),
            () = tokio::time::sleep(self.limits.request_wait) => Err(slow()),
            () = self.last_moment() => Err(ending()),
        }
    }

    /// When a server that ends gives up on an answer; somewhat before it closes connections, so that the refusal arrives.
    async fn last_moment(&self) {
        self.stopping.wait().await;
        tokio::time::sleep(self.limits.stop_wait.mul_f64(0.8)).await;
    }
}

fn ending() -> Error {
    Error::usage("server/stopping", "the server is shutting down").hint("send it again; another server may be starting")
}

/// What this request asks for; where nothing is routed there is nothing to protect.
fn scope(of: ScopeOf, request: &Parts) -> Scope {
    let method = if request.method == Method::HEAD { &Method::GET } else { &request.method };
    let path = request.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
    path.and_then(|path| of(method, path)).unwrap_or(Scope::Open)
}

fn address(request: &Parts) -> std::net::IpAddr {
    let found = request.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    found.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into())
}

async fn admit(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = match guard.caller(&parts).await {
        Ok(caller) => caller,
        Err(refused) => return refused,
    };
    let token = caller.token.clone();
    parts.extensions.insert(caller);
    let mut response = guard.answer(parts, body, next).await.unwrap_or_else(refusal);
    response.extensions_mut().insert(frame::By(token));
    response
}

/// An error as an answer; one about tokens says how they are sent.
fn refusal(error: Error) -> Response {
    let unknown = error.code().starts_with("auth/") && Problem::from(&error).status == 401;
    let mut response = Failure(error).into_response();
    if unknown {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn too_often(rate: f64, wait: Duration) -> Response {
    let what = format!("more than {rate} requests a second");
    let mut response = refusal(Error::usage("rate/limited", what).hint("wait as Retry-After says, then send it again"));
    let secs = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(secs));
    response
}
