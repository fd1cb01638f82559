//! The tokenizer of a model folder: our [`WordPiece`] where `tokenizer.json` describes plain BERT, else the `tokenizers` crate.
//! Padding and truncation stored in the file are ignored: cutting follows the folder's own limit, and nothing is ever padded.

use super::folder::{Folder, parse};
use crate::{Encoding, WordPiece, WordPieceOptions};
use curate_core::{Error, Result};
use serde_json::Value;
use std::str::FromStr;
use tokenizers::{Tokenizer, TruncationParams};

#[derive(Debug)]
pub(super) enum TextTokenizer {
    Fast { pieces: Box<WordPiece>, before: Vec<u32>, after: Vec<u32> },
    General { cut: Box<Tokenizer>, whole: Box<Tokenizer> },
}

impl TextTokenizer {
    /// Read `tokenizer.json`, or `vocab.txt` of older BERT folders, below `transformer`.
    pub(super) fn open(folder: &mut Folder, transformer: &str, max_tokens: usize) -> Result<Self> {
        let root = if folder.exists(&format!("{transformer}tokenizer.json")) { transformer } else { "" };
        let Some(json) = folder.read(&format!("{root}tokenizer.json"))? else {
            return Self::from_vocab(folder, transformer);
        };
        if let Some(fast) = Self::fast(&parse(&json, "tokenizer.json")?) {
            return Ok(fast);
        }
        let text = std::str::from_utf8(&json).map_err(|_| folder.broken("tokenizer.json", "not UTF-8"))?;
        Self::general(text, max_tokens)
    }

    fn general(json: &str, max_tokens: usize) -> Result<Self> {
        let bad = |e: tokenizers::Error| Error::data("model/tokenizer", format!("tokenizer.json: {e}")).because(e);
        let mut whole = Tokenizer::from_str(json).map_err(bad)?;
        whole.with_padding(None);
        whole.with_truncation(None).map_err(bad)?;
        let mut cut = whole.clone();
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        cut.with_truncation(Some(truncation)).map_err(bad)?;
        Ok(Self::General { cut: Box::new(cut), whole: Box::new(whole) })
    }

    /// Our tokenizer for a `tokenizer.json` that is plain BERT in every part; `None` when any part is something else.
    fn fast(json: &Value) -> Option<Self> {
        let (model, normalizer) = (json.get("model")?, json.get("normalizer")?);
        let kind = |part: &Value| Some(part.get("type")?.as_str()?.to_owned());
        let is_plain = kind(model)? == "WordPiece"
            && kind(normalizer)? == "BertNormalizer"
            && kind(json.get("pre_tokenizer")?)? == "BertPreTokenizer";
        let (before, after) = surrounding(json.get("post_processor")?)?;
        let flag = |key: &str| normalizer.get(key)?.as_bool();
        let options = WordPieceOptions {
            clean_text: flag("clean_text")?,
            split_cjk: flag("handle_chinese_chars")?,
            lowercase: flag("lowercase")?,
            strip_accents: flag("strip_accents"),
            max_word_chars: usize::try_from(model.get("max_input_chars_per_word")?.as_u64()?).ok()?,
            prefix: model.get("continuing_subword_prefix")?.as_str()?.to_owned(),
            unknown: model.get("unk_token")?.as_str()?.to_owned(),
            added: json.get("added_tokens")?.as_array()?.iter().map(plain_added).collect::<Option<_>>()?,
        };
        let id = |id: &Value| u32::try_from(id.as_u64()?).ok();
        let vocab = model.get("vocab")?.as_object()?.iter();
        let vocab: Vec<(&str, u32)> = vocab.map(|(token, n)| Some((token.as_str(), id(n)?))).collect::<Option<_>>()?;
        let pieces = Box::new(is_plain.then(|| WordPiece::new(vocab, &options).ok())??);
        Some(Self::Fast { pieces, before, after })
    }

