//! URLs: scheme, host and port as allowed, and a path below the allowed one. What two readers of a URL could read differently
//! is refused.

use axum::http::Uri;
use curate_api::{Error, Result};
use url::Url;

const SCHEMES: [&str; 11] = ["http", "https", "s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "wasbs"];

/// An allowed URL and everything below it.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    origin: Origin,
    /// Path with a closing slash.
    path: String,
}

type Origin = (String, String, Option<u16>);

impl Prefix {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            Error::usage("allow/url", format!("cannot allow '{text}': {why}"))
                .hint("write s3://bucket/prefix or https://host/path")
        };
        let url = plain(text).ok_or_else(|| refuse("it is not a plain URL"))?;
        if !SCHEMES.contains(&url.scheme()) {
            return Err(refuse("its scheme is not known"));
        }
        if url.query().is_some() {
            return Err(refuse("a prefix has no query"));
        }
        Ok(Self { origin: origin(&url), path: format!("{}/", url.path().trim_end_matches('/')) })
    }

    /// Whether a URL lies below; one of an `object` has no query, and may end in a pattern.
    pub(super) fn holds(&self, text: &str, object: bool) -> bool {
        let Some(url) = plain(text) else { return false };
        let path = url.path();
        let fixed = path.find(['*', '[']).map_or(path, |wild| &path[..=path[..wild].rfind('/').unwrap_or(0)]);
        let below = format!("{}/", fixed.trim_end_matches('/')).starts_with(&self.path);
        origin(&url) == self.origin && below && !(object && url.query().is_some())
    }
}

fn origin(url: &Url) -> Origin {
    (url.scheme().to_owned(), url.host_str().unwrap_or_default().to_owned(), url.port_or_known_default())
}

/// A URL that everybody reads alike: no user, no fragment, no way up, nothing hidden in escapes, one host.
fn plain(text: &str) -> Option<Url> {
    let lower = text.to_ascii_lowercase();
    let odd = |c: char| !c.is_ascii_graphic() || matches!(c, '\\' | '@' | '#');
    let hidden = ["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|escape| lower.contains(escape));
    let path = text.split_once("://")?.1.split('?').next()?;
    if text.contains(odd) || hidden || path.split('/').any(|part| part == ".." || part == ".") {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let other: Uri = text.split(['*', '[']).next()?.parse().ok()?;
    other.host()?.eq_ignore_ascii_case(host).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(prefix: &str, text: &str) -> bool {
        Prefix::parse(prefix).unwrap().holds(text, true)
    }

    #[test]
    fn below_means_whole_segments() {
        for text in ["s3://lake/sets", "s3://lake/sets/", "s3://lake/sets/a.parquet", "s3://lake/sets/*/b[0-9].jsonl"] {
            assert!(holds("s3://lake/sets/", text) && holds("s3://lake/sets", text), "{text}");
        }
        for text in [
            "s3://lake/sets2/a",
            "s3://lake/se*/a",
            "s3://lake/*",
            "s3://lake",
            "s3://other/sets/a",
            "gs://lake/sets/a",
            "s3://lake/sets/../secret",
            "s3://lake/sets/%2e%2e/secret",
            "s3://lake/sets/%252e%252e/secret",
            "s3://lake/sets/..%2fsecret",
            "s3://lake/sets\\..\\secret",
            "s3://lake/sets/a?versionId=1",
            "s3://user@lake/sets/a",
            "s3:///sets/a",
            "s3:lake/sets",
        ] {
            assert!(!holds("s3://lake/sets", text), "{text}");
        }
        assert!(holds("s3://lake", "s3://lake/anything"));
    }

    #[test]
    fn a_server_is_host_and_port() {
        let score = |text: &str| Prefix::parse("http://scores.example:8080/v1").unwrap().holds(text, false);
        assert!(score("http://scores.example:8080/v1/reward?model=a"));
        assert!(score("http://SCORES.example:8080/v1"));
        for text in [
            "http://scores.example/v1",
            "https://scores.example:8080/v1",
            "http://scores.example:8080.evil.example/v1",
            "http://scores.example:8080@evil.example/v1",
            "http://evil.example/v1?http://scores.example:8080/v1",
            "http://evil.example#scores.example:8080/v1",
            "http://evil.example\\@scores.example:8080/v1",
            "http://scores.example:8080/v10",
            "http://scores.example:8080/v1/../admin",
            "http://scores.example:8080/x/../v1",
            "http://scores.example:8080/v1/\n/x",
        ] {
            assert!(!score(text), "{text}");
        }
        let loopback = Prefix::parse("http://127.0.0.1:9/").unwrap();
        assert!(loopback.holds("http://127.0.0.1:9/x", false));
        for text in ["http://0x7f.1:9/x", "http://2130706433:9/x", "http://127.1:9/x"] {
            assert!(!loopback.holds(text, false), "{text}");
        }
    }

    #[test]
    fn odd_prefixes_are_refused() {
        for text in ["ftp://host/", "s3://", "https://host/?a=b", "https://a@host/", "https://host/../x"] {
            assert_eq!(Prefix::parse(text).unwrap_err().code(), "allow/url", "{text}");
        }
    }
}
