//! BERT tokenising (clean, split, greedy longest match) with the ids of the `tokenizers` crate, made for throughput.
//!
//! Formula: a word w becomes the pieces p1 p2 .. where each pi is the longest vocabulary entry that starts the rest of w (entries
//! after the first carry the prefix `##`); a word without such a cover, or of more than `max_word_chars` characters, becomes `[UNK]`.
//!
//! Source: Wu et al. 2016 (arXiv 1609.08144); `BertNormalizer`, `BertPreTokenizer` and `WordPiece` of `tokenizers` 0.23.
//! Deviation: none in the ids; offsets are not computed. Added tokens must start with ASCII punctuation.
//! Cost: one table look-up per ASCII byte, one probe per word that is in the vocabulary whole, O(length) probes for others; pure
//! ASCII runs never reach the Unicode tables, and nothing is allocated per word.

mod pieces;
mod unicode;

use curate_core::{Error, Result};
use pieces::Pieces;
use unicode::Normaliser;

/// What decides the ids besides the vocabulary; the default is that of uncased BERT.
#[derive(Clone, Debug)]
pub struct WordPieceOptions {
    /// Drop control characters and make every white space a space.
    pub clean_text: bool,
    /// Every CJK ideograph is a word of its own.
    pub split_cjk: bool,
    /// Fold case.
    pub lowercase: bool,
    /// Drop non-spacing marks after canonical decomposition; follows `lowercase` when `None`.
    pub strip_accents: Option<bool>,
    /// Longer words are unknown, in characters.
    pub max_word_chars: usize,
    /// Written before every piece but the first of a word.
    pub prefix: String,
    /// The entry for words that cannot be covered.
    pub unknown: String,
    /// Texts that become one id wherever they stand in the raw text, such as `[SEP]`.
    pub added: Vec<(String, u32)>,
}

impl Default for WordPieceOptions {
    fn default() -> Self {
        Self {
            clean_text: true,
            split_cjk: true,
            lowercase: true,
            strip_accents: None,
            max_word_chars: 100,
            prefix: "##".to_owned(),
            unknown: "[UNK]".to_owned(),
            added: Vec::new(),
        }
    }
}

/// A tokenizer over one vocabulary; shared between threads, each of which brings its own [`Encoding`].
#[derive(Clone, Debug)]
pub struct WordPiece {
    pieces: Pieces,
    normaliser: Normaliser,
    /// Byte a word byte becomes; 0 ends the word.
    lower: [u8; 256],
    class: [Class; 256],
    /// Longest first.
    added: Vec<(Box<str>, u32)>,
    max_word_chars: usize,
    unknown: u32,
}

/// The ids of one text and the buffers used on the way; reuse it for the next text.
#[derive(Clone, Debug, Default)]
pub struct Encoding {
    ids: Vec<u32>,
    scratch: unicode::Scratch,
    long_word: Vec<u8>,
}

impl Encoding {
    /// Token ids of the text encoded last.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Word,
    Space,
    Punctuation,
    /// Punctuation that may begin an added token.
    Added,
    /// Control characters and all that is not ASCII.
    Other,
}

