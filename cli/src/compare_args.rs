//! The flags of `curate compare`.

use crate::args::{given, layer, method};
use crate::train_args::TrainArgs;
use clap::Args;
use curate_api::{ComparePlan, Error, Result};
use serde_json::Value;

/// `curate compare`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  curate compare corpus.parquet --methods kmeans-quality,top-score \\
    --quality column:score --budget 5% --model FOLDER --lr 1e-4 --max-steps 200 \\
    --eval held-out.parquet -o comparison
  curate compare corpus.parquet --methods uds,max-loss --candidates 64 \\
    --seeds 1,2,3 --judge number --model FOLDER --lr 1e-4 --max-steps 200 \\
    --eval-share 0.1 -o comparison

random and length-matched-random are always compared, too. A stopped comparison
goes on when it is called again.")]
pub(crate) struct CompareArgs {
    /// Input, budget, model and training options, as for `curate train`; -o names the folder for results.
    #[command(flatten)]
    pub train: TrainArgs,
    /// Methods, with parameters if need be: kmeans-quality,uds:alpha=0.5 (repeatable)
    #[arg(long, value_name = "LIST", required = true)]
    pub methods: Vec<String>,
    /// One arm a method and seed
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 3])]
    pub seeds: Vec<u64>,
    /// Let the models answer and compare: exact, number, gsm8k-first, gsm8k-strict or numeric
    #[arg(long)]
    pub judge: Option<String>,
    /// Longest answer, tokens [default: 64]
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// Keep models and checkpoints of the arms
    #[arg(long)]
    pub keep_models: bool,
}

impl CompareArgs {
    /// The comparison these flags describe.
    pub(crate) fn plan(&self) -> Result<ComparePlan> {
        let select = &self.train.select;
        if select.method.is_some() || !select.set.is_empty() || self.train.online.is_some() {
            return Err(Error::usage("compare/flags", "--method, --set and --online name one method")
                .hint("write --methods NAME,NAME:key=value"));
        }
        let methods = split(&self.methods).iter().map(|text| method(text)).collect::<Result<Vec<_>>>()?;
        let said = layer([
            ("methods", Some(Value::Array(methods))),
            ("seeds", Some(self.seeds.clone().into())),
            ("budget", given(select.budget.clone())),
            ("candidates", given(self.train.candidates)),
            ("reference", given(self.train.reference.clone())),
            ("judge", given(self.judge.clone())),
            ("max_new_tokens", given(self.max_new_tokens)),
            ("keep_models", Some(self.keep_models.into())),
        ]);
        read(said)
    }
}

/// The comparison that flags, or `[compare]` of a plan, describe.
pub(crate) fn read(said: Value) -> Result<ComparePlan> {
    serde_json::from_value(said).map_err(|e| {
        let code = if e.to_string().contains("budget") { "budget/invalid" } else { "compare/plan" };
        Error::usage(code, e.to_string()).hint("see 'curate compare --help'")
    })
}

/// The entries of lists: a comma before `key=value` belongs to the entry before it.
fn split(lists: &[String]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for list in lists {
        for (at, part) in list.split(',').enumerate() {
            let parameter = part.contains('=') && !part.split('=').next().unwrap_or_default().contains(':');
            match found.last_mut().filter(|_| parameter && at > 0) {
                Some(last) => *last = format!("{last},{part}"),
                None => found.push(part.trim().to_owned()),
            }
        }
    }
    found.retain(|entry| !entry.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn parameters_stay_with_their_method() {
        let lists = ["a,b:x=1,y=2,c".to_owned(), "d".to_owned()];
        assert_eq!(split(&lists), ["a", "b:x=1,y=2", "c", "d"]);
    }
}
