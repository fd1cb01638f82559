//! Sessions: made, drawn from, told, steered, removed.

use super::{ARROW, Answer, body, is_arrow, wants_arrow};
use crate::app::{App, aside};
use crate::guard::Stopping;
use crate::session::{Fed, Served, Session, from_arrow, from_json};
use crate::wire::{FeedbackBody, FeedbackDone, ProposeBody, SeekBody, SessionInfo, SessionSpec, Signals, SteerBody};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use curate_api::{Error, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Longest wait for a batch, and the usual one, seconds.
const MOST_WAIT_S: f64 = 60.0;
const WAIT_S: f64 = 20.0;
/// Longest time between two looks of a call that waits.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Step and rank in the address, for Arrow bodies.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Place {
    #[serde(default)]
    step: u64,
    #[serde(default)]
    rank: u32,
    wait_s: Option<f64>,
}

type Here = State<Arc<App>>;

/// `POST /v1/sessions`.
pub(crate) async fn create(State(app): Here, bytes: Bytes) -> Answer<(StatusCode, Json<SessionInfo>)> {
    let spec: SessionSpec = body(&bytes)?;
    let (session, new) = aside(move || {
        app.places.check(&spec.plan)?;
        spec.tokenizer.iter().try_for_each(|name| app.places.check_model(name))?;
        app.sessions.create(spec)
    })
    .await?;
    Ok((if new { StatusCode::CREATED } else { StatusCode::OK }, Json(session.info())))
}

async fn found(app: &Arc<App>, id: String) -> Result<Arc<Session>> {
    let app = app.clone();
    aside(move || app.sessions.get(&id)).await
}

/// `GET /v1/sessions`.
pub(crate) async fn list(State(app): Here) -> Answer<Json<Value>> {
    let infos =
        aside(move || Ok(app.sessions.list()?.iter().map(|session| session.info()).collect::<Vec<_>>())).await?;
    Ok(Json(json!({"sessions": infos})))
}

/// `GET /v1/sessions/{id}`.
pub(crate) async fn info(State(app): Here, Path(id): Path<String>) -> Answer<Json<SessionInfo>> {
    let session = found(&app, id).await?;
    Ok(Json(aside(move || Ok(session.info())).await?))
}

