//! Words of a text, as the text indicators count them.
//!
//! Split on Unicode whitespace, lower case (full mapping), the 32 ASCII punctuation characters stripped at both ends, empty
//! words dropped. A language written without spaces gives one word a sentence. Cost: one pass over the text.

use std::collections::HashMap;

/// The words of a text, in order.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let strip = |c: char| c.is_ascii_punctuation();
    text.split_whitespace()
        .map(move |word| word.to_lowercase().trim_matches(strip).to_owned())
        .filter(|word| !word.is_empty())
}

/// Number every word by its first appearance: equal words, equal numbers.
pub fn numbered<S: AsRef<str>>(words: impl Iterator<Item = S>) -> Vec<u32> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let mut number = |word: &str| {
        if let Some(&known) = seen.get(word) {
            return known;
        }
        let new = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        seen.insert(word.to_owned(), new);
        new
    };
    words.map(|word| number(word.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_and_case_go() {
        let found: Vec<String> = words("\"Über\u{a0}uns\", -- don't (stop)!").collect();
        assert_eq!(found, ["über", "uns", "don't", "stop"]);
        assert_eq!(numbered(["b", "a", "b"].iter()), [0, 1, 0]);
    }
}
