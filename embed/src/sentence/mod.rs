//! Sentence encoders of the BERT family from a sentence-transformers folder.

mod config;
mod folder;
mod math;
mod model;
mod ops;
mod pooling;
mod tokenizer;
mod weights;

use crate::Encoding;
use crate::static_encoder::{check_shape, normalise};
use candle_core::Device;
use curate_core::{Ctx, Embedder, Error, Result};
use folder::{Folder, Settings};
use model::Transformer;
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::Path;
use tokenizer::TextTokenizer;
use weights::{Weights, failed};

/// Texts tokenised in one go.
const GROUP_TEXTS: usize = 4096;
/// Tokens that one thread passes through the layers together: enough to keep the matrix products busy, few enough for the cache.
const BLOCK_TOKENS: usize = 1024;
const DEVICE_BLOCK_TOKENS: usize = 32_768;

/// A transformer with tokenizer and pooling, as a sentence-transformers folder describes it.
#[derive(Debug)]
pub struct SentenceEncoder {
    tokenizer: TextTokenizer,
    model: Transformer,
    settings: Settings,
    device: Device,
    digest: String,
}

impl SentenceEncoder {
    /// Load the folder at `path` onto `device` (`cpu`, `auto`, `cuda`, `cuda:N`), cutting texts at `max_tokens` if given.
    ///
    /// # Errors
    /// `device/*` when the device cannot be used, `model/*` when the folder is not a model that can be run here.
    pub fn open(path: &Path, device: &str, max_tokens: Option<usize>) -> Result<Self> {
        let device = self::device(device)?;
        let mut folder = Folder::open(path)?;
        let settings = folder.settings(max_tokens)?;
        let tokenizer = TextTokenizer::open(&mut folder, &settings.transformer, settings.max_tokens)?;
        let weights = Weights::open(&mut folder, &settings.transformer, &device)?;
        let model = Transformer::new(&weights, &settings.config, &device)?;
        let digest = folder.digest().finish();
        Ok(Self { tokenizer, model, settings, device, digest })
    }

    /// Tokens read of one text at most, specials included.
    #[must_use]
    pub const fn max_tokens(&self) -> usize {
        self.settings.max_tokens
    }

    fn prompted<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.settings.prompt.is_empty() {
            Cow::Borrowed(text)
        } else {
            Cow::Owned(format!("{}{text}", self.settings.prompt))
        }
    }

    fn ids(&self, text: &str, encoding: &mut Encoding) -> Result<Vec<u32>> {
        let ids = self.tokenizer.ids(&self.prompted(text), self.settings.max_tokens, encoding)?;
        match ids.iter().find(|&&id| id as usize >= self.model.vocab()) {
            Some(id) => Err(Error::data("model/tokenizer", format!("token id {id} is beyond the model's vocabulary"))
                .hint("tokenizer and weights of this folder do not belong together")),
            None => Ok(ids),
        }
    }

    /// Embed one group of texts into `out`, shape `[texts, dim]`.
    fn embed_group(&self, texts: &[&str], out: &mut [f32], ctx: &Ctx) -> Result<()> {
        let ids: Vec<Vec<u32>> = texts
            .par_iter()
            .map_init(Encoding::default, |encoding, text| self.ids(text, encoding))
            .collect::<Result<_>>()?;
        let mut jobs: Vec<(&[u32], &mut [f32])> =
            ids.iter().map(Vec::as_slice).zip(out.chunks_exact_mut(self.dim())).collect();
        let total: usize = ids.iter().map(Vec::len).sum();
        if self.device.is_cpu() {
            let share = total.div_ceil(2 * rayon::current_num_threads()).clamp(BLOCK_TOKENS / 4, BLOCK_TOKENS);
            return blocks(&mut jobs, share).into_par_iter().try_for_each(|block| self.embed_block(block, ctx));
        }
        // Equal lengths side by side share one attention call.
        jobs.sort_by_key(|(ids, _)| ids.len());
        blocks(&mut jobs, DEVICE_BLOCK_TOKENS).into_iter().try_for_each(|block| self.embed_block(block, ctx))
    }

    fn embed_block(&self, jobs: &mut [(&[u32], &mut [f32])], ctx: &Ctx) -> Result<()> {
        ctx.tick(0)?;
        let ids: Vec<&[u32]> = jobs.iter().map(|(ids, _)| *ids).collect();
        let rows = self.model.forward(&ids).map_err(failed)?;
        let (dim, mut start) = (self.dim(), 0);
        for (ids, out) in jobs.iter_mut() {
            self.settings.pooling.pool(&rows[start..start + ids.len() * dim], out);
            start += ids.len() * dim;
            if out.iter().any(|x| !x.is_finite()) {
                return Err(Error::device("model/not-finite", "the model gives numbers that are not finite"));
            }
            if self.settings.normalize {
                normalise(out);
            }
        }
        ctx.tick(jobs.len() as u64)
    }
}

