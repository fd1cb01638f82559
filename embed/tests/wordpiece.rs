//! Our `WordPiece` against the `tokenizers` crate on the vocabulary of the built-in encoder.

use crate::common::corpus;
use curate_embed::{Encoding, WordPiece, WordPieceOptions};
use proptest::prelude::*;
use std::sync::LazyLock;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{AddedToken, Tokenizer};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

static VOCAB: LazyLock<Vec<String>> = LazyLock::new(|| {
    let bytes = std::fs::read(crate::common::root().join("datasets/models/static-minilm-256.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let vocab = String::from_utf8(tensors.tensor("vocab").unwrap().data().to_vec()).unwrap();
    vocab.split('\n').map(ToOwned::to_owned).collect()
});

struct Pair {
    ours: WordPiece,
    theirs: Tokenizer,
}

fn pair(options: &WordPieceOptions) -> Pair {
    let entries = || VOCAB.iter().map(String::as_str).zip(0u32..);
    let special = entries().filter(|(token, _)| SPECIAL.contains(token)).map(|(token, id)| (token.to_owned(), id));
    let ours = WordPiece::new(entries(), &WordPieceOptions { added: special.collect(), ..options.clone() }).unwrap();
    let vocab: serde_json::Map<String, serde_json::Value> =
        entries().map(|(token, id)| (token.to_owned(), id.into())).collect();
    let model = serde_json::json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": options.max_word_chars, "vocab": vocab});
    let json = serde_json::json!({"version": "1.0", "added_tokens": [], "model": model});
    let mut theirs: Tokenizer = json.to_string().parse().unwrap();
    let WordPieceOptions { clean_text, split_cjk, lowercase, strip_accents, .. } = *options;
    theirs.with_normalizer(Some(BertNormalizer::new(clean_text, split_cjk, strip_accents, lowercase))).unwrap();
    theirs.with_pre_tokenizer(Some(BertPreTokenizer));
    theirs.add_special_tokens(SPECIAL.map(|token| AddedToken::from(token, true))).unwrap();
    Pair { ours, theirs }
}

static UNCASED: LazyLock<Pair> = LazyLock::new(|| pair(&WordPieceOptions::default()));
static CASED: LazyLock<Pair> = LazyLock::new(|| {
    pair(&WordPieceOptions { lowercase: false, clean_text: false, split_cjk: false, ..WordPieceOptions::default() })
});
static STRIPPED: LazyLock<Pair> = LazyLock::new(|| {
    pair(&WordPieceOptions {
        lowercase: false,
        strip_accents: Some(true),
        max_word_chars: 7,
        ..WordPieceOptions::default()
    })
});

impl Pair {
    fn check(&self, text: &str) {
        let mut encoding = Encoding::default();
        self.ours.encode(text, usize::MAX, &mut encoding);
        let theirs = self.theirs.encode_fast(text, false).unwrap();
        assert_eq!(encoding.ids(), theirs.get_ids(), "{text:?}");
    }
}

fn check_all(text: &str) {
    for pair in [&UNCASED, &CASED, &STRIPPED] {
        pair.check(text);
    }
}

/// Any characters, biased towards those with rules of their own.
fn awkward() -> impl Strategy<Value = String> {
    let special: Vec<char> = "a b,[]#'\t\n\r\u{b}\u{c}\u{0}\u{7f}\u{85}\u{a0}\u{ad}\u{200b}\u{200d}\u{2028}\u{3000}\u{feff}\u{fffd}\u{301}\u{302e}\u{345}\u{34f}\u{37e}\u{387}İıßẞﬁÅΩσςé한글北京日本ー㐀\u{f900}\u{2f800}\u{2b820}\u{1d15e}\u{1d16d}\u{1d165}👍🏽—“”«»؟।\u{e000}\u{e34}ไท"
        .chars()
        .collect();
    let one = prop_oneof![4 => prop::sample::select(special), 2 => any::<char>(), 4 => prop::char::range('a', 'z'),
        1 => prop::char::range('\u{300}', '\u{36f}'), 1 => prop::char::range('\u{1e00}', '\u{1eff}'), 1 => prop::char::range('\u{ac00}', '\u{d7a3}')];
    let piece = prop_oneof![8 => prop::collection::vec(one, 0..12).prop_map(String::from_iter),
        1 => prop::sample::select(VOCAB.as_slice()).prop_map(|token| token.replace("##", "")),
        1 => prop::sample::select(SPECIAL.as_slice()).prop_map(ToOwned::to_owned)];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_texts_have_the_same_ids(text in awkward()) {
        check_all(&text);
    }

    #[test]
    fn words_without_spaces_have_the_same_ids(text in "[a-zA-Z0-9éñ]{0,120}") {
        check_all(&text);
    }
}

#[test]
fn every_character_has_the_same_ids() {
    let all: Vec<String> = (0..=0x10_ffff).filter_map(char::from_u32).map(|c| format!("a{c}b")).collect();
    for some in all.chunks(64) {
        UNCASED.check(&some.join(" "));
    }
}

#[test]
fn the_whole_vocabulary_has_the_same_ids() {
    VOCAB.iter().for_each(|token| check_all(token));
    for words in VOCAB.chunks(9) {
        check_all(&words.join(" "));
        check_all(&words.concat().replace("##", ""));
    }
}

#[test]
fn real_texts_have_the_same_ids() {
    let texts = corpus();
    for text in &texts {
        UNCASED.check(text);
    }
    texts.iter().step_by(7).for_each(|text| CASED.check(text));
    eprintln!("{} texts of the shared data compared", texts.len());
}
