//! From a parsed command line to a call of the api and its words.

use crate::args::{BenchArgs, CacheAction, Cli, Command, Machine, MethodsArgs, RunArgs, SelectArgs, params};
use crate::inspect_view::{Paint, inspection};
use crate::progress::Display;
use crate::train_args::TrainArgs;
use crate::{compare_view, train_view, view, weights_view};
use clap::CommandFactory;
use curate_api::{Error, Host, HubOptions, Manifest, Memory, Plan, Progress, Result, cache::Cache};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The machine's side of this process, with what must live as long.
struct Session {
    host: Host,
    quiet: bool,
    json: bool,
    _scratch: tempfile::TempDir,
}

/// Run the command.
pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    let Cli { command, machine } = cli;
    match command {
        Command::Methods(args) => methods(&args, machine.json),
        Command::Completions(args) => {
            let mut text = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "curate", &mut text);
            print_bytes(&text);
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => man(),
        Command::Serve(args) => {
            let session = Session::prepare(&machine)?;
            crate::serve::run(&args, &session.host, session.json)
        }
        other => {
            let session = Session::open(&machine)?;
            if computes(&other) {
                session.say_where();
            }
            work(other, &session)
        }
    }
}

/// Whether a command has work for a GPU.
const fn computes(command: &Command) -> bool {
    use Command::{Bench, Cluster, Compare, Embed, Eval, FitRule, Run, Score, Select, Train};
    matches!(
        command,
        Select(_) | Embed(_) | Cluster(_) | Score(_) | FitRule(_) | Train(_) | Eval(_) | Compare(_) | Run(_) | Bench(_)
    )
}

fn work(command: Command, session: &Session) -> Result<ExitCode> {
    match command {
        Command::Select(args) => select(&args, session),
        Command::Run(args) => run_plan(&args, session),
        Command::Embed(args) => columns(&args.layers()?, session, curate_api::embed),
        Command::Cluster(args) => {
            let cluster = serde_json::from_value(Value::Object(params(&args.set)?))
                .map_err(|e| Error::usage("params/type", e.to_string()).hint("try --set k=100"))?;
            columns(&args.io.layers()?, session, |plan, host| curate_api::cluster(plan, &cluster, host))
        }
        Command::Score(args) => columns(&args.layers()?, session, curate_api::score),
        Command::FitRule(args) => {
            let done = session.shown(|host| curate_api::fit_rule(&args.plan(), host))?;
            args.output.iter().try_for_each(|path| curate_api::write_rule(path, &done, args.overwrite))?;
            session.say(&done, || crate::fit_rule::table(&done))
        }
        Command::Train(args) => train(&args, session),
        Command::Eval(args) => {
            let (plan, wanted) = (plan(vec![args.input.layer()?])?, args.plan()?);
            let done = session.shown(|host| curate_api::judge(&plan, &wanted, host))?;
            session.say(&done, || train_view::judged(&done))
        }
        Command::Weights(args) => {
            let (value, words) = session.shown(|host| weights_view::run(&args.tool, host))?;
            session.say(&value, || words)
        }
        Command::Compare(args) => {
            let (plan, wanted) = (plan(args.train.all_layers()?)?, args.plan()?);
            if args.train.select.dry_run {
                let found = session.shown(|host| curate_api::forecast_compare(&plan, &wanted, host))?;
                return session.say(&found, || found.to_string());
            }
            compared(&plan, &wanted, session)
        }
        Command::Inspect(args) => {
            let plan = plan(vec![args.layer()?])?;
            let found = session.shown(|host| curate_api::inspect(&plan, host))?;
            session.say(&found, || inspection(&found, &Paint(std::io::stdout().is_terminal())))
        }
        Command::Explain(args) => {
            let found = session.shown(|host| curate_api::explain(&args.output, args.row, host))?;
            session.say(&found, || view::explanation(&found))
        }
        Command::Verify(args) => {
            let checks = session.shown(|host| curate_api::verify(&args.output, host))?;
            session.say(&checks, || view::checks(&checks))?;
            Ok(if checks.iter().all(|c| c.ok) { ExitCode::SUCCESS } else { ExitCode::from(3) })
        }
        Command::Cache(args) => cache(&args.action, session),
        Command::Bench(args) => bench(args, session),
        Command::Doctor(args) => {
            let found = session.shown(|host| curate_api::doctor::examine(args.quick, host))?;
            crate::doctor::say(&found, session.json)
        }
        Command::Methods(_) | Command::Completions(_) | Command::Man | Command::Serve(_) => Ok(ExitCode::SUCCESS),
    }
}

impl Session {
    fn open(machine: &Machine) -> Result<Self> {
        let session = Self::prepare(machine)?;
        listen_for_interrupt(&session.host);
        Ok(session)
    }

