//! The plan: the one description of a run. Flags, files and HTTP bodies all become this; it is written beside every output.

use crate::online::OnlinePlan;
use crate::train::TrainPlan;
use curate_core::{Budget, Error, ParamDoc, Result, find, params_table};
use curate_ingest::InputSpec;
use curate_scorers::SCORERS;
use curate_selectors::{FILTERS, ONLINE, SELECTORS};
use schemars::{JsonSchema, schema_for};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The default method of `curate select`.
pub const DEFAULT_METHOD: &str = "kmeans-quality";

/// Everything that decides a result, and where it goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Seed of every random draw.
    pub seed: u64,
    /// What to read.
    pub input: InputSpec,
    /// How rows become vectors.
    pub embed: EmbedPlan,
    /// Where the quality comes from: `column:NAME`, or an expression over scorers such as `0.5*z(ifd) + z(mtld)`. Neutral when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    /// Scorers with their parameters; those that `quality` names need no entry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub score: Vec<Use>,
    /// Model that says `signal.*` of rows: folder or hub id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Filters before the selector, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<Use>,
    /// Rows that the chosen ones shall resemble, read like the input; for methods that take a target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<String>,
    /// What to choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<SelectPlan>,
    /// Where the result goes.
    pub output: OutputPlan,
    /// The method that chooses every batch while the model learns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<OnlinePlan>,
    /// The model to train on what was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train: Option<TrainPlan>,
}

/// How rows become vectors.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedPlan {
    /// `static`, a model folder, a hub id, `column:NAME`, or `lm:mean` / `lm:last` for hidden states of `model`.
    #[serde(rename = "use")]
    pub name: String,
    /// Cut texts at this many tokens; the model's own limit when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
}

impl Default for EmbedPlan {
    fn default() -> Self {
        Self { name: "static".to_owned(), max_tokens: None }
    }
}

/// An algorithm by name with its parameters.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Use {
    /// Name in the table.
    #[serde(rename = "use")]
    pub name: String,
    /// Its parameters.
    #[serde(flatten)]
    pub params: Map<String, Value>,
}

/// What to choose and how much.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SelectPlan {
    /// Method; `kmeans-quality` unless given.
    #[serde(rename = "use", default = "default_method")]
    pub name: String,
    /// How much: `500`, `5%`, `2Mtok`.
    #[schemars(with = "String")]
    pub budget: Budget,
    /// Parameters of the method.
    #[serde(flatten)]
    pub params: Map<String, Value>,
}

fn default_method() -> String {
    DEFAULT_METHOD.to_owned()
}

/// Where the result goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OutputPlan {
    /// File (parquet, jsonl, json, csv, arrow by extension) or, ending in `/`, a folder of shards.
    pub path: String,
    /// Leave out the `curate_*` columns.
    pub plain: bool,
    /// Replace an existing output.
    pub overwrite: bool,
    /// Rows of a shard when the path is a folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard_rows: Option<usize>,
    /// Report of the selection: a page (.html) or its data (.json).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

impl Plan {
    /// Read a plan from TOML text.
    ///
    /// # Errors
    /// `plan/invalid` with the line and the accepted names.
    pub fn from_toml(text: &str) -> Result<Value> {
        toml::from_str(text).map_err(|e| {
            Error::usage("plan/invalid", e.to_string()).hint("see 'curate run --help' for an example plan")
        })
    }

    /// Merge values, later ones winning key by key, and read the plan once.
    ///
    /// # Errors
    /// `plan/invalid` naming the unknown key or the wrong type.
    pub fn from_layers(layers: impl IntoIterator<Item = Value>) -> Result<Self> {
        let merged = layers.into_iter().fold(Value::Object(Map::new()), merge);
        serde_json::from_value(merged).map_err(|e| {
            let text = e.to_string();
            if text.contains("budget") && text.contains("must") || text.starts_with("budget") {
                return Error::usage("budget/invalid", text)
                    .hint("write a row count (500), a share (5%) or tokens (2Mtok)");
            }
            invalid(&text)
        })
    }

    /// Check names and parameters of methods, filters and scorers, before anything is read.
    ///
    /// # Errors
    /// `method/unknown`, `params/*`, `online/target`.
    pub fn check_names(&self) -> Result<()> {
        if self.select.is_some() {
            let select = self.selection()?;
            find(SELECTORS, &select.name, "method")?.build(&select.params)?;
        }
        if let Some(online) = &self.online {
            crate::online::method::open(online)?;
        }
        for filter in &self.filter {
            find(FILTERS, &filter.name, "filter")?.build(&filter.params)?;
        }
        for score in self.score.iter().filter(|score| score.name != crate::http_scorer::USE) {
            find(SCORERS, &score.name, "scorer")?.build(&score.params)?;
        }
        Ok(())
    }

    /// The keys of a plan by section, the one without a name first; parameters of methods stand beside `use` and are not listed.
    #[must_use]
    pub fn sections() -> Vec<(&'static str, Vec<ParamDoc>)> {
        vec![
            ("", params_table(&schema_for!(Self))),
            ("input", params_table(&schema_for!(InputSpec))),
            ("embed", params_table(&schema_for!(EmbedPlan))),
            ("select", params_table(&schema_for!(SelectPlan))),
            ("online", params_table(&schema_for!(OnlinePlan))),
            ("train", params_table(&schema_for!(TrainPlan))),
            ("output", params_table(&schema_for!(OutputPlan))),
        ]
    }

