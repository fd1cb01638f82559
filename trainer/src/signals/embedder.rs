//! Vectors of texts from the last hidden states of a language model.
//!
//! Formula: `v = h / |h|`, h the mean of the last block's normed states over the tokens of the text, or the state of its last token.
//! Source: the definitions; common for decoder-only models. Deviation: texts lie end to end, and a batch of few tokens gets a filler
//! text, so that the bits of a vector do not depend on its company. An empty text has the zero vector. Cost: one forward pass without the head.

use crate::model::Model;
use crate::tokenizer::TextTokenizer;
use crate::{Batch, IGNORE, Sequence};
use curate_core::{Ctx, Embedder, Error, Result};
use rayon::prelude::*;
use std::fmt;
use std::str::FromStr;

/// Tokens of a batch, at most, unless one text has more.
const BATCH_TOKENS: usize = 4096;
/// Tokens of the filler: with so many or more, rows of every product keep their bits in any company.
const FILLER_TOKENS: usize = 65;

/// Which hidden states make the vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenPooling {
    /// The mean over all tokens.
    Mean,
    /// The last token.
    Last,
}

impl FromStr for HiddenPooling {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "mean" => Ok(Self::Mean),
            "last" => Ok(Self::Last),
            _ => Err(Error::usage("embedder/unknown", format!("a language model has no vectors '{text}'"))
                .hint("write lm:mean or lm:last")),
        }
    }
}

impl fmt::Display for HiddenPooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Mean { "mean" } else { "last" })
    }
}

/// A language model as an embedder.
pub struct HiddenEmbedder {
    model: Model,
    tokenizer: TextTokenizer,
    pooling: HiddenPooling,
    max_tokens: usize,
    digest: String,
}

impl HiddenEmbedder {
    /// Texts are cut at `max_tokens`, or at 2048 or the model's context where that is less; `digest` is that of model and tokenizer.
    ///
    /// # Errors
    /// `tokenizer/vocabulary` when the two do not belong together; `embedder/max-tokens`.
    pub fn new(
        model: Model,
        tokenizer: TextTokenizer,
        pooling: HiddenPooling,
        max_tokens: Option<usize>,
        digest: &str,
    ) -> Result<Self> {
        tokenizer.fits(model.config.vocab_size)?;
        let context = model.config.max_position_embeddings;
        let max_tokens = max_tokens.unwrap_or_else(|| context.min(2048));
        if max_tokens == 0 || max_tokens > context {
            return Err(Error::usage("embedder/max-tokens", format!("texts cannot be cut at {max_tokens} tokens"))
                .hint(format!("the model takes 1 to {context}")));
        }
        let digest = format!("lm {pooling} {max_tokens} {digest}");
        let digest = blake3::hash(digest.as_bytes()).to_hex().to_string();
        Ok(Self { model, tokenizer, pooling, max_tokens, digest })
    }

    fn tokens(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>> {
        let cut = |text: &&str| {
            let mut ids = self.tokenizer.ids(text)?;
            ids.truncate(self.max_tokens);
            Ok(ids)
        };
        texts.par_iter().map(cut).collect()
    }

    /// Vectors of some texts in one pass.
    fn pass(&self, texts: &[Vec<u32>], out: &mut [f32], ctx: &Ctx) -> Result<()> {
        let filler = vec![0; FILLER_TOKENS];
        let few = texts.iter().map(Vec::len).sum::<usize>() < FILLER_TOKENS;
        let all = texts.iter().chain(few.then_some(&filler));
        let sequence = |tokens: &Vec<u32>| Sequence {
            row: 0,
            labels: vec![IGNORE; tokens.len()],
            tokens: tokens.clone(),
            weight: 1.0,
        };
        let batch = Batch::of(&all.map(sequence).collect::<Vec<_>>());
        let (hidden, dim) = (self.model.hidden(&batch, ctx)?, self.dim());
        for (segment, out) in batch.segments.iter().zip(out.chunks_exact_mut(dim)) {
            let states = &hidden[segment.start * dim..segment.end * dim];
            self.pool(states, out);
        }
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
    fn pool(&self, states: &[f32], out: &mut [f32]) {
        let mut sums = vec![0.0; out.len()];
        let first = if self.pooling == HiddenPooling::Last { states.len().saturating_sub(out.len()) } else { 0 };
        for state in states[first..].chunks_exact(out.len()) {
            sums.iter_mut().zip(state).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        let length = sums.iter().map(|v: &f64| v * v).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum * scale) as f32);
    }
}

impl Embedder for HiddenEmbedder {
    fn dim(&self) -> usize {
        self.model.config.hidden_size
    }

    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn count_tokens(&self, texts: &[&str], ctx: &Ctx) -> Result<Vec<u32>> {
        ctx.tick(0)?;
        let count = |text: &&str| Ok(u32::try_from(self.tokenizer.ids(text)?.len()).unwrap_or(u32::MAX));
        texts.par_iter().map(count).collect()
    }

    fn embed(&self, texts: &[&str], out: &mut [f32], ctx: &Ctx) -> Result<()> {
        let (tokens, dim) = (self.tokens(texts)?, self.dim());
        let mut start = 0;
        while start < tokens.len() {
            let mut used = 0;
            let fits = |text: &&Vec<u32>| {
                used += text.len();
                used <= BATCH_TOKENS
            };
            let end = start + tokens[start..].iter().take_while(fits).count().max(1);
            self.pass(&tokens[start..end], &mut out[start * dim..end * dim], ctx)?;
            ctx.tick((end - start) as u64)?;
            start = end;
        }
        Ok(())
    }
}