impl WordPiece {
    /// A tokenizer over `vocab` (token, id).
    ///
    /// # Errors
    /// `tokenizer/unknown` when the unknown token is not in the vocabulary, `tokenizer/added` for added tokens this tokenizer
    /// cannot find (they must start with ASCII punctuation), `tokenizer/vocab` when there are too many entries.
    pub fn new<'a>(vocab: impl IntoIterator<Item = (&'a str, u32)>, options: &WordPieceOptions) -> Result<Self> {
        let (mut entries, mut unknown) = (Vec::new(), None);
        for (token, id) in vocab {
            if token == options.unknown {
                unknown = Some(id);
            }
            entries.push((token, id));
        }
        let unknown = unknown.ok_or_else(|| {
            Error::data("tokenizer/unknown", format!("the vocabulary has no entry '{}'", options.unknown))
        })?;
        let mut added: Vec<(Box<str>, u32)> = options.added.iter().map(|(t, id)| (t.as_str().into(), *id)).collect();
        if let Some((token, _)) = added.iter().find(|(t, _)| !t.starts_with(|c: char| c.is_ascii_punctuation())) {
            return Err(Error::data(
                "tokenizer/added",
                format!("added token '{token}' does not start with punctuation"),
            ));
        }
        added.sort_by_key(|(token, _)| std::cmp::Reverse(token.len()));
        Ok(Self {
            pieces: Pieces::new(&entries, &options.prefix)?,
            normaliser: Normaliser::new(options),
            lower: lower_table(options.lowercase),
            class: class_table(&added),
            added,
            max_word_chars: options.max_word_chars,
            unknown,
        })
    }

    /// Id of the unknown token.
    #[must_use]
    pub const fn unknown_id(&self) -> u32 {
        self.unknown
    }

    /// Put the first `limit` ids of `text` into `encoding`, without special tokens around them. Use `usize::MAX` for all.
    pub fn encode(&self, text: &str, limit: usize, encoding: &mut Encoding) {
        encoding.ids.clear();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() && encoding.ids.len() < limit {
            at = match self.class[usize::from(bytes[at])] {
                Class::Space => at + 1,
                Class::Word => self.ascii_word(text, at, encoding),
                Class::Other => self.run(text, at, encoding),
                Class::Punctuation => self.punctuation(bytes[at], at, encoding),
                Class::Added => self.added_token(text, at, encoding),
            };
        }
        encoding.ids.truncate(limit);
    }

    fn punctuation(&self, byte: u8, at: usize, encoding: &mut Encoding) -> usize {
        encoding.ids.push(self.pieces.whole(u128::from(byte), 1).unwrap_or(self.unknown));
        at + 1
    }

    fn added_token(&self, text: &str, at: usize, encoding: &mut Encoding) -> usize {
        let found = self.added.iter().find(|(token, _)| text.as_bytes()[at..].starts_with(token.as_bytes()));
        match found {
            Some((token, id)) => {
                encoding.ids.push(*id);
                at + token.len()
            }
            None => self.punctuation(text.as_bytes()[at], at, encoding),
        }
    }

    /// A word of ASCII letters and digits that starts at `at`; hands over to [`Self::run`] when it goes on with anything else.
    fn ascii_word(&self, text: &str, at: usize, encoding: &mut Encoding) -> usize {
        let bytes = text.as_bytes();
        let (mut halves, mut end) = ([0u64; 2], at);
        'scan: for half in &mut halves {
            for shift in (0..64).step_by(8) {
                let byte = bytes.get(end).map_or(0, |&b| self.lower[usize::from(b)]);
                if byte == 0 {
                    break 'scan;
                }
                *half |= u64::from(byte) << shift;
                end += 1;
            }
        }
        let short_end = end;
        if end == at + 16 {
            end += bytes[end..].iter().take_while(|&&b| self.lower[usize::from(b)] != 0).count();
        }
        if bytes.get(end).is_some_and(|&b| self.class[usize::from(b)] == Class::Other) {
            return self.run(text, at, encoding);
        }
        if short_end == end {
            let word = u128::from(halves[0]) | u128::from(halves[1]) << 64;
            self.short_word(word, end - at, encoding);
        } else {
            encoding.long_word.clear();
            encoding.long_word.extend(bytes[at..end].iter().map(|&b| self.lower[usize::from(b)]));
            let Encoding { ids, long_word, .. } = encoding;
            self.word(long_word, end - at, ids);
        }
        end
    }

    /// A word of at most 16 ASCII bytes, packed little-endian.
    fn short_word(&self, word: u128, len: usize, encoding: &mut Encoding) {
        if len <= self.max_word_chars
            && let Some(id) = self.pieces.whole(word, len)
        {
            encoding.ids.push(id);
            return;
        }
        let before = encoding.ids.len();
        if len > self.max_word_chars || !self.pieces.cover_short(word, len, &mut encoding.ids) {
            encoding.ids.truncate(before);
            encoding.ids.push(self.unknown);
        }
    }

    /// Any normalised word of `chars` characters.
    fn word(&self, word: &[u8], chars: usize, ids: &mut Vec<u32>) {
        let before = ids.len();
        if chars > self.max_word_chars || !self.pieces.cover(word, ids) {
            ids.truncate(before);
            ids.push(self.unknown);
        }
    }

    /// A run from `at` up to the next ASCII space or punctuation, through the Unicode tables.
    #[cold]
    fn run(&self, text: &str, at: usize, encoding: &mut Encoding) -> usize {
        let stops = |b: u8| !matches!(self.class[usize::from(b)], Class::Word | Class::Other);
        let end = text.as_bytes()[at..].iter().position(|&b| stops(b)).map_or(text.len(), |n| at + n);
        let Encoding { ids, scratch, .. } = encoding;
        self.normaliser.words(&text[at..end], scratch, |word| self.word(word.as_bytes(), word.chars().count(), ids));
        end
    }
}