    /// The section that says what to choose.
    ///
    /// # Errors
    /// `plan/no-select` when there is none, `method/online` when its method needs a model that learns.
    pub fn selection(&self) -> Result<&SelectPlan> {
        let select = self.select.as_ref().ok_or_else(|| {
            Error::usage("plan/no-select", "the plan has no [select] section")
                .hint("add [select] with use = \"kmeans-quality\" and budget = \"5%\"")
        })?;
        let name = &select.name;
        if SELECTORS.iter().all(|entry| entry.info.name != name) && ONLINE.iter().any(|entry| entry.info.name == name) {
            return Err(Error::usage("method/online", format!("'{name}' chooses while a model learns, not before"))
                .hint(format!("curate train --online {name}; in a plan: [online] with use = \"{name}\"")));
        }
        Ok(select)
    }
}

/// What serde says of a plan, with the name that was probably meant.
fn invalid(text: &str) -> Error {
    let error = Error::usage("plan/invalid", text);
    let known = ["unknown field ", "unknown variant "].iter().any(|start| text.starts_with(start));
    let words: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    match words.split_first() {
        Some((given, names)) if known && !names.is_empty() => error.did_you_mean(given, names),
        _ => error.hint("keys and their meaning: 'curate run --help'; methods: 'curate methods'"),
    }
}

/// Merge `over` onto `base`: objects key by key, everything else replaced.
fn merge(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let merged = merge(base.remove(&key).unwrap_or(Value::Null), value);
                base.insert(key, merged);
            }
            Value::Object(base)
        }
        (base, Value::Null) => base,
        (_, over) => over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_win_over_the_file() {
        let file = Plan::from_toml("seed = 1\n[input]\npaths = [\"a\"]\n[select]\nbudget = \"5%\"\nk = 7\n").unwrap();
        let flags = json!({"seed": 9, "select": {"budget": "10%", "temperature": 2.0}});
        let plan = Plan::from_layers([file, flags]).unwrap();
        let select = plan.selection().unwrap();
        assert_eq!((plan.seed, select.budget, select.name.as_str()), (9, Budget::Fraction(0.1), DEFAULT_METHOD));
        assert_eq!((select.params["k"].clone(), select.params["temperature"].clone()), (json!(7), json!(2.0)));
        let again = Plan::from_layers([serde_json::to_value(&plan).unwrap()]).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&plan).unwrap());
    }

    #[test]
    fn unknown_keys_and_bad_budgets_are_refused() {
        assert_eq!(Plan::from_layers([json!({"sead": 1})]).unwrap_err().code(), "plan/invalid");
        assert_eq!(
            Plan::from_layers([json!({"select": {"budget": "5 percent"}})]).unwrap_err().code(),
            "budget/invalid"
        );
        assert_eq!(Plan::from_toml("seed = [").unwrap_err().code(), "plan/invalid");
    }

    #[test]
    fn what_was_meant_is_named() {
        let hint = |layer: Value| Plan::from_layers([layer]).unwrap_err().hint_text().unwrap_or_default().to_owned();
        assert!(hint(json!({"sead": 1})).starts_with("did you mean 'seed'?"));
        assert!(hint(json!({"input": {"format": "sharegtp"}})).starts_with("did you mean 'sharegpt'?"));
        assert!(hint(json!({"seed": "one"})).contains("curate run --help"));
    }

    #[test]
    fn names_and_parameters_are_checked_before_anything_is_read() {
        let code = |layer: Value| Plan::from_layers([layer]).unwrap().check_names().err().map(|e| e.code());
        let select = |name: &str| json!({"select": {"use": name, "budget": 5}});
        assert_eq!(code(json!({})), None);
        assert_eq!(code(select("random")), None);
        assert_eq!(code(select("randum")), Some("method/unknown"));
        assert_eq!(code(select("uds")), Some("method/online"));
        assert_eq!(code(json!({"select": {"budget": 5, "kk": 1}})), Some("params/unknown"));
        assert_eq!(code(json!({"online": {"use": "mops"}})), Some("method/unknown"));
        assert_eq!(code(json!({"online": {"use": "mopps", "window_row": 1}})), Some("params/unknown"));
        assert_eq!(code(json!({"filter": [{"use": "semantic-dedup", "threshold": 0.9}]})), Some("params/unknown"));
        assert_eq!(code(json!({"score": [{"use": "mltd"}]})), Some("method/unknown"));
        assert_eq!(code(json!({"score": [{"use": "http", "url": "http://x"}]})), None);
    }

    #[test]
    fn every_key_of_a_plan_is_listed_with_its_meaning() {
        let sections = Plan::sections();
        let (_, top) = &sections[0];
        let listed = |name: &str| sections.iter().any(|(section, _)| *section == name);
        assert!(["input", "embed", "select", "online", "train", "output"].into_iter().all(listed));
        assert!(top.iter().any(|key| key.name == "seed"));
        for (section, keys) in &sections {
            assert!(!keys.is_empty() && keys.iter().all(|key| !key.doc.is_empty()), "{section}");
        }
    }
}
