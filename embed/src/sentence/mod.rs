//! Sentence encoders of the BERT family from a sentence-transformers folder.

mod config;
mod fleet;
mod folder;
mod math;
mod model;
mod ops;
mod pooling;
mod tokenizer;
mod weights;

use crate::Encoding;
use crate::static_encoder::{check_shape, normalise};
use curate_core::kernels::cuda::{Device, net};
use curate_core::{Ctx, Embedder, Error, Result};
use fleet::Fleet;
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

/// A transformer with tokenizer and pooling, as a sentence-transformers folder describes it.
#[derive(Debug)]
pub struct SentenceEncoder {
    tokenizer: TextTokenizer,
    place: Place,
    vocab: usize,
    settings: Settings,
    digest: String,
}

/// Where the layers run.
#[derive(Debug)]
enum Place {
    Host(Box<Transformer>),
    Devices(Fleet),
}

impl SentenceEncoder {
    /// Load the folder at `path` onto `device` (`cpu`, `auto`, `cuda`, `cuda:N`, `cuda:N,M`, `cuda:all`), cutting texts at
    /// `max_tokens` if given. Several devices share the work. A device computes in bf16, or in f32 before compute capability
    /// 8.0, so that its vectors are those of the CPU to about three digits.
    ///
    /// # Errors
    /// `device/*` when the device cannot be used, `model/*` when the folder is not a model that can be run here.
    pub fn open(path: &Path, device: &str, max_tokens: Option<usize>) -> Result<Self> {
        let devices = devices(device)?;
        let precision = devices.first().map_or(net::Precision::F32, net::Precision::of);
        Self::open_on(path, devices, precision, max_tokens)
    }

    /// The same on opened devices, or on the CPU where there are none.
    ///
    /// # Errors
    /// As [`SentenceEncoder::open`].
    #[doc(hidden)]
    pub fn open_on(
        path: &Path,
        devices: Vec<Device>,
        precision: net::Precision,
        max_tokens: Option<usize>,
    ) -> Result<Self> {
        let mut folder = Folder::open(path)?;
        let settings = folder.settings(max_tokens)?;
        let tokenizer = TextTokenizer::open(&mut folder, &settings.transformer, settings.max_tokens)?;
        let weights = Weights::open(&mut folder, &settings.transformer)?;
        let model = Transformer::new(&weights, &settings.config)?;
        let (vocab, mut digest) = (model.vocab(), folder.digest().finish());
        if !devices.is_empty() && precision == net::Precision::Bf16 {
            digest.push_str("-bf16");
        }
        let place = if devices.is_empty() {
            Place::Host(Box::new(model))
        } else {
            let pooling = settings.pooling.on_device();
            Place::Devices(Fleet::new(devices, precision, &model.parts().map_err(failed)?, pooling)?)
        };
        Ok(Self { tokenizer, place, vocab, settings, digest })
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
        match ids.iter().find(|&&id| id as usize >= self.vocab) {
            Some(id) => Err(Error::data("model/tokenizer", format!("token id {id} is beyond the model's vocabulary"))
                .hint("tokenizer and weights of this folder do not belong together")),
            None => Ok(ids),
        }
    }

    fn tokenise(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map_init(Encoding::default, |encoding, text| self.ids(text, encoding)).collect()
    }

    /// Embed one group of texts into `out`, shape `[texts, dim]`.
    fn embed_group(&self, model: &Transformer, texts: &[&str], out: &mut [f32], ctx: &Ctx) -> Result<()> {
        let ids = self.tokenise(texts)?;
        let mut jobs: Vec<(&[u32], &mut [f32])> =
            ids.iter().map(Vec::as_slice).zip(out.chunks_exact_mut(self.dim())).collect();
        let total: usize = ids.iter().map(Vec::len).sum();
        let share = total.div_ceil(2 * rayon::current_num_threads()).clamp(BLOCK_TOKENS / 4, BLOCK_TOKENS);
        blocks(&mut jobs, share).into_par_iter().try_for_each(|block| self.embed_block(model, block, ctx))
    }

    fn embed_block(&self, model: &Transformer, jobs: &mut [(&[u32], &mut [f32])], ctx: &Ctx) -> Result<()> {
        ctx.tick(0)?;
        let ids: Vec<&[u32]> = jobs.iter().map(|(ids, _)| *ids).collect();
        let rows = model.forward(&ids).map_err(failed)?;
        let (dim, mut start) = (self.dim(), 0);
        for (ids, out) in jobs.iter_mut() {
            self.settings.pooling.pool(&rows[start..start + ids.len() * dim], out);
            start += ids.len() * dim;
            self.finish(out)?;
        }
        ctx.tick(jobs.len() as u64)
    }

    /// What follows pooling.
    fn finish(&self, vector: &mut [f32]) -> Result<()> {
        if vector.iter().any(|x| !x.is_finite()) {
            return Err(Error::device("model/not-finite", "the model gives numbers that are not finite"));
        }
        if self.settings.normalize {
            normalise(vector);
        }
        Ok(())
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
        match &self.place {
            Place::Host(model) => {
                let mut groups = texts.chunks(GROUP_TEXTS).zip(out.chunks_mut(GROUP_TEXTS * self.dim()));
                groups.try_for_each(|(texts, out)| self.embed_group(model, texts, out, ctx))
            }
            Place::Devices(fleet) => {
                fleet.embed((texts, &|texts| self.tokenise(texts)), &|vector| self.finish(vector), out, ctx)
            }
        }
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

/// The devices a user named; none for the CPU.
///
/// # Errors
/// `device/unknown` (exit 2), `device/unusable` (exit 4).
pub(crate) fn devices(name: &str) -> Result<Vec<Device>> {
    if !net::is_device(name) {
        return Err(Error::usage("device/unknown", format!("device '{name}' is not known"))
            .hint("write auto, cpu, cuda, cuda:N, cuda:N,M or cuda:all"));
    }
    Ok(net::devices(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_by_name() {
        assert!(devices("cpu").unwrap().is_empty());
        assert!(devices("auto").is_ok());
        assert_eq!(devices("tpu").err().unwrap().exit_code(), 2);
        let none = devices("cuda:4095").err().unwrap();
        assert_eq!((none.code(), none.exit_code()), ("device/unusable", 4));
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
