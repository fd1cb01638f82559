//! The flags, declared once: parser, help, completions and man page come from here.

use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value, json};

/// Choose the fine-tuning data that matters, and say why each row was kept.
#[derive(Parser, Debug)]
#[command(
    name = "curate",
    version,
    about,
    after_help = "Start here:\n  curate inspect data.parquet\n  curate select --budget 5% data.parquet -o picks.parquet\n  curate explain picks.parquet --row 17"
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Flags every command takes.
    #[command(flatten)]
    pub machine: Machine,
}

/// Flags about the machine; none of them changes a result.
#[derive(Args, Debug)]
pub(crate) struct Machine {
    /// Worker threads; results do not depend on them [default: all cores]
    #[arg(long, global = true, env = "CURATE_THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Resident memory the run may use
    #[arg(long, global = true, env = "CURATE_MEMORY", default_value = "8GiB")]
    pub memory: String,
    /// auto (a GPU where there is one that works), cpu, cuda (the first), cuda:N, cuda:N,M, cuda:all, or reference; see curate doctor
    #[arg(long, global = true, env = "CURATE_DEVICE", default_value = "auto")]
    pub device: String,
    /// Memory the run may hold on each GPU, such as 20GiB; batches shrink to fit [default: all there is]
    #[arg(long, global = true, env = "CURATE_VRAM", value_name = "BYTES")]
    pub vram: Option<String>,
    /// Folder of the cache [default: ~/.cache/curate]
    #[arg(long, global = true, env = "CURATE_CACHE")]
    pub cache: Option<String>,
    /// Use a throw-away cache: recompute everything, keep nothing
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Print one machine-readable summary on stdout
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress display
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Choose rows within a budget, with a reason for each
    Select(Box<SelectArgs>),
    /// Write the input with a column of embeddings
    Embed(Box<InputAndOutput>),
    /// Write the input with a column of cluster labels
    Cluster(Box<ClusterArgs>),
    /// Write the input with columns of scores
    Score(Box<ScoreArgs>),
    /// Fit the rule of `instructmining` to runs of one's own
    FitRule(Box<crate::fit_rule::FitRuleArgs>),
    /// Fine-tune a model on the input, or on what a method chooses from it
    Train(Box<crate::train_args::TrainArgs>),
    /// Judge a model: loss, perplexity, accuracy, right answers
    Eval(Box<crate::train_args::EvalArgs>),
    /// Compare, scale and combine the weights of a model before and after training
    Weights(crate::weights_args::WeightsArgs),
    /// Compare methods at equal budget, model, seeds and steps, with random rows as the measure
    Compare(Box<crate::compare_args::CompareArgs>),
    /// Say what the input is, what would be trained on, and what is wrong with it
    Inspect(Box<InputArgs>),
    /// List the methods, or describe one
    Methods(MethodsArgs),
    /// Say why a row was kept or dropped
    Explain(ExplainArgs),
    /// Serve batches to trainers over HTTP, with jobs and a dashboard
    Serve(Box<crate::serve_args::ServeArgs>),
    /// Run a plan file (TOML, or the manifest of an earlier run)
    Run(RunArgs),
    /// Check an output bit for bit against its manifest
    Verify(VerifyArgs),
    /// List or prune the cache
    Cache(CacheArgs),
    /// Time a kernel or stage on this machine
    Bench(BenchArgs),
    /// Examine this machine: GPU, libraries, every kernel and model against the processor, and what speed each reaches
    #[command(after_help = "Examples:
  curate doctor                        # the first GPU that works, else the processor
  curate doctor --device cuda --quick  # a minute; tells what to install for a GPU
  curate doctor --device all --json    # every GPU, for machines
  curate doctor --device cpu           # the processor alone

The first table says what is installed. The second compares: each error stands
beside the bound it must keep, and anything marked WRONG is a defect of chip,
driver or program. The third measures what the chip can do at best (a large
product, a large copy), the fourth how near to that the workloads come.
docs/gpu.md explains every line and how to cure what is missing.

Exit codes: 0 all is well; exit code 4: no such device, a failed check, or a
workload that did not run.")]
    Doctor(DoctorArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Print the man page
    Man,
}

/// What to read.
#[derive(Args, Debug, Clone)]
pub(crate) struct InputArgs {
    /// Files, folders, globs, object-store URLs; - reads JSON lines from standard input
    #[arg(value_name = "INPUT")]
    pub paths: Vec<String>,
    /// auto, alpaca, sharegpt, messages, prompt-completion, question-answer, instruction-response, verl, text, table
    #[arg(long)]
    pub format: Option<String>,
    /// Take a role from a column, such as prompt=question (repeatable)
    #[arg(long, value_name = "ROLE=COLUMN")]
    pub map: Vec<String>,
    /// Only rows for which this SQL predicate holds
    #[arg(long = "where", value_name = "SQL")]
    pub where_: Option<String>,
    /// fail or skip
    #[arg(long)]
    pub on_bad_row: Option<String>,
    /// Longest row accepted, such as 64MiB
    #[arg(long)]
    pub max_row: Option<String>,
    /// Chat template: .jinja file, `tokenizer_config.json` or model folder
    #[arg(long)]
    pub chat_template: Option<String>,
    /// Text to embed: prompt or prompt+response
    #[arg(long)]
    pub embed_text: Option<String>,
    /// Seed of every random draw
    #[arg(long, env = "CURATE_SEED")]
    pub seed: Option<u64>,
}

/// Input, embedder and output.
#[derive(Args, Debug, Clone)]
pub(crate) struct InputAndOutput {
    /// What to read.
    #[command(flatten)]
    pub input: InputArgs,
    /// Output file (.parquet, .jsonl, .json, .csv, .arrow), or a folder of shards when it ends in /
    #[arg(long, short)]
    pub output: Option<String>,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
    /// Rows of a shard
    #[arg(long)]
    pub shard_rows: Option<usize>,
    /// static, a model folder, a hub id, column:NAME, or lm:mean / lm:last (hidden states of --model)
    #[arg(long)]
    pub embedder: Option<String>,
    /// Cut texts at this many tokens before embedding
    #[arg(long)]
    pub max_tokens: Option<usize>,
    /// Language model, folder or hub id: what is trained, what says signal.* of rows for scorers such as ifd, and what lm: embeds with
    #[arg(long)]
    pub model: Option<String>,
}

/// `curate select`.
#[derive(Args, Debug, Clone)]
pub(crate) struct SelectArgs {
    /// Input and output.
    #[command(flatten)]
    pub io: InputAndOutput,
    /// How much: a share (5%), rows (500) or tokens (2Mtok)
    #[arg(long, short, allow_hyphen_values = true)]
    pub budget: Option<String>,
    /// Method; see curate methods [default: kmeans-quality]
    #[arg(long, short)]
    pub method: Option<String>,
    /// Parameter of the method (repeatable); see curate methods NAME
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Filter before the method, such as semantic-dedup or semantic-dedup:epsilon=0.05 (repeatable)
    #[arg(long)]
    pub filter: Vec<String>,
    /// Quality of a row: column:NAME, a scorer, or an expression such as "0.5*z(ifd) + z(mtld)"
    #[arg(long)]
    pub quality: Option<String>,
    /// Rows that the chosen ones shall resemble, for methods that take a target (repeatable)
    #[arg(long)]
    pub target: Vec<String>,
    /// Parameters of a scorer, such as mtld:threshold=0.7 or instructmining:rule=@rule.toml; `http:name=reward,url=http://host/score` asks a
    /// server (repeatable)
    #[arg(long)]
    pub score: Vec<String>,
    /// Leave out the curate_* columns
    #[arg(long)]
    pub plain: bool,
    /// A plan file that the flags are laid over
    #[arg(long)]
    pub config: Option<String>,
    /// Also write a report of the choice: a page (.html) or its data (.json)
    #[arg(long, value_name = "FILE")]
    pub report: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `curate score`.
#[derive(Args, Debug, Clone)]
pub(crate) struct ScoreArgs {
    /// Input and output.
    #[command(flatten)]
    pub io: InputAndOutput,
    /// Scorer, with parameters if need be: mtld, ifd, mtld:threshold=0.7, `http:name=reward,url=http://host/score` (repeatable)
    #[arg(long)]
    pub score: Vec<String>,
    /// Expression over scorers that becomes score.quality
    #[arg(long)]
    pub quality: Option<String>,
}

impl ScoreArgs {
    /// The layers these flags make.
    pub(crate) fn layers(&self) -> curate_api::Result<Vec<Value>> {
        let mut layers = self.io.layers()?;
        layers.push(layer([
            ("score", (!self.score.is_empty()).then(|| scores(&self.score)).transpose()?),
            ("quality", given(self.quality.clone())),
        ]));
        Ok(layers)
    }
}

fn scores(texts: &[String]) -> curate_api::Result<Value> {
    texts.iter().map(|text| method(text)).collect::<curate_api::Result<Vec<_>>>().map(Value::Array)
}

/// `curate cluster`.
#[derive(Args, Debug, Clone)]
pub(crate) struct ClusterArgs {
    /// Input and output.
    #[command(flatten)]
    pub io: InputAndOutput,
    /// Parameter of the clustering (repeatable), such as k=100
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `curate methods`.
#[derive(Args, Debug)]
pub(crate) struct MethodsArgs {
    /// Describe this one
    pub name: Option<String>,
    /// Print docs/methods.md
    #[arg(long)]
    pub markdown: bool,
}

/// `curate explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Output of curate select
    pub output: String,
    /// Source row: the number in `curate_row`
    #[arg(long)]
    pub row: u64,
}

/// `curate run`.
#[derive(Args, Debug)]
#[command(after_help = crate::run_args::text())]
pub(crate) struct RunArgs {
    /// Plan (TOML) or manifest (.curate.json)
    pub plan: String,
    /// Write elsewhere than the plan says
    #[arg(long, short)]
    pub output: Option<String>,
    /// Replace an existing output
    #[arg(long)]
    pub overwrite: bool,
}

/// `curate verify`.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// Output of curate select
    pub output: String,
}

/// `curate cache`.
#[derive(Args, Debug)]
pub(crate) struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: CacheAction,
}

