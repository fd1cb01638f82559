//! `curate fit-rule`: its flags, its table, and parameters that are taken from a file.

use clap::Args;
use curate_api::{Error, FitDone, FitPlan, Result};
use serde_json::Value;
use std::fmt::Write as _;

/// Longest file of a parameter.
const PARAMETER_BYTES: u64 = 1 << 20;

/// `curate fit-rule`.
#[derive(Args, Debug)]
#[command(
    after_help = "Each row is a fine-tuning run: the loss it ended with and the mean of each indicator over its data. Indicators are named\nas scores are: reward stands for score.reward, tokens and names with a dot for themselves. Use the rule with:\n  curate select ... --method instructmining --score instructmining:rule=@rule.toml"
)]
pub(crate) struct FitRuleArgs {
    /// Runs: parquet, csv, jsonl, json or arrow
    #[arg(value_name = "RUNS", required = true)]
    pub runs: Vec<String>,
    /// Column to predict, such as loss
    #[arg(long)]
    pub response: String,
    /// Columns to predict it from, separated by commas
    #[arg(long, value_delimiter = ',', required = true)]
    pub indicators: Vec<String>,
    /// Predict the logarithm of the response, as `InstructMining` does with a loss
    #[arg(long)]
    pub log: bool,
    /// Only runs for which this SQL predicate holds
    #[arg(long = "where", value_name = "SQL")]
    pub where_: Option<String>,
    /// File for the rule (.toml or .json)
    #[arg(long, short)]
    pub output: Option<String>,
    /// Replace an existing file
    #[arg(long)]
    pub overwrite: bool,
}

impl FitRuleArgs {
    /// What these flags ask for.
    pub(crate) fn plan(&self) -> FitPlan {
        FitPlan {
            runs: self.runs.clone(),
            where_: self.where_.clone(),
            response: self.response.clone(),
            log: self.log,
            indicators: self.indicators.clone(),
        }
    }
}

/// The fit as a table.
pub(crate) fn table(done: &FitDone) -> String {
    let mut text = format!("{} from {} runs\n\n", done.response, done.runs);
    let width = done.terms.iter().map(|term| term.name.chars().count()).max().unwrap_or(0).max(10);
    let _ = writeln!(
        text,
        "{:width$} {:>13} {:>13} {:>9} {:>9} {:>9}",
        "", "coefficient", "std. error", "t", "p", "inflation"
    );
    for term in &done.terms {
        let _ = writeln!(
            text,
            "{:width$} {:>13} {:>13} {:>9.3} {:>9.2e} {:>9.2}",
            term.name,
            figure(term.coefficient),
            figure(term.standard_error),
            term.t,
            term.p,
            term.inflation
        );
    }
    let (r2, adjusted, left) = (done.r2, done.adjusted_r2, figure(done.residual_deviation));
    let _ = writeln!(
        text,
        "\nR2 {r2:.4}, adjusted {adjusted:.4}, residual deviation {left}, {} degrees of freedom",
        done.degrees_of_freedom
    );
    done.warnings.iter().for_each(|warning| {
        let _ = writeln!(text, "warning: {warning}");
    });
    text + &format!("rule: {}", done.rule)
}

/// Six figures, small and large numbers with an exponent.
fn figure(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) { format!("{value:.6}") } else { format!("{value:.5e}") }
}

/// The value of parameter `key` from a file: its entry of that name in a TOML or JSON file, else the whole text.
pub(crate) fn from_file(key: &str, path: &str) -> Result<Value> {
    let unreadable = |e: std::io::Error| {
        Error::io("params/file", format!("{key}=@{path}: {e}")).hint("write a path after @, or the value itself")
    };
    if std::fs::metadata(path).map_err(unreadable)?.len() > PARAMETER_BYTES {
        return Err(Error::usage("params/file", format!("{key}=@{path}: the file is longer than 1 MiB"))
            .hint("name the file that holds the parameter"));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let entries = json.or_else(|| toml::from_str(&text).ok());
    let named = entries.as_ref().and_then(|entries| entries.get(key)).cloned();
    Ok(named.unwrap_or_else(|| Value::String(text.trim().to_owned())))
}
