//! The result of an evaluation: one line a task, group and metric.

use super::run::Judged;
use super::stats::{Interval, wilson};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Task; empty for all tasks together.
    pub task: String,
    /// Group within the task, such as a length band; empty for all of it.
    pub group: String,
    /// What was measured.
    pub metric: String,
    /// Items, or tokens.
    pub n: u64,
    /// The value.
    pub value: f64,
    /// Its 95% interval, where there is one.
    pub interval: Option<Interval>,
}

impl Measure {
    /// A line without count and interval.
    #[must_use]
    pub fn plain(task: &str, group: &str, metric: &str, value: f64) -> Self {
        let (task, group, metric) = (task.to_owned(), group.to_owned(), metric.to_owned());
        Self { task, group, metric, n: 0, value, interval: None }
    }

    /// A share of items with its interval.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "item counts stay below 2^53")]
    pub fn share(task: &str, group: &str, metric: &str, (successes, n): (u64, u64)) -> Self {
        let value = if n == 0 { 0.0 } else { successes as f64 / n as f64 };
        Self { n, interval: Some(wilson(successes, n)), ..Self::plain(task, group, metric, value) }
    }
}

/// All lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvalReport {
    /// Lines, tasks and groups in order of name.
    pub measures: Vec<Measure>,
}

impl EvalReport {
    /// Lines for every task and group, for every task, and for all together where there are several.
    #[must_use]
    pub fn of(judged: &[Judged], metric: &str) -> Self {
        let mut cells: BTreeMap<(&str, &str), Vec<&Judged>> = BTreeMap::new();
        for one in judged {
            let mut keys = vec![("", ""), (one.task.as_str(), ""), (one.task.as_str(), one.group.as_str())];
            keys.dedup();
            for key in keys {
                cells.entry(key).or_default().push(one);
            }
        }
        let several = cells.keys().filter(|(task, group)| !task.is_empty() && group.is_empty()).count() != 1;
        let wanted = cells.into_iter().filter(|((task, _), _)| several || !task.is_empty());
        Self { measures: wanted.flat_map(|((task, group), ones)| lines(task, group, metric, &ones)).collect() }
    }

    /// The value of one line.
    #[must_use]
    pub fn value(&self, task: &str, group: &str, metric: &str) -> Option<f64> {
        let line = |m: &&Measure| m.task == task && m.group == group && m.metric == metric;
        self.measures.iter().find(line).map(|m| m.value)
    }

    /// Column heads of [`EvalReport::rows`].
    pub const HEADS: [&'static str; 6] = ["task", "group", "metric", "n", "value", "95% interval"];

    /// The report as rows of a table.
    #[must_use]
    pub fn rows(&self) -> Vec<[String; 6]> {
        let all = |name: &str| if name.is_empty() { "all".to_owned() } else { name.to_owned() };
        let interval = |m: &Measure| m.interval.map_or_else(String::new, |i| format!("{:.4} to {:.4}", i.low, i.high));
        let row = |m: &Measure| {
            [all(&m.task), all(&m.group), m.metric.clone(), m.n.to_string(), format!("{:.4}", m.value), interval(m)]
        };
        self.measures.iter().map(row).collect()
    }
}

fn lines(task: &str, group: &str, metric: &str, judged: &[&Judged]) -> Vec<Measure> {
    let n = judged.len() as u64;
    let correct = judged.iter().filter(|one| one.verdict.correct).count() as u64;
    let mut lines = vec![Measure::share(task, group, metric, (correct, n))];
    let answered = judged.iter().filter(|one| one.verdict.answer.is_some()).count() as u64;
    if answered < n {
        lines.push(Measure::share(task, group, "answered", (answered, n)));
    }
    let digits: Vec<_> = judged.iter().filter_map(|one| one.verdict.digits).collect();
    if !digits.is_empty() {
        let matched = mean(digits.iter().map(|score| score.digit_match));
        let off = mean(digits.iter().map(|score| f64::from(u32::try_from(score.dlength).unwrap_or(u32::MAX))));
        for (name, value) in [("digit-match", matched), ("dlength", off)] {
            lines.push(Measure { n: digits.len() as u64, ..Measure::plain(task, group, name, value) });
        }
    }
    lines
}

#[expect(clippy::cast_precision_loss, reason = "item counts stay below 2^53")]
fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}
