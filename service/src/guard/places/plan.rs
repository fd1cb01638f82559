//! Every field of a plan that names a place. A test walks the schemas and fails on one that is not known here.

use super::{Places, refused};
use curate_api::{Error, Plan, Result, TrainPlan, Use};
use serde_json::Value;

/// Longest name of an output.
const NAME_BYTES: usize = 200;
/// Variables of the server itself, which no scorer may send away.
const OWN_VARIABLES: [&str; 3] = ["CURATE_DATABASE", "CURATE_TLS", "CURATE_TOKEN"];

impl Places {
    /// Refuse a plan that reads or writes anywhere else than allowed.
    ///
    /// # Errors
    /// `input/not-allowed`, `output/name`.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        let Plan { input, embed, score, model, filter: _, target, output, train, online, .. } = plan;
        input.paths.iter().chain(target).try_for_each(|path| self.check_input(path))?;
        input.chat_template.iter().try_for_each(|path| self.check_file(path))?;
        self.check_embedder(&embed.name)?;
        model.iter().try_for_each(|name| self.check_model(name))?;
        let reference = online.iter().filter_map(|online| online.reference.as_ref());
        reference.into_iter().try_for_each(|name| self.check_model(name))?;
        score.iter().try_for_each(|scorer| self.check_scorer(scorer))?;
        [Some(&output.path), output.report.as_ref()].into_iter().flatten().try_for_each(|name| check_name(name))?;
        train.iter().try_for_each(|train| self.check_training(train))
    }

    fn check_embedder(&self, name: &str) -> Result<()> {
        let name = name.trim();
        if name == "static" || name.starts_with("column:") || name.starts_with("lm:") {
            return Ok(());
        }
        if name == "builtin" { self.check_file(name) } else { self.check_model(name) }
    }

    fn check_scorer(&self, scorer: &Use) -> Result<()> {
        if scorer.name != "http" {
            return Ok(());
        }
        let text = |key: &str| scorer.params.get(key).and_then(Value::as_str).unwrap_or_default();
        if OWN_VARIABLES.iter().any(|own| text("token_env").starts_with(own)) {
            return Err(refused("this variable belongs to the server").hint("name another one in token_env"));
        }
        self.check_url(text("url"), false)
    }

    fn check_training(&self, train: &TrainPlan) -> Result<()> {
        train.eval.iter().try_for_each(|path| self.check_input(path))?;
        train.adapter.iter().try_for_each(|path| self.check_file(path))?;
        if train.from_scratch {
            self.check_file(&train.model)?;
        } else {
            self.check_model(&train.model)?;
        }
        check_name(&train.out)
    }
}

/// Refuse an output that is not a plain file name; none at all is fine.
fn check_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() <= NAME_BYTES && name.chars().all(plain) && !name.starts_with('.') {
        return Ok(());
    }
    Err(Error::usage("output/name", format!("'{name}' is not a plain file name"))
        .hint("take letters, digits, '.', '_' and '-', such as picks.parquet; the file lies in the server's folder"))
}

#[cfg(test)]
mod tests;
