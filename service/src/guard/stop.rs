//! The word that the server ends, heard by everything that waits.

use tokio::sync::watch;

/// Said once.
#[derive(Clone, Debug)]
pub struct Stopping {
    said: watch::Sender<bool>,
}

impl Default for Stopping {
    fn default() -> Self {
        Self { said: watch::Sender::new(false) }
    }
}

impl Stopping {
    /// Say it.
    pub fn begin(&self) {
        self.said.send_replace(true);
    }

    /// Whether it was said.
    #[must_use]
    pub fn is(&self) -> bool {
        *self.said.borrow()
    }

    /// Return once it was said.
    pub async fn wait(&self) {
        // fails only when every sender is gone, and `self` is one
        let _ = self.said.subscribe().wait_for(|said| *said).await;
    }

    /// Say it at the first interrupt (SIGINT, SIGTERM) of this process; return at the second.
    pub async fn interrupts(self) {
        interrupt().await;
        tracing::info!("shutting down; a second interrupt ends at once");
        self.begin();
        interrupt().await;
    }
}

/// Wait for one; where the system cannot tell, wait for ever.
async fn interrupt() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
