//! What each route does.

mod file;
pub(crate) mod jobs;
pub(crate) mod look;
pub(crate) mod sessions;
pub(crate) mod sse;

use crate::problem::Failure;
use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use curate_api::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The answer of a handler.
pub(crate) type Answer<T> = Result<T, Failure>;

/// Type of an Arrow stream.
pub(crate) const ARROW: &str = "application/vnd.apache.arrow.stream";

/// A JSON body, with the place of what is wrong in it.
pub(crate) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| {
        Error::usage("request/malformed", format!("the body is no JSON: {e}"))
            .hint("send a JSON object; /docs shows its fields")
    })?;
    serde_json::from_value(value).map_err(|e| {
        Error::usage("request/fields", format!("the body does not fit: {e}"))
            .hint("/docs shows the fields of every call")
    })
}

fn says(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether the body is an Arrow stream.
pub(crate) fn is_arrow(headers: &HeaderMap) -> bool {
    says(headers, header::CONTENT_TYPE).starts_with("application/vnd.apache.arrow")
}

/// Whether an Arrow stream is wanted.
pub(crate) fn wants_arrow(headers: &HeaderMap) -> bool {
    says(headers, header::ACCEPT).contains("application/vnd.apache.arrow")
}
