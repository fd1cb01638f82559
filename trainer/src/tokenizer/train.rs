//! Learns a byte-level BPE vocabulary, for a small model that is trained from nothing.
//!
//! Start from the 256 bytes; again and again join the adjacent pair (a, b) that is most frequent within words, until the
//! vocabulary is full or no pair occurs `min_frequency` times. Ties go to the lower pair of ids, so that the same texts give
//! the same file for any number of threads. (The trainer of the `tokenizers` crate may queue a pair twice with one count,
//! and then lets hash order decide.)
//! Source: Sennrich et al. 2016 (arXiv 1508.07909), algorithm 1; bytes and word pattern as in GPT-2 (Radford et al. 2019).
//! Deviation: a digit is always a word of its own by default, since numbers are what the small model is tested with.
//! Cost: O(total bytes of distinct words * average number of joins per word * log pairs) time.

use curate_core::{Ctx, Error, Result};
use rayon::prelude::*;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use tokenizers::Tokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Texts counted at once by one thread.
const BLOCK_ROWS: usize = 256;

/// What vocabulary to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpeRecipe {
    /// Tokens of the vocabulary, specials and bytes included.
    pub vocab_size: usize,
    /// Tokens that are never split; they get the first ids.
    pub specials: Vec<String>,
    /// Whether every digit is a token of its own.
    pub single_digits: bool,
    /// How often a pair must occur to be joined.
    pub min_frequency: u64,
}

impl Default for BpeRecipe {
    fn default() -> Self {
        let specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from).to_vec();
        Self { vocab_size: 4096, specials, single_digits: true, min_frequency: 2 }
    }
}

/// Learn a vocabulary from `texts`; the result is the content of a `tokenizer.json`.
///
/// # Errors
/// `tokenizer/vocab-size` when specials and bytes alone are more, `cancelled`.
pub fn train_bpe<S: AsRef<str> + Sync>(texts: &[S], recipe: &BpeRecipe, ctx: &Ctx) -> Result<Vec<u8>> {
    let mut learner = Learner::start(recipe)?;
    let skeleton = learner.file(recipe)?;
    let words = count_words(texts, &skeleton, learner.first_byte, ctx)?;
    learner.count(words);
    learner.learn(recipe, ctx)?;
    learner.file(recipe)
}

type Pair = (u32, u32);

/// A distinct word: its symbols now, and how often it occurs.
struct Word {
    symbols: Vec<u32>,
    count: i64,
}

/// The vocabulary as it grows. Hash maps are only looked up in, never walked.
struct Learner {
    first_byte: u32,
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    joins: Vec<Pair>,
    words: Vec<Word>,
    counts: HashMap<Pair, i64>,
    places: HashMap<Pair, Vec<usize>>,
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Learner {
    fn start(recipe: &BpeRecipe) -> Result<Self> {
        let mut bytes: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        bytes.sort_unstable();
        let mut tokens: Vec<String> = Vec::new();
        for special in &recipe.specials {
            if !special.is_empty() && !tokens.contains(special) {
                tokens.push(special.clone());
            }
        }
        let first_byte = id(tokens.len());
        tokens.extend(bytes.into_iter().map(String::from));
        if recipe.vocab_size < tokens.len() {
            let (wanted, least) = (recipe.vocab_size, tokens.len());
            return Err(Error::usage(
                "tokenizer/vocab-size",
                format!("{wanted} tokens are too few for specials and bytes"),
            )
            .hint(format!("at least {least}; 1000 to 8000 suit a small model")));
        }
        let ids = tokens.iter().enumerate().map(|(at, token)| (token.clone(), id(at))).collect();
        let (joins, words, counts, places) = (Vec::new(), Vec::new(), HashMap::new(), HashMap::new());
        Ok(Self { first_byte, tokens, ids, joins, words, counts, places, queue: BinaryHeap::new() })
    }

    /// Count the pairs of all words.
    fn count(&mut self, words: BTreeMap<Vec<u32>, i64>) {
        self.words = words.into_iter().map(|(symbols, count)| Word { symbols, count }).collect();
        let mut seen = BTreeSet::new();
        for at in 0..self.words.len() {
            self.add(at, &mut seen);
        }
        self.enqueue(&seen);
    }

    /// Add the pairs of a word to the counts, and to `seen`.
    fn add(&mut self, at: usize, seen: &mut BTreeSet<Pair>) {
        let word = &self.words[at];
        for pair in pairs(&word.symbols) {
            *self.counts.entry(pair).or_default() += word.count;
            let places = self.places.entry(pair).or_default();
            if places.last() != Some(&at) {
                places.push(at);
            }
            seen.insert(pair);
        }
    }

    /// Take the pairs of a word off the counts.
    fn remove(&mut self, at: usize) {
        let word = &self.words[at];
        for pair in pairs(&word.symbols) {
            if let Some(count) = self.counts.get_mut(&pair) {
                *count -= word.count;
            }
        }
    }

    fn enqueue(&mut self, seen: &BTreeSet<Pair>) {
        for pair in seen {
            let count = self.counts.get(pair).copied().unwrap_or(0);
            if count > 0 {
                self.queue.push((count, Reverse(*pair)));
            }
        }
    }

    fn learn(&mut self, recipe: &BpeRecipe, ctx: &Ctx) -> Result<()> {
        while self.tokens.len() < recipe.vocab_size {
            let Some((count, Reverse(pair))) = self.queue.pop() else { break };
            let now = self.counts.get(&pair).copied().unwrap_or(0);
            if now != count {
                if now > 0 && now < count {
                    self.queue.push((now, Reverse(pair)));
                }
                continue;
            }
            if count.unsigned_abs() < recipe.min_frequency.max(1) {
                break;
            }
            self.join(pair);
            ctx.tick(1)?;
        }
        Ok(())
    }

    /// Make a token of `pair`, and join it in every word that has it.
    fn join(&mut self, pair: Pair) {
        let text = format!("{}{}", self.tokens[pair.0 as usize], self.tokens[pair.1 as usize]);
        let next = id(self.tokens.len());
        let token = *self.ids.entry(text.clone()).or_insert(next);
        if token == next {
            self.tokens.push(text);
        }
        self.joins.push(pair);
        let mut places = self.places.remove(&pair).unwrap_or_default();
        places.sort_unstable();
        places.dedup();
        let mut seen = BTreeSet::new();
        for at in places {
            self.remove(at);
            self.words[at].symbols = joined(&self.words[at].symbols, pair, token);
            self.add(at, &mut seen);
        }
        self.enqueue(&seen);
    }

    /// The content of `tokenizer.json`.
    fn file(&self, recipe: &BpeRecipe) -> Result<Vec<u8>> {
        let vocab: serde_json::Map<String, Value> =
            self.tokens.iter().enumerate().map(|(at, token)| (token.clone(), at.into())).collect();
        let text = |at: u32| &self.tokens[at as usize];
        let merges: Vec<[&String; 2]> = self.joins.iter().map(|&(a, b)| [text(a), text(b)]).collect();
        let specials = &self.tokens[..self.first_byte as usize];
        let added: Vec<Value> = specials.iter().enumerate().map(|(at, token)| added(at, token)).collect();
        let file = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": words_pattern(recipe), "post_processor": null, "decoder": byte_level(),
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                "vocab": vocab, "merges": merges,
            },
        });
        serde_json::to_vec(&file).map_err(|e| Error::data("tokenizer/invalid", e.to_string()))
    }
}