impl Embedder for SentenceEncoder {
    fn dim(&self) -> usize {
        self.settings.config.hidden
    }

    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn count_tokens(&self, texts: &[&str], ctx: &Ctx) -> Result<Vec<u32>> {
        let count = |encoding: &mut Encoding, text: &&str| {
            ctx.tick(1)?;
            Ok(u32::try_from(self.tokenizer.count(text, encoding)?).unwrap_or(u32::MAX))
        };
        texts.par_iter().map_init(Encoding::default, count).collect()
    }

    fn embed(&self, texts: &[&str], out: &mut [f32], ctx: &Ctx) -> Result<()> {
        check_shape(texts.len(), self.dim(), out.len())?;
        let mut groups = texts.chunks(GROUP_TEXTS).zip(out.chunks_mut(GROUP_TEXTS * self.dim()));
        groups.try_for_each(|(texts, out)| self.embed_group(texts, out, ctx))
    }
}

/// Cut a list of jobs into runs of at most `limit` tokens (or one job).
fn blocks<'j, 'a, 'b>(
    mut jobs: &'j mut [(&'a [u32], &'b mut [f32])],
    limit: usize,
) -> Vec<&'j mut [(&'a [u32], &'b mut [f32])]> {
    let mut blocks = Vec::new();
    while !jobs.is_empty() {
        let mut total = 0;
        let fits = |(ids, _): &&(&[u32], &mut [f32])| {
            total += ids.len();
            total <= limit
        };
        let count = jobs.iter().take_while(fits).count().max(1);
        let (block, rest) = jobs.split_at_mut(count);
        blocks.push(block);
        jobs = rest;
    }
    blocks
}

/// The device a user named.
///
/// # Errors
/// `device/unknown` (exit 2), `device/not-built`, `device/unusable` (exit 4).
pub(crate) fn device(name: &str) -> Result<Device> {
    let number = match name {
        "cpu" => return Ok(Device::Cpu),
        "auto" => return Ok(cuda(0).unwrap_or(Device::Cpu)),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
    };
    let unknown = || {
        Error::usage("device/unknown", format!("device '{name}' is not known")).hint("write auto, cpu, cuda or cuda:N")
    };
    cuda(number.ok_or_else(unknown)?)
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device> {
    Device::new_cuda(number).map_err(|e| {
        Error::device("device/unusable", format!("cuda:{number}: {e}"))
            .hint("use --device cpu, or fix the driver")
            .because(e)
    })
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> Result<Device> {
    Err(Error::device(
        "device/not-built",
        format!("this build runs sentence encoders on the CPU only, not on cuda:{number}"),
    )
    .hint("use --device cpu, or build with the feature `cuda` (cargo build --features cuda, needs nvcc)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        assert!(device("cpu").unwrap().is_cpu());
        assert!(device("auto").is_ok());
        assert_eq!(device("tpu").unwrap_err().exit_code(), 2);
        if cfg!(not(feature = "cuda")) {
            assert_eq!(
                (device("cuda:1").unwrap_err().code(), device("cuda").unwrap_err().exit_code()),
                ("device/not-built", 4)
            );
        }
    }

    #[test]
    fn blocks_keep_order_and_limit() {
        let ids = [vec![0; 3], vec![0; 3], vec![0; 9], vec![]];
        let mut outs = [[0.0f32; 1]; 4];
        let mut jobs: Vec<(&[u32], &mut [f32])> =
            ids.iter().map(Vec::as_slice).zip(outs.iter_mut().map(|o| &mut o[..])).collect();
        let counts: Vec<usize> = blocks(&mut jobs, 6).iter().map(|b| b.len()).collect();
        assert_eq!(counts, [2, 1, 1]);
    }
}
