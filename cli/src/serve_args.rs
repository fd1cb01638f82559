//! Flags of `curate serve`.

use clap::{Args, Subcommand, ValueEnum};
use curate_api::{Error, Host, Result};
use curate_service::ServeOptions;
use curate_service::guard::{Allow, Limits};
use curate_service::meter::LogFormat;
use curate_service::tls::TlsFiles;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

const EXAMPLES: &str = r#"Try it on this machine (the dashboard is at http://127.0.0.1:7878/):
  curate serve
  curl http://127.0.0.1:7878/v1/sessions -H 'Content-Type: application/json' \
    -d '{"id": "first", "batch": 4, "plan": {"input": {"paths": ["data.jsonl"]},
         "select": {"use": "kmeans-quality", "budget": "5%"}}}'
  curl http://127.0.0.1:7878/v1/sessions/first/propose \
    -H 'Content-Type: application/json' -d '{"step": 1}'

Let others in, with tokens and TLS:
  curate serve token add trainer --scope feed --expires 30d
  curate serve --bind 0.0.0.0:7878 --tls-cert cert.pem --tls-key key.pem \
    --allow /data --allow s3://lake/sets

Behind a proxy that speaks TLS:
  curate serve --bind 10.0.0.5:7878 --insecure-http \
    --public-host curate.example.org

Every call is described at http://127.0.0.1:7878/docs while the server runs."#;

/// `curate serve`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Tokens and the contract; without one of these the server starts.
    #[command(subcommand)]
    pub action: Option<ServeAction>,
    /// Address to listen at; port 0 takes a free one
    #[arg(long, env = "CURATE_BIND", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7878")]
    pub bind: String,
    /// Where sessions, jobs and tokens are kept.
    #[command(flatten)]
    pub place: PlaceArgs,
    /// Wait for the disk at every accepted call: safe against power cuts, slower
    #[arg(long)]
    pub fsync: bool,
    /// Who may call, and what plans may read.
    #[command(flatten)]
    pub access: AccessArgs,
    /// Bounds.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Shape of the log on standard error
    #[arg(long, value_enum, default_value = "text", help_heading = "Log")]
    pub log: Log,
    /// error, warn, info, debug, trace or off
    #[arg(long, default_value = "info", value_name = "LEVEL", help_heading = "Log")]
    pub log_level: String,
}

/// Where the server keeps what must survive.
#[derive(Args, Debug)]
pub(crate) struct PlaceArgs {
    /// Folder of the server [default: ~/.local/share/curate]
    #[arg(long, global = true, env = "CURATE_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// URL of a shared database.
    #[arg(
        long,
        global = true,
        env = "CURATE_DATABASE",
        value_name = "URL",
        hide_env_values = true,
        help = "PostgreSQL that several servers share, such as postgres://user@host/name, in place of the embedded database"
    )]
    pub database: Option<String>,
}

/// Who may call, and what plans may read.
#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// File, folder or URL prefix that plans may read (repeatable) [default: the working directory]
    #[arg(long, value_name = "PATH|URL")]
    pub allow: Vec<String>,
    /// Let plans fetch models from the hub by id
    #[arg(long)]
    pub allow_hub: bool,
    /// Another name by which the server is called, such as that of a proxy (repeatable)
    #[arg(long, value_name = "NAME")]
    pub public_host: Vec<String>,
    /// Certificate chain, PEM
    #[arg(long, env = "CURATE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, env = "CURATE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve others without TLS: for a proxy in front that has it
    #[arg(long)]
    pub insecure_http: bool,
}

