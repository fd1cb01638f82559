//! The dashboard: pages, scripts and styles that lie in the binary. They hold no data, so anyone may load them; what they show they
//! ask for like any other client.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::sync::LazyLock;

/// What a page may do: load from this server alone, be framed by nobody, run no inline script and no inline style.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of the dashboard.
struct Asset {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    tag: String,
}

macro_rules! assets {
    ($($path:literal as $kind:ident,)*) => {
        [$(($path, $kind, include_bytes!(concat!("assets/", $path)).as_slice())),*]
    };
}

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    let all = assets! {
        "index.html" as HTML,
        "icon.svg" as SVG,
        "app.css" as CSS,
        "js/api.js" as JS,
        "js/app.js" as JS,
        "js/charts.js" as JS,
        "js/cluster.js" as JS,
        "js/dom.js" as JS,
        "js/export.js" as JS,
        "js/jobs.js" as JS,
        "js/map.js" as JS,
        "js/overview.js" as JS,
        "js/parts.js" as JS,
        "js/points.js" as JS,
        "js/run.js" as JS,
        "js/session.js" as JS,
        "js/signals.js" as JS,
        "js/steer.js" as JS,
        "js/theme.js" as JS,
        "js/weights.js" as JS,
        "vendor/uPlot.iife.min.js" as JS,
        "vendor/uPlot.min.css" as CSS,
        "vendor/uPlot.LICENSE" as TEXT,
    };
    let tagged = |(path, kind, bytes): (&'static str, &'static str, &'static [u8])| Asset {
        path,
        kind,
        bytes,
        tag: format!("\"{}\"", &blake3::hash(bytes).to_hex()[..16]),
    };
    all.into_iter().map(tagged).collect()
});

/// The dashboard's addresses.
pub fn routes() -> Router {
    Router::new().route("/", get(page)).route("/assets/{*path}", get(asset))
}

/// `GET /`.
async fn page(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// `GET /assets/{*path}`.
async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    file(&path, &headers)
}

/// A file, or word that the browser has it already.
fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(found) = ASSETS.iter().find(|asset| asset.path == path) else {
        return crate::problem::Failure(curate_api::Error::usage("path/unknown", "there is nothing at this address"))
            .into_response();
    };
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let fresh = known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == found.tag));
    let (status, body) =
        if fresh { (StatusCode::NOT_MODIFIED, Body::empty()) } else { (StatusCode::OK, Body::from(found.bytes)) };
    let fields = [
        (header::CONTENT_TYPE, found.kind),
        (header::ETAG, &found.tag),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, fields, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Words of a text that name a file of the dashboard, as the browser asks for it.
    fn named(text: &str, from: &str) -> BTreeSet<String> {
        let quoted = text.split('"').filter(|word| !word.contains([' ', '\n', '<']));
        let named = quoted.filter_map(|word| match word.strip_prefix("./") {
            Some(name) => Some(format!("{from}{name}")),
            None => word.strip_prefix("assets/").map(str::to_owned),
        });
        named.collect()
    }

    #[test]
    fn every_file_that_is_asked_for_is_there() {
        let mut asked: BTreeSet<String> = BTreeSet::new();
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/")) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            asked.extend(named(text, "js/").into_iter().filter(|name| name.contains('.')));
        }
        assert!(asked.len() > 15, "{asked:?}");
        for name in asked {
            assert!(ASSETS.iter().any(|asset| asset.path == name), "{name} is not in the binary");
        }
    }

    #[test]
    fn the_whole_is_small_and_needs_no_network() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(bytes < 250_000, "{bytes}");
        for asset in ASSETS.iter().filter(|asset| !asset.path.starts_with("vendor/")) {
            let text = std::str::from_utf8(asset.bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            let outside =
                text.split(['"', '\'', '(']).find(|word| word.starts_with("http://") || word.starts_with("https://"));
            assert_eq!(outside, None, "{} reaches outside", asset.path);
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "{} writes markup", asset.path);
        }
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = page(HeaderMap::new()).await;
        assert_eq!((first.status(), &first.headers()[header::CONTENT_TYPE]), (StatusCode::OK, &HTML.parse().unwrap()));
        assert_eq!(first.headers()[header::CONTENT_SECURITY_POLICY], POLICY);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(page(headers.clone()).await.status(), StatusCode::NOT_MODIFIED);
        let other = asset(Path("app.css".to_owned()), headers).await;
        assert_eq!(other.status(), StatusCode::OK);
        for path in ["../mod.rs", "js", "", "js/../index.html", "/index.html"] {
            assert_eq!(asset(Path(path.to_owned()), HeaderMap::new()).await.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