/// `DELETE /v1/sessions/{id}`.
pub(crate) async fn remove(State(app): Here, Path(id): Path<String>) -> Answer<StatusCode> {
    aside(move || app.sessions.remove(&id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/sessions/{id}/propose`.
pub(crate) async fn propose(
    State(app): Here,
    Path(id): Path<String>,
    Query(place): Query<Place>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer<Response> {
    let session = found(&app, id).await?;
    let (asked, brought) = if is_arrow(&headers) {
        let fed = aside(move || from_arrow(&bytes)).await?;
        (ProposeBody { step: place.step, rank: place.rank, wait_s: place.wait_s, candidates: None }, Some(fed))
    } else {
        let asked: ProposeBody = body(&bytes)?;
        let brought = asked.candidates.as_ref().map(from_json).transpose()?;
        app.few(brought.as_ref().map_or(0, |fed| fed.rows.len()))?;
        (asked, brought)
    };
    let wait = asked.wait_s.unwrap_or(WAIT_S);
    let wait = if wait.is_finite() { wait.clamp(0.0, MOST_WAIT_S) } else { WAIT_S };
    let until = Instant::now() + Duration::from_secs_f64(wait);
    let wait = (until, &app.stopping);
    let served = waited(&session, &asked, brought.map(Arc::new), wait).await?;
    app.meter.batches.add(1);
    app.meter.rows.add(served.picks.len() as u64);
    let arrow = wants_arrow(&headers);
    let (answer, bytes) = aside(move || {
        let bytes = if arrow { served.arrow() } else { served.json() }?;
        Ok((served, bytes))
    })
    .await?;
    tokio::task::spawn_blocking(move || session.prefetch());
    Ok(reply(&answer, bytes, arrow))
}

/// Ask until there is an answer other than "not yet", the time is over, or the server ends. A change wakes the call; one that
/// another server made does not, so it looks again now and then.
async fn waited(
    session: &Arc<Session>,
    asked: &ProposeBody,
    brought: Option<Arc<Fed>>,
    (until, stopping): (Instant, &Stopping),
) -> Result<Arc<Served>> {
    loop {
        let (mut changed, _) = session.watch();
        changed.mark_unchanged();
        let (own, brought, step, rank) = (session.clone(), brought.clone(), asked.step, asked.rank);
        let found = aside(move || own.propose(step, rank, brought.as_deref())).await;
        match found {
            Err(error) if error.code() == "step/not-yet" => {
                if Instant::now() >= until {
                    return Err(error);
                }
                tokio::select! {
                    _ = timeout_at(until.min(Instant::now() + LOOK_AGAIN), changed.changed()) => {}
                    () = stopping.wait() => return Err(error),
                }
            }
            found => return found,
        }
    }
}

fn reply(served: &Served, bytes: Bytes, arrow: bool) -> Response {
    if !arrow {
        return ([(header::CONTENT_TYPE, "application/json")], bytes).into_response();
    }
    let headers = [
        ("content-type", ARROW.to_owned()),
        ("curate-step", served.step.to_string()),
        ("curate-rank", served.rank.to_string()),
        ("curate-epoch", served.epoch.to_string()),
        ("curate-end", served.end.to_string()),
        ("curate-cursor", served.cursor.clone()),
    ];
    (headers, bytes).into_response()
}

/// `POST /v1/sessions/{id}/candidates`.
pub(crate) async fn candidates(State(app): Here, Path(id): Path<String>, bytes: Bytes) -> Answer<Json<Value>> {
    let asked: ProposeBody = body(&bytes)?;
    let session = found(&app, id).await?;
    Ok(Json(aside(move || session.offer(asked.step)).await?))
}

/// `POST /v1/sessions/{id}/feedback`.
pub(crate) async fn feedback(
    State(app): Here,
    Path(id): Path<String>,
    Query(place): Query<Place>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Answer<Json<FeedbackDone>> {
    let session = found(&app, id).await?;
    let (step, rank, fed) = if is_arrow(&headers) {
        (place.step, place.rank, aside(move || from_arrow(&bytes)).await?)
    } else {
        let said: FeedbackBody = body(&bytes)?;
        if said.skip != said.rows.is_empty() {
            let what = if said.skip { "'skip' says that nothing comes, and rows came" } else { "no rows came" };
            return Err(Error::usage("feedback/empty", what).hint("send rows, or \"skip\": true without rows").into());
        }
        (said.step, said.rank, from_json(&Signals { rows: said.rows, signals: said.signals })?)
    };
    app.few(fed.rows.len())?;
    let own = session.clone();
    let done = aside(move || own.feedback(step, rank, &fed)).await?;
    if done.replayed {
        app.meter.replays.add(1);
    } else {
        app.meter.feedback.add(1);
    }
    tokio::task::spawn_blocking(move || session.prefetch());
    Ok(Json(done))
}

/// `POST /v1/sessions/{id}/seek`.
pub(crate) async fn seek(State(app): Here, Path(id): Path<String>, bytes: Bytes) -> Answer<Json<SessionInfo>> {
    let asked: SeekBody = body(&bytes)?;
    let session = found(&app, id).await?;
    let (step, chain) = place_of(&asked, &session.id)?;
    let info = aside(move || {
        session.seek(step, chain.as_deref())?;
        Ok(session.info())
    });
    Ok(Json(info.await?))
}

/// Step and history that a seek names.
fn place_of(asked: &SeekBody, id: &str) -> Result<(u64, Option<String>)> {
    let wrong = |what: &str| {
        Error::usage("seek/cursor", what).hint("send {\"cursor\": \"...\"} as a batch gave it, or {\"step\": 40}")
    };
    match (&asked.cursor, asked.step) {
        (None, Some(step)) => Ok((step, None)),
        (Some(cursor), step) => {
            let mut parts = cursor.rsplitn(3, ':');
            let (chain, at, of) = (parts.next(), parts.next().and_then(|at| at.parse().ok()), parts.next());
            match (of, at, chain) {
                (Some(of), Some(at), Some(chain)) if of == id && step.is_none_or(|step| step == at) => {
                    Ok((at, Some(chain.to_owned())))
                }
                (Some(of), Some(_), _) if of != id => Err(wrong("the cursor is of another session")),
                _ => Err(wrong("this is no cursor")),
            }
        }
        (None, None) => Err(wrong("neither a cursor nor a step was named")),
    }
}

/// `POST /v1/sessions/{id}/pause`.
pub(crate) async fn pause(State(app): Here, Path(id): Path<String>) -> Answer<Json<SessionInfo>> {
    paused(&app, id, true).await
}

/// `POST /v1/sessions/{id}/resume`.
pub(crate) async fn resume(State(app): Here, Path(id): Path<String>) -> Answer<Json<SessionInfo>> {
    paused(&app, id, false).await
}

async fn paused(app: &Arc<App>, id: String, pause: bool) -> Answer<Json<SessionInfo>> {
    let session = found(app, id).await?;
    let info = aside(move || {
        session.pause(pause)?;
        Ok(session.info())
    });
    Ok(Json(info.await?))
}

/// `POST /v1/sessions/{id}/steer`.
pub(crate) async fn steer(State(app): Here, Path(id): Path<String>, bytes: Bytes) -> Answer<Json<Value>> {
    let asked: SteerBody = body(&bytes)?;
    let session = found(&app, id).await?;
    let state = aside(move || {
        session.steer(asked.group, asked.factor, asked.id.as_deref())?;
        session.state()
    });
    Ok(Json(state.await?))
}
