//! Requests under way: a bounded number at a time, on threads of their own, each answer kept as soon as it is there.

use super::client::Client;
use super::rows::Job;
use crate::cache::Cache;
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::Float32Type;
use curate_core::{Ctx, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Kind of the cache's entries.
const KIND: &str = "scores";
/// How often a wait looks whether the run shall stop.
const GLANCE: Duration = Duration::from_millis(25);

/// A job that was worked on, and its scores.
type Answered = (Job, Result<Vec<f32>>);

/// Gives jobs to threads and collects their answers. The threads are not waited for when the run is stopped: what they still get is
/// kept in the cache if the process lives that long.
pub(super) struct Desk {
    cache: Cache,
    jobs: SyncSender<Job>,
    answers: Receiver<Answered>,
    stop: Arc<AtomicBool>,
    under_way: usize,
    scores: Vec<f32>,
    error: Option<(usize, Error)>,
}

impl Desk {
    pub(super) fn open(client: &Arc<Client>, cache: &Cache, threads: usize, rows: usize) -> Self {
        let (jobs, queue) = sync_channel(threads);
        let (sender, answers) = channel();
        let (queue, stop) = (Arc::new(Mutex::new(queue)), Arc::new(AtomicBool::new(false)));
        for _ in 0..threads {
            let worker = Worker {
                client: Arc::clone(client),
                cache: cache.clone(),
                queue: Arc::clone(&queue),
                answers: sender.clone(),
                stop: Arc::clone(&stop),
            };
            std::thread::spawn(move || worker.run());
        }
        Self { cache: cache.clone(), jobs, answers, stop, under_way: 0, scores: vec![f32::NAN; rows], error: None }
    }

    /// Take the answer from the cache, or have it asked for; waits while all threads are busy.
    ///
    /// # Errors
    /// What an earlier job gave; `cancelled`.
    pub(super) fn give(&mut self, mut job: Job, ctx: &Ctx) -> Result<()> {
        if let Some(scores) = self.kept(&job) {
            return self.fill(&job, &scores, ctx);
        }
        while self.error.is_none() {
            match self.jobs.try_send(job) {
                Ok(()) => {
                    self.under_way += 1;
                    return self.collect(Duration::ZERO, ctx);
                }
                Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => job = back,
            }
            self.collect(GLANCE, ctx)?;
        }
        self.fail(ctx)
    }

    /// All scores, once every answer is there.
    ///
    /// # Errors
    /// What a job gave; `cancelled`.
    pub(super) fn finish(mut self, ctx: &Ctx) -> Result<Vec<f32>> {
        while self.under_way > 0 && self.error.is_none() {
            self.collect(GLANCE, ctx)?;
        }
        self.fail(ctx)?;
        Ok(std::mem::take(&mut self.scores))
    }

    /// After an error: let what is under way end, for it is kept, then give the error of the first rows.
    fn fail(&mut self, ctx: &Ctx) -> Result<()> {
        if self.error.is_none() {
            return Ok(());
        }
        self.stop.store(true, Ordering::Relaxed);
        while self.under_way > 0 {
            self.collect(GLANCE, ctx)?;
        }
        self.error.take().map_or(Ok(()), |(_, error)| Err(error))
    }

    fn kept(&self, job: &Job) -> Option<Vec<f32>> {
        let batch = self.cache.load(KIND, &job.key, None)?;
        let scores = batch.column(0).as_primitive_opt::<Float32Type>()?;
        let whole = scores.null_count() == 0 && scores.len() == job.ids.len();
        Some(scores.values().to_vec()).filter(|scores| whole && scores.iter().all(|score| score.is_finite()))
    }

    fn fill(&mut self, job: &Job, scores: &[f32], ctx: &Ctx) -> Result<()> {
        job.positions.iter().zip(scores).for_each(|(&position, &score)| self.scores[position] = score);
        ctx.tick(scores.len() as u64)
    }

    /// Take the answers that are there, waiting for one at most so long.
    fn collect(&mut self, wait: Duration, ctx: &Ctx) -> Result<()> {
        ctx.tick(0)?;
        let mut wait = wait;
        loop {
            match self.answers.recv_timeout(wait) {
                Ok((job, Ok(scores))) => self.fill(&job, &scores, ctx)?,
                Ok((job, Err(error))) => self.note(job.positions[0], error),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
            }
            self.under_way -= 1;
            wait = Duration::ZERO;
        }
    }

    /// Keep the error of the first rows; one that only says that others failed is none.
    fn note(&mut self, position: usize, error: Error) {
        let earlier = self.error.as_ref().is_none_or(|(known, _)| position < *known);
        if earlier && error.code() != "cancelled" {
            self.error = Some((position, error));
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lost() -> Error {
    Error::io("http/lost", "the threads that ask the server ended").hint("this is a defect; please report it")
}

/// One thread.
struct Worker {
    client: Arc<Client>,
    cache: Cache,
    queue: Arc<Mutex<Receiver<Job>>>,
    answers: Sender<Answered>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    /// Work until there are no more jobs or nobody listens.
    fn run(&self) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = next else { return };
            let scores = if self.stop.load(Ordering::Relaxed) { Err(Error::cancelled()) } else { self.answer(&job) };
            if self.answers.send((job, scores)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, job: &Job) -> Result<Vec<f32>> {
        let scores = self.client.ask(job, &self.stop)?;
        let column = Arc::new(Float32Array::from(scores.clone())) as ArrayRef;
        self.cache.store(KIND, &job.key, &RecordBatch::try_from_iter([("score", column)])?)?;
        Ok(scores)
    }
}
