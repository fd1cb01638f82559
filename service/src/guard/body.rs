//! The body of a request: of a known type, not compressed, whole within its time, and never more bytes than allowed.

use super::limits::Limits;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};
use curate_api::{Error, Result, format_bytes};
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Content type of Arrow streams.
pub const ARROW: &str = "application/vnd.apache.arrow.stream";
/// Content type of JSON.
pub const JSON: &str = "application/json";

/// Bytes of bodies in memory; given back when dropped.
pub(super) struct Held {
    all: Arc<AtomicU64>,
    mine: u64,
}

impl Held {
    pub(super) const fn new(all: Arc<AtomicU64>) -> Self {
        Self { all, mine: 0 }
    }

    fn grow(&mut self, bytes: u64, most: u64) -> Result<()> {
        self.mine += bytes;
        if self.all.fetch_add(bytes, Ordering::Relaxed) + bytes <= most {
            return Ok(());
        }
        Err(Error::usage("server/busy", "the bodies of other requests fill the memory set aside for them")
            .hint("send it again"))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

/// The whole body.
///
/// # Errors
/// `body/type`, `body/too-large`, `body/slow`, `server/busy`, `request/malformed`.
pub(super) async fn whole(headers: &HeaderMap, body: Body, limits: &Limits, held: &mut Held) -> Result<Bytes> {
    if body.is_end_stream() || body.size_hint().exact() == Some(0) {
        return Ok(Bytes::new());
    }
    check_type(headers)?;
    if body.size_hint().lower() > limits.body_bytes {
        return Err(too_large(limits));
    }
    let collected = tokio::time::timeout(limits.body_wait, collect(body, limits, held)).await;
    collected.unwrap_or_else(|_| {
        let secs = limits.body_wait.as_secs_f64();
        Err(Error::usage("body/slow", format!("the body did not come within {secs} seconds"))
            .hint("send less at a time, or start the server with a longer --body-wait"))
    })
}

async fn collect(body: Body, limits: &Limits, held: &mut Held) -> Result<Bytes> {
    let (mut stream, mut all) = (body.into_data_stream(), BytesMut::new());
    while let Some(piece) = stream.next().await {
        let piece = piece
            .map_err(|e| Error::usage("request/malformed", format!("the body broke off: {e}")).hint("send it again"))?;
        if (all.len() + piece.len()) as u64 > limits.body_bytes {
            return Err(too_large(limits));
        }
        held.grow(piece.len() as u64, limits.bodies_bytes)?;
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

fn too_large(limits: &Limits) -> Error {
    Error::usage("body/too-large", format!("the body is larger than {}", format_bytes(limits.body_bytes)))
        .hint("send less at a time, or start the server with a larger --max-body")
}

fn check_type(headers: &HeaderMap) -> Result<()> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], HeaderValue::as_bytes);
    if encoding != b"identity" {
        return Err(Error::usage("body/type", "compressed bodies are not taken").hint("leave Content-Encoding out"));
    }
    let kind = kind(headers);
    if kind.eq_ignore_ascii_case(JSON) || kind.eq_ignore_ascii_case(ARROW) {
        return Ok(());
    }
    Err(Error::usage("body/type", format!("bodies of type '{kind}' are not taken"))
        .hint(format!("send {JSON} or {ARROW} and say so in Content-Type")))
}

/// The type of a body, without parameters.
fn kind(headers: &HeaderMap) -> &str {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// Whether a body is an Arrow stream.
pub(super) fn is_arrow(headers: &HeaderMap) -> bool {
    kind(headers).eq_ignore_ascii_case(ARROW)
}