    fn from_vocab(folder: &mut Folder, transformer: &str) -> Result<Self> {
        let text = String::from_utf8(folder.need(&format!("{transformer}vocab.txt"))?)
            .map_err(|_| folder.broken("vocab.txt", "not UTF-8"))?;
        let config = folder.read(&format!("{transformer}tokenizer_config.json"))?;
        let config: Value = config.map_or(Ok(Value::Null), |json| parse(&json, "tokenizer_config.json"))?;
        let vocab: Vec<(&str, u32)> = text.lines().map(str::trim_end).zip(0..).collect();
        let id = |token: &str| vocab.iter().find(|(t, _)| *t == token).map(|(_, id)| *id);
        let (Some(cls), Some(sep)) = (id("[CLS]"), id("[SEP]")) else {
            return Err(folder.broken("vocab.txt", "not a BERT vocabulary: [CLS] or [SEP] is missing"));
        };
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].iter();
        let options = WordPieceOptions {
            lowercase: config.get("do_lower_case").and_then(Value::as_bool).unwrap_or(true),
            added: special.filter_map(|token| Some(((*token).to_owned(), id(token)?))).collect(),
            ..WordPieceOptions::default()
        };
        let pieces = Box::new(WordPiece::new(vocab, &options)?);
        Ok(Self::Fast { pieces, before: vec![cls], after: vec![sep] })
    }

    /// Ids of `text` with specials, at most `max_tokens` of them.
    pub(super) fn ids(&self, text: &str, max_tokens: usize, encoding: &mut Encoding) -> Result<Vec<u32>> {
        match self {
            Self::Fast { pieces, before, after } => {
                let room = max_tokens.saturating_sub(before.len() + after.len());
                pieces.encode(text, room, encoding);
                Ok([before, encoding.ids(), after].concat())
            }
            Self::General { cut, .. } => Ok(cut.encode_fast(text, true).map_err(failed)?.get_ids().to_vec()),
        }
    }

    /// Tokens of the whole text without specials.
    pub(super) fn count(&self, text: &str, encoding: &mut Encoding) -> Result<usize> {
        match self {
            Self::Fast { pieces, .. } => {
                pieces.encode(text, usize::MAX, encoding);
                Ok(encoding.ids().len())
            }
            Self::General { whole, .. } => Ok(whole.encode_fast(text, false).map_err(failed)?.len()),
        }
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::data("model/tokenizer", error.to_string()).because(error)
}

/// An added token without any of the special matching rules.
fn plain_added(token: &Value) -> Option<(String, u32)> {
    let off = |key: &str| token.get(key).and_then(Value::as_bool) == Some(false);
    let plain = ["single_word", "lstrip", "rstrip", "normalized"].iter().all(|key| off(key));
    let id = u32::try_from(token.get("id")?.as_u64()?).ok()?;
    plain.then(|| Some((token.get("content")?.as_str()?.to_owned(), id)))?
}

/// Ids that a post-processor puts before and after a single text.
fn surrounding(processor: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    match processor.get("type")?.as_str()? {
        "BertProcessing" => {
            let id = |key: &str| u32::try_from(processor.get(key)?.get(1)?.as_u64()?).ok();
            Some((vec![id("cls")?], vec![id("sep")?]))
        }
        "TemplateProcessing" => {
            let (mut before, mut after, mut seen_text) = (Vec::new(), Vec::new(), false);
            for piece in processor.get("single")?.as_array()? {
                if piece.get("Sequence").is_some() {
                    seen_text = true;
                    continue;
                }
                let name = piece.get("SpecialToken")?.get("id")?.as_str()?;
                for id in processor.get("special_tokens")?.get(name)?.get("ids")?.as_array()? {
                    let side = if seen_text { &mut after } else { &mut before };
                    side.push(u32::try_from(id.as_u64()?).ok()?);
                }
            }
            seen_text.then_some((before, after))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r###"{"version":"1.0","truncation":null,"padding":{"strategy":{"Fixed":16},"direction":"Right","pad_to_multiple_of":null,
        "pad_id":0,"pad_type_id":0,"pad_token":"[PAD]"},"added_tokens":[
        {"id":1,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
        "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
        "pre_tokenizer":{"type":"BertPreTokenizer"},
        "post_processor":{"type":"BertProcessing","sep":["[SEP]",2],"cls":["[CLS]",1]},"decoder":null,
        "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,
        "vocab":{"[PAD]":0,"[CLS]":1,"[SEP]":2,"[UNK]":3,"a":4,"##b":5}}}"###;

    #[test]
    fn both_ways_agree_and_nothing_is_padded() {
        let fast = TextTokenizer::fast(&serde_json::from_str(PLAIN).unwrap()).unwrap();
        let general = TextTokenizer::general(PLAIN, 4).unwrap();
        let mut encoding = Encoding::default();
        for text in ["ab A x", "", "[CLS] a"] {
            assert_eq!(
                fast.ids(text, 4, &mut encoding).unwrap(),
                general.ids(text, 4, &mut encoding).unwrap(),
                "{text}"
            );
            assert_eq!(fast.count(text, &mut encoding).unwrap(), general.count(text, &mut encoding).unwrap(), "{text}");
        }
        assert_eq!(fast.ids("ab A x", 4, &mut encoding).unwrap(), [1, 4, 5, 2]);
    }

    #[test]
    fn anything_unusual_goes_the_general_way() {
        for (from, to) in [(r#""normalized":false"#, r#""normalized":true"#), ("BertPreTokenizer", "Whitespace")] {
            let json = serde_json::from_str(&PLAIN.replace(from, to)).unwrap();
            assert!(TextTokenizer::fast(&json).is_none(), "{to}");
        }
    }
}
