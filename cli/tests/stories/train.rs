//! From rows to a trained model and its figures, by hand of a user.

use crate::story::Story;
use crate::tables;
use arrow::array::AsArray;
use arrow::datatypes::Float32Type;
use curate_datasets::tasks::{NumberTasks, Side, Style, Task, numbers, task_rows};
use std::fs;

/// Questions such as `max 12 7 = ` with their answers, as a parquet file.
pub(crate) fn questions(story: &Story, name: &str, rows: usize, side: Side) -> String {
    let tasks = ["max-integer", "digit_max-integer"].map(|name| Task::find(name).expect("a task")).to_vec();
    let options = NumberTasks { tasks, side, digits: 1..=2, ..NumberTasks::default() };
    let items = numbers(rows, &options, 5).expect("questions");
    let rows: Vec<_> = items.iter().map(|item| item.row(Style::Compact)).collect();
    let path = story.at(name);
    tables::write(&path, &task_rows(&rows).expect("a table"));
    path
}

/// A folder with the configuration of a tiny model and nothing else.
fn tiny(story: &Story) -> String {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 300, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "initializer_range": 0.02, "hidden_act": "silu",
        "tie_word_embeddings": true
    });
    story.file("tiny/config.json", config.to_string()).replace("/config.json", "")
}

/// A folder with questions, a configuration of a tiny model, and a cache.
pub(crate) struct Desk {
    pub(crate) story: Story,
    pub(crate) rows: String,
    pub(crate) model: String,
    pub(crate) cache: String,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let story = Story::new();
        let rows = questions(&story, "questions.parquet", 240, Side::Train);
        let model = tiny(&story);
        let cache = story.at("cache");
        Self { story, rows, model, cache }
    }

    pub(crate) fn train(&self, out: &str, more: &[&str]) -> crate::story::Said {
        let out = self.story.at(out);
        let fixed = ["train", &self.rows, "--model", &self.model, "-o", &out, "--json", "--cache", &self.cache];
        let args: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
        self.story.curate(&args)
    }

    pub(crate) fn eval(&self, model: &str, more: &[&str]) -> serde_json::Value {
        let model = self.story.at(model);
        let fixed = ["eval", &self.rows, "--model", &model, "--json", "--cache", &self.cache];
        let args: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
        self.story.curate(&args).json()
    }
}

pub(crate) const FRESH: [&str; 7] =
    ["--from-scratch", "--learning-rate", "3e-3", "--batch-size", "16", "--max-steps", "24"];

pub(crate) fn loss(report: &serde_json::Value) -> f64 {
    let measures = report["report"]["measures"].as_array().expect("measures");
    let line = measures.iter().find(|m| m["metric"] == "loss").expect("a loss");
    line["value"].as_f64().expect("a number")
}

#[test]
fn from_rows_to_a_model_an_adapter_and_their_figures() {
    let desk = Desk::new();
    let done = desk.train("fresh", &FRESH).json();
    let losses: Vec<f64> =
        done["report"]["losses"].as_array().expect("losses").iter().filter_map(serde_json::Value::as_f64).collect();
    assert_eq!(losses.len(), 24);
    assert!(losses[23] < 0.7 * losses[0], "{losses:?}");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(fs::metadata(desk.story.at(&format!("fresh/model/{name}"))).is_ok(), "no {name}");
    }
    let plain = desk.eval("fresh/model", &["--by", "task", "--judge", "number", "--max-new-tokens", "6"]);
    assert!(plain["report"]["measures"].as_array().expect("measures").iter().any(|m| m["metric"] == "exact"));

    let base = desk.story.at("fresh/model");
    let lora = [
        "train",
        &desk.rows,
        "--model",
        &base,
        "-o",
        &desk.story.at("lora"),
        "--lora",
        "4",
        "--lr",
        "1e-2",
        "--max-steps",
        "10",
    ];
    desk.story.curate(&[&lora[..], &["--cache", &desk.cache]].concat()).ok();
    let tuned = desk.eval("fresh/model", &["--adapter", &desk.story.at("lora/adapter")]);
    assert!(loss(&tuned) < loss(&plain), "the adapter helps: {} and {}", loss(&tuned), loss(&plain));
}