/// Bounds on what clients may ask for.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Largest body of a request
    #[arg(long, value_name = "BYTES", default_value = "64MiB")]
    pub max_body: String,
    /// All bodies in memory at a time
    #[arg(long, value_name = "BYTES", default_value = "512MiB")]
    pub max_bodies: String,
    /// Most rows in a body
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_rows: u32,
    /// Most sessions
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_sessions: u32,
    /// Most jobs
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub max_jobs: u32,
    /// Requests a second of one token or address; 0 for no bound
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1000)]
    pub rate: u32,
    /// Connections open at a time
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_requests: u32,
    /// Longest wait for the head of a request and for a TLS handshake
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = seconds())]
    pub header_wait: u64,
    /// Longest wait for the body of a request
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub body_wait: u64,
    /// Longest time until an answer begins; long polls need 60 and more
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = seconds())]
    pub request_wait: u64,
    /// How long requests under way may go on when the server ends
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = seconds())]
    pub stop_wait: u64,
}

fn seconds() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=86_400)
}

/// Shape of the log's lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Log {
    /// For people
    Text,
    /// One object a line
    Json,
}

impl From<Log> for LogFormat {
    fn from(log: Log) -> Self {
        match log {
            Log::Text => Self::Text,
            Log::Json => Self::Json,
        }
    }
}

/// What `curate serve` does besides serving.
#[derive(Subcommand, Debug)]
pub(crate) enum ServeAction {
    /// Make, list and remove the tokens by which clients are known
    Token(TokenArgs),
    /// Print the contract of the service.
    #[command(about = "Print the contract of the service (OpenAPI 3.1)")]
    Openapi,
}

/// `curate serve token`.
#[derive(Args, Debug)]
pub(crate) struct TokenArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: TokenAction,
}

/// What to do with tokens; a running server heeds it within two seconds.
#[derive(Subcommand, Debug)]
pub(crate) enum TokenAction {
    /// Make a token and print it, once: only its hash is kept
    Add {
        /// Name people know it by
        name: String,
        /// read looks; feed also draws batches, sends signals and starts jobs; admin may do everything
        #[arg(long, required = true, value_delimiter = ',', value_name = "SCOPE")]
        scope: Vec<String>,
        /// How long it works: 30d, 12h, 90m, 45s [default: until it is removed]
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// Names, scopes and ages
    List,
    /// Remove a token
    Remove {
        /// Its name
        name: String,
    },
}

impl ServeArgs {
    /// The options these flags make, on this machine.
    ///
    /// # Errors
    /// `serve/address`, `memory/*`.
    pub(crate) fn options(&self, data: &Path, host: &Host) -> Result<ServeOptions> {
        let AccessArgs { allow, allow_hub, public_host, tls_cert, tls_key, insecure_http } = &self.access;
        let tls = tls_cert.clone().zip(tls_key.clone()).map(|(cert, key)| TlsFiles { cert, key });
        Ok(ServeOptions {
            bind: address(&self.bind)?,
            allow: Allow { places: allow.clone(), hub: *allow_hub, never: vec![data.to_owned()] },
            data: data.to_owned(),
            database: self.place.database.clone(),
            fsync: self.fsync,
            public_hosts: public_host.clone(),
            tls,
            insecure_http: *insecure_http,
            limits: self.limits.limits()?,
            host: host.clone(),
        })
    }
}

impl LimitArgs {
    fn limits(&self) -> Result<Limits> {
        Ok(Limits {
            body_bytes: curate_api::parse_bytes(&self.max_body)?,
            bodies_bytes: curate_api::parse_bytes(&self.max_bodies)?,
            rows: self.max_rows as usize,
            sessions: self.max_sessions as usize,
            jobs: self.max_jobs as usize,
            rate: f64::from(self.rate),
            connections: self.max_connections as usize,
            requests: self.max_requests as usize,
            header_wait: Duration::from_secs(self.header_wait),
            body_wait: Duration::from_secs(self.body_wait),
            request_wait: Duration::from_secs(self.request_wait),
            stop_wait: Duration::from_secs(self.stop_wait),
        })
    }
}

/// An address with a port; of a name, the first it stands for.
fn address(text: &str) -> Result<SocketAddr> {
    let found = text.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.ok_or_else(|| {
        Error::usage("serve/address", format!("'{text}' is not an address to listen at"))
            .hint("write 127.0.0.1:7878, [::1]:7878 or 0.0.0.0:7878")
    })
}