/// What to do with the cache.
#[derive(Subcommand, Debug)]
pub(crate) enum CacheAction {
    /// Entries and bytes by kind
    List,
    /// Remove entries not touched for a while
    Prune {
        /// Age in days; 0 removes everything
        #[arg(long, default_value_t = 30.0)]
        older_than_days: f64,
    },
}

/// `curate bench`.
#[derive(Args, Debug)]
pub(crate) struct BenchArgs {
    /// kmeans, knn, embed or tokenize
    pub workload: String,
    /// Rows
    #[arg(long, short, default_value_t = 100_000)]
    pub n: usize,
    /// Dimension
    #[arg(long, short, default_value_t = 384)]
    pub d: usize,
    /// Clusters or neighbours
    #[arg(long, short, default_value_t = 100)]
    pub k: usize,
    /// Iterations
    #[arg(long, default_value_t = 10)]
    pub iters: u32,
    /// Repetitions
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Vectors (.npy) or texts, one a line
    #[arg(long)]
    pub data: Option<String>,
    /// Seed of generated data
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `curate doctor`.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Small tasks: the same checks in a minute, with figures that are a first idea
    #[arg(long)]
    pub quick: bool,
}

/// `curate completions`.
#[derive(Args, Debug)]
pub(crate) struct CompletionsArgs {
    /// bash, zsh, fish, elvish or powershell
    pub shell: clap_complete::Shell,
}

