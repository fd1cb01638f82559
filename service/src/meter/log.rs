//! The log on standard error.

use curate_api::{Error, Result};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Shape of the log's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Write the log of this process to standard error from now on, from this level: `error`, `warn`, `info`, `debug`, `trace` or `off`.
///
/// # Errors
/// `log/level`, `log/started`.
pub fn start_log(format: LogFormat, level: &str) -> Result<()> {
    let known = ["error", "warn", "info", "debug", "trace", "off"].contains(&level);
    let unknown = || {
        Error::usage("log/level", format!("there is no level '{level}'"))
            .hint("error, warn, info, debug, trace and off are levels")
    };
    if !known {
        return Err(unknown());
    }
    // libraries below us speak only of what goes wrong
    let rest = if matches!(level, "debug" | "trace") { "info" } else { "warn" };
    let filter = if level == "off" { level.to_owned() } else { format!("{rest},curate_service={level}") };
    let filter = EnvFilter::try_new(filter).map_err(|_| unknown())?;
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    started.map_err(|e| Error::io("log/started", format!("the log cannot be started: {e}")))
}