    /// The same, with interrupts left to the command.
    fn prepare(machine: &Machine) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("curate-").tempdir()?;
        let root = match (&machine.cache, machine.no_cache) {
            (_, true) => scratch.path().join("cache"),
            (Some(path), _) => PathBuf::from(path),
            (None, _) => default_cache()?,
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cache = Cache::open(&root)?;
        let vram = machine.vram.as_deref().map(curate_api::parse_bytes).transpose()?;
        curate_api::configure_devices(vram, &cache);
        let host = Host {
            cache,
            scratch: scratch.path().join("scratch"),
            hub: HubOptions::from_vars(variable),
            memory: memory(&machine.memory)?,
            threads: machine.threads.map_or(cores, usize::from),
            device: machine.device.clone(),
            progress: Progress::root("run"),
            secret: variable,
            cancel: curate_api::Cancel::default(),
        };
        std::fs::create_dir_all(&host.scratch)?;
        Ok(Self { host, quiet: machine.quiet, json: machine.json, _scratch: scratch })
    }

    /// Say once that there is no GPU, where one would have been used.
    fn say_where(&self) {
        if let Some(line) = (!self.quiet).then(|| self.host.without_gpu()).flatten() {
            eprintln!("{line}");
        }
    }

    /// Run with the progress display.
    fn shown<T>(&self, work: impl FnOnce(&Host) -> Result<T>) -> Result<T> {
        let display = Display::follow(self.host.progress.clone(), self.quiet || !std::io::stderr().is_terminal());
        let result = work(&self.host);
        drop(display);
        result
    }

    /// Print for machines or for people.
    fn say(&self, value: &impl Serialize, words: impl FnOnce() -> String) -> Result<ExitCode> {
        let text = if self.json { to_json(value)? } else { words() };
        print(&text);
        Ok(ExitCode::SUCCESS)
    }
}

