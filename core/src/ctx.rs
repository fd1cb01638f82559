//! What accompanies every call: seed stream, progress node, cancel flag, backend, memory limit and, where the plan names
//! one, the target.

use crate::{Column, Error, Memo, Memory, Pool, Progress, Result, Rng};
use arrow::array::RecordBatch;
use curate_kernels::Backend;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that asks all work below it to stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ask to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone asked to stop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The context of a call. [`Ctx::child`] names a part of the work: seed, progress and cancel go down together.
#[derive(Clone)]
pub struct Ctx {
    seed: u64,
    key: blake3::Hasher,
    progress: Progress,
    cancel: Cancel,
    backend: Arc<dyn Backend>,
    memory: Memory,
    memo: Option<Arc<dyn Memo>>,
    target: Option<Pool>,
}

impl Ctx {
    /// A root context on the CPU backend with default memory.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut key = blake3::Hasher::new();
        key.update(b"curate seed 1").update(&seed.to_le_bytes());
        Self {
            seed,
            key,
            progress: Progress::root("run"),
            cancel: Cancel::default(),
            backend: curate_kernels::cpu(),
            memory: Memory::default(),
            memo: None,
            target: None,
        }
    }

    /// The same context on another backend.
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = backend;
        self
    }

    /// The same context under another memory limit.
    #[must_use]
    pub const fn with_memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// The same context with a target: rows that the chosen ones shall resemble, for methods that ask for one.
    #[must_use]
    pub fn with_target(mut self, target: Pool) -> Self {
        self.target = Some(target);
        self
    }

    /// The target with these columns, for `stage`.
    ///
    /// # Errors
    /// `target/missing`, `target/empty`, `column/missing`.
    pub fn target(&self, columns: &[Column], stage: &str) -> Result<&Pool> {
        let hint = "name a file of rows that the chosen ones shall resemble with --target";
        let missing = || Error::usage("target/missing", format!("{stage} needs a target")).hint(hint);
        let target = self.target.as_ref().ok_or_else(missing)?;
        if target.is_empty() {
            return Err(Error::data("target/empty", "the target has no row").hint(hint));
        }
        target.require(columns, &format!("{stage}, in the target,"))?;
        Ok(target)
    }

    /// The same context with a store of finished computations, bound by the caller to the pool (and the target) at hand.
    #[must_use]
    pub fn with_memo(mut self, memo: Arc<dyn Memo>) -> Self {
        self.memo = Some(memo);
        self
    }

    /// The result of `compute`, or the one remembered from an earlier run over the same pool with the same seed, label path,
    /// `label` and `params`. `params` must hold everything else that decides the result.
    ///
    /// # Errors
    /// What `compute` or saving gives.
    pub fn remember(
        &self,
        label: &str,
        params: &serde_json::Value,
        compute: impl FnOnce() -> Result<RecordBatch>,
    ) -> Result<RecordBatch> {
        let Some(memo) = &self.memo else { return compute() };
        let mut key = self.key.clone();
        key.update(label.as_bytes()).update(&[0]).update(self.backend.name().as_bytes()).update(&[0]);
        let key = key.update(params.to_string().as_bytes()).finalize().to_hex().to_string();
        if let Some(batch) = memo.load(&key) {
            return Ok(batch);
        }
        let batch = compute()?;
        memo.save(&key, &batch)?;
        Ok(batch)
    }

    /// The same context under this cancel flag.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// The same context reporting to this node.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// A named part of the work: its random streams differ from the parent's, its progress is a node below the parent's.
    #[must_use]
    pub fn child(&self, label: impl AsRef<str>) -> Self {
        let mut child = self.labelled(label.as_ref());
        child.progress = self.progress.child(label.as_ref());
        child
    }

    /// Like [`Ctx::child`] without a progress node of its own, for fine-grained labels such as a step number.
    #[must_use]
    pub fn labelled(&self, label: &str) -> Self {
        let mut child = self.clone();
        child.key.update(&(label.len() as u64).to_le_bytes()).update(label.as_bytes());
        child
    }

    /// The seed of the whole run.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A seed for kernels that take a bare number, derived from (seed, label path, `label`).
    #[must_use]
    pub fn derived_seed(&self, label: &str) -> u64 {
        self.stream(label)(0).bits()
    }

    /// The random stream of (seed, label path, `label`, `row`).
    #[must_use]
    pub fn rng(&self, label: &str, row: u64) -> Rng {
        self.stream(label)(row)
    }

    /// A maker of random streams for many rows under one label; cheaper than [`Ctx::rng`] in a loop.
    pub fn stream(&self, label: &str) -> impl Fn(u64) -> Rng + Send + Sync + use<> {
        let mut hasher = self.key.clone();
        hasher.update(&(label.len() as u64).to_le_bytes()).update(label.as_bytes());
        let key = *hasher.finalize().as_bytes();
        move |row| Rng::new(key, row)
    }

    /// Count `n` units of work and stop if asked to: one call in every long loop.
    ///
    /// # Errors
    /// `cancelled` when someone asked to stop.
    pub fn tick(&self, n: u64) -> Result<()> {
        self.progress.add(n);
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    /// The progress node of this part.
    #[must_use]
    pub const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The cancel flag.
    #[must_use]
    pub const fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// Where numbers are crunched.
    #[must_use]
    pub fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// The memory limit.
    #[must_use]
    pub const fn memory(&self) -> &Memory {
        &self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_follow_the_label_path() {
        let ctx = Ctx::new(17);
        assert_eq!(ctx.rng("draw", 5).bits(), Ctx::new(17).rng("draw", 5).bits());
        assert_ne!(ctx.rng("draw", 5).bits(), ctx.child("a").rng("draw", 5).bits());
        assert_ne!(ctx.rng("ab", 5).bits(), ctx.child("a").rng("b", 5).bits());
        assert_ne!(Ctx::new(18).rng("draw", 5).bits(), ctx.rng("draw", 5).bits());
    }

    #[derive(Default)]
    struct Shelf(std::sync::Mutex<std::collections::BTreeMap<String, RecordBatch>>);

    impl Memo for Shelf {
        fn load(&self, key: &str) -> Option<RecordBatch> {
            self.0.lock().unwrap().get(key).cloned()
        }

        fn save(&self, key: &str, batch: &RecordBatch) -> Result<()> {
            self.0.lock().unwrap().insert(key.to_owned(), batch.clone());
            Ok(())
        }
    }

    #[test]
    fn remembers_per_seed_label_and_params() {
        let ctx = Ctx::new(1).with_memo(Arc::new(Shelf::default()));
        let batch = || RecordBatch::new_empty(Arc::new(arrow::datatypes::Schema::empty()));
        let never = || -> Result<RecordBatch> { Err(Error::usage("test", "computed again")) };
        ctx.remember("a", &1.into(), || Ok(batch())).unwrap();
        assert!(ctx.remember("a", &1.into(), never).is_ok());
        assert!(ctx.remember("a", &2.into(), never).is_err());
        assert!(ctx.remember("b", &1.into(), never).is_err());
        assert!(ctx.child("x").remember("a", &1.into(), never).is_err());
    }

    #[test]
    fn a_target_is_asked_for_with_its_columns() {
        let code = |ctx: &Ctx| ctx.child("x").target(&[Column::EMBEDDING], "test").err().map(|e| e.code());
        let rows = |ids: Vec<u64>| {
            let ids = Arc::new(arrow::array::UInt64Array::from(ids)) as arrow::array::ArrayRef;
            Pool::from_batch(RecordBatch::try_from_iter([("row", ids)]).unwrap())
        };
        assert_eq!(code(&Ctx::new(0)), Some("target/missing"));
        assert_eq!(code(&Ctx::new(0).with_target(rows(vec![]))), Some("target/empty"));
        assert_eq!(code(&Ctx::new(0).with_target(rows(vec![1]))), Some("column/missing"));
        assert!(Ctx::new(0).with_target(rows(vec![1])).target(&[Column::ROW], "test").is_ok());
    }

    #[test]
    fn cancel_reaches_children() {
        let ctx = Ctx::new(0);
        let child = ctx.child("x");
        ctx.cancel().cancel();
        assert_eq!(child.tick(1).unwrap_err().exit_code(), 130);
    }
}
