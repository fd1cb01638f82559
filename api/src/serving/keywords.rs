//! Words that set the rows of a group apart from all others.
//!
//! A word counts once a row. With p its share of the group's rows and q its share of the others', the group's words are those of
//! largest `p ln((p + e) / (q + e))`, `e` half a row's share. Source: own work, in the manner of tf-idf by class. Cost: n words.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Words of a group.
const WORDS: usize = 8;

/// Characters of a text that are read.
const CHARS: usize = 1500;

/// Different words that are told apart; what comes later is passed over.
const VOCABULARY: usize = 200_000;

/// Counts words, row by row.
#[derive(Default)]
pub(super) struct Keywords {
    numbers: HashMap<String, u32>,
    words: Vec<String>,
    /// Rows of each word, in all and by group.
    all: Vec<u32>,
    by_group: BTreeMap<u32, BTreeMap<u32, u32>>,
    rows: BTreeMap<u32, u32>,
}

impl Keywords {
    /// Read a row of a group.
    pub(super) fn add(&mut self, group: u32, text: &str) {
        *self.rows.entry(group).or_default() += 1;
        let found: BTreeSet<u32> = words(text).filter_map(|word| self.number(word)).collect();
        let own = self.by_group.entry(group).or_default();
        for word in found {
            self.all[word as usize] += 1;
            *own.entry(word).or_default() += 1;
        }
    }

    fn number(&mut self, word: String) -> Option<u32> {
        if let Some(&known) = self.numbers.get(&word) {
            return Some(known);
        }
        if self.words.len() >= VOCABULARY {
            return None;
        }
        let new = self.words.len() as u32;
        self.words.push(word.clone());
        self.all.push(0);
        self.numbers.insert(word, new);
        Some(new)
    }

    /// The words of each group, the strongest first.
    pub(super) fn found(&self) -> BTreeMap<u32, Vec<String>> {
        self.by_group.iter().map(|(group, counts)| (*group, self.of(*group, counts))).collect()
    }

    fn of(&self, group: u32, counts: &BTreeMap<u32, u32>) -> Vec<String> {
        let all: u32 = self.rows.values().sum();
        let rows = f64::from(self.rows[&group]);
        let others = f64::from(all) - rows;
        let few = 0.5 / f64::from(all.max(1));
        let share = |count: f64, of: f64| if of > 0.0 { count / of } else { 0.0 };
        let weigh = |(&word, &count): (&u32, &u32)| {
            let p = share(f64::from(count), rows);
            let q = share(f64::from(self.all[word as usize] - count), others);
            (p * ((p + few) / (q + few)).ln(), word)
        };
        let least = if rows >= 8.0 { 2 } else { 1 };
        let mut weighed: Vec<(f64, u32)> = counts.iter().filter(|own| *own.1 >= least).map(weigh).collect();
        weighed.retain(|own| own.0 > 0.0);
        weighed
            .sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| self.words[a.1 as usize].cmp(&self.words[b.1 as usize])));
        weighed.truncate(WORDS);
        weighed.into_iter().map(|own| self.words[own.1 as usize].clone()).collect()
    }
}

/// Words of at least three letters, in lower case, from the beginning of a text.
fn words(text: &str) -> impl Iterator<Item = String> {
    let end = text.char_indices().nth(CHARS).map_or(text.len(), |place| place.0);
    let parts = text[..end].split(|c: char| !c.is_alphanumeric() && c != '_');
    let plain = |word: &&str| (3..=30).contains(&word.chars().count()) && word.chars().any(char::is_alphabetic);
    parts.filter(plain).map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_all_groups_set_none_apart() {
        let mut found = Keywords::default();
        for i in 0..10 {
            found.add(0, &format!("Write the SQL query {i} with a join"));
            found.add(1, &format!("Write the poem {i}, a sonnet"));
        }
        let words = found.found();
        assert_eq!(words[&0], ["join", "query", "sql", "with"]);
        assert_eq!(words[&1], ["poem", "sonnet"]);
    }

    #[test]
    fn a_group_alone_is_set_apart_by_what_it_says() {
        let mut found = Keywords::default();
        found.add(3, "alpha beta 12345 _ é");
        assert_eq!(found.found()[&3], ["alpha", "beta"]);
        assert!(Keywords::default().found().is_empty());
    }
}
