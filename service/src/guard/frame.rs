//! Around every request: its id, one line of log, the figures, headers that browsers heed, and one shape of errors, also of those
//! that no handler of ours wrote.

use super::Guard;
use crate::meter::Done;
use crate::problem::Problem;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use curate_api::Error;
use futures::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Longest problem that is looked into.
const PROBLEM_BYTES: usize = 1 << 20;
const PROBLEM: &str = "application/problem+json";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names a request in answers and in the log.
#[derive(Clone, Debug)]
pub struct RequestId(pub Arc<str>);

/// Name of the token behind an answer.
#[derive(Clone, Debug)]
pub(super) struct By(pub(super) Option<Arc<str>>);

pub(super) async fn frame(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or("none".into(), |path| Arc::from(path.as_str()));
    let method = request.method().clone();
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let under_way = guard.meter.begin();
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answer.unwrap_or_else(|_| broken().into_response());
    let (mut response, code) = one_shape(response, &method, &id).await;
    dress(response.headers_mut(), &id);
    let status = response.status();
    let token = response.extensions_mut().remove::<By>().and_then(|by| by.0);
    drop(under_way);
    let took = start.elapsed();
    guard.meter.done(&Done { method: named(&method), route: &route, status: status.as_u16(), took });
    let ms = took.as_secs_f64() * 1e3;
    let (status, token, code) = (status.as_u16(), token.as_deref().unwrap_or("-"), code.as_deref().unwrap_or("-"));
    match status {
        500 => tracing::error!(request_id = %id, method = %method, route = %route, status, ms, token, code, "request"),
        501.. => tracing::warn!(request_id = %id, method = %method, route = %route, status, ms, token, code, "request"),
        _ => tracing::info!(request_id = %id, method = %method, route = %route, status, ms, token, code, "request"),
    }
    counted(&guard, response)
}

/// The method, if it is one of those that are used; a client may invent others without end.
fn named(method: &Method) -> &'static str {
    const USED: [&str; 6] = ["GET", "POST", "DELETE", "HEAD", "PUT", "OPTIONS"];
    USED.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

/// The client's id if it is harmless, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let harmless = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless);
    given.map_or_else(draw, Arc::from)
}

fn draw() -> Arc<str> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut bytes = [0; 8];
    if getrandom::fill(&mut bytes).is_err() {
        bytes = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    }
    super::token::hex(&bytes).into()
}

fn broken() -> Problem {
    Problem::from(
        &Error::io("server/defect", "the server failed at this call; this is a defect of curate")
            .hint("please report it with the server's log of this request"),
    )
}

/// Errors as problems that name the request, whoever wrote them; and the code for the log.
async fn one_shape(response: Response, method: &Method, id: &str) -> (Response, Option<String>) {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return (response, None);
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, PROBLEM_BYTES).await.unwrap_or_default();
    let ours = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM);
    let problem = ours.then(|| serde_json::from_slice::<Problem>(&bytes).ok()).flatten();
    let mut problem = problem.unwrap_or_else(|| foreign(status, &String::from_utf8_lossy(&bytes)));
    problem.request_id = Some(id.to_owned());
    let code = problem.code.clone();
    let bytes = if *method == Method::HEAD { Vec::new() } else { serde_json::to_vec(&problem).unwrap_or_default() };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM));
    (Response::from_parts(parts, Body::from(bytes)), Some(code))
}

/// An error that the framework wrote.
fn foreign(status: StatusCode, text: &str) -> Problem {
    let (code, said, hint) = match status {
        StatusCode::NOT_FOUND => ("path/unknown", "there is nothing at this path", "see /docs for all paths"),
        StatusCode::METHOD_NOT_ALLOWED => ("method/not-allowed", "this path does not take this method", "see /docs"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ("body/type", "the body is of another type", "see /docs"),
        StatusCode::PAYLOAD_TOO_LARGE => ("body/too-large", "the body is too large", "send less at a time"),
        s if s.is_server_error() => ("server/defect", "the server failed at this call", "see the server's log"),
        _ => ("request/malformed", "the request cannot be read", "see /docs"),
    };
    let detail = if text.trim().is_empty() { said } else { text.trim() };
    let retriable = status == StatusCode::SERVICE_UNAVAILABLE;
    Problem { status: status.as_u16(), retriable, ..Problem::from(&Error::usage(code, detail).hint(hint)) }
}

fn dress(headers: &mut HeaderMap, id: &str) {
    let mut add = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    add(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    add(header::REFERRER_POLICY, "no-referrer");
    add(header::CACHE_CONTROL, "no-store");
    add(header::CONTENT_SECURITY_POLICY, POLICY);
    add(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// What pages of this server may load: their own files, nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; \
     font-src 'self'; connect-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Count the bytes of the answer, of a stream as they go; news ends with the server.
fn counted(guard: &Arc<Guard>, response: Response) -> Response {
    if let Some(bytes) = response.body().size_hint().exact() {
        guard.meter.bytes_out.add(bytes);
        return response;
    }
    let (meter, stopping) = (Arc::clone(&guard.meter), guard.stopping().clone());
    let news = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
    response.map(|body| {
        // news goes on for ever, a file has an end
        let end = async move { if news { stopping.wait().await } else { std::future::pending().await } };
        let pieces = body.into_data_stream().inspect(move |piece| {
            let bytes = piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
            meter.bytes_out.add(bytes);
        });
        Body::from_stream(pieces.take_until(Box::pin(end)))
    })
}