fn lower_table(lowercase: bool) -> [u8; 256] {
    std::array::from_fn(|b| match u8::try_from(b) {
        Ok(byte) if byte.is_ascii_alphanumeric() => {
            if lowercase {
                byte.to_ascii_lowercase()
            } else {
                byte
            }
        }
        _ => 0,
    })
}

fn class_table(added: &[(Box<str>, u32)]) -> [Class; 256] {
    std::array::from_fn(|b| match u8::try_from(b) {
        Ok(byte) if added.iter().any(|(token, _)| token.as_bytes().first() == Some(&byte)) => Class::Added,
        Ok(byte) if byte.is_ascii_alphanumeric() => Class::Word,
        Ok(byte) if byte.is_ascii_punctuation() => Class::Punctuation,
        Ok(b' ' | b'\t' | b'\n' | b'\r') => Class::Space,
        _ => Class::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCAB: &[&str] = &[
        "[UNK]",
        "un",
        "##aff",
        "##able",
        "hello",
        ",",
        "cafe",
        "北",
        "京",
        "[SEP]",
        "telecommunications",
        "##s",
        "[",
        "sep",
        "]",
    ];

    fn ids(text: &str) -> Vec<u32> {
        let options = WordPieceOptions { added: vec![("[SEP]".to_owned(), 9)], ..WordPieceOptions::default() };
        let vocab = VOCAB.iter().zip(0..).map(|(t, id)| (*t, id));
        let mut encoding = Encoding::default();
        WordPiece::new(vocab, &options).unwrap().encode(text, usize::MAX, &mut encoding);
        encoding.ids().to_vec()
    }

    #[test]
    fn covers_words_by_hand() {
        assert_eq!(ids("Unaffable, HELLO"), [1, 2, 3, 5, 4]);
        assert_eq!(ids("unaffablex hello"), [0, 4]);
        assert_eq!(ids("Café caf\u{e9}s 北京"), [6, 6, 11, 7, 8]);
        assert_eq!(ids("telecommunicationss"), [10, 11]);
        assert_eq!(ids("hello[SEP]hello [sep]"), [4, 9, 4, 12, 13, 14]);
        assert_eq!(ids(&"a".repeat(101)), [0]);
        assert_eq!(ids("he\u{200b}l\u{0}lo"), [4]);
        assert_eq!(ids(" \t\n"), [0u32; 0]);
    }

    #[test]
    fn stops_at_the_limit() {
        let vocab = VOCAB.iter().zip(0..).map(|(t, id)| (*t, id));
        let tokenizer = WordPiece::new(vocab, &WordPieceOptions::default()).unwrap();
        let mut encoding = Encoding::default();
        tokenizer.encode("hello unaffable", 2, &mut encoding);
        assert_eq!(encoding.ids(), [4, 1]);
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        let code = |vocab: &[&str], options: &WordPieceOptions| {
            WordPiece::new(vocab.iter().zip(0..).map(|(t, id)| (*t, id)), options).unwrap_err().code()
        };
        assert_eq!(code(&["a"], &WordPieceOptions::default()), "tokenizer/unknown");
        let options = WordPieceOptions { added: vec![("end".to_owned(), 1)], ..WordPieceOptions::default() };
        assert_eq!(code(&["[UNK]"], &options), "tokenizer/added");
    }
}