/// How often each word occurs, a word being the ids of its bytes.
fn count_words<S: AsRef<str> + Sync>(
    texts: &[S],
    skeleton: &[u8],
    first_byte: u32,
    ctx: &Ctx,
) -> Result<BTreeMap<Vec<u32>, i64>> {
    let tokenizer = super::parse(skeleton)?;
    let block = |texts: &[S]| -> Result<BTreeMap<Vec<u32>, i64>> {
        let mut counts = BTreeMap::new();
        for text in texts {
            for word in words(&tokenizer, text.as_ref(), first_byte)? {
                *counts.entry(word).or_default() += 1;
            }
        }
        ctx.tick(texts.len() as u64)?;
        Ok(counts)
    };
    texts.par_chunks(BLOCK_ROWS).map(block).try_reduce(BTreeMap::new, |left, right| Ok(added_up(left, right)))
}

/// Whole-number sums: the order of the blocks cannot matter.
fn added_up(mut left: BTreeMap<Vec<u32>, i64>, right: BTreeMap<Vec<u32>, i64>) -> BTreeMap<Vec<u32>, i64> {
    for (word, count) in right {
        *left.entry(word).or_default() += count;
    }
    left
}

/// The words of a text, by a tokenizer that knows bytes and specials only.
fn words(tokenizer: &Tokenizer, text: &str, first_byte: u32) -> Result<Vec<Vec<u32>>> {
    let encoding = tokenizer.encode(text, false).map_err(|e| super::failed("encode", &e))?;
    let (ids, places) = (encoding.get_ids(), encoding.get_word_ids());
    let mut words: Vec<(Option<u32>, Vec<u32>)> = Vec::new();
    for (&id, &place) in ids.iter().zip(places).filter(|(id, _)| **id >= first_byte) {
        match words.last_mut() {
            Some((last, word)) if *last == place => word.push(id),
            _ => words.push((place, vec![id])),
        }
    }
    Ok(words.into_iter().map(|(_, word)| word).filter(|word| word.len() > 1).collect())
}

fn pairs(symbols: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    symbols.windows(2).map(|two| (two[0], two[1]))
}

/// `symbols` with every `pair`, from the left, replaced by `token`.
fn joined(symbols: &[u32], pair: Pair, token: u32) -> Vec<u32> {
    let mut out = Vec::with_capacity(symbols.len());
    for &symbol in symbols {
        out.push(symbol);
        // a joined token never begins or ends the same pair here: it is new, or stands for other bytes
        if let [.., a, b] = out[..]
            && (a, b) == pair
        {
            out.truncate(out.len() - 2);
            out.push(token);
        }
    }
    out
}

#[expect(clippy::cast_possible_truncation, reason = "a vocabulary has fewer than 2^32 tokens")]
const fn id(at: usize) -> u32 {
    at as u32
}

fn added(id: usize, token: &str) -> Value {
    json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true})
}

fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": true})
}

fn words_pattern(recipe: &BpeRecipe) -> Value {
    let digits = json!({"type": "Digits", "individual_digits": true});
    let parts = if recipe.single_digits { vec![digits, byte_level()] } else { vec![byte_level()] };
    json!({"type": "Sequence", "pretokenizers": parts})
}