/// A layer of a plan: only what was said.
pub(crate) fn layer(pairs: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    Value::Object(pairs.into_iter().filter_map(|(k, v)| v.map(|v| (k.to_owned(), v))).collect())
}

pub(crate) fn given<T: Into<Value>>(value: Option<T>) -> Option<Value> {
    value.map(Into::into)
}

impl InputArgs {
    /// The layer these flags make.
    pub(crate) fn layer(&self) -> curate_api::Result<Value> {
        let map: Map<String, Value> =
            pairs(&self.map, "--map")?.into_iter().map(|(k, v)| (k, Value::String(v))).collect();
        let max_row = self.max_row.as_deref().map(curate_api::parse_bytes).transpose()?;
        let input = layer([
            ("paths", (!self.paths.is_empty()).then(|| json!(self.paths))),
            ("format", given(self.format.clone())),
            ("map", (!map.is_empty()).then_some(Value::Object(map))),
            ("where", given(self.where_.clone())),
            ("on_bad_row", given(self.on_bad_row.clone())),
            ("max_row_bytes", given(max_row)),
            ("chat_template", given(self.chat_template.clone())),
            ("embed_text", given(self.embed_text.clone())),
        ]);
        Ok(layer([("input", Some(input)), ("seed", given(self.seed))]))
    }
}

impl InputAndOutput {
    /// The layers these flags make.
    pub(crate) fn layers(&self) -> curate_api::Result<Vec<Value>> {
        let embed = layer([("use", given(self.embedder.clone())), ("max_tokens", given(self.max_tokens))]);
        let output = layer([
            ("path", given(self.output.clone())),
            ("overwrite", self.overwrite.then_some(Value::Bool(true))),
            ("shard_rows", given(self.shard_rows)),
        ]);
        let model = given(self.model.clone());
        Ok(vec![self.input.layer()?, layer([("embed", Some(embed)), ("output", Some(output)), ("model", model)])])
    }
}