/// A closed pipe is the reader's choice, not an error.
pub(crate) fn print(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// The same for text that ends as it should.
fn print_bytes(text: &[u8]) {
    let _ = std::io::stdout().lock().write_all(text);
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::io("json", e.to_string()))
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The bound on resident memory; the program alone needs about 40 MiB.
fn memory(text: &str) -> Result<Memory> {
    const LEAST: u64 = 64 << 20;
    let bytes = curate_api::parse_bytes(text)?;
    if bytes < LEAST {
        return Err(Error::usage("memory/too-small", format!("--memory {text} is less than the program itself needs"))
            .hint(format!("give at least {}", curate_api::format_bytes(LEAST))));
    }
    Ok(Memory::limited(bytes))
}

fn default_cache() -> Result<PathBuf> {
    let base = variable("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|h| Path::new(&h).join(".cache")));
    base.map(|b| b.join("curate")).ok_or_else(|| {
        Error::usage("cache/where", "there is no home folder for the cache")
            .hint("name one with --cache or CURATE_CACHE, or use --no-cache")
    })
}

fn listen_for_interrupt(host: &Host) {
    let cancel = host.cancel.clone();
    let _ = ctrlc::set_handler(move || cancel.cancel());
}

fn plan(layers: Vec<Value>) -> Result<Plan> {
    let plan = Plan::from_layers(layers)?;
    if plan.input.paths.is_empty() {
        return Err(Error::usage("input/missing", "no input is named")
            .hint("name files, folders, globs or URLs, or - for JSON lines on standard input"));
    }
    Ok(plan)
}

pub(crate) fn read_plan(path: &str) -> Result<Value> {
    let text = std::fs::read_to_string(path).map_err(|e| {
        Error::io("plan/missing", format!("cannot read {path}: {e}"))
            .hint("name a plan (TOML) or the manifest of an earlier run")
    })?;
    match serde_json::from_str::<Value>(&text) {
        Ok(mut manifest) if manifest.get("plan").is_some() => {
            let mut plan = manifest["plan"].take();
            if let (Some(plan), Some(compare)) = (plan.as_object_mut(), manifest.get_mut("compare")) {
                plan.insert("compare".to_owned(), compare.take());
            }
            Ok(plan)
        }
        _ => Plan::from_toml(&text),
    }
}

fn select(args: &SelectArgs, session: &Session) -> Result<ExitCode> {
    let mut layers: Vec<Value> = args.config.as_deref().map(read_plan).transpose()?.into_iter().collect();
    layers.extend(args.layers()?);
    let said_budget = layers.iter().any(|l| l.pointer("/select/budget").is_some());
    if !said_budget {
        return Err(
            Error::usage("budget/missing", "no budget is given").hint("add --budget 5% (or 500 rows, or 2Mtok)")
        );
    }
    let plan = plan(layers)?;
    if args.dry_run {
        let forecast = session.shown(|host| curate_api::forecast(&plan, host))?;
        return session.say(&forecast, || forecast.to_string());
    }
    let manifest = session.shown(|host| curate_api::select(&plan, host))?;
    report(&manifest, session)
}

fn train(args: &TrainArgs, session: &Session) -> Result<ExitCode> {
    if args.options {
        let options = curate_api::train_options();
        return session.say(&options, || view::parameters(&options).join("\n"));
    }
    if args.candidates.is_some() && args.online.is_none() && !args.grpo {
        return Err(Error::usage("flag/online", "--candidates belongs to --online").hint("add --online METHOD"));
    }
    let plan = plan(args.all_layers()?)?;
    if args.select.dry_run {
        let found = session.shown(|host| curate_api::forecast_train(&plan, host))?;
        return session.say(&found, || train_view::forecast(&found, &Paint(std::io::stdout().is_terminal())));
    }
    trained(&session.shown(|host| curate_api::train(&plan, host))?, session)
}

fn trained(done: &curate_api::TrainDone, session: &Session) -> Result<ExitCode> {
    eprintln!("{}", train_view::trained(done));
    if session.json {
        print(&to_json(done)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_plan(args: &RunArgs, session: &Session) -> Result<ExitCode> {
    let mut over = serde_json::Map::new();
    over.extend(args.output.clone().map(|o| ("path".to_owned(), Value::from(o))));
    over.insert("overwrite".to_owned(), args.overwrite.into());
    if args.output.is_some() {
        over.insert("report".to_owned(), Value::Null);
    }
    let mut said = read_plan(&args.plan)?;
    let compare = said.as_object_mut().and_then(|plan| plan.remove("compare"));
    let mut layers = vec![said, json!({"output": over})];
    if let (Some(out), true) = (&args.output, layers[0].get("train").is_some()) {
        layers.push(json!({"train": {"out": out}}));
    }
    let plan = plan(layers)?;
    if let Some(wanted) = compare {
        return compared(&plan, &crate::compare_args::read(wanted)?, session);
    }
    if plan.train.is_some() {
        return trained(&session.shown(|host| curate_api::train(&plan, host))?, session);
    }
    let manifest = session.shown(|host| curate_api::select(&plan, host))?;
    report(&manifest, session)
}

fn compared(plan: &Plan, wanted: &curate_api::ComparePlan, session: &Session) -> Result<ExitCode> {
    let done = session.shown(|host| curate_api::compare(plan, wanted, host))?;
    session.say(&done, || compare_view::compared(&done))
}

fn report(manifest: &Manifest, session: &Session) -> Result<ExitCode> {
    eprintln!("{}", view::manifest(manifest));
    if session.json {
        print(&to_json(manifest)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn columns(
    layers: &[Value],
    session: &Session,
    job: impl FnOnce(&Plan, &Host) -> Result<curate_api::ColumnsDone>,
) -> Result<ExitCode> {
    let plan = plan(layers.to_vec())?;
    let done = session.shown(|host| job(&plan, host))?;
    session.say(&done, || format!("wrote {} rows with {} to {}", done.rows, done.columns.join(", "), plan.output.path))
}

fn methods(args: &MethodsArgs, as_json: bool) -> Result<ExitCode> {
    let text = match &args.name {
        _ if args.markdown => curate_api::methods_markdown(),
        Some(name) if as_json => to_json(&curate_api::find_method(name)?)?,
        Some(name) => view::method(&curate_api::find_method(name)?),
        None if as_json => to_json(&curate_api::methods())?,
        None => view::methods(&curate_api::methods()),
    };
    print(text.trim_end());
    Ok(ExitCode::SUCCESS)
}

fn man() -> Result<ExitCode> {
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    print_bytes(&text);
    Ok(ExitCode::SUCCESS)
}

fn cache(action: &CacheAction, session: &Session) -> Result<ExitCode> {
    let cache = &session.host.cache;
    match action {
        CacheAction::List => {
            let usage = cache.usage()?;
            session.say(&usage, || {
                let lines: Vec<String> = usage.iter().map(ToString::to_string).collect();
                format!("{}\n{}", cache.root().display(), lines.join("\n"))
            })
        }
        CacheAction::Prune { older_than_days } => {
            let age = Duration::try_from_secs_f64(older_than_days * 86_400.0).map_err(|_| {
                Error::usage("cache/age", format!("{older_than_days} days is not an age")).hint("0 removes everything")
            })?;
            let removed = cache.prune(age)?;
            session.say(&removed, || removed.to_string())
        }
    }
}

fn bench(args: BenchArgs, session: &Session) -> Result<ExitCode> {
    let BenchArgs { workload, n, d, k, iters, repeats, data, seed } = args;
    let work =
        curate_api::bench::Workload { name: workload, rows: n, dim: d, k, iterations: iters, repeats, data, seed };
    let host = &session.host;
    let done = host.install(|| curate_api::bench::bench(&work, &host.ctx(seed)?))?;
    session.say(&done, || {
        let figures: Vec<String> = done.figures.iter().map(|(key, value)| format!("{key} {value}")).collect();
        format!(
            "{}: median {:.3} s, min {:.3} s, {} threads, {}; {}",
            done.workload,
            done.median_seconds,
            done.min_seconds,
            done.threads,
            done.backend,
            figures.join(", ")
        )
    })
}
