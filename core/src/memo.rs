//! Remembering finished computations: the runner binds a store to a context, algorithms ask [`crate::Ctx::remember`].

use crate::Result;
use arrow::array::RecordBatch;

/// A store of finished computations. The runner's store is bound to the content of the pool, so a key need only name what
/// else decides the result.
pub trait Memo: Send + Sync {
    /// What was saved under `key`, if it is still there and whole.
    fn load(&self, key: &str) -> Option<RecordBatch>;

    /// Save under `key`.
    ///
    /// # Errors
    /// What writing gives.
    fn save(&self, key: &str, batch: &RecordBatch) -> Result<()>;
}