#[test]
fn the_same_run_gives_the_same_bits_and_resumes() {
    let desk = Desk::new();
    desk.train("one", &[&FRESH[..], &["--threads", "1"]].concat()).ok();
    desk.train("two", &[&FRESH[..], &["--threads", "2", "-O", "save_steps=7"]].concat()).ok();
    let model = |out: &str| fs::read(desk.story.at(&format!("{out}/model/model.safetensors"))).expect("a model");
    assert!(model("one") == model("two"), "one thread and two give other bits");
    // As if the run had been killed before its last checkpoint.
    for name in desk.story.names("two") {
        if name == "checkpoint-24" {
            fs::remove_dir_all(desk.story.at(&format!("two/{name}"))).expect("a checkpoint");
        }
    }
    fs::remove_dir_all(desk.story.at("two/model")).expect("the model");
    let again = desk.train("two", &[&FRESH[..], &["-O", "save_steps=7", "--resume"]].concat()).json();
    assert!(
        again["report"]["resumed_from"].as_u64().is_some_and(|step| step < 24),
        "{}",
        again["report"]["resumed_from"]
    );
    assert!(model("one") == model("two"), "a resumed run gives other bits");
}

#[test]
fn choose_and_train_in_one_plan() {
    let desk = Desk::new();
    let more = ["--budget", "25%", "--method", "random", "--eval-share", "0.2", "--epochs", "1"];
    let done = desk.train("both", &[&more[..], &["--from-scratch", "--lr", "1e-3"]].concat()).json();
    assert_eq!(done["data"]["rows"], 60);
    assert!(done["eval_rows"].as_u64().is_some_and(|rows| rows > 0 && rows < 60));
    desk.story.curate(&["verify", &desk.story.at("both/picks.parquet"), "--cache", &desk.cache]).ok();
    let plan = desk.story.at("both/curate.json");
    let again =
        desk.story.curate(&["run", &plan, "-o", &desk.story.at("again"), "--json", "--cache", &desk.cache]).json();
    assert_eq!(again["report"]["losses"], done["report"]["losses"]);
}

