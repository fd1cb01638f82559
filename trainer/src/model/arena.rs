//! Buffers that are handed out and given back, so that a step does not ask the system for its memory anew: fresh pages
//! cost more than the arithmetic of a norm.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A store of free buffers. A clone starts empty.
#[derive(Debug, Default)]
pub(super) struct Arena(Mutex<Vec<Vec<f32>>>);

impl Clone for Arena {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Arena {
    fn free(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer of `len` numbers; what they are is nobody's business.
    pub(super) fn take(&self, len: usize) -> Vec<f32> {
        let mut free = self.free();
        // The smallest that is large enough, unless it is far too large.
        let fits = free.iter().enumerate().filter(|(_, b)| b.capacity() >= len && b.capacity() / 2 <= len);
        let best = fits.min_by_key(|(_, buffer)| buffer.capacity()).map(|(at, _)| at);
        let found = best.map(|at| free.swap_remove(at));
        drop(free);
        let Some(mut buffer) = found else { return vec![0.0; len] };
        buffer.resize(len, 0.0);
        buffer
    }

    /// The same, all zeros.
    pub(super) fn zeros(&self, len: usize) -> Vec<f32> {
        let mut buffer = self.take(len);
        buffer.fill(0.0);
        buffer
    }

    /// A copy of `x`.
    pub(super) fn copy(&self, x: &[f32]) -> Vec<f32> {
        let mut buffer = self.take(x.len());
        buffer.copy_from_slice(x);
        buffer
    }

    /// Give buffers back.
    pub(super) fn give(&self, buffers: impl IntoIterator<Item = Vec<f32>>) {
        self.free().extend(buffers.into_iter().filter(|buffer| buffer.capacity() > 0));
    }

    /// Give all free memory back to the system.
    pub(super) fn clear(&self) {
        self.free().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back() {
        let arena = Arena::default();
        let buffer = arena.take(100);
        let place = buffer.as_ptr();
        arena.give([buffer]);
        let small = arena.take(10);
        assert_ne!(small.as_ptr(), place, "far too large");
        let again = arena.zeros(90);
        assert_eq!((again.as_ptr(), again.len()), (place, 90));
    }
}
