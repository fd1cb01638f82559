//! A file as an answer, whole or a range of it (RFC 9110, section 14), read a piece at a time.

use crate::app::aside;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use curate_api::Result;
use futures::stream;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes read at a time.
const PIECE: u64 = 256 << 10;

/// The bytes that a range header asks for, from and up to; `None` for all of them. An empty range cannot be given.
fn range(wanted: Option<&HeaderValue>, len: u64) -> Option<(u64, u64)> {
    let text = wanted?.to_str().ok()?.strip_prefix("bytes=")?;
    let (from, to) = text.split_once('-')?;
    match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => Some((from, to.saturating_add(1).min(len))),
        (Ok(from), Err(_)) if to.trim().is_empty() => Some((from, len)),
        (Err(_), Ok(last)) if from.trim().is_empty() => Some((len.saturating_sub(last), len)),
        _ => None,
    }
}

/// Send a file.
///
/// # Errors
/// `io/*` when it cannot be opened.
pub(super) async fn send(path: PathBuf, wanted: Option<&HeaderValue>) -> Result<Response> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (file, len) = aside(move || {
        let file = File::open(&path)?;
        let len = file.metadata()?.len();
        Ok((file, len))
    })
    .await?;
    let part = range(wanted, len);
    let (from, to) = part.unwrap_or((0, len));
    if from >= to && part.is_some() {
        return Ok(
            (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{len}"))]).into_response()
        );
    }
    let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, body(Arc::new(file), from, to)).into_response();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, (to - from).to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    let ranged = part.map(|_| (header::CONTENT_RANGE, format!("bytes {from}-{}/{len}", to - 1)));
    for (name, value) in headers.into_iter().chain(ranged) {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

fn body(file: Arc<File>, from: u64, to: u64) -> Body {
    Body::from_stream(stream::unfold(from, move |at| {
        let file = file.clone();
        async move {
            if at >= to {
                return None;
            }
            let len = PIECE.min(to - at);
            let read = aside(move || {
                let mut bytes = vec![0u8; len as usize];
                file.read_exact_at(&mut bytes, at)?;
                Ok(Bytes::from(bytes))
            });
            let found = read.await.map_err(|e| std::io::Error::other(e.to_string()));
            let next = if found.is_ok() { at + len } else { to };
            Some((found, next))
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_as_clients_write_them() {
        let of = |text: &'static str| range(Some(&text.parse().unwrap()), 100);
        assert_eq!(of("bytes=0-9"), Some((0, 10)));
        assert_eq!(of("bytes=90-"), Some((90, 100)));
        assert_eq!(of("bytes=-5"), Some((95, 100)));
        assert_eq!(of("bytes=50-1000"), Some((50, 100)));
        assert_eq!(of("bytes=200-"), Some((200, 100)));
        assert_eq!(of("bytes=9-3"), None);
        assert_eq!(of("rows=1-2"), None);
        assert_eq!(range(None, 100), None);
    }
}
