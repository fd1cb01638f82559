//! Everything a handler can reach.

use crate::guard::{Places, Stopping};
use crate::jobs::Jobs;
use crate::load::Load;
use crate::meter::Meter;
use crate::session::{Sessions, Shared};
use curate_api::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

/// The server's parts.
pub(crate) struct App {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sessions: Sessions,
    pub(crate) jobs: Jobs,
    pub(crate) places: Places,
    pub(crate) meter: Arc<Meter>,
    pub(crate) load: Load,
    pub(crate) started: Instant,
    /// Heard by calls that wait and by streams of news.
    pub(crate) stopping: Stopping,
    /// Most rows in a body.
    pub(crate) most_rows: usize,
}

impl App {
    /// Refuse a body of too many rows.
    ///
    /// # Errors
    /// `body/too-many-rows`.
    pub(crate) fn few(&self, rows: usize) -> Result<()> {
        if rows <= self.most_rows {
            return Ok(());
        }
        Err(Error::usage(
            "body/too-many-rows",
            format!("{rows} rows in one body, and at most {} are taken", self.most_rows),
        )
        .hint("send fewer rows a call, or start the server with a larger --max-rows"))
    }
}

/// Do synchronous work where it does not hold up others.
///
/// # Errors
/// What the work gives.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|e| {
        Err(Error::io("server/failed", format!("the work broke off: {e}")).hint("this is a defect; please report it"))
    })
}
