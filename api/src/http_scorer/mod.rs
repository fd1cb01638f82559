//! Scores that a server gives: a reward model, `UniEval`, anything that answers over HTTP.
//!
//! `POST {"rows": [{"id": 7, "prompt": "...", "response": "..."}]}` is answered by `{"scores": [0.5]}`, one finite number a row, in
//! order. Rows go out in batches, several at a time; an answered batch is kept in the cache under its content, the URL and the
//! version, so that a run that was stopped goes on where it was. Source: own work; `InstructMining` (Cao et al. 2023) takes its reward,
//! naturalness, coherence and understandability from such models. Cost: one request for `batch_rows` rows, 4 n bytes.

mod answer;
mod client;
mod desk;
mod rows;

use crate::cache::Cache;
use crate::host::Host;
use arrow::array::Float32Array;
use client::Client;
use curate_core::{Algorithm, Column, Ctx, Entry, Error, Info, Pool, Result, Scorer};
use curate_ingest::Source;
use desk::Desk;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a row says to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sent {
    /// `prompt`: the turns before the last answer, joined by a newline; `response`: the last answer.
    #[default]
    PromptResponse,
    /// `messages`: all turns as `[{"role", "content"}]`.
    Messages,
}

/// Parameters of a score by a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HttpScorer {
    /// Name of the score: `name=reward` makes the column `score.reward`, which expressions and rules call `reward`.
    pub name: String,
    /// Where to ask, http or https. It is written into the plan: a secret belongs into `token_env`.
    pub url: String,
    /// Version of the model behind the URL; another one forgets the answers kept.
    #[serde(deserialize_with = "text")]
    pub version: String,
    /// Environment variable that holds a bearer token; its name must begin with `CURATE_`, so that a plan cannot ask for other secrets.
    pub token_env: Option<String>,
    /// What is sent of a row.
    pub send: Sent,
    /// Rows of a request.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch_rows: usize,
    /// Largest request; a batch is cut shorter rather than exceed it.
    #[schemars(range(min = 1_000, max = 1_000_000_000))]
    pub batch_bytes: usize,
    /// Largest answer accepted.
    #[schemars(range(min = 1_000, max = 1_000_000_000))]
    pub answer_bytes: u64,
    /// Requests under way at a time.
    #[schemars(range(min = 1, max = 256))]
    pub concurrency: usize,
    /// Longest wait for an answer, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_secs: u64,
    /// Attempts before giving up; tried again after no answer, 408, 429 and 5xx, with doubling pauses or the server's `Retry-After`.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
}

impl Default for HttpScorer {
    fn default() -> Self {
        Self {
            name: String::new(),
            url: String::new(),
            version: "1".to_owned(),
            token_env: None,
            send: Sent::default(),
            batch_rows: 32,
            batch_bytes: 4_000_000,
            answer_bytes: 1_000_000,
            concurrency: 4,
            timeout_secs: 60,
            attempts: 5,
        }
    }
}

/// A version may be written as a number.
fn text<'de, D: Deserializer<'de>>(given: D) -> std::result::Result<String, D::Error> {
    match Value::deserialize(given)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(serde::de::Error::custom("a version is a text or a number")),
    }
}

/// The name under which a plan asks for such a score.
pub(crate) const USE: &str = "http";

/// The entry in the table of methods.
pub(crate) static ENTRY: Entry<HttpScorer> = Entry {
    info: HttpScorer::INFO,
    schema: || curate_core::schemars::schema_for!(HttpScorer),
    defaults: || curate_core::default_params::<HttpScorer>(),
    make: |params| Ok(Box::new(curate_core::make::<HttpScorer>(params)?)),
};

impl Algorithm for HttpScorer {
    const INFO: Info = Info {
        name: USE,
        summary: "Scores a row by asking a server, such as a reward model or UniEval: http:name=reward,url=http://host/score.",
        source: "own work; InstructMining (Cao et al. 2023) takes its indicators from such models",
        cost: "one request for batch_rows rows, 4 n bytes; answers are kept in the cache",
    };

