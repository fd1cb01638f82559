//! Whose name the browser believes it talks to. A page of another site could make its own name point at this machine, or send
//! requests here from its own pages; a server without tokens must not answer either.

use axum::http::{HeaderMap, Uri, header};
use curate_api::{Error, Result};
use std::net::{IpAddr, SocketAddr};

/// Names this server answers to.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Vec<String>,
    bound: IpAddr,
    any: bool,
}

impl Hosts {
    /// Names of a server bound to this address: loopback names, the address itself, and `public` ones. Bound elsewhere than
    /// loopback, without public names, it answers to every name: there a token is needed, which no other site has.
    #[must_use]
    pub fn new(bound: SocketAddr, public: &[String]) -> Self {
        let names: Vec<String> = public.iter().map(|name| plain(name)).collect();
        Self { any: names.is_empty() && !bound.ip().is_loopback(), names, bound: bound.ip() }
    }

    /// Refuse a request sent to another name, or by a page of another site.
    ///
    /// # Errors
    /// `auth/host`, `auth/origin`, `request/malformed`.
    pub fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<()> {
        let host = authority(headers, uri)?;
        if !self.any && !self.knows(&plain(host)) {
            return Err(Error::usage("auth/host", "this server does not answer to the name in the Host header")
                .hint("call it by 127.0.0.1 or localhost, or start it with --public-host NAME"));
        }
        let Some(origin) = headers.get(header::ORIGIN) else { return from_here(headers) };
        let origin = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, authority)| authority);
        if origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host) || self.names.contains(&plain(origin))) {
            return Ok(());
        }
        Err(foreign())
    }

    fn knows(&self, name: &str) -> bool {
        let address = name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == self.bound);
        address || name == "localhost" || name.ends_with(".localhost") || self.names.iter().any(|n| n == name)
    }
}

fn foreign() -> Error {
    Error::usage("auth/origin", "pages of other sites may not call this server")
        .hint("open the dashboard of this server itself, or call it from a program")
}

/// A browser says where a request comes from even where it names no origin; following a link is fine.
fn from_here(headers: &HeaderMap) -> Result<()> {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|v| v.as_bytes() == value.as_bytes());
    if is("sec-fetch-site", "cross-site") && !is("sec-fetch-mode", "navigate") {
        return Err(foreign());
    }
    Ok(())
}

/// Host and port as the client wrote them.
fn authority<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<&'a str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (first, second) = (hosts.next().and_then(|value| value.to_str().ok()), hosts.next());
    let named = uri.authority().map(axum::http::uri::Authority::as_str);
    match (first, named, second) {
        (Some(host), None, None) | (None, Some(host), None) => Ok(host),
        (Some(host), Some(named), None) if host.eq_ignore_ascii_case(named) => Ok(host),
        _ => Err(Error::usage("request/malformed", "a request must name one host").hint("send one Host header")),
    }
}

/// The name without port, brackets and closing dot, in lower case.
fn plain(authority: &str) -> String {
    let name = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').filter(|(head, _)| !head.contains(':')).map_or(authority, |(name, _)| name),
    };
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// Refuse to start where anybody on the network could read along or call.
///
/// # Errors
/// `serve/no-tokens`, `serve/no-tls`.
pub fn may_open(bound: SocketAddr, public: &[String], tokens: bool, encrypted: bool) -> Result<()> {
    let private = bound.ip().is_loopback() && public.is_empty();
    if !private && !tokens {
        let what = format!("{bound} can be reached by others, and there are no tokens");
        return Err(Error::usage("serve/no-tokens", what)
            .hint("make one first: curate serve token add NAME --scope feed; or bind to 127.0.0.1"));
    }
    if !bound.ip().is_loopback() && !encrypted {
        let what = format!("{bound} can be reached by others, and tokens would travel in the clear");
        return Err(Error::usage("serve/no-tls", what)
            .hint("add --tls-cert and --tls-key, or --insecure-http where a proxy in front speaks TLS"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bound: &str, public: &[&str], pairs: &[(&'static str, &str)]) -> &'static str {
        let public: Vec<String> = public.iter().map(|s| (*s).to_owned()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let hosts = Hosts::new(bound.parse().unwrap(), &public);
        hosts.check(&headers, &Uri::from_static("/v1/jobs")).map_or_else(|e| e.code(), |()| "ok")
    }

    const HOME: &str = "127.0.0.1:7878";

    #[test]
    fn only_names_of_this_machine() {
        for name in ["localhost", "localhost:7878", "LOCALHOST.:1", "127.0.0.1:7878", "[::1]:7878", "a.localhost"] {
            assert_eq!(answer(HOME, &[], &[("host", name)]), "ok", "{name}");
        }
        for name in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "evillocalhost"]
        {
            assert_eq!(answer(HOME, &[], &[("host", name)]), "auth/host", "{name}");
        }
        assert_eq!(answer(HOME, &[], &[]), "request/malformed");
        assert_eq!(answer(HOME, &[], &[("host", "localhost"), ("host", "localhost")]), "request/malformed");
        assert_eq!(answer(HOME, &["Curate.example"], &[("host", "curate.example:80")]), "ok");
        assert_eq!(answer("10.0.0.1:80", &[], &[("host", "any.example")]), "ok");
        assert_eq!(answer("10.0.0.1:80", &["x.example"], &[("host", "any.example")]), "auth/host");
        assert_eq!(answer("10.0.0.1:80", &["x.example"], &[("host", "10.0.0.1")]), "ok");
    }

    #[test]
    fn only_pages_of_this_server() {
        let from = |origin: &str| answer(HOME, &[], &[("host", "localhost:7878"), ("origin", origin)]);
        assert_eq!(from("http://localhost:7878"), "ok");
        for origin in ["http://localhost:3000", "http://evil.example", "null", "http://127.0.0.1:7878", ""] {
            assert_eq!(from(origin), "auth/origin", "{origin}");
        }
        let public = [("host", "curate.example"), ("origin", "https://curate.example")];
        assert_eq!(answer(HOME, &["curate.example"], &public), "ok");
        let image = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")];
        assert_eq!(answer(HOME, &[], &image), "auth/origin");
        let link = [("host", "localhost"), ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")];
        assert_eq!(answer(HOME, &[], &link), "ok");
    }

    #[test]
    fn an_open_door_needs_tokens_and_tls() {
        let code = |bound: &str, public: &[String], tokens, tls| {
            may_open(bound.parse().unwrap(), public, tokens, tls).map_or_else(|e| e.code(), |()| "ok")
        };
        let public = ["x.example".to_owned()];
        assert_eq!(code(HOME, &[], false, false), "ok");
        assert_eq!(code("[::1]:1", &[], false, false), "ok");
        assert_eq!(code("0.0.0.0:1", &[], false, true), "serve/no-tokens");
        assert_eq!(code(HOME, &public, false, false), "serve/no-tokens");
        assert_eq!(code("0.0.0.0:1", &[], true, false), "serve/no-tls");
        assert_eq!(code(HOME, &public, true, false), "ok");
        assert_eq!(code("0.0.0.0:1", &[], true, true), "ok");
    }
}
