//! The part of BERT tokenising that needs Unicode tables: cleaning, ideographs, accents, case and punctuation beyond ASCII.
//!
//! The tables are those `tokenizers` reads (`unicode_categories`, canonical decomposition of Unicode 9), because newer ones would
//! classify newer characters otherwise and change ids. Their answers are kept in pages of 256 characters, filled on first use.

use super::WordPieceOptions;
use std::sync::OnceLock;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};

/// NUL, U+FFFD, control, format and private-use characters.
const DROP: u8 = 1;
const SPACE: u8 = 2;
const IDEOGRAPH: u8 = 4;
/// Decomposes, or takes part in reordering.
const COMPOSED: u8 = 8;
const NONSPACING_MARK: u8 = 16;
const PUNCTUATION: u8 = 32;
const HAS_LOWER: u8 = 64;

type Page = Box<[u8; 256]>;

/// One page per 256 code points up to U+10FFFF.
static PAGES: [OnceLock<Page>; 0x1100] = [const { OnceLock::new() }; 0x1100];

fn flags(c: char) -> u8 {
    let code = u32::from(c);
    let page =
        PAGES[code as usize >> 8].get_or_init(|| Box::new(std::array::from_fn(|low| slow_flags(code & !0xff, low))));
    page[code as usize & 0xff]
}

fn slow_flags(base: u32, low: usize) -> u8 {
    let Some(c) = u32::try_from(low).ok().and_then(|low| char::from_u32(base + low)) else { return 0 };
    let space = matches!(c, '\t' | '\n' | '\r') || c.is_whitespace();
    let control = !matches!(c, '\t' | '\n' | '\r') && c.is_other();
    let mut unchanged = false;
    decompose_canonical(c, |d| unchanged |= d == c);
    let composed = !unchanged || canonical_combining_class(c) != 0;
    let punctuation = c.is_ascii_punctuation() || c.is_punctuation();
    let has_lower = !c.to_lowercase().eq([c]);
    let flag = |condition: bool, bit: u8| if condition { bit } else { 0 };
    flag(c == '\0' || c == '\u{fffd}' || control, DROP)
        | flag(space, SPACE)
        | flag(is_ideograph(base, low), IDEOGRAPH)
        | flag(composed, COMPOSED)
        | flag(c.is_mark_nonspacing(), NONSPACING_MARK)
        | flag(punctuation, PUNCTUATION)
        | flag(has_lower, HAS_LOWER)
}

/// The ranges BERT calls Chinese; U+2B820..U+2B91F is left out there as well.
fn is_ideograph(base: u32, low: usize) -> bool {
    matches!(base as usize + low,
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f | 0x2_b740..=0x2_b81f
        | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f)
}

/// Buffers of one thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    clean: String,
    word: String,
}

/// What to do with characters.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four independent switches of the file format")]
pub(super) struct Normaliser {
    clean_text: bool,
    split_cjk: bool,
    strip_accents: bool,
    lowercase: bool,
}

impl Normaliser {
    pub(super) fn new(options: &WordPieceOptions) -> Self {
        Self {
            clean_text: options.clean_text,
            split_cjk: options.split_cjk,
            strip_accents: options.strip_accents.unwrap_or(options.lowercase),
            lowercase: options.lowercase,
        }
    }

    /// Normalise `run`, which must begin and end where no combining mark can reach across, and hand its words to `emit` in order.
    pub(super) fn words(&self, run: &str, scratch: &mut Scratch, emit: impl FnMut(&str)) {
        let Scratch { clean, word } = scratch;
        word.clear();
        let composed = self.clean(run, clean);
        let mut splitter = Splitter { word, emit };
        match (self.strip_accents, composed) {
            (true, true) => clean.nfd().for_each(|(c, _)| self.strip(c, &mut splitter)),
            (true, false) => clean.chars().for_each(|c| self.strip(c, &mut splitter)),
            (false, _) => clean.chars().for_each(|c| self.fold(c, &mut splitter)),
        }
        splitter.flush();
    }

    /// Drop control characters, set ideographs apart; says whether anything decomposes or reorders.
    fn clean(&self, run: &str, clean: &mut String) -> bool {
        clean.clear();
        let mut composed = false;
        for c in run.chars() {
            let flags = flags(c);
            composed |= flags & COMPOSED != 0;
            if self.clean_text && flags & (DROP | SPACE) != 0 {
                clean.extend((flags & DROP == 0).then_some(' '));
            } else if self.split_cjk && flags & IDEOGRAPH != 0 {
                clean.extend([' ', c, ' ']);
            } else {
                clean.push(c);
            }
        }
        composed
    }

    fn strip(&self, c: char, splitter: &mut Splitter<'_, impl FnMut(&str)>) {
        if flags(c) & NONSPACING_MARK == 0 {
            self.fold(c, splitter);
        }
    }

    fn fold(&self, c: char, splitter: &mut Splitter<'_, impl FnMut(&str)>) {
        if self.lowercase && flags(c) & HAS_LOWER != 0 {
            c.to_lowercase().for_each(|lower| splitter.push(lower));
        } else {
            splitter.push(c);
        }
    }
}

/// Cuts a stream of characters at white space and around punctuation.
struct Splitter<'a, F> {
    word: &'a mut String,
    emit: F,
}

impl<F: FnMut(&str)> Splitter<'_, F> {
    fn push(&mut self, c: char) {
        let flags = flags(c);
        if c.is_whitespace() {
            self.flush();
        } else if flags & PUNCTUATION != 0 {
            self.flush();
            self.word.push(c);
            self.flush();
        } else {
            self.word.push(c);
        }
    }

    fn flush(&mut self) {
        if !self.word.is_empty() {
            (self.emit)(self.word);
            self.word.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str, options: &WordPieceOptions) -> Vec<String> {
        let (mut scratch, mut words) = (Scratch::default(), Vec::new());
        Normaliser::new(options).words(text, &mut scratch, |word| words.push(word.to_owned()));
        words
    }

    #[test]
    fn uncased_by_hand() {
        let options = WordPieceOptions::default();
        assert_eq!(words("Ça\u{2003}va—İ한", &options), ["ca", "va", "—", "i\u{1112}\u{1161}\u{11ab}"]);
        assert_eq!(words("x中文y\u{37e}z", &options), ["x", "中", "文", "y", ";", "z"]);
    }

    #[test]
    fn cased_keeps_accents() {
        let options = WordPieceOptions { lowercase: false, split_cjk: false, ..WordPieceOptions::default() };
        assert_eq!(words("Ça中", &options), ["Ça中"]);
    }
}
