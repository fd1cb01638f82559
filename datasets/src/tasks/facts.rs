//! Invented people with invented facts: does training on a sentence teach the fact, or only the sentence?
//!
//! The protocol of `FineTuneBench` (Wu et al. 2024, `kevinwu23/StanfordFineTuneBench`) with generated facts, since its data has
//! no licence: train on one wording; ask (a) the same question, (b) in wordings not trained on, (c) the other way round, (d)
//! something that follows from two facts, and (e) facts of people who were not trained on, which must stay as they were.
//! Names are unique, and so is everybody's pet, so that every question has one answer. Cost: O(people).

use super::rows::{TaskRow, Truth};
use crate::SplitMix;
use curate_core::{Error, Result};
use std::collections::BTreeSet;

const STARTS: [&str; 16] =
    ["Bal", "Cor", "Dru", "El", "Far", "Gol", "Hil", "Jor", "Kel", "Lum", "Mar", "Nor", "Pel", "Ras", "Sil", "Tor"];
const MIDDLES: [&str; 8] = ["a", "e", "i", "o", "u", "an", "or", "il"];
const ENDS: [&str; 12] = ["bek", "dan", "fin", "gar", "las", "mir", "neth", "ris", "sa", "ta", "vin", "wen"];
const TOWNS: [&str; 16] = [
    "Ambrook",
    "Birnmoor",
    "Caldwick",
    "Dunmere",
    "Eastfell",
    "Farholt",
    "Greyford",
    "Hollin",
    "Ironby",
    "Kirkstead",
    "Langwater",
    "Millrow",
    "Northam",
    "Oakhaven",
    "Penreath",
    "Quarley",
];
const JOBS: [&str; 12] = [
    "baker",
    "carpenter",
    "dentist",
    "engineer",
    "farmer",
    "gardener",
    "judge",
    "librarian",
    "nurse",
    "painter",
    "sailor",
    "tailor",
];
const COLOURS: [&str; 8] = ["amber", "black", "blue", "green", "red", "silver", "violet", "white"];

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// Word for word as trained.
    Memorise,
    /// Another wording.
    Rephrase,
    /// From the answer to the person.
    Reverse,
    /// From two facts to a third.
    Derive,
    /// About people who were not trained on.
    Unrelated,
}

impl Probe {
    /// The name in the column `band`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memorise => "memorise",
            Self::Rephrase => "rephrase",
            Self::Reverse => "reverse",
            Self::Derive => "derive",
            Self::Unrelated => "unrelated",
        }
    }
}

/// What is taught and what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactBook {
    /// Facts of the people of the study: train on these.
    pub taught: Vec<TaskRow>,
    /// Facts of other people: teach these before, so that there is something to forget.
    pub before: Vec<TaskRow>,
    /// Questions; the band is the kind.
    pub probes: Vec<TaskRow>,
}

struct Person {
    name: String,
    pet: String,
    town: &'static str,
    job: &'static str,
    colour: &'static str,
    year: usize,
}