    fn check(&self) -> Result<()> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.name == "quality"
            || !self.name.starts_with(|c: char| c.is_ascii_alphabetic())
            || !self.name.chars().all(plain)
        {
            return Err(Error::usage("http/name", format!("'{}' cannot name a score", self.name))
                .hint("give one of letters, digits and _, such as name=reward"));
        }
        let secret = |name: &String| name.starts_with("CURATE_") && name.chars().all(plain);
        if let Some(name) = self.token_env.as_ref().filter(|name| !secret(name)) {
            return Err(Error::usage("http/token", format!("a token may not be taken from the variable '{name}'"))
                .hint("its name must begin with CURATE_, such as token_env=CURATE_REWARD_TOKEN"));
        }
        client::address(&self.url).map(|_| ())
    }
}

/// A scorer that asks a server about rows of the input.
pub(crate) struct Endpoint {
    params: HttpScorer,
    client: Arc<Client>,
    source: Arc<Source>,
    cache: Cache,
}

impl Endpoint {
    /// Check the parameters and take the token; nothing is asked yet.
    ///
    /// # Errors
    /// `http/*`, `params/*`.
    pub(crate) fn open(params: &Map<String, Value>, source: &Arc<Source>, host: &Host) -> Result<Self> {
        let params = *ENTRY.build(params)?;
        let token = params.token_env.as_deref().map(|name| token(name, host)).transpose()?;
        let client = Arc::new(Client::new(&params, token)?);
        Ok(Self { params, client, source: Arc::clone(source), cache: host.cache.clone() })
    }

    /// The score's name.
    pub(crate) fn name(&self) -> &str {
        &self.params.name
    }

    /// All that decides the scores besides the rows.
    pub(crate) fn recipe(&self) -> String {
        let HttpScorer { name, url, version, send, .. } = &self.params;
        format!("http {name} {url} {version} {send:?};")
    }
}

fn token(name: &str, host: &Host) -> Result<String> {
    let unset = || {
        Error::usage("http/token", format!("the environment variable {name} is not set"))
            .hint("set it to the server's token, or leave out token_env")
    };
    (host.secret)(name).ok_or_else(unset)
}

impl Scorer for Endpoint {
    fn needs(&self) -> Vec<Column> {
        Vec::new()
    }

    fn score(&self, pool: &Pool, ctx: &Ctx) -> Result<Float32Array> {
        let (ids, ctx) = (pool.ids()?, ctx.child(self.name()));
        ctx.progress().set_total(ids.len() as u64);
        let mut desk = Desk::open(&self.client, &self.cache, self.params.concurrency, ids.len());
        for unit in self.source.units() {
            for job in rows::jobs(&self.source, unit, &ids, &self.params)? {
                desk.give(job, &ctx)?;
            }
        }
        let scores = desk.finish(&ctx)?;
        ctx.progress().finish();
        Ok(scores.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn code(params: &Value) -> &'static str {
        ENTRY.build(params.as_object().unwrap()).map_or_else(|e| e.code(), |_| "no error")
    }

    #[test]
    fn what_cannot_be_asked_is_refused_before_any_work() {
        let url = "http://localhost:1/score";
        assert_eq!(code(&json!({"name": "reward", "url": url, "version": 2})), "no error");
        assert_eq!(code(&json!({"name": "", "url": url})), "http/name");
        assert_eq!(code(&json!({"name": "quality", "url": url})), "http/name");
        assert_eq!(code(&json!({"name": "a b", "url": url})), "http/name");
        for url in ["", "localhost", "ftp://host/x", "http:///x", "http://me:secret@host/x", "file:///etc/passwd"] {
            assert_eq!(code(&json!({"name": "reward", "url": url})), "http/url", "{url}");
        }
        assert_eq!(code(&json!({"name": "r", "url": url, "token_env": "AWS_SECRET_ACCESS_KEY"})), "http/token");
        assert_eq!(code(&json!({"name": "r", "url": url, "batch_rows": 0})), "params/range");
        assert_eq!(code(&json!({"name": "r", "url": url, "batch": 1})), "params/unknown");
    }
}
