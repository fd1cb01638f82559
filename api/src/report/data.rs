//! What a report says, as data: written by `--report out.json`, drawn by the page, read by anyone else.

use crate::manifest::Counts;
use serde::Serialize;
use serde_json::{Map as Figures, Value};

/// Version of this structure.
pub const REPORT_VERSION: u32 = 1;

/// A finished selection, told to people. Everything but `cost` is the same for the same plan and input.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of the structure, [`REPORT_VERSION`].
    pub version: u32,
    /// What was done.
    pub head: Head,
    /// What was chosen per source, cluster and length, against the whole.
    pub shares: Vec<Share>,
    /// Numbers of the rows, of those kept and of the rest.
    pub scores: Vec<Distribution>,
    /// The corpus in two dimensions; absent without vectors.
    pub map: Option<Map>,
    /// The first rows of the choice.
    pub best: Vec<Example>,
    /// The best of the rows that were not chosen.
    pub rejected: Rejected,
    /// What each filter removed.
    pub filters: Vec<Removed>,
    /// The choice against random draws of the same budget; empty when nothing was chosen.
    pub objective: Vec<Measure>,
    /// What it cost.
    pub cost: ReportCost,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// Version of the program.
    pub curate: String,
    /// Version of the cached stages' code.
    pub code_version: u32,
    /// The method's name.
    pub method: String,
    /// What the method does, in a sentence.
    pub summary: String,
    /// The plan in words: key and value, in order.
    pub plan: Vec<(String, String)>,
    /// Row counts.
    pub counts: Counts,
    /// Tokens of all rows of the pool and of the chosen ones.
    pub tokens: Option<Tokens>,
    /// Figures of the method and the filters.
    pub figures: Figures<String, Value>,
    /// Digests by name: input, target, model, selection.
    pub digests: Vec<(String, String)>,
}

/// Token counts by the built-in tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// All rows of the pool.
    pub pool: u64,
    /// The chosen rows.
    pub selected: u64,
}

/// Rows in parts, and how many of each part were chosen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// What the parts are: `source`, `cluster`, `length`.
    pub by: String,
    /// A word on how they were found.
    pub note: String,
    /// The parts: the largest first, or in order of length.
    pub parts: Vec<Part>,
    /// Parts not listed.
    pub other: Option<Part>,
    /// Number of parts not listed.
    pub other_parts: usize,
}

/// One part.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Rows of the pool in it.
    pub rows: u64,
    /// Rows chosen from it.
    pub picked_rows: u64,
    /// Share of all rows.
    pub share: f64,
    /// Share of the chosen rows.
    pub picked_share: f64,
    /// `picked_share / share`; absent for an empty part.
    pub lift: Option<f64>,
    /// Beginning of one of its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub example: Option<String>,
}

/// One number of every row, of the kept and of the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// What the number is.
    pub name: String,
    /// Whether the bins are equal on a logarithmic scale.
    pub log: bool,
    /// Borders of the bins, one more than bins; the first and the last bin also hold what lies beyond.
    pub edges: Vec<f64>,
    /// Kept rows in each bin.
    pub kept: Vec<u64>,
    /// Other rows in each bin.
    pub rest: Vec<u64>,
    /// Which quantiles follow.
    pub levels: Vec<f64>,
    /// Quantiles of the kept rows; empty when there is none.
    pub kept_quantiles: Vec<f64>,
    /// Quantiles of the other rows; empty when there is none.
    pub rest_quantiles: Vec<f64>,
    /// Mean of the kept rows.
    pub kept_mean: Option<f64>,
    /// Mean of the other rows.
    pub rest_mean: Option<f64>,
}

