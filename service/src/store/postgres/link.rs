//! Connections to the server: a few, each with its prepared statements; made anew when they break, and not at once when the server is away.

use super::fault::{fault, is_refusal, said, unavailable};
use crate::store::held;
use crate::store::open::StoreOptions;
use crate::store::pool::Pool;
use curate_api::{Error, Result};
use postgres::config::{Config, Host, SslMode};
use postgres::types::ToSql;
use postgres::{Client, NoTls, Row, Statement, Transaction};
use std::collections::HashMap;
use std::sync::Mutex;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection that rested longer is asked whether it still stands.
const RESTED: Duration = Duration::from_secs(1);

/// First and longest pause between two attempts to reach the server.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// One connection.
pub(super) struct Link {
    client: Client,
    ready: HashMap<&'static str, Statement>,
    used: Instant,
}

impl Link {
    /// The statement, prepared once for each connection.
    pub(super) fn statement(&mut self, sql: &'static str) -> Result<Statement, postgres::Error> {
        if let Some(ready) = self.ready.get(sql) {
            return Ok(ready.clone());
        }
        let made = self.client.prepare(sql)?;
        self.ready.insert(sql, made.clone());
        Ok(made)
    }

    pub(super) fn query(&mut self, sql: &'static str, params: Params<'_>) -> Result<Vec<Row>, postgres::Error> {
        let statement = self.statement(sql)?;
        self.client.query(&statement, params)
    }

    pub(super) fn execute(&mut self, sql: &'static str, params: Params<'_>) -> Result<u64, postgres::Error> {
        let statement = self.statement(sql)?;
        self.client.execute(&statement, params)
    }

    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, postgres::Error> {
        self.client.transaction()
    }

    /// Whether the server can still be asked.
    fn stands(&mut self) -> bool {
        !self.client.is_closed()
            && (self.used.elapsed() < RESTED || self.client.is_valid(Duration::from_secs(3)).is_ok())
    }
}

/// When the server may be asked again, after it could not be reached.
#[derive(Default)]
struct Gate {
    closed: Option<(Instant, Duration, String)>,
}

/// All connections to one server.
pub(super) struct Links {
    pool: Pool<Link>,
    config: Config,
    place: String,
    timeout: Duration,
    gate: Mutex<Gate>,
}

impl Links {
    pub(super) fn new(url: &str, options: &StoreOptions) -> Result<Self> {
        // The parser's own message may repeat parts of the URL.
        let mut config: Config = url.parse().map_err(|_| {
            Error::usage("store/url", "the URL of the database cannot be read")
                .hint("write postgres://user:password@host:5432/database; %-encode special characters in the password")
        })?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Error::usage(
                "store/url",
                "connections to the database are not encrypted, and the URL asks for it",
            )
            .hint("leave out sslmode=require, and keep the database on the same machine or in a network you trust"));
        }
        config
            .application_name("curate")
            .connect_timeout(Duration::from_secs(3))
            .tcp_user_timeout(Duration::from_secs(10));
        let (place, gate) = (place(&config), Mutex::default());
        Ok(Self { pool: Pool::new(options.connections), config, place, timeout: options.statement_timeout, gate })
    }

    /// Wait until the server answers.
    pub(super) fn wait(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.with(|link| link.query("SELECT 1", &[])) {
                Ok(_) => return Ok(()),
                Err(error) if is_refusal(&error) || begun.elapsed() >= patience => return Err(error),
                Err(_) => sleep(PAUSE.0),
            }
        }
    }

    /// Ask on some connection. One that broke is not used again, nor are those that rest: their server was the same.
    pub(super) fn with<T>(&self, ask: impl FnOnce(&mut Link) -> Result<T, postgres::Error>) -> Result<T> {
        let mut lent = loop {
            let mut lent = self.pool.take(|| self.connect())?;
            if lent.stands() {
                break lent;
            }
            lent.spoil();
        };
        let done = ask(&mut lent);
        lent.used = Instant::now();
        if lent.client.is_closed() {
            lent.spoil();
            drop(self.pool.clear());
        }
        done.map_err(|error| fault(&error, &self.place))
    }

    /// A new connection, unless the server was away a moment ago.
    fn connect(&self) -> Result<Link> {
        self.ask_gate()?;
        match self.greet() {
            Ok(client) => {
                held(&self.gate).closed = None;
                Ok(Link { client, ready: HashMap::new(), used: Instant::now() })
            }
            Err(error) => {
                self.shut_gate(&said(&error));
                Err(fault(&error, &self.place))
            }
        }
    }

    fn greet(&self) -> Result<Client, postgres::Error> {
        let mut client = self.config.connect(NoTls)?;
        let millis = self.timeout.as_millis();
        client.batch_execute(&format!(
            "SET search_path = curate; SET statement_timeout = {millis}; SET lock_timeout = {millis}; SET idle_in_transaction_session_timeout = {millis}"
        ))?;
        Ok(client)
    }

    fn ask_gate(&self) -> Result<()> {
        match &held(&self.gate).closed {
            Some((until, _, why)) if Instant::now() < *until => Err(unavailable(why, &self.place)),
            _ => Ok(()),
        }
    }

    fn shut_gate(&self, why: &str) {
        let mut gate = held(&self.gate);
        let pause = gate.closed.as_ref().map_or(PAUSE.0, |(_, pause, _)| (*pause * 2).min(PAUSE.1));
        gate.closed = Some((Instant::now() + pause, pause, why.to_owned()));
    }
}

impl Drop for Links {
    /// A connection may not end inside an async task, so a thread of its own ends them.
    fn drop(&mut self) {
        let links = self.pool.clear();
        let _ = spawn(move || drop(links)).join();
    }
}

/// The server's name for people: no user, no password.
fn place(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => "localhost".to_owned(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{host}:{port}/{}", config.get_dbname().unwrap_or_default())
}
