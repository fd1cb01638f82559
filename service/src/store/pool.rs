//! A few connections lent out one at a time: to readers of the embedded database, and to everybody who asks a server.

use super::held;
use curate_api::{Error, Result};
use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long a caller waits for a connection that another one has.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that rest, and the number of those lent out.
struct Shelf<T> {
    idle: Vec<T>,
    out: usize,
}

/// At most `most` connections.
pub(super) struct Pool<T> {
    most: usize,
    state: Mutex<Shelf<T>>,
    back: Condvar,
}

impl<T> Pool<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { most: most.max(1), state: Mutex::new(Shelf { idle: Vec::new(), out: 0 }), back: Condvar::new() }
    }

    /// A connection that rests, or a new one from `make`; waits while all are lent out.
    pub(super) fn take(&self, make: impl FnOnce() -> Result<T>) -> Result<Lent<'_, T>> {
        let rested = self.claim()?;
        let mut lent = Lent { pool: self, inner: rested };
        if lent.inner.is_none() {
            lent.inner = Some(make()?);
        }
        Ok(lent)
    }

    /// A claim to one connection, with a rested one where there is any.
    fn claim(&self) -> Result<Option<T>> {
        let until = Instant::now() + PATIENCE;
        let mut state = held(&self.state);
        while state.out >= self.most {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::io("store/unavailable", "every connection to the store is in use")
                    .hint("send the same call again a little later"));
            }
            state = self.back.wait_timeout(state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        state.out += 1;
        Ok(state.idle.pop())
    }

    /// Forget the connections that rest: their server is gone.
    pub(super) fn clear(&self) -> Vec<T> {
        std::mem::take(&mut held(&self.state).idle)
    }
}

/// A connection while somebody has it; goes back by itself.
pub(super) struct Lent<'a, T> {
    pool: &'a Pool<T>,
    inner: Option<T>,
}

impl<T> Lent<'_, T> {
    /// Do not keep this connection.
    pub(super) fn spoil(mut self) {
        self.inner = None;
    }
}

impl<T> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        let mut state = held(&self.pool.state);
        state.out -= 1;
        state.idle.extend(self.inner.take());
        drop(state);
        self.pool.back.notify_one();
    }
}

impl<T> Deref for Lent<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().unwrap_or_else(|| unreachable!("filled when it was lent"))
    }
}

impl<T> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().unwrap_or_else(|| unreachable!("filled when it was lent"))
    }
}