#[test]
fn a_dry_run_shows_the_mask_and_trains_nothing() {
    let desk = Desk::new();
    let found = desk.train("dry", &[&FRESH[..], &["--dry-run"]].concat()).json();
    assert_eq!(found["samples"].as_array().map(Vec::len), Some(3));
    assert!(found["total_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    let sample = &found["samples"][0];
    let (text, range) = (sample["text"].as_str().expect("text"), &sample["trained"][0]);
    let at = |key: &str| usize::try_from(range[key].as_u64().expect("an offset")).expect("small");
    assert!(text[..at("start")].ends_with('=') || at("start") > 0, "the question is not learned: {text}");
    assert!(fs::metadata(desk.story.at("dry")).is_err(), "a dry run wrote something");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let desk = Desk::new();
    let cases: [(&str, &[&str], &[i32]); 7] = [
        ("no learning rate", &["--from-scratch"], &[2]),
        ("negative learning rate", &["--from-scratch", "--learning-rate=-1"], &[2]),
        ("unknown option", &["--from-scratch", "--lr", "1e-3", "-O", "lerning_rate=1"], &[2]),
        ("weights that are not there", &["--lr", "1e-3"], &[2, 3, 4, 5]),
        (
            "unknown module",
            &["--from-scratch", "--lr", "1e-3", "--lora", "-O", "tuning.lora.target_modules=[\"qq_proj\"]"],
            &[2],
        ),
        ("a share of everything", &["--from-scratch", "--lr", "1e-3", "--eval-share", "1"], &[2]),
        ("a loss that leaves all bounds", &["--from-scratch", "--lr", "1e30", "--max-steps", "30"], &[0, 3, 4]),
    ];
    let mut wrong = Vec::new();
    for (name, more, codes) in cases {
        let said = desk.train("bad", more);
        if !(codes.contains(&0) && said.code == 0) {
            wrong.extend(said.complaint(codes).map(|complaint| format!("{name}: {complaint}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    let none = ["train", &desk.rows, "-o", "x", "--lr", "1e-3"];
    desk.story.curate(&none).refused("no model", &[2]);
    desk.story
        .curate(&["train", &desk.rows, "--model", &desk.story.at("nowhere"), "-o", "x", "--lr", "1e-3"])
        .refused("no such model", &[2, 5]);
}

/// Rows with a loss, a loss without the prompt, or a score.
fn column(path: &str, name: &str) -> Vec<f32> {
    let batch = tables::read(path);
    let column = batch.column_by_name(name).unwrap_or_else(|| panic!("no {name}"));
    let numbers = column.as_any().downcast_ref::<arrow::array::Float32Array>().expect("numbers");
    numbers.iter().map(|v| v.expect("a number")).collect()
}

#[test]
fn scores_by_texts_vectors_and_a_model() {
    let desk = Desk::new();
    desk.train("fresh", &FRESH).ok();
    let (model, out) = (desk.story.at("fresh/model"), desk.story.at("scored.parquet"));
    let score = [
        "score",
        &desk.rows,
        "-o",
        &out,
        "--score",
        "length",
        "--score",
        "knn-distance:k=2",
        "--score",
        "ifd",
        "--model",
        &model,
    ];
    desk.story.curate(&[&score[..], &["--quality", "z(ifd) + 0.1*length", "--cache", &desk.cache]].concat()).ok();
    let (ifd, length, quality) =
        (column(&out, "score.ifd"), column(&out, "score.length"), column(&out, "score.quality"));
    assert_eq!((ifd.len(), column(&out, "score.knn-distance").len()), (240, 240));
    let mean = ifd.iter().map(|v| f64::from(*v)).sum::<f64>() / 240.0;
    let sd = (ifd.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 240.0).sqrt();
    for i in 0..240 {
        let wanted = (f64::from(ifd[i]) - mean) / sd + 0.1 * f64::from(length[i]);
        assert!((wanted - f64::from(quality[i])).abs() < 1e-3 * wanted.abs().max(1.0), "row {i}");
    }
    let picks = desk.story.at("best.parquet");
    let said = desk.story.select(
        &desk.rows,
        &picks,
        &["--budget", "10", "--method", "top-score", "--quality", "ifd", "--model", &model],
    );
    assert_eq!(crate::story::selected(&said), 10);
    let mut best: Vec<usize> = (0..240).collect();
    best.sort_by(|&a, &b| ifd[b].total_cmp(&ifd[a]).then(a.cmp(&b)));
    let chosen = tables::integers(&tables::read(&picks), "curate_row");
    assert_eq!(chosen[0], best[0] as u64);
    // the built-in model speaks where none is named
    let by = |out: &str, more: &[&str]| {
        let out = desk.story.at(out);
        let wanted = ["--budget", "10", "--method", "top-score", "--quality", "perplexity"];
        desk.story.select(&desk.rows, &out, &[&wanted[..], more].concat());
        tables::integers(&tables::read(&out), "curate_row")
    };
    assert_eq!(by("unnamed.parquet", &[]), by("named.parquet", &["--model", "builtin"]));
    assert_ne!(by("unnamed.parquet", &["--overwrite"]), by("other.parquet", &["--model", &model]));
    desk.story
        .try_select(&desk.rows, &desk.story.at("x.parquet"), &["--budget", "10", "--quality", "ifd + "])
        .refused("no expression", &[2]);
    let vectors = desk.story.at("vectors.parquet");
    let embed = ["embed", &desk.rows, "-o", &vectors, "--cache", &desk.cache, "--overwrite", "--embedder"];
    desk.story.curate(&[&embed[..], &["lm:last", "--model", &model]].concat()).ok();
    let batch = tables::read(&vectors);
    let lists = batch.column_by_name("embedding").expect("vectors").as_fixed_size_list().clone();
    let length = |i: usize| lists.value(i).as_primitive::<Float32Type>().values().iter().map(|v| v * v).sum::<f32>();
    assert!((0..240).all(|i| (length(i) - 1.0).abs() < 1e-4));
    desk.story.curate(&[&embed[..], &["lm:last"]].concat()).refused("no model", &[2]);
    desk.story.curate(&[&embed[..], &["lm:median", "--model", &model]].concat()).refused("no such vectors", &[2]);
}

#[test]
fn a_run_is_not_replaced_unless_that_is_said() {
    let desk = Desk::new();
    let few = ["--from-scratch", "--lr", "1e-3", "--batch-size", "8", "--max-steps", "4", "-O", "save_steps=2"];
    let five = [&few[..6], &["5", "-O", "save_steps=5"]].concat();
    desk.train("run", &few).ok();
    desk.story.file("run/notes.txt", "mine");
    let model = || fs::read(desk.story.at("run/model/model.safetensors")).expect("a model");
    let before = model();
    let again = desk.train("run", &five);
    again.refused("a finished run", &[2]);
    assert!(again.stderr.contains("output/exists") && again.stderr.contains("--overwrite"), "{}", again.stderr);
    assert!(model() == before, "a refused run wrote a model");
    // a command that cannot be done takes nothing away
    let lost = ["train", "nowhere.parquet", "--model", &desk.model, "-o", &desk.story.at("run"), "--overwrite"];
    desk.story.curate(&[&lost[..], &few, &["--cache", &desk.cache]].concat()).refused("no input", &[2, 3, 5]);
    assert!(model() == before, "a run that could not begin took the old one away");
    desk.train("run", &[&five[..], &["--overwrite"]].concat()).ok();
    let mut names = desk.story.names("run");
    names.sort();
    assert_eq!(names, ["checkpoint-5", "curate.json", "log.jsonl", "model", "notes.txt", "start"]);
    desk.train("run", &[&five[..], &["--resume"]].concat()).ok();

    fs::remove_file(desk.story.at("run/curate.json")).expect("a manifest");
    let begun = desk.train("run", &five);
    begun.refused("a run that is not finished", &[2]);
    assert!(begun.stderr.contains("--resume"), "{}", begun.stderr);
    let log = desk.story.file("precious/log.jsonl", "the log of another program");
    desk.train("precious", &few).refused("somebody's folder", &[2]);
    assert_eq!(fs::read_to_string(log).expect("a log"), "the log of another program");
    let picks = desk.story.file("picked/picks.parquet", "rows of another day");
    desk.train("picked", &[&few[..], &["--budget", "10"]].concat()).refused("picks", &[2]);
    assert_eq!(fs::read_to_string(picks).expect("picks"), "rows of another day");
}

#[test]
fn a_run_that_cannot_go_on_says_what_differs() {
    let desk = Desk::new();
    let of = |steps: &'static str, rate: &'static str| {
        ["--from-scratch", "--lr", rate, "--batch-size", "8", "--max-steps", steps, "--resume"]
    };
    desk.train("run", &of("4", "1e-3")).ok();
    let longer = desk.train("run", &of("9", "1e-3"));
    longer.refused("more steps", &[2]);
    assert!(longer.stderr.contains("max_steps (4 there, 9 here)"), "{}", longer.stderr);
    assert!(longer.stderr.contains("cannot be made longer"), "{}", longer.stderr);
    let other = desk.train("run", &of("4", "2e-3"));
    assert!(other.stderr.contains("learning_rate (0.001 there, 0.002 here)"), "{}", other.stderr);
    let seed = desk.train("run", &[&of("4", "1e-3")[..], &["--seed", "3"]].concat());
    assert!(seed.stderr.contains("the seed (0 there, 3 here)"), "{}", seed.stderr);
}

#[test]
fn a_finished_run_is_checked_as_far_as_it_goes() {
    let desk = Desk::new();
    let few = ["--from-scratch", "--lr", "1e-3", "--batch-size", "8", "--max-steps", "4", "--budget", "50"];
    let done = desk.train("run", &few).json();
    assert!(
        done["step_seconds"].as_f64() > Some(0.0) && done["step_seconds"].as_f64() <= done["training_seconds"].as_f64()
    );
    let verify = || desk.story.curate(&["verify", &desk.story.at("run"), "--cache", &desk.cache]);
    let said = verify().ok().stdout;
    for part in ["picks: choice", "file model/model.safetensors", "log of 4 steps", "checkpoint", "not made again"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let model = desk.story.at("run/model/model.safetensors");
    let mut bytes = fs::read(&model).expect("a model");
    *bytes.last_mut().expect("bytes") ^= 1;
    fs::write(&model, bytes).expect("the model can be written");
    let log = fs::read_to_string(desk.story.at("run/log.jsonl")).expect("a log");
    let cut: Vec<&str> = log.lines().take(3).collect();
    fs::write(desk.story.at("run/log.jsonl"), cut.join("\n")).expect("the log can be written");
    let said = verify();
    assert_eq!(said.code, 3);
    assert!(said.stdout.contains("DIFFERS  file model/model.safetensors"), "{}", said.stdout);
    assert!(said.stdout.contains("DIFFERS  log of 4 steps"), "{}", said.stdout);
    let explain = desk.story.curate(&["explain", &desk.story.at("run"), "--row", "1"]);
    explain.refused("the folder of a run", &[2]);
    assert!(explain.stderr.contains("run/picks.parquet"), "{}", explain.stderr);
}

#[test]
fn an_adapter_is_judged_on_its_base_and_a_run_is_no_model() {
    let desk = Desk::new();
    desk.train("base", &["--from-scratch", "--lr", "1e-3", "--max-steps", "2"]).ok();
    let tuned = Desk { model: desk.story.at("base/model"), ..desk };
    tuned.train("lora", &["--lora", "4", "--lr", "1e-2", "--max-steps", "2"]).ok();
    let alone = tuned.eval("lora/adapter", &[]);
    let named = tuned.eval("base/model", &["--adapter", &tuned.story.at("lora/adapter")]);
    assert_eq!(loss(&alone).to_bits(), loss(&named).to_bits());
    for (run, below) in [("base", "base/model"), ("lora", "lora/adapter")] {
        let said = tuned.story.curate(&["eval", &tuned.rows, "--model", &tuned.story.at(run), "--cache", &tuned.cache]);
        said.refused("the folder of a run", &[2]);
        assert!(said.stderr.contains(below), "{}", said.stderr);
    }
    fs::remove_dir_all(tuned.story.at("base")).expect("a run");
    let adapter = tuned.story.at("lora/adapter");
    let said = tuned.story.curate(&["eval", &tuned.rows, "--model", &adapter, "--cache", &tuned.cache]);
    said.refused("a base that is gone", &[2]);
    assert!(said.stderr.contains("--adapter"), "{}", said.stderr);
}

#[test]
fn rows_that_are_left_out_have_a_reason() {
    let desk = Desk::new();
    let long = |i: usize| serde_json::json!({"prompt": format!("{i} ").repeat(300), "completion": "much"});
    let short = |i: usize| serde_json::json!({"prompt": format!("{i} and"), "completion": "more"});
    let rows: Vec<String> = (0..20).map(|i| if i < 3 { long(i) } else { short(i) }.to_string()).collect();
    let desk = Desk { rows: desk.story.file("rows.jsonl", rows.join("\n")), ..desk };
    let few = ["--from-scratch", "--lr", "1e-3", "--max-steps", "2"];
    let said = desk.train("run", &few).ok();
    assert!(said.stderr.contains("in 3 rows what stands before the answer fills all 128 tokens"), "{}", said.stderr);
    let model = desk.story.at("run/model");
    let eval = ["eval", &desk.rows, "--model", &model, "--cache", &desk.cache];
    let said = desk.story.curate(&eval).ok();
    assert!(said.stdout.starts_with("17 of 20 rows"), "{}", said.stdout);
    for refused in [
        desk.train("longer", &[&few[..], &["-O", "max_length=4096"]].concat()),
        desk.story.curate(&[&eval[..], &["--max-length", "4096"]].concat()),
    ] {
        refused.refused("longer than the context", &[2]);
        assert!(refused.stderr.contains("context of 128 tokens"), "{}", refused.stderr);
    }
    let questions: Vec<String> =
        (0..8).map(|i| serde_json::json!({"prompt": format!("why {i}?")}).to_string()).collect();
    let desk = Desk { rows: desk.story.file("questions.jsonl", questions.join("\n")), ..desk };
    let said = desk.train("unanswered", &few);
    said.refused("no answers", &[2, 3]);
    assert!(said.stderr.contains("--map response=COLUMN"), "{}", said.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_says_how_to_go_on() {
    use std::process::{Command, Stdio};
    let desk = Desk::new();
    let out = desk.story.at("run");
    let fixed = ["train", &desk.rows, "--model", &desk.model, "-o", &out, "--cache", &desk.cache, "--from-scratch"];
    let args = [&fixed[..], &["--lr", "1e-3", "--max-steps", "100000", "-O", "save_steps=2"]].concat();
    let mut command = desk.story.command(&[&args[..], &["-O", "save_total_limit=2"]].concat());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let begun = std::time::Instant::now();
    while !desk.story.names("run").iter().any(|name| name == "checkpoint-4") && begun.elapsed().as_secs() < 120 {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    let said = crate::story::Said::of(child.wait_with_output().expect("an end"));
    assert_eq!(said.code, 130, "{}", said.stderr);
    assert!(said.stderr.contains("add --resume"), "{}", said.stderr);
}
