//! Looking at sessions and at the server.

use super::{Answer, sse};
use crate::app::{App, aside};
use crate::meter::Gauge;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use curate_api::Result;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

type Here = State<Arc<App>>;

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    #[serde(default)]
    after: u64,
    #[serde(default = "usual")]
    limit: usize,
}

const fn usual() -> usize {
    2000
}

/// What to do besides telling the state.
#[derive(Debug, Deserialize)]
pub(crate) struct InWords {
    #[serde(default)]
    words: bool,
}

/// `GET /v1/sessions/{id}/state`.
pub(crate) async fn state(
    State(app): Here,
    Path(id): Path<String>,
    Query(wish): Query<InWords>,
) -> Answer<Json<Value>> {
    Ok(Json(aside(move || app.sessions.get(&id)?.state_in_words(wish.words)).await?))
}

/// `GET /v1/sessions/{id}/map`.
pub(crate) async fn map(State(app): Here, Path(id): Path<String>) -> Answer<Response> {
    Ok(bytes("application/json", aside(move || app.sessions.get(&id)?.map()).await?))
}

/// `GET /v1/sessions/{id}/groups/{group}`.
pub(crate) async fn group(State(app): Here, Path((id, group)): Path<(String, u32)>) -> Answer<Json<Value>> {
    Ok(Json(aside(move || app.sessions.get(&id)?.group(group)).await?))
}

/// `GET /v1/sessions/{id}/history`.
pub(crate) async fn history(State(app): Here, Path(id): Path<String>, Query(page): Query<Page>) -> Answer<Json<Value>> {
    Ok(Json(aside(move || app.sessions.get(&id)?.history_in_groups(page.after, page.limit)).await?))
}

/// `GET /v1/sessions/{id}/rows/{row}`.
pub(crate) async fn row(State(app): Here, Path((id, row)): Path<(String, u64)>) -> Answer<Json<Value>> {
    Ok(Json(aside(move || app.sessions.get(&id)?.row(row)).await?))
}

/// `GET /v1/sessions/{id}/log`.
pub(crate) async fn log(State(app): Here, Path(id): Path<String>, Query(page): Query<Page>) -> Answer<Response> {
    let lines = aside(move || app.sessions.get(&id)?.journal(page.after, page.limit.clamp(1, 10_000))).await?;
    let mut text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    text.push('\n');
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response())
}

/// `GET /v1/sessions/{id}/events`.
pub(crate) async fn events(State(app): Here, Path(id): Path<String>, headers: HeaderMap) -> Answer<Response> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let stopping = app.stopping.clone();
    let session = aside(move || app.sessions.get(&id)).await?;
    Ok(sse::session(session, last, stopping).into_response())
}

/// `GET /v1/algorithms`.
pub(crate) async fn algorithms() -> Answer<Json<Value>> {
    let value = serde_json::to_value(curate_api::methods()).unwrap_or_default();
    Ok(Json(json!({"algorithms": value})))
}

/// `GET /v1/system`.
pub(crate) async fn system(State(app): Here) -> Answer<Json<Value>> {
    let value = aside(move || {
        let (sessions, jobs) = counts(&app)?;
        let host = &app.shared.host;
        let lately = app.meter.lately();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"), "uptime_s": app.started.elapsed().as_secs_f64(), "rss_bytes": curate_api::rss_bytes(),
            "memory_limit_bytes": host.memory.limit_bytes(), "cpu_share": app.load.cpu_share(), "threads": host.threads,
            "sessions": sessions, "jobs": jobs, "store": app.shared.store.name(),
            "requests": {"total": app.meter.requests(), "per_s": lately.per_sec, "p50_ms": lately.p50_ms, "p99_ms": lately.p99_ms},
            "read_only": app.shared.read_only(), "disk_free_bytes": crate::load::disk_free(&app.shared.corpora),
        }))
    });
    Ok(Json(value.await?))
}

/// `GET /health`.
pub(crate) async fn health() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(app): Here) -> Answer<Response> {
    let text = aside(move || Ok(app.meter.text(&gauges(&app)?))).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// Sessions and jobs by status.
fn gauges(app: &App) -> Result<Vec<Gauge>> {
    let (sessions, jobs) = counts(app)?;
    let gauge = |name, help| {
        move |(status, count): (String, u64)| Gauge { name, help, label: Some(("status", status)), value: count as f64 }
    };
    let sessions = sessions.into_iter().map(gauge("curate_sessions", "Sessions."));
    Ok(sessions.chain(jobs.into_iter().map(gauge("curate_jobs", "Jobs."))).collect())
}

type Counts = BTreeMap<String, u64>;

fn counts(app: &App) -> Result<(Counts, Counts)> {
    let (mut sessions, mut jobs) = (Counts::new(), Counts::new());
    app.sessions.list()?.iter().for_each(|session| *sessions.entry(session.info().status.to_owned()).or_default() += 1);
    app.jobs.list()?.into_iter().for_each(|job| *jobs.entry(job.status).or_default() += 1);
    Ok((sessions, jobs))
}

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::text()).into_response()
}

/// Anything that is not there.
pub(crate) async fn nowhere() -> Response {
    let error =
        curate_api::Error::usage("path/unknown", "there is nothing at this address").hint("/docs lists the addresses");
    crate::problem::Failure(error).into_response()
}

/// Bytes as they are.
pub(crate) fn bytes(kind: &'static str, bytes: Vec<u8>) -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], Body::from(bytes)).into_response()
}

/// A path that is there, but not for this method.
pub(crate) async fn not_that_way() -> Response {
    let error = curate_api::Error::usage("method/not-allowed", "the address does not take this method")
        .hint("/docs lists the addresses");
    crate::problem::Failure(error).into_response()
}
