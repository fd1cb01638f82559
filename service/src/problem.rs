//! Errors over HTTP: problem JSON (RFC 9457) with the command line's codes and hints.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use curate_api::{Error, Location, Room};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error as it is sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Name of the kind of error, as a URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code again, for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code, such as `step/out-of-order`.
    pub code: String,
    /// What went wrong.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where in the data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Spot>,
    /// The request, as in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Whether the same call may succeed later.
    pub retriable: bool,
}

/// A place in the data.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Spot {
    /// File or URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// Column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
}

/// Codes whose status is not that of their room.
const STATUS: &[(&str, u16)] = &[
    ("request/malformed", 400),
    ("arrow/malformed", 400),
    ("auth/missing", 401),
    ("auth/invalid", 401),
    ("auth/expired", 401),
    ("auth/scope", 403),
    ("auth/host", 403),
    ("auth/origin", 403),
    ("input/not-allowed", 403),
    ("session/unknown", 404),
    ("job/unknown", 404),
    ("row/unknown", 404),
    ("group/unknown", 404),
    ("path/unknown", 404),
    ("method/not-allowed", 405),
    ("body/slow", 408),
    ("session/exists", 409),
    ("job/exists", 409),
    ("job/no-result", 409),
    ("session/failed", 409),
    ("session/limit", 429),
    ("step/out-of-order", 409),
    ("step/conflict", 409),
    ("feedback/conflict", 409),
    ("seek/unknown", 409),
    ("input/not-found", 422),
    ("input/place", 422),
    ("model/missing", 422),
    ("hub/not-found", 422),
    ("hub/forbidden", 422),
    ("body/too-large", 413),
    ("body/too-many-rows", 413),
    ("body/type", 415),
    ("step/not-yet", 425),
    ("map/not-yet", 425),
    ("rate/limited", 429),
    ("session/paused", 503),
    ("store/unavailable", 503),
    ("server/stopping", 503),
    ("server/busy", 503),
    ("store/full", 507),
    ("io/full", 507),
];

/// The status for an error.
#[must_use]
pub fn status(error: &Error) -> u16 {
    let named = STATUS.iter().find(|(code, _)| *code == error.code());
    named.map_or_else(
        || match error.room() {
            Room::Usage | Room::Data => 422,
            Room::Cancelled => 503,
            _ => 500,
        },
        |found| found.1,
    )
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let status = status(error);
        let spot = |place: &Location| Spot { file: place.file.clone(), row: place.row, column: place.column.clone() };
        Self {
            kind: format!("https://curate.dev/errors/{}", error.code()),
            title: error.code().to_owned(),
            status,
            code: error.code().to_owned(),
            detail: error.to_string(),
            hint: error.hint_text().map(str::to_owned),
            location: error.location().map(spot),
            request_id: None,
            retriable: [425, 429, 503].contains(&status),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retriable = self.retriable;
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if retriable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// An error on its way out of a handler.
#[derive(Debug)]
pub struct Failure(pub Error);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        Problem::from(&self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_does_not_fit_is_422_also_where_reading_shows_it() {
        let of = |error: Error| status(&error);
        assert_eq!(of(Error::io("input/not-found", "")), 422);
        assert_eq!(of(Error::data("input/empty", "")), 422);
        assert_eq!(of(Error::usage("method/unknown", "")), 422);
        assert_eq!(of(Error::io("store/failed", "")), 500);
    }
}
