//! The history of a session for people: one point a step.

use super::machine::{Machine, Step};
use super::signals::{Fed, by_group, means};
use curate_api::Column;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The point of a step as it stands: drawn rows, and what was said of them so far.
pub(crate) fn point(number: u64, step: &Step, machine: &Machine, at: f64) -> Value {
    let fed: Vec<&Fed> = step.fed.iter().flatten().filter(|fed| !fed.rows.is_empty()).collect();
    let rows = step.picks.len();
    let said: usize = fed.iter().map(|fed| fed.rows.len()).sum();
    let mean = |of: &dyn Fn(&curate_api::Pick) -> f64| step.picks.iter().map(of).sum::<f64>() / rows.max(1) as f64;
    let score = mean(&|pick| f64::from(pick.score));
    let utility = step.figures["utility"].as_f64();
    json!({
        "step": number, "epoch": step.epoch, "at": at, "rows": rows, "fed": said,
        "signals": signals(&fed, said), "informative": informative(&fed), "score": finite(score),
        "utility": utility, "diversity": utility.map(|utility| score - utility), "groups": groups(step, &fed, machine),
    })
}

fn finite(x: f64) -> Option<f64> {
    x.is_finite().then_some(x)
}

/// Mean of each signal over all rows of which something was said.
fn signals(fed: &[&Fed], said: usize) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for part in fed {
        for (name, mean) in means(part) {
            *sums.entry(name).or_default() += mean * part.rows.len() as f64 / said.max(1) as f64;
        }
    }
    sums
}

/// Share of prompts answered sometimes rightly and sometimes not.
fn informative(fed: &[&Fed]) -> Option<f64> {
    let (mut some, mut all) = (0usize, 0usize);
    for part in fed {
        let pool = part.pool().ok()?;
        let read = |name: &str| pool.numbers(&Column::signal(name)).ok();
        let (right, tried) = (read("successes")?, read("trials")?);
        some += right.iter().zip(&tried).filter(|(right, tried)| **right > 0.0 && right < tried).count();
        all += right.len();
    }
    (all > 0).then(|| some as f64 / all as f64)
}

fn groups(step: &Step, fed: &[&Fed], machine: &Machine) -> Map<String, Value> {
    let mut drawn: BTreeMap<u32, u64> = BTreeMap::new();
    step.picks.iter().filter_map(|pick| pick.group).for_each(|group| *drawn.entry(group).or_default() += 1);
    let mut signal: BTreeMap<u32, f64> = BTreeMap::new();
    fed.iter().for_each(|part| signal.extend(by_group(part, &step.picks)));
    let weights = machine.weights();
    let names: std::collections::BTreeSet<u32> = drawn.keys().chain(weights.keys()).copied().collect();
    let one = |group: u32| {
        let value = json!({"drawn": drawn.get(&group).copied().unwrap_or(0), "signal": signal.get(&group), "weight": weights.get(&group)});
        (group.to_string(), value)
    };
    names.into_iter().map(one).collect()
}