impl SelectArgs {
    /// The layers these flags make.
    pub(crate) fn layers(&self) -> curate_api::Result<Vec<Value>> {
        let mut select = params(&self.set)?;
        select.extend(given(self.method.clone()).map(|m| ("use".to_owned(), m)));
        select.extend(given(self.budget.clone()).map(|b| ("budget".to_owned(), b)));
        let filters = self.filter.iter().map(|f| method(f)).collect::<curate_api::Result<Vec<_>>>()?;
        let mut layers = self.io.layers()?;
        layers.push(layer([
            ("select", (!select.is_empty()).then_some(Value::Object(select))),
            ("filter", (!filters.is_empty()).then_some(Value::Array(filters))),
            ("quality", given(self.quality.clone())),
            ("target", (!self.target.is_empty()).then(|| json!(self.target))),
            ("score", (!self.score.is_empty()).then(|| scores(&self.score)).transpose()?),
            (
                "output",
                Some(layer([
                    ("plain", self.plain.then_some(Value::Bool(true))),
                    ("report", given(self.report.clone())),
                ])),
            ),
        ]));
        Ok(layers)
    }
}

/// `name` or `name:key=value,key=value`; a value `@FILE` is read from there.
pub(crate) fn method(text: &str) -> curate_api::Result<Value> {
    let (name, rest) = text.split_once(':').unwrap_or((text, ""));
    let set: Vec<String> = rest.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect();
    let mut body = params(&set)?;
    for (key, value) in &mut body {
        if let Some(path) = value.as_str().and_then(|text| text.strip_prefix('@')) {
            *value = crate::fit_rule::from_file(key, path)?;
        }
    }
    body.insert("use".to_owned(), name.into());
    Ok(Value::Object(body))
}

pub(crate) fn pairs(texts: &[String], flag: &str) -> curate_api::Result<Vec<(String, String)>> {
    let split = |text: &String| {
        let pair = text.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned()));
        pair.ok_or_else(|| {
            curate_api::Error::usage("flag/pair", format!("{flag} {text}: there is no '='"))
                .hint(format!("write {flag} key=value"))
        })
    };
    texts.iter().map(split).collect()
}

/// Parameters as typed values: what reads as a TOML value is one, anything else is text.
pub(crate) fn params(texts: &[String]) -> curate_api::Result<Map<String, Value>> {
    Ok(pairs(texts, "--set")?.into_iter().map(|(k, v)| (k, typed(v))).collect())
}

/// What reads as a TOML value is one, anything else is text.
pub(crate) fn typed(text: String) -> Value {
    let parsed: Option<Map<String, Value>> = toml::from_str(&format!("v = {text}")).ok();
    parsed.and_then(|mut m| m.remove("v")).unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::{Command, CommandFactory};
    use std::collections::BTreeMap;

    /// A command with those below it.
    fn family(command: Command) -> Vec<Command> {
        let below: Vec<Command> = command.get_subcommands().cloned().collect();
        std::iter::once(command).chain(below.into_iter().flat_map(family)).collect()
    }

    /// All that the help of a command says.
    fn words(command: &Command) -> String {
        let flags = command.get_arguments().flat_map(|arg| [arg.get_help(), arg.get_long_help()]);
        let own = [command.get_after_help(), command.get_about(), command.get_long_about()];
        flags.chain(own).flatten().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn parameters_in_help_exist() {
        let methods = curate_api::methods();
        let known: BTreeMap<&str, Vec<&str>> =
            methods.iter().map(|m| (m.info.name, m.params.iter().map(|p| p.name.as_str()).collect())).collect();
        let texts = family(Cli::command()).iter().map(words).collect::<Vec<_>>().join("\n");
        let split = |c: char| c.is_whitespace() || "\"'`()[]".contains(c);
        let mut seen = 0;
        for (head, params) in texts.split(split).filter_map(|word| word.split_once(':')) {
            let name = head.rsplit(',').next().unwrap_or_default();
            let Some((key, _)) = params.split_once('=') else { continue };
            if name == "http" || name == "NAME" {
                continue;
            }
            assert!(known.get(name).is_some_and(|keys| keys.contains(&key)), "{name}:{params} cannot be given");
            seen += 1;
        }
        assert!(seen >= 4, "{seen} examples were found");
    }

    #[test]
    fn examples_can_be_pasted() {
        for command in family(Cli::command()) {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines().filter(|line| line.starts_with(' ')) {
                assert!(line.chars().count() <= 98, "{}: clap would break '{line}'", command.get_name());
            }
        }
    }
}
