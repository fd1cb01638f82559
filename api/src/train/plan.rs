//! What `curate train` and `curate eval` are told.

use curate_core::{Error, ParamDoc, Result, params_table};
use curate_trainer::data::{LossOn, SequenceOptions};
use curate_trainer::eval::Judge;
use curate_trainer::sft::SftConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The model, where it goes, and how it is trained: `[train]` of a plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TrainPlan {
    /// Model folder or hub id.
    pub model: String,
    /// Begin with random weights of the model's `config.json`; a tokenizer that is not there is trained on the rows.
    pub from_scratch: bool,
    /// Adapter folder to go on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Folder for checkpoints, log and the trained model.
    pub out: String,
    /// Rows to judge by, read like the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub eval: Vec<String>,
    /// Share of the rows that is held out to judge by, when `eval` names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_share: Option<f64>,
    /// Go on from the newest whole checkpoint in `out`.
    pub resume: bool,
    /// Add the adapter to the weights at the end, and write a plain model.
    pub merge: bool,
    /// Learn from the model's own answers, judged by a rule, with these options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpo: Option<Map<String, Value>>,
    /// Options of the training itself, as `curate train --help` names them.
    #[serde(flatten)]
    pub params: Map<String, Value>,
}

impl TrainPlan {
    /// The options of the training itself.
    ///
    /// # Errors
    /// `train/config` naming the unknown option or the wrong type.
    pub fn sft(&self) -> Result<SftConfig> {
        let params = Value::Object(self.params.clone());
        let config: SftConfig = serde_json::from_value(params).map_err(|e| {
            Error::usage("train/config", e.to_string())
                .hint("'curate train --options' lists all options with their meaning")
        })?;
        config.check()?;
        Ok(config)
    }

    /// Tokens of the longest sequence: a length that is asked for must fit the context of the model, the usual one gives way.
    ///
    /// # Errors
    /// `data/max-length`.
    pub(crate) fn longest(&self, config: &SftConfig, context: usize) -> Result<usize> {
        if self.params.contains_key("max_length") {
            SequenceOptions::new(config.max_length).check(Some(context))?;
        }
        Ok(config.max_length.min(context))
    }

    /// Check what needs no model.
    ///
    /// # Errors
    /// `train/model`, `train/out`, `train/eval-share`.
    pub fn check(&self) -> Result<()> {
        let refuse = |code, what: &str, hint: &str| Err(Error::usage(code, what).hint(hint));
        if self.model.is_empty() {
            return refuse(
                "train/model",
                "no model is named",
                "add --model FOLDER, --model owner/name, or --model builtin for a try",
            );
        }
        if self.out.is_empty() {
            return refuse("train/out", "no folder for the result is named", "add -o OUT");
        }
        if self.eval_share.is_some_and(|share| !(share > 0.0 && share < 1.0)) {
            return refuse(
                "train/eval-share",
                "eval_share must lie between 0 and 1",
                "0.05 holds out every twentieth row",
            );
        }
        Ok(())
    }
}

/// Every option of the training itself, with its default and meaning.
#[must_use]
pub fn train_options() -> Vec<ParamDoc> {
    let mut options = params_table(&schemars::schema_for!(SftConfig));
    let defaults = serde_json::to_value(SftConfig::default()).unwrap_or_default();
    for option in &mut options {
        option.default = defaults.get(&option.name).cloned().unwrap_or_default();
    }
    options
}

/// What to judge and how: `curate eval`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalPlan {
    /// Model folder or hub id.
    pub model: String,
    /// Adapter folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// Let the model answer, and compare its answers by this rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Judge>,
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// Longest row, tokens.
    pub max_length: usize,
    /// Which tokens count.
    pub loss_on: LossOn,
    /// Rows a pass.
    pub batch_size: usize,
    /// Column by which results are told apart, such as `source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// File for the model's answers, one JSON object a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
}

impl Default for EvalPlan {
    fn default() -> Self {
        Self {
            model: String::new(),
            adapter: None,
            judge: None,
            max_new_tokens: 64,
            max_length: 1024,
            loss_on: LossOn::default(),
            batch_size: 8,
            by: None,
            answers: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_length_asked_for_must_fit_and_the_usual_one_gives_way() {
        let longest = |params: Value| {
            let plan: TrainPlan = serde_json::from_value(params).unwrap();
            plan.longest(&plan.sft().unwrap(), 128).map_err(|error| error.code())
        };
        assert_eq!(longest(json!({"learning_rate": 1e-3})), Ok(128));
        assert_eq!(longest(json!({"learning_rate": 1e-3, "max_length": 64})), Ok(64));
        assert_eq!(longest(json!({"learning_rate": 1e-3, "max_length": 4096})), Err("data/max-length"));
    }
}