/// Points on a plane, one entry of each list a point. Coordinates are whole numbers from 0 to [`Map::SIDE`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Map {
    /// Share of the vectors' variance along the two axes.
    pub variance: [f64; 2],
    /// Rows of the pool that the points stand for.
    pub pool_rows: usize,
    /// Chosen rows among the points.
    pub picked_points: usize,
    /// Row ids.
    pub row: Vec<u64>,
    /// Across.
    pub x: Vec<u16>,
    /// Up.
    pub y: Vec<u16>,
    /// 0 not chosen, 1 chosen, 2 removed by a filter.
    pub state: Vec<u8>,
    /// Beginnings of the texts.
    pub text: Vec<String>,
    /// What a point may be coloured by: names of parts and the part of each point.
    pub parts: Vec<Colours>,
    /// What a point may be coloured by: a number.
    pub numbers: Vec<Numbers>,
}

impl Map {
    /// Largest coordinate.
    pub const SIDE: u16 = 4095;
}

/// Parts as colours.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Colours {
    /// What the parts are.
    pub by: String,
    /// Names of the parts that have a colour of their own.
    pub names: Vec<String>,
    /// Part of each point, `names.len()` for any other.
    pub part: Vec<u16>,
}

/// A number as colour.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    /// What the number is.
    pub by: String,
    /// Smallest and largest value shown; what lies beyond is drawn like them.
    pub range: [f64; 2],
    /// Value of each point in 0 to 99 within the range, 255 where there is none.
    pub value: Vec<u8>,
}

/// One row with its text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// Its id.
    pub row: u64,
    /// Its rank, from 0, if chosen.
    pub rank: Option<usize>,
    /// Why it was chosen or not.
    pub because: String,
    /// Its source, if known.
    pub source: Option<String>,
    /// Its numbers by name.
    pub numbers: Vec<(String, f32)>,
    /// Beginning of its text.
    pub text: String,
}

/// Rows that were not chosen, best first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rejected {
    /// The number they are ordered by; absent when the method has no opinion on rows it leaves out.
    pub by: Option<String>,
    /// The rows.
    pub rows: Vec<Example>,
}

/// What a filter removed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Removed {
    /// The filter.
    pub filter: String,
    /// Rows it looked at.
    pub judged_rows: usize,
    /// Rows it removed.
    pub removed_rows: usize,
    /// Kept rows that made most others superfluous.
    pub blockers: Vec<Blocker>,
}

/// A row and what it made superfluous.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Blocker {
    /// The row that stays; absent where the filter names none.
    pub row: Option<u64>,
    /// Beginning of its text.
    pub text: String,
    /// Rows it made superfluous.
    pub removed_rows: u64,
    /// One of them.
    pub example_row: u64,
    /// Beginning of that one's text.
    pub example_text: String,
}

/// One measure of the choice and of random draws.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// What is measured.
    pub name: String,
    /// How, in a sentence.
    pub note: String,
    /// `lower` or `higher` where one is better, else empty.
    pub better: &'static str,
    /// Of the choice.
    pub chosen: f64,
    /// Mean over the draws.
    pub random_mean: f64,
    /// Standard deviation over the draws.
    pub random_deviation: f64,
    /// Number of draws.
    pub draws: usize,
}

/// What the run cost until the report was written; the only part that differs between two equal runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReportCost {
    /// Wall seconds.
    pub seconds: f64,
    /// The stages, in order.
    pub stages: Vec<StageCost>,
    /// Largest resident size.
    pub peak_rss_bytes: u64,
    /// Worker threads.
    pub threads: usize,
    /// Device that did the arithmetic.
    pub backend: String,
    /// Units of work found in the cache.
    pub cached_units: usize,
    /// Units of work computed.
    pub computed_units: usize,
}

/// What a stage cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StageCost {
    /// The stage.
    pub stage: String,
    /// Wall seconds.
    pub seconds: f64,
    /// Units of work done, mostly rows; 0 where the stage counts none.
    pub done: u64,
    /// Tokens read; absent where not counted.
    pub tokens: Option<u64>,
    /// Floating-point operations, as far as they are counted.
    pub flop: Option<f64>,
}
