//! One request and its patience: a bounded wait, a bounded answer, another attempt where it may help, no redirects, the token
//! for this address alone.

use super::HttpScorer;
use super::answer::{first, named, scores};
use super::rows::Job;
use curate_core::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, Uri, header};

/// First pause between attempts; doubled each time.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause, also when the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How often a pause looks whether it shall end.
const GLANCE: Duration = Duration::from_millis(20);

/// A server and how to ask it.
pub(super) struct Client {
    agent: ureq::Agent,
    url: String,
    /// The URL without its query, for messages.
    shown: String,
    token: Option<String>,
    answer_bytes: u64,
    attempts: u32,
}

/// Why an attempt failed, and whether another may help.
enum Failure {
    Final(Error),
    Passing(String, Option<Duration>),
}

/// The parts of an address that can be asked.
///
/// # Errors
/// `http/url`.
pub(super) fn address(url: &str) -> Result<Uri> {
    let refuse = |why: &str| {
        Error::usage("http/url", format!("the URL of a score {why}")).hint("write url=http://host:port/path, or https")
    };
    let uri: Uri = url.parse().map_err(|_| refuse("cannot be read"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(refuse("is not an http(s) address with a host"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(
            refuse("holds a name or password").hint("plans are written down: give a token with token_env=CURATE_...")
        );
    }
    Ok(uri)
}

impl Client {
    pub(super) fn new(params: &HttpScorer, token: Option<String>) -> Result<Self> {
        let uri = address(&params.url)?;
        let mut config = ureq::Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("curate/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_idle_connections_per_host(params.concurrency)
            .timeout_connect(Some(Duration::from_secs(params.timeout_secs.min(20))))
            .timeout_global(Some(Duration::from_secs(params.timeout_secs)));
        if matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            config = config.proxy(None);
        }
        let shown = params.url.split(['?', '#']).next().unwrap_or_default().to_owned();
        let (url, attempts) = (params.url.clone(), params.attempts);
        Ok(Self { agent: config.build().into(), url, shown, token, answer_bytes: params.answer_bytes, attempts })
    }

    /// Ask until there is an answer, the attempts are used up or `stop` is set.
    ///
    /// # Errors
    /// `http/*`, naming the rows; `cancelled`.
    pub(super) fn ask(&self, job: &Job, stop: &AtomicBool) -> Result<Vec<f32>> {
        let mut last = String::new();
        for attempt in 0..self.attempts {
            if attempt > 0 && stop.load(Ordering::Relaxed) {
                return Err(Error::cancelled());
            }
            match self.once(job) {
                Ok(scores) => return Ok(scores),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why, wait)) => {
                    last = why;
                    if attempt + 1 < self.attempts {
                        pause(wait.unwrap_or(PAUSE * 2u32.saturating_pow(attempt)).min(LONGEST_PAUSE), stop);
                    }
                }
            }
        }
        let what =
            format!("no answer for {} from {} in {} attempts: {last}", named(&job.ids), self.shown, self.attempts);
        Err(Error::io("http/unreachable", what)
            .at(first(&job.ids))
            .hint("see that the server runs; raise timeout_secs or lower batch_rows; answered batches are kept, so run the command again"))
    }

    fn once(&self, job: &Job) -> std::result::Result<Vec<f32>, Failure> {
        let mut request = self.agent.post(&self.url).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = request.send(&job.body[..]).map_err(|e| self.broken(e, job))?;
        let (parts, mut body) = response.into_parts();
        let status = parts.status.as_u16();
        match status {
            200..=299 => {
                let bytes =
                    body.with_config().limit(self.answer_bytes).read_to_vec().map_err(|e| self.broken(e, job))?;
                scores(&bytes, &job.ids).map_err(Failure::Final)
            }
            408 | 429 | 500.. => Err(Failure::Passing(format!("status {status}"), retry_after(&parts.headers))),
            _ => Err(Failure::Final(self.refused(status, job))),
        }
    }

    /// What a request without an answer means.
    fn broken(&self, error: ureq::Error, job: &Job) -> Failure {
        let at = first(&job.ids);
        match error {
            ureq::Error::BodyExceedsLimit(_) => {
                let what = format!("the answer for {} is longer than {} bytes", named(&job.ids), self.answer_bytes);
                Failure::Final(
                    Error::data("http/answer-too-large", what).at(at).hint("raise answer_bytes or lower batch_rows"),
                )
            }
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                let what = format!("{} cannot be asked: {error}", self.shown);
                Failure::Final(Error::usage("http/url", what).hint("check url, token and proxy").because(error))
            }
            other => Failure::Passing(other.to_string(), None),
        }
    }

    fn refused(&self, status: u16, job: &Job) -> Error {
        let hint = match status {
            300..=399 => "redirects are not followed, so that rows and tokens go nowhere else: name the final address",
            401 | 403 => "name the variable that holds the token: token_env=CURATE_...",
            404 | 405 => "check the path of the URL; it must take POST",
            413 => "lower batch_rows or batch_bytes",
            _ => "the server must take {\"rows\": [{\"id\", \"prompt\", \"response\"}]}",
        };
        Error::io("http/status", format!("{} answered {status} for {}", self.shown, named(&job.ids)))
            .at(first(&job.ids))
            .hint(hint)
    }
}

/// The pause a server asks for, in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn pause(length: Duration, stop: &AtomicBool) {
    let end = Instant::now() + length;
    while !stop.load(Ordering::Relaxed) && Instant::now() < end {
        std::thread::sleep(GLANCE.min(end.saturating_duration_since(Instant::now())));
    }
}
