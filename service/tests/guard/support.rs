//! A guard before a few routes, and ways to ask it.

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, Response, StatusCode};
use axum::routing::{delete, get, post};
use curate_service::guard::{Guard, Hosts, Keyring, Limits, Scope, issue};
use curate_service::meter::Meter;
use curate_service::store::{Store, StoreOptions, open};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

pub(crate) struct House {
    pub(crate) guard: Arc<Guard>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) routes: Router,
    _folder: tempfile::TempDir,
}

fn scope_of(method: &Method, path: &str) -> Option<Scope> {
    match (method.as_str(), path) {
        ("GET", "/read/{id}") => Some(Scope::Read),
        ("POST", "/feed") => Some(Scope::Feed),
        ("DELETE", "/admin") => Some(Scope::Admin),
        _ => None,
    }
}

fn routes() -> Router {
    let sleep = |secs: f64| async move {
        tokio::time::sleep(Duration::from_secs_f64(secs)).await;
        "slept"
    };
    Router::new()
        .route("/open", get(async || "open"))
        .route("/read/{id}", get(async || "read"))
        .route("/feed", post(async |bytes: Bytes| bytes.len().to_string()))
        .route("/admin", delete(async || StatusCode::NO_CONTENT))
        .route("/panic", get(panics))
        .route("/short", get(move || sleep(0.5)))
        .route("/long", get(move || sleep(60.0)))
}

async fn panics() -> &'static str {
    panic!("a secret of the server")
}

impl House {
    /// Bound to loopback, with these limits.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self::with_open(limits, true)
    }

    pub(crate) fn with_open(limits: &Limits, open_without_tokens: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().to_string_lossy(), &StoreOptions::default()).unwrap();
        let keys = Keyring::new(Arc::clone(&store), open_without_tokens);
        let hosts = Hosts::new(SocketAddr::from(([127, 0, 0, 1], 7878)), &[]);
        let meter = Arc::new(Meter::default());
        let guard = Arc::new(Guard::new(keys, hosts, limits, scope_of, Arc::clone(&meter)));
        let routes = guard.protect(routes());
        Self { guard, meter, store, routes, _folder: folder }
    }

    /// A new token of these scopes that lasts so long.
    pub(crate) fn token(&self, name: &str, scopes: &[&str], lasts_secs: Option<f64>) -> String {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        let (token, record) = issue(name, &scopes, lasts_secs).unwrap();
        assert!(self.store.add_token(&record).unwrap());
        token
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Response<Body> {
        self.routes.clone().oneshot(request).await.unwrap()
    }

    /// Status and code of the answer to a request without a body.
    pub(crate) async fn told(&self, line: &str, headers: &[(&str, &str)]) -> (u16, String) {
        problem(self.ask(request(line, headers, Body::empty())).await).await
    }
}

/// `GET /path` with these headers; the Host is a loopback name unless given.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: Body) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("host", "localhost:7878");
    }
    let mut request = headers.iter().fold(request, |r, (name, value)| r.header(*name, *value)).body(body).unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9))));
    request
}

pub(crate) async fn json(response: Response<Body>) -> Value {
    serde_json::from_slice(&to_bytes(response.into_body(), 1 << 20).await.unwrap()).unwrap_or_default()
}

/// Status and code of an answer; `ok` where it is no problem.
pub(crate) async fn problem(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    if status < 400 {
        return (status, "ok".to_owned());
    }
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = json(response).await;
    assert_eq!(body["status"], status, "{body}");
    assert!(body["hint"].is_string() && body["request_id"].is_string() && body["detail"].is_string(), "{body}");
    (status, body["code"].as_str().unwrap().to_owned())
}
