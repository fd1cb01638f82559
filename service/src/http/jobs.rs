//! Jobs: run a plan, watch it, fetch what it gave.

use super::{Answer, body, file, sse};
use crate::app::{App, aside};
use crate::wire::{JobBody, JobInfo};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use curate_api::Error;
use serde_json::{Value, json};
use std::sync::Arc;

type Here = State<Arc<App>>;

/// `POST /v1/jobs`.
pub(crate) async fn create(State(app): Here, bytes: Bytes) -> Answer<(StatusCode, Json<JobInfo>)> {
    let asked: JobBody = body(&bytes)?;
    let (job, new) = aside(move || {
        app.places.check(&asked.plan)?;
        app.jobs.create(asked)
    })
    .await?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(job.info())))
}

/// `GET /v1/jobs`.
pub(crate) async fn list(State(app): Here) -> Answer<Json<Value>> {
    Ok(Json(json!({"jobs": aside(move || app.jobs.list()).await?})))
}

/// `GET /v1/jobs/{id}`.
pub(crate) async fn info(State(app): Here, Path(id): Path<String>) -> Answer<Json<JobInfo>> {
    Ok(Json(aside(move || Ok(app.jobs.get(&id)?.info())).await?))
}

/// `DELETE /v1/jobs/{id}`.
pub(crate) async fn remove(State(app): Here, Path(id): Path<String>) -> Answer<StatusCode> {
    aside(move || app.jobs.remove(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /v1/jobs/{id}/events`.
pub(crate) async fn events(State(app): Here, Path(id): Path<String>) -> Answer<Response> {
    let stopping = app.stopping.clone();
    let job = aside(move || app.jobs.get(&id)).await?;
    Ok(sse::job(job, stopping).into_response())
}

/// `GET /v1/jobs/{id}/result`.
pub(crate) async fn result(State(app): Here, Path(id): Path<String>, headers: HeaderMap) -> Answer<Response> {
    let path = aside(move || app.jobs.get(&id)?.result()).await?;
    Ok(file::send(path, headers.get(header::RANGE)).await?)
}

/// `GET /v1/jobs/{id}/manifest`.
pub(crate) async fn manifest(State(app): Here, Path(id): Path<String>) -> Answer<Json<Value>> {
    let info = aside(move || Ok(app.jobs.get(&id)?.info())).await?;
    let manifest = info.result.map(|result| result["manifest"].clone()).filter(|manifest| !manifest.is_null());
    Ok(Json(
        manifest
            .ok_or_else(|| Error::usage("job/no-result", "the job has no manifest").hint("wait until it is done"))?,
    ))
}
