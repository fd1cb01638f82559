//! GET with hand-followed redirects: the bearer token goes to the endpoint's own host and to no other, and never over a redirect
//! from https to http.

use super::HubOptions;
use curate_core::{Error, Result};
use std::time::Duration;
use ureq::http::{HeaderMap, Uri, header};

const REDIRECTS: usize = 8;

#[derive(Debug)]
pub(super) struct Http {
    agent: ureq::Agent,
    endpoint: Uri,
    base: String,
    token: Option<String>,
}

/// An answer with the headers of the first hop, where the hub states commit, etag and size.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) first: HeaderMap,
    pub(super) last: HeaderMap,
    pub(super) body: ureq::Body,
}

impl Http {
    pub(super) fn new(options: &HubOptions) -> Result<Self> {
        let endpoint: Option<Uri> = options.endpoint.parse().ok();
        let endpoint =
            endpoint.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        let endpoint = endpoint.ok_or_else(|| {
            Error::usage("hub/endpoint", format!("hub endpoint '{}' is not an http(s) URL", options.endpoint))
                .hint("set HF_ENDPOINT to something like https://huggingface.co")
        })?;
        let agent = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("curate/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(Duration::from_secs(20)))
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_mins(1)))
            .timeout_per_read(Some(Duration::from_mins(1)))
            .build()
            .into();
        Ok(Self { agent, endpoint, base: options.endpoint.clone(), token: options.token.clone() })
    }

    /// GET `path` below the endpoint, from byte `from` on.
    pub(super) fn get(&self, path: &str, from: u64) -> std::result::Result<Answer, ureq::Error> {
        let mut url = format!("{}/{path}", self.base);
        let mut first = None;
        for _ in 0..REDIRECTS {
            let response = self.send(&url, from)?;
            let (parts, body) = response.into_parts();
            let status = parts.status.as_u16();
            let headers = first.get_or_insert_with(|| parts.headers.clone());
            if !(300..400).contains(&status) {
                return Ok(Answer { status, first: headers.clone(), last: parts.headers, body });
            }
            url = Self::target(&url, &parts.headers)?;
        }
        Err(ureq::Error::TooManyRedirects)
    }

    fn send(&self, url: &str, from: u64) -> std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = self.agent.get(url);
        if let (Some(token), true) = (&self.token, self.is_own_host(url)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        request.call()
    }

    fn is_own_host(&self, url: &str) -> bool {
        url.parse::<Uri>()
            .is_ok_and(|uri| uri.scheme() == self.endpoint.scheme() && uri.authority() == self.endpoint.authority())
    }

    /// Where a redirect leads: absolute, or relative to the host.
    fn target(from: &str, headers: &HeaderMap) -> std::result::Result<String, ureq::Error> {
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if location.starts_with("https://") || (location.starts_with("http://") && from.starts_with("http://")) {
            return Ok(location.to_owned());
        }
        let base: Uri = from.parse().map_err(|_| ureq::Error::RedirectFailed)?;
        match (base.scheme_str(), base.authority()) {
            (Some(scheme), Some(host)) if location.starts_with('/') && !location.starts_with("//") => {
                Ok(format!("{scheme}://{host}{location}"))
            }
            _ => Err(ureq::Error::RedirectFailed),
        }
    }
}

impl Answer {
    /// A header of the first hop, without quotes and weak mark.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let value = self.first.get(name)?.to_str().ok()?.trim();
        Some(value.strip_prefix("W/").unwrap_or(value).trim_matches('"'))
    }

    /// Name of the content: the hub's own etag for large files, else the plain one; harmless characters only.
    pub(super) fn etag(&self) -> Option<&str> {
        let etag = self.header("x-linked-etag").or_else(|| self.header("etag"))?;
        crate::choice::is_plain_name(etag).then_some(etag)
    }

    /// Bytes still to come, when stated.
    pub(super) fn remaining_bytes(&self) -> Option<u64> {
        self.last.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }
}