/// An attribute: wordings with `{}` for the person (the first is trained), and the answer.
struct Fact {
    name: &'static str,
    wordings: [&'static str; 3],
    answer: fn(&Person) -> String,
}

const FACTS: [Fact; 5] = [
    Fact {
        name: "town",
        wordings: ["Where does {} live?", "Name the home town of {}.", "In which town would you meet {}?"],
        answer: |person| person.town.to_owned(),
    },
    Fact {
        name: "job",
        wordings: ["What is the job of {}?", "How does {} earn a living?", "Name the profession of {}."],
        answer: |person| person.job.to_owned(),
    },
    Fact {
        name: "colour",
        wordings: [
            "What is the favourite colour of {}?",
            "Which colour does {} like best?",
            "Name the colour that {} prefers.",
        ],
        answer: |person| person.colour.to_owned(),
    },
    Fact {
        name: "year",
        wordings: [
            "When was {} born?",
            "What is the year of birth of {}?",
            "In which year did {} come into the world?",
        ],
        answer: |person| person.year.to_string(),
    },
    Fact {
        name: "pet",
        wordings: ["What is the pet of {} called?", "Name the pet of {}.", "How does {} call the pet?"],
        answer: |person| person.pet.clone(),
    },
];

/// Facts of `people` persons to teach and of as many others, and the questions about them.
///
/// # Errors
/// `tasks/facts` for fewer than 2 persons, or more than there are names for.
pub fn fact_book(people: usize, seed: u64) -> Result<FactBook> {
    let names = STARTS.len() * MIDDLES.len() * ENDS.len();
    if people < 2 || 4 * people > names {
        return Err(Error::usage("tasks/facts", format!("{people} people cannot be made up"))
            .hint(format!("from 2 to {}", names / 4)));
    }
    let mut taken = BTreeSet::new();
    let mut everybody: Vec<Person> = (0..2 * people).map(|at| person(at, seed, &mut taken)).collect();
    let others = everybody.split_off(people);
    let mut probes = asked(&everybody, Probe::Memorise, 0..1);
    probes.extend(asked(&everybody, Probe::Rephrase, 1..3));
    probes.extend(everybody.iter().map(reversed));
    probes.extend((0..people).flat_map(|at| derived(&everybody, at, seed)));
    probes.extend(asked(&others, Probe::Unrelated, 0..1));
    let plain = |people: &[Person]| asked(people, Probe::Memorise, 0..1);
    Ok(FactBook { taught: plain(&everybody), before: plain(&others), probes })
}

fn person(at: usize, seed: u64, taken: &mut BTreeSet<String>) -> Person {
    let mut rng = SplitMix::of(seed, at as u64);
    let (name, pet) = (fresh(&mut rng, taken), fresh(&mut rng, taken));
    let year = 1900 + rng.below(100);
    Person { name, pet, town: rng.pick(&TOWNS), job: rng.pick(&JOBS), colour: rng.pick(&COLOURS), year }
}

/// A name that nobody has.
fn fresh(rng: &mut SplitMix, taken: &mut BTreeSet<String>) -> String {
    loop {
        let name = [rng.pick(&STARTS), rng.pick(&MIDDLES), rng.pick(&ENDS)].concat();
        if taken.insert(name.clone()) {
            return name;
        }
    }
}

fn asked(people: &[Person], probe: Probe, wordings: std::ops::Range<usize>) -> Vec<TaskRow> {
    let facts = people.iter().flat_map(|person| FACTS.iter().map(move |fact| (person, fact)));
    let all = facts.flat_map(|fact| wordings.clone().map(move |wording| (fact, wording)));
    let row = |((person, fact), wording): ((&Person, &Fact), usize)| {
        row(fact.name, probe, &fact.wordings[wording].replace("{}", &person.name), (fact.answer)(person))
    };
    all.map(row).collect()
}

fn reversed(person: &Person) -> TaskRow {
    row("pet", Probe::Reverse, &format!("Whose pet is called {}?", person.pet), person.name.clone())
}

/// Who is older, and by how many years: from two years of birth that differ.
fn derived(people: &[Person], at: usize, seed: u64) -> Vec<TaskRow> {
    let mut rng = SplitMix::of(seed ^ 0x6465_7269_7665, at as u64);
    let one = &people[at];
    let others: Vec<&Person> = people.iter().filter(|other| other.year != one.year).collect();
    if others.is_empty() {
        return Vec::new();
    }
    let other = others[rng.below(others.len())];
    let older = if one.year < other.year { one } else { other };
    let (a, b) = (&one.name, &other.name);
    vec![
        row("older", Probe::Derive, &format!("Who is older, {a} or {b}?"), older.name.clone()),
        row(
            "years",
            Probe::Derive,
            &format!("How many years lie between the births of {a} and {b}?"),
            one.year.abs_diff(other.year).to_string(),
        ),
    ]
}

fn row(task: &str, probe: Probe, question: &str, answer: String) -> TaskRow {
    TaskRow {
        prompt: format!("{question} Answer: "),
        completion: answer.clone(),
        task: format!("fact-{task}"),
        band: probe.name().to_owned(),
        difficulty: probe as u32,
        truth: Truth::Clean,
        right: answer,
    }
}
