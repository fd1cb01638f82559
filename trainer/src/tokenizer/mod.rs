//! The tokenizer of a model folder: text to ids with byte ranges, ids to text, and the ids that begin and end a text.
//!
//! Padding, truncation and post-processing stored in `tokenizer.json` are not applied: nothing is ever padded, cutting is
//! the data's business, and a post-processor may trim the byte ranges. What it puts in front (BOS) is put there by us.

mod special;
mod train;

pub use train::{BpeRecipe, train_bpe};

use curate_core::{Error, Location, Result};
use special::Specials;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use tokenizers::Tokenizer;

/// A text as ids, and the bytes each id stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Byte range of each token in the text; empty for a token that the text does not hold (BOS).
    pub bytes: Vec<Range<usize>>,
}

/// A loaded tokenizer.
#[derive(Clone, Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
    special: BTreeSet<u32>,
    ends: Specials,
    size: usize,
}

impl TextTokenizer {
    /// Load `tokenizer.json` from a model folder, and the special ids from `tokenizer_config.json`,
    /// `generation_config.json` and `config.json` where these are there.
    ///
    /// # Errors
    /// `tokenizer/missing`, `tokenizer/invalid`, or `tokenizer/special` when a named special token is not in the vocabulary.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(|e| missing(&path, e))?;
        let inner = parse(&bytes).map_err(|e| e.at(Location::file(path.to_string_lossy())))?;
        let ends = Specials::read(folder, &inner)?;
        Ok(Self::build(inner, ends))
    }

    /// A tokenizer from the bytes of a `tokenizer.json`; `eos` is the token that ends a text.
    ///
    /// # Errors
    /// `tokenizer/invalid`, or `tokenizer/special` when `eos` is not in the vocabulary.
    pub fn from_json(bytes: &[u8], eos: Option<&str>) -> Result<Self> {
        let inner = parse(bytes)?;
        let eos = eos.map(|token| special::id_of(&inner, token, "eos_token")).transpose()?;
        let ends = Specials { stops: eos.into_iter().collect(), ..Specials::default() };
        Ok(Self::build(inner, ends))
    }

    fn build(mut inner: Tokenizer, ends: Specials) -> Self {
        let size = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let decoder = inner.get_added_tokens_decoder();
        let mut special: BTreeSet<u32> = decoder.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        special.extend(&ends.stops);
        inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        Self { inner, special, ends, size }
    }

    /// Ids and byte ranges of a text, with BOS in front where the model wants one and the text has none.
    ///
    /// # Errors
    /// `tokenizer/encode`.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let encoding = self.inner.encode(text, false).map_err(|e| failed("encode", &e))?;
        let front = self.front(encoding.get_ids());
        let ids = front.iter().chain(encoding.get_ids()).copied().collect();
        let bytes = encoding.get_offsets().iter().map(|&(start, end)| start..end);
        Ok(Tokens { ids, bytes: front.iter().map(|_| 0..0).chain(bytes).collect() })
    }

    /// Ids of a text, as [`TextTokenizer::encode`] gives them.
    ///
    /// # Errors
    /// `tokenizer/encode`.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(|e| failed("encode", &e))?;
        Ok(self.front(encoding.get_ids()).iter().chain(encoding.get_ids()).copied().collect())
    }

    /// BOS where the model wants one and `ids` do not begin with it.
    fn front(&self, ids: &[u32]) -> Option<u32> {
        self.ends.bos.filter(|bos| self.ends.adds_bos && ids.first() != Some(bos))
    }

    /// The text of some ids, special tokens left out.
    ///
    /// # Errors
    /// `tokenizer/decode`.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|e| failed("decode", &e))
    }

    /// The id of a token.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that ends a text.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.ends.stops.first().copied()
    }

    /// Every token at which generation stops, the one of [`TextTokenizer::eos`] first.
    #[must_use]
    pub fn stops(&self) -> &[u32] {
        &self.ends.stops
    }

    /// The token that begins a text.
    #[must_use]
    pub const fn bos(&self) -> Option<u32> {
        self.ends.bos
    }

    /// The token for padding. Nothing here pads; masked thought may use it.
    #[must_use]
    pub const fn pad(&self) -> Option<u32> {
        self.ends.pad
    }

    /// Whether this id is a special token.
    #[must_use]
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The largest id plus one.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Check that a model with `vocab_size` embeddings knows every id.
    ///
    /// # Errors
    /// `tokenizer/vocabulary`.
    pub fn fits(&self, vocab_size: usize) -> Result<()> {
        if self.size <= vocab_size {
            return Ok(());
        }
        let (size, last) = (self.size, self.size - 1);
        Err(Error::data(
            "tokenizer/vocabulary",
            format!("the tokenizer has ids up to {last} ({size} tokens), the model embeds {vocab_size}"),
        )
        .hint("take the tokenizer.json of the same model, or remove the tokens that were added to it"))
    }
}

fn parse(bytes: &[u8]) -> Result<Tokenizer> {
    let bad = |e: tokenizers::Error| {
        Error::data("tokenizer/invalid", format!("tokenizer.json cannot be read: {e}"))
            .hint("download the file again; it must be the JSON of a fast tokenizer")
    };
    let mut inner = Tokenizer::from_bytes(bytes).map_err(bad)?;
    inner.with_padding(None);
    inner.with_truncation(None).map_err(bad)?;
    Ok(inner)
}

fn missing(path: &Path, error: std::io::Error) -> Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return Error::from(error).at(Location::file(path.to_string_lossy()));
    }
    Error::usage("tokenizer/missing", "the model folder has no tokenizer.json")
        .hint("a fast tokenizer is needed; transformers writes one with save_pretrained")
        .at(Location::file(path.to_string_lossy()))
}

fn failed(what: &str, error: &tokenizers::Error) -> Error {
    let code = if what == "encode" { "tokenizer/encode" } else { "tokenizer/decode" };
    Error::data(code, format!("the tokenizer cannot {what}: {error}"))
        .hint("check that tokenizer.json is whole and belongs to the model")
}
