//! The vocabulary as an open-addressing table over packed bytes.
//!
//! A piece of up to 16 bytes is its own key: the bytes packed little-endian into a `u128`, with length and place (start or middle
//! of a word) beside it. The pieces of a word held in a register are then shifts and masks of it, and comparing is exact.
//! Longer pieces, rare in every BERT vocabulary, live in two ordinary maps.

use curate_core::{Error, Result};
use std::collections::HashMap;

/// Bytes that fit a packed key.
const PACKED_BYTES: usize = 16;
const EMPTY: u32 = u32::MAX;

#[derive(Clone, Debug)]
pub(super) struct Pieces {
    slots: Vec<Slot>,
    shift: u32,
    /// Pieces of more than 16 bytes: at the start of a word, within a word.
    long: [HashMap<Box<[u8]>, u32>; 2],
    /// Length in bytes of the longest piece at the start of a word, within a word.
    longest: [usize; 2],
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: [u64; 2],
    /// Length in bytes, plus 32 within a word.
    tag: u32,
    id: u32,
}

impl Pieces {
    pub(super) fn new(entries: &[(&str, u32)], prefix: &str) -> Result<Self> {
        let bits = (entries.len() * 4).next_power_of_two().trailing_zeros().max(4);
        if entries.len() > 1 << 24 {
            return Err(Error::data("tokenizer/vocab", "the vocabulary has more than 16777216 entries"));
        }
        let empty = Slot { key: [0; 2], tag: 0, id: EMPTY };
        let mut pieces = Self {
            slots: vec![empty; 1 << bits],
            shift: 64 - bits,
            long: [HashMap::new(), HashMap::new()],
            longest: [0; 2],
        };
        for &(token, id) in entries {
            // An entry that starts with the prefix can also stand at the start of a word, as it is written.
            pieces.insert(token.as_bytes(), 0, id);
            if let Some(rest) = token.strip_prefix(prefix) {
                pieces.insert(rest.as_bytes(), 1, id);
            }
        }
        Ok(pieces)
    }

    fn insert(&mut self, piece: &[u8], place: usize, id: u32) {
        if piece.is_empty() {
            return;
        }
        self.longest[place] = self.longest[place].max(piece.len());
        if piece.len() > PACKED_BYTES {
            self.long[place].insert(piece.into(), id);
        } else {
            let (key, tag) = (pack(piece), tag(piece.len(), place));
            let at = self.probe(key, tag);
            self.slots[at] = Slot { key: halves(key), tag, id };
        }
    }

    /// The slot of the key, or the empty slot where it would go.
    fn probe(&self, key: u128, tag: u32) -> usize {
        let key = halves(key);
        let mut at = self.home(key, tag);
        while self.slots[at].id != EMPTY && (self.slots[at].key != key || self.slots[at].tag != tag) {
            at = (at + 1) & (self.slots.len() - 1);
        }
        at
    }

    /// Multiply-fold hash, top bits.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of a product, and a value below the table size"
    )]
    fn home(&self, [low, high]: [u64; 2], tag: u32) -> usize {
        let a = low ^ 0x9e37_79b9_7f4a_7c15;
        let b = high.rotate_left(23) ^ (u64::from(tag) << 56) ^ 0xd1b5_4a32_d192_ed03;
        let product = u128::from(a) * u128::from(b);
        let folded = (product as u64 ^ (product >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (folded >> self.shift) as usize
    }

    fn packed(&self, key: u128, len: usize, place: usize) -> Option<u32> {
        let id = self.slots[self.probe(key, tag(len, place))].id;
        (id != EMPTY).then_some(id)
    }

    /// The entry that is the whole packed word of `len <= 16` bytes.
    pub(super) fn whole(&self, word: u128, len: usize) -> Option<u32> {
        self.packed(word, len, 0)
    }

    /// Cover a packed ASCII word of `len <= 16` bytes; false when it cannot be covered.
    pub(super) fn cover_short(&self, word: u128, len: usize, ids: &mut Vec<u32>) -> bool {
        let mut start = 0;
        while start < len {
            let place = usize::from(start > 0);
            let rest = word >> (8 * start);
            let most = (len - start).min(self.longest[place]);
            let found = (1..=most).rev().find_map(|n| Some((n, self.packed(rest & mask(n), n, place)?)));
            let Some((n, id)) = found else { return false };
            ids.push(id);
            start += n;
        }
        true
    }

    /// Cover a word of any length and script; false when it cannot be covered.
    pub(super) fn cover(&self, word: &[u8], ids: &mut Vec<u32>) -> bool {
        let mut start = 0;
        while start < word.len() {
            let Some((n, id)) = self.longest_start(&word[start..], usize::from(start > 0)) else { return false };
            ids.push(id);
            start += n;
        }
        true
    }

    /// Longest piece that starts `rest` and ends between characters: its length in bytes and its id.
    fn longest_start(&self, rest: &[u8], place: usize) -> Option<(usize, u32)> {
        let most = rest.len().min(self.longest[place]);
        let between = |n: usize| rest.get(n).is_none_or(|b| b & 0xc0 != 0x80);
        let long = || {
            let find = |n: usize| Some((n, *self.long[place].get(&rest[..n])?));
            (PACKED_BYTES + 1..=most).rev().filter(|&n| between(n)).find_map(find)
        };
        let packed = pack(&rest[..most.min(PACKED_BYTES)]);
        let short = || {
            let find = |n: usize| Some((n, self.packed(packed & mask(n), n, place)?));
            (1..=most.min(PACKED_BYTES)).rev().filter(|&n| between(n)).find_map(find)
        };
        long().or_else(short)
    }
}

fn pack(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |packed, &byte| packed << 8 | u128::from(byte))
}

/// The lowest `n` bytes, `1 <= n <= 16`.
const fn mask(n: usize) -> u128 {
    u128::MAX >> (128 - 8 * n)
}

#[expect(clippy::cast_possible_truncation, reason = "the two halves of a word")]
const fn halves(key: u128) -> [u64; 2] {
    [key as u64, (key >> 64) as u64]
}

#[expect(clippy::cast_possible_truncation, reason = "at most 16 bytes, two places")]
const fn tag(len: usize, place: usize) -> u32 {
    (len + 32 * place) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_entry_and_nothing_else() {
        let words: Vec<String> = (0..5000).map(|i| format!("{}{i}", if i % 2 == 0 { "##" } else { "w" })).collect();
        let entries: Vec<(&str, u32)> = words.iter().map(String::as_str).zip(0..).collect();
        let pieces = Pieces::new(&entries, "##").unwrap();
        for (word, id) in &entries {
            assert_eq!(pieces.whole(pack(word.as_bytes()), word.len()), Some(*id));
        }
        assert_eq!(pieces.whole(pack(b"w0"), 2), None);
        assert_eq!(pieces.packed(pack(b"42"), 2, 1), Some(42));
    }

    #[test]
    fn the_longest_piece_wins_in_any_length() {
        let entries = [("a", 0), ("abcdefghijklmnopqr", 1), ("##s", 2), ("##日本", 3), ("##日", 4)];
        let pieces = Pieces::new(&entries, "##").unwrap();
        let mut ids = Vec::new();
        assert!(pieces.cover("abcdefghijklmnopqrs日本日".as_bytes(), &mut ids));
        assert_eq!(ids, [1, 2, 3, 4]);
        assert!(!pieces.cover(b"abc", &mut ids));
    }
}
