//! Alpaca-form rows whose topic is known: what a selector that claims variety must find again.

use crate::SplitMix;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use curate_core::{Pool, Result};
use std::sync::Arc;

/// Number of topics there are words for.
pub const TOPICS: usize = 8;

/// A topic: its things and what is done to them. No word belongs to two topics.
struct Theme {
    verbs: [&'static str; 4],
    things: [&'static str; 8],
}

static THEMES: [Theme; TOPICS] = [
    Theme {
        verbs: ["bake", "roast", "season", "simmer"],
        things: ["bread", "soup", "onions", "pastry", "garlic", "noodles", "cheese", "pancakes"],
    },
    Theme {
        verbs: ["integrate", "factor", "differentiate", "solve"],
        things: ["polynomial", "equation", "matrix", "integral", "fraction", "derivative", "theorem", "logarithm"],
    },
    Theme {
        verbs: ["debug", "compile", "refactor", "deploy"],
        things: ["function", "compiler", "database", "server", "algorithm", "software", "python script", "unit test"],
    },
    Theme {
        verbs: ["diagnose", "vaccinate", "treat", "examine"],
        things: ["patient", "fever", "infection", "surgery", "antibiotic", "blood pressure", "hospital", "symptom"],
    },
    Theme {
        verbs: ["prune", "water", "plant", "harvest"],
        things: ["roses", "tomato seedlings", "orchard", "soil", "tulips", "compost", "hedge", "greenhouse"],
    },
    Theme {
        verbs: ["invest", "borrow", "audit", "insure"],
        things: ["mortgage", "stocks", "dividend", "pension", "loan", "interest rate", "bank account", "tax return"],
    },
    Theme {
        verbs: ["compose", "rehearse", "sing", "tune"],
        things: ["violin", "symphony", "melody", "piano", "choir", "orchestra", "guitar", "rhythm"],
    },
    Theme {
        verbs: ["sail", "navigate", "anchor", "row"],
        things: ["harbour", "yacht", "tide", "captain", "lighthouse", "ocean voyage", "ferry", "mast"],
    },
];

const ASKS: [&str; 6] = [
    "Explain how to",
    "Describe when to",
    "Give three reasons to",
    "Write a short note on how to",
    "Tell a beginner how to",
    "List the steps to",
];

/// A corpus and the truth about it.
#[derive(Clone, Debug)]
pub struct Planted {
    /// Columns `id`, `instruction`, `input`, `output`.
    pub batch: RecordBatch,
    /// Topic of every row.
    pub topics: Vec<usize>,
}

impl Planted {
    /// The corpus as a pool of one chunk.
    #[must_use]
    pub fn pool(&self) -> Pool {
        Pool::from_batch(self.batch.clone())
    }
}

/// `rows` rows about `topics` topics (at least 1, at most [`TOPICS`]). A row depends on seed and place only, so that a
/// longer corpus begins with the shorter one.
///
/// # Errors
/// What Arrow gives.
pub fn planted(rows: usize, topics: usize, seed: u64) -> Result<Planted> {
    let drawn: Vec<(usize, [String; 4])> = (0..rows).map(|row| draw(row, topics.clamp(1, TOPICS), seed)).collect();
    let column =
        |i: usize| Arc::new(StringArray::from_iter_values(drawn.iter().map(|(_, cells)| &cells[i]))) as ArrayRef;
    let names = ["id", "instruction", "input", "output"];
    let batch = RecordBatch::try_from_iter(names.iter().enumerate().map(|(i, name)| (*name, column(i))))?;
    Ok(Planted { batch, topics: drawn.into_iter().map(|(topic, _)| topic).collect() })
}

/// One row: its topic and its cells.
fn draw(row: usize, topics: usize, seed: u64) -> (usize, [String; 4]) {
    let mut rng = SplitMix::of(seed, row as u64);
    let topic = rng.below(topics);
    let theme = &THEMES[topic];
    let (verb, thing, other) = (rng.pick(&theme.verbs), rng.pick(&theme.things), rng.pick(&theme.things));
    let instruction = format!("{} {verb} the {thing} before the {other}.", rng.pick(&ASKS));
    let input =
        if rng.below(3) == 0 { format!("The {} matters most.", rng.pick(&theme.things)) } else { String::new() };
    let sentences: Vec<String> = (0..=rng.below(4))
        .map(|_| {
            format!(
                "To {} the {}, look at the {}.",
                rng.pick(&theme.verbs),
                rng.pick(&theme.things),
                rng.pick(&theme.things)
            )
        })
        .collect();
    (topic, [format!("planted-{row:06}"), instruction, input, sentences.join(" ")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_corpus_begins_with_the_shorter() {
        let (short, long) = (planted(20, 5, 3).unwrap(), planted(50, 5, 3).unwrap());
        assert_eq!(short.batch, long.batch.slice(0, 20));
        assert_eq!(short.topics, long.topics[..20]);
        assert_ne!(short.batch, planted(20, 5, 4).unwrap().batch);
        assert_eq!(long.pool().rows(), 50);
    }

    #[test]
    fn every_topic_occurs_and_no_thing_belongs_to_two() {
        let topics = planted(400, TOPICS, 0).unwrap().topics;
        assert!((0..TOPICS).all(|topic| topics.iter().filter(|&&t| t == topic).count() > 20));
        let mut things: Vec<&str> = THEMES.iter().flat_map(|theme| theme.things).collect();
        things.sort_unstable();
        things.dedup();
        assert_eq!(things.len(), 8 * TOPICS);
    }
}
