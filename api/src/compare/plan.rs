//! What `curate compare` is told.

use crate::plan::Use;
use curate_core::{Budget, Error, Result};
use curate_trainer::eval::Judge;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

/// Methods against which all others are measured; always among the arms.
pub(super) const BASELINES: [&str; 2] = ["random", "length-matched-random"];

/// Which methods are compared, and by what.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ComparePlan {
    /// Methods with their parameters: selectors choose the budget before training, online methods choose every batch.
    pub methods: Vec<Use>,
    /// One arm a method and seed.
    pub seeds: Vec<u64>,
    /// How much each selector may choose.
    #[schemars(with = "String")]
    pub budget: Budget,
    /// Candidates a step for online methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidates: Option<usize>,
    /// Model whose losses methods such as rho-loss compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Let the models answer, and compare their answers by this rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// Keep the models and checkpoints of the arms.
    pub keep_models: bool,
}

impl Default for ComparePlan {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            seeds: vec![1, 2, 3],
            budget: Budget::Fraction(0.05),
            candidates: None,
            reference: None,
            judge: None,
            max_new_tokens: 64,
            keep_models: false,
        }
    }
}

impl ComparePlan {
    /// The methods, baselines first; each must be there once.
    ///
    /// # Errors
    /// `compare/twice`, `compare/seeds`.
    pub(super) fn all_methods(&self) -> Result<Vec<Use>> {
        let mut seeds = self.seeds.clone();
        seeds.sort_unstable();
        seeds.dedup();
        if seeds.is_empty() || seeds.len() < self.seeds.len() {
            return Err(Error::usage("compare/seeds", "seeds must be there, and each once").hint("--seeds 1,2,3"));
        }
        let given = |name: &str| self.methods.iter().any(|m| m.name == name);
        let missing = BASELINES.into_iter().filter(|name| !given(name));
        let mut all: Vec<Use> = missing.map(|name| Use { name: name.to_owned(), params: Map::new() }).collect();
        all.extend(self.methods.iter().cloned());
        let labels: Vec<String> = all.iter().map(label).collect();
        let twice = (1..labels.len()).find(|&i| labels[..i].contains(&labels[i]));
        twice.map_or(Ok(all), |i| {
            Err(Error::usage("compare/twice", format!("{} is named twice", labels[i])).hint("name each method once"))
        })
    }
}

/// A method as the table names it: `name` or `name:key=value,key=value`.
pub(super) fn label(method: &Use) -> String {
    let params: Vec<String> =
        method.params.iter().map(|(k, v)| format!("{k}={}", v.to_string().trim_matches('"'))).collect();
    if params.is_empty() { method.name.clone() } else { format!("{}:{}", method.name, params.join(",")) }
}

/// A label as the name of a folder.
pub(super) fn slug(label: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    let text: String = label.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if text == label { text } else { format!("{text}-{}", &blake3::hash(label.as_bytes()).to_hex()[..8]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(names: &[&str]) -> ComparePlan {
        let methods = names.iter().map(|n| serde_json::from_value(json!({"use": n})).unwrap()).collect();
        ComparePlan { methods, ..ComparePlan::default() }
    }

    #[test]
    fn the_baselines_are_always_there() {
        let names = |plan: &ComparePlan| plan.all_methods().unwrap().into_iter().map(|m| m.name).collect::<Vec<_>>();
        assert_eq!(names(&of(&["top-score"])), ["random", "length-matched-random", "top-score"]);
        assert_eq!(names(&of(&["top-score", "random"])), ["length-matched-random", "top-score", "random"]);
        assert_eq!(of(&["uds", "uds"]).all_methods().unwrap_err().code(), "compare/twice");
        let none = ComparePlan { seeds: vec![], ..of(&[]) };
        assert_eq!(none.all_methods().unwrap_err().code(), "compare/seeds");
        assert_eq!(slug("top-score"), "top-score");
        assert_ne!(slug("a:k=1"), slug("a_k=1"));
    }
}
