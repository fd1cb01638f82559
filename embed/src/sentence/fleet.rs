//! An encoder on one or more devices: batches of texts of about one length, filled to a number of tokens, handed to whichever
//! device is free.
//!
//! The caller's threads tokenise while the devices work; a queue of bounded length lies between. Which texts share a batch does
//! not depend on which device takes it, so that devices of one kind give the same bits in any number. Where a device's memory
//! does not suffice, the batch is cut in two, and batches stay as small from then on. Source: own work.

use curate_core::kernels::KernelError;
use curate_core::kernels::cuda::Device;
use curate_core::kernels::cuda::net::{Encoder, EncoderParts, Pooling, Precision};
use curate_core::{Ctx, Error, Result};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

/// Texts tokenised and sorted in one go.
const GROUP_TEXTS: usize = 16_384;
/// Tokens of a batch at most: enough for every product to fill a large chip.
const MOST_TOKENS: usize = 65_536;
/// Share of the free memory for a batch: one part in so many.
const SHARE: u64 = 2;
/// Batches that wait for each device.
const QUEUE: usize = 8;

/// Token ids of texts, and their places among the results.
struct Job {
    places: Vec<usize>,
    ids: Vec<Vec<u32>>,
}

/// Encoders with the same weights.
pub(super) struct Fleet {
    encoders: Vec<Encoder>,
    pooling: Pooling,
    dim: usize,
    /// Tokens of a batch at most, unless one text has more.
    tokens: AtomicUsize,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.encoders.iter().map(|encoder| encoder.device().name())).finish()
    }
}

/// Tokenises texts on the caller's threads.
type Tokenise<'a> = &'a (dyn Fn(&[&str]) -> Result<Vec<Vec<u32>>> + Sync);
/// Checks and finishes a pooled vector.
type Finish<'a> = &'a (dyn Fn(&mut [f32]) -> Result<()> + Sync);

/// What the devices' threads share.
struct Desk<'a> {
    jobs: Mutex<Receiver<Job>>,
    out: Mutex<&'a mut [f32]>,
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
}

impl Fleet {
    /// Send the weights to every device.
    pub(super) fn new(
        devices: Vec<Device>,
        precision: Precision,
        parts: &EncoderParts,
        pooling: Pooling,
    ) -> Result<Self> {
        let encoders = devices.into_iter().map(|device| Encoder::new(device, precision, parts));
        let encoders: Vec<Encoder> = encoders.collect::<Result<_, _>>()?;
        let fits = |encoder: &Encoder| encoder.device().info().free / SHARE / encoder.bytes_a_token().max(1);
        let tokens = encoders.iter().map(fits).min().map_or(0, |tokens| usize::try_from(tokens).unwrap_or(MOST_TOKENS));
        Ok(Self { encoders, pooling, dim: parts.hidden, tokens: AtomicUsize::new(tokens.clamp(1, MOST_TOKENS)) })
    }

    /// One vector a text, in the order of the texts.
    pub(super) fn embed(
        &self,
        (texts, tokenise): (&[&str], Tokenise),
        finish: Finish,
        out: &mut [f32],
        ctx: &Ctx,
    ) -> Result<()> {
        let (send, receive) = sync_channel(QUEUE * self.encoders.len());
        let desk = Desk {
            jobs: Mutex::new(receive),
            out: Mutex::new(out),
            failed: AtomicBool::new(false),
            error: Mutex::new(None),
        };
        let offered = std::thread::scope(|scope| {
            for encoder in &self.encoders {
                scope.spawn(|| self.work(encoder, &desk, finish, ctx));
            }
            let offered = self.offer((texts, tokenise), &desk, &send);
            drop(send);
            offered
        });
        let error = desk.error.into_inner().unwrap_or_else(PoisonError::into_inner);
        error.map_or(offered, Err)
    }

    /// Tokenise and queue everything, unless a device fails.
    fn offer(&self, (texts, tokenise): (&[&str], Tokenise), desk: &Desk<'_>, send: &SyncSender<Job>) -> Result<()> {
        for (number, group) in texts.chunks(GROUP_TEXTS).enumerate() {
            let ids = tokenise(group)?;
            for job in jobs(ids, number * GROUP_TEXTS, self.tokens.load(Ordering::Relaxed)) {
                if desk.failed.load(Ordering::Relaxed) || send.send(job).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Take jobs until there are no more. After an error the rest is taken and dropped, so that nobody waits.
    fn work(&self, encoder: &Encoder, desk: &Desk<'_>, finish: Finish, ctx: &Ctx) {
        loop {
            let job = desk.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            if desk.failed.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(error) = self.encode(encoder, &job, (desk, finish), ctx) {
                desk.failed.store(true, Ordering::Relaxed);
                desk.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    }

    fn encode(&self, encoder: &Encoder, job: &Job, (desk, finish): (&Desk<'_>, Finish), ctx: &Ctx) -> Result<()> {
        let mut waiting: Vec<Range<usize>> = std::iter::once(0..job.ids.len()).collect();
        while let Some(range) = waiting.pop() {
            ctx.tick(0)?;
            let ids: Vec<&[u32]> = job.ids[range.clone()].iter().map(Vec::as_slice).collect();
            let mut vectors = vec![0.0; ids.len() * self.dim];
            match encoder.encode(&ids, self.pooling, &mut vectors) {
                Ok(()) => {}
                Err(KernelError::OutOfMemory { .. }) if range.len() > 1 => {
                    let tokens = ids.iter().map(|ids| ids.len()).sum::<usize>();
                    self.tokens.fetch_min(tokens.div_ceil(2).max(1), Ordering::Relaxed);
                    let middle = range.start + range.len() / 2;
                    waiting.extend([middle..range.end, range.start..middle]);
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            vectors.chunks_exact_mut(self.dim).try_for_each(finish)?;
            let mut out = desk.out.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, vector) in job.places[range.clone()].iter().zip(vectors.chunks_exact(self.dim)) {
                out[place * self.dim..][..self.dim].copy_from_slice(vector);
            }
            drop(out);
            ctx.tick(range.len() as u64)?;
        }
        Ok(())
    }
}

/// Texts of about one length side by side, of at most so many tokens together, or one text. The longest come first, so that the
/// memory of a run is asked for at its beginning.
fn jobs(ids: Vec<Vec<u32>>, first: usize, tokens: usize) -> Vec<Job> {
    let mut texts: Vec<(usize, Vec<u32>)> = ids.into_iter().enumerate().map(|(i, ids)| (first + i, ids)).collect();
    texts.sort_by(|a, b| (b.1.len(), a.0).cmp(&(a.1.len(), b.0)));
    let (mut jobs, mut used): (Vec<Job>, usize) = (Vec::new(), 0);
    for (place, ids) in texts {
        used += ids.len();
        if let Some(job) = jobs.last_mut().filter(|_| used <= tokens) {
            job.places.push(place);
            job.ids.push(ids);
        } else {
            used = ids.len();
            jobs.push(Job { places: vec![place], ids: vec![ids] });
        }
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_hold_texts_of_one_length_up_to_the_limit() {
        let ids = [3, 9, 0, 3, 2].map(|len| vec![7; len]).to_vec();
        let places: Vec<Vec<usize>> = jobs(ids, 10, 6).into_iter().map(|job| job.places).collect();
        assert_eq!(places, [vec![11], vec![10, 13], vec![14, 12]]);
        assert!(jobs(Vec::new(), 0, 6).is_empty());
    }
}
