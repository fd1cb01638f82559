//! The flags of `curate train` and `curate eval`.

use crate::args::{InputArgs, SelectArgs, given, layer, pairs, params, typed};
use crate::commands::read_plan;
use clap::Args;
use serde_json::{Value, json};

/// `curate train`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  curate train picks.parquet --model FOLDER -o run --lora 8 --lr 2e-4
  curate train corpus/*.parquet --budget 5% --model FOLDER -o run \\
    --lr 1e-5 --eval held-out.parquet
  curate train corpus/*.parquet --online uds --candidates 64 --batch-size 8 \\
    --model FOLDER -o run --lr 1e-5
  curate train --options        # every training option with its meaning")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct TrainArgs {
    /// What to train on; with --budget, what to choose from. -o names the folder for checkpoints, log and model.
    #[command(flatten)]
    pub select: SelectArgs,
    /// Choose every batch while the model learns, by this method (see curate methods); --set are its parameters
    #[arg(long, value_name = "METHOD")]
    pub online: Option<String>,
    /// Candidates a step, from which --online chooses --batch-size rows [default: eight for each]
    #[arg(long)]
    pub candidates: Option<usize>,
    /// With --online: draw --budget in so many rounds, train and score after each
    #[arg(long, requires = "online")]
    pub rounds: Option<usize>,
    /// With --rounds: begin every round with the base model, and train it on all rows drawn so far
    #[arg(long, requires = "rounds")]
    pub restart: bool,
    /// With --online: model, trained on other rows, whose losses a method such as rho-loss compares with
    #[arg(long, value_name = "MODEL")]
    pub reference: Option<String>,
    /// Let the model answer the rows and learn from what a rule says of its answers; options as `-O grpo.num_generations=8`,
    /// the rule as `-O grpo.judge=number`; prompts are chosen by --online [default: mopps]
    #[arg(long)]
    pub grpo: bool,
    /// Begin with random weights of the model folder's config.json; its tokenizer is learned when missing
    #[arg(long)]
    pub from_scratch: bool,
    /// Adapter folder to go on from
    #[arg(long)]
    pub adapter: Option<String>,
    /// Largest learning rate (1e-5 for all weights, 2e-4 for adapters are common)
    #[arg(long, visible_alias = "lr")]
    pub learning_rate: Option<f64>,
    /// Passes over the rows [default: 3]
    #[arg(long)]
    pub epochs: Option<f64>,
    /// Steps, in place of epochs
    #[arg(long)]
    pub max_steps: Option<u64>,
    /// Rows a pass [default: 8]
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Longest sequence, tokens [default: 1024]
    #[arg(long)]
    pub max_length: Option<usize>,
    /// Fill every pass with as many rows as fit
    #[arg(long)]
    pub packing: bool,
    /// Train low-rank adapters of this rank instead of all weights
    #[arg(long, value_name = "RANK", num_args = 0..=1, default_missing_value = "8")]
    pub lora: Option<usize>,
    /// Rows to judge by (repeatable)
    #[arg(long)]
    pub eval: Vec<String>,
    /// Share of the rows held out to judge by, such as 0.05
    #[arg(long)]
    pub eval_share: Option<f64>,
    /// Any other training option (repeatable); see --options
    #[arg(long = "option", short = 'O', value_name = "KEY=VALUE")]
    pub option: Vec<String>,
    /// Go on from the newest checkpoint in the output folder
    #[arg(long)]
    pub resume: bool,
    /// Add the adapter to the weights and write a plain model
    #[arg(long)]
    pub merge: bool,
    /// List every training option
    #[arg(long)]
    pub options: bool,
}

impl TrainArgs {
    /// The plan file, where one is named, and the layers that the flags make over it.
    pub(crate) fn all_layers(&self) -> curate_api::Result<Vec<Value>> {
        let mut layers: Vec<Value> = self.select.config.as_deref().map(read_plan).transpose()?.into_iter().collect();
        layers.extend(self.layers()?);
        Ok(layers)
    }

    /// The layers these flags make.
    fn layers(&self) -> curate_api::Result<Vec<Value>> {
        let train = layer([
            ("model", given(self.select.io.model.clone())),
            ("out", given(self.select.io.output.clone())),
            ("adapter", given(self.adapter.clone())),
            ("eval", (!self.eval.is_empty()).then(|| json!(self.eval))),
            ("eval_share", given(self.eval_share)),
            ("from_scratch", self.from_scratch.then_some(Value::Bool(true))),
            ("resume", self.resume.then_some(Value::Bool(true))),
            ("grpo", self.grpo.then(|| json!({}))),
            ("merge", self.merge.then_some(Value::Bool(true))),
            ("learning_rate", given(self.learning_rate)),
            ("num_train_epochs", given(self.epochs)),
            ("max_steps", given(self.max_steps)),
            ("batch_size", given(self.batch_size)),
            ("max_length", given(self.max_length)),
            ("packing", self.packing.then(|| json!("bfd"))),
            ("tuning", self.lora.map(|r| json!({"lora": {"r": r, "lora_alpha": 2 * r}}))),
        ]);
        let mut layers = self.chosen()?;
        layers.push(json!({ "train": train }));
        layers.extend(self.options_said()?);
        Ok(layers)
    }

    /// The layers that say what is chosen, before training or while the model learns.
    fn chosen(&self) -> curate_api::Result<Vec<Value>> {
        let by_default = self.grpo.then(|| "mopps".to_owned());
        let mut select = self.select.clone();
        // fresh weights say nothing of rows: the built-in model is asked then
        select.io.model = select.io.model.filter(|_| !self.from_scratch);
        let Some(method) = self.online.clone().or(by_default) else { return select.layers() };
        let mut online = params(&select.set)?;
        online.insert("use".to_owned(), method.into());
        online.extend(given(self.candidates).map(|candidates| ("candidates".to_owned(), candidates)));
        online.extend(given(self.reference.clone()).map(|reference| ("reference".to_owned(), reference)));
        select.set.clear();
        if let Some(rounds) = self.rounds {
            online.insert("rounds".to_owned(), rounds.into());
            online.extend(self.restart.then(|| ("restart".to_owned(), true.into())));
            online.extend(given(select.budget.take()).map(|budget| ("budget".to_owned(), budget)));
        }
        let mut layers = select.layers()?;
        layers.push(json!({ "online": online }));
        Ok(layers)
    }

    /// A layer for every `--option a.b=c`.
    fn options_said(&self) -> curate_api::Result<Vec<Value>> {
        let nest = |(key, text): (String, String)| {
            let value = key.rsplit('.').fold(typed(text), |value, part| json!({ part: value }));
            json!({ "train": value })
        };
        Ok(pairs(&self.option, "--option")?.into_iter().map(nest).collect())
    }
}

/// `curate eval`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:
  curate eval held-out.parquet --model run/model --by source
  curate eval gsm8k_test.parquet --model run/model --judge numeric \\
    --max-new-tokens 256 --answers answers.jsonl")]
pub(crate) struct EvalArgs {
    /// Rows to judge by.
    #[command(flatten)]
    pub input: InputArgs,
    /// Model folder or hub id
    #[arg(long)]
    pub model: Option<String>,
    /// Adapter folder
    #[arg(long)]
    pub adapter: Option<String>,
    /// Let the model answer and compare: exact, number, gsm8k-first, gsm8k-strict, numeric or countdown
    #[arg(long)]
    pub judge: Option<String>,
    /// Longest answer, tokens [default: 64]
    #[arg(long)]
    pub max_new_tokens: Option<usize>,
    /// Longest row, tokens [default: 1024]
    #[arg(long)]
    pub max_length: Option<usize>,
    /// Which tokens count: completion or all [default: completion]
    #[arg(long)]
    pub loss_on: Option<String>,
    /// Rows a pass [default: 8]
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Column by which results are told apart, such as source
    #[arg(long)]
    pub by: Option<String>,
    /// File for the model's answers (JSON lines)
    #[arg(long)]
    pub answers: Option<String>,
}

impl EvalArgs {
    /// The evaluation these flags describe.
    pub(crate) fn plan(&self) -> curate_api::Result<curate_api::EvalPlan> {
        let said = layer([
            ("model", given(self.model.clone())),
            ("adapter", given(self.adapter.clone())),
            ("judge", given(self.judge.clone())),
            ("max_new_tokens", given(self.max_new_tokens)),
            ("max_length", given(self.max_length)),
            ("loss_on", given(self.loss_on.clone())),
            ("batch_size", given(self.batch_size)),
            ("by", given(self.by.clone())),
            ("answers", given(self.answers.clone())),
        ]);
        let plan: curate_api::EvalPlan = serde_json::from_value(said)
            .map_err(|e| curate_api::Error::usage("eval/plan", e.to_string()).hint("see 'curate eval --help'"))?;
        if plan.model.is_empty() {
            return Err(curate_api::Error::usage("train/model", "no model is named")
                .hint("add --model FOLDER, --model owner/name, or --model builtin for a try"));
        }
        Ok(plan)
    }
}
