use super::*;
use crate::guard::Allow;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder that is allowed, one that is not, and ways from the one to the other.
struct House {
    dir: TempDir,
    places: Places,
}

impl House {
    fn new(hub: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["in/sub", "in/model", "in/mixed", "in/own", "in/loop", "out/sub"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["in/a.jsonl", "in/sub/b.jsonl", "in/model/config.json", "in/own/db.jsonl", "out/secret.jsonl"] {
            fs::write(at(file), "{}").unwrap();
        }
        symlink(at("out/secret.jsonl"), at("in/mixed/link.jsonl")).unwrap();
        symlink(at("out"), at("in/door")).unwrap();
        symlink(at("in/a.jsonl"), at("in/sub/near.jsonl")).unwrap();
        symlink(at("out/nothing"), at("in/dangling")).unwrap();
        symlink(at("in/loop"), at("in/loop/again")).unwrap();
        let urls = ["s3://lake/sets", "http://scores.example/v1"].map(str::to_owned);
        let places = [at("in").to_string_lossy().into_owned()].into_iter().chain(urls).collect();
        let places = Places::new(&Allow { places, hub, never: vec![at("in/own")] }).unwrap();
        Self { dir, places }
    }

    fn at(&self, path: &str) -> String {
        self.dir.path().join(path).to_string_lossy().into_owned()
    }

    fn code(&self, plan: Value) -> &'static str {
        let plan = Plan::from_layers([plan]).unwrap();
        self.places.check(&plan).map_or_else(|e| e.code(), |()| "ok")
    }

    fn input(&self, path: &str) -> &'static str {
        self.code(json!({"input": {"paths": [path]}}))
    }
}

#[test]
fn inputs_stay_below_what_is_allowed() {
    let house = House::new(false);
    for path in [
        "in/a.jsonl",
        "in/sub",
        "in/sub/../a.jsonl",
        "in/sub/*.jsonl",
        "in/**/b.jsonl",
        "in/missing.jsonl",
        "in/missing/deep",
        "in/loop",
        "out/../in/a.jsonl",
    ] {
        assert_eq!(house.input(&house.at(path)), "ok", "{path}");
    }
    for path in [
        "out/secret.jsonl",
        "out/missing",
        "out",
        "",
        "in/../out/secret.jsonl",
        "in/door/secret.jsonl",
        "in/door/*.jsonl",
        "in/door/../out/secret.jsonl",
        "in/door",
        "in/mixed",
        "in/mixed/*.jsonl",
        "in/*/secret.jsonl",
        "in",
        "in/dangling",
        "in/missing/../../out/secret.jsonl",
        "in/sub/*/../../../out/*.jsonl",
        "i*/a.jsonl",
        "in/own/db.jsonl",
        "in/own",
        "in/own/*",
        "in/sub/../own/db.jsonl",
    ] {
        assert_eq!(house.input(&house.at(path)), "input/not-allowed", "{path}");
    }
    for path in [
        "-",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "file:///etc/passwd",
        "file:/etc/passwd",
        "..",
        "~",
        "a\0b",
    ] {
        assert_eq!(house.input(path), "input/not-allowed", "{path}");
    }
    assert_eq!(house.input(&format!("file://{}", house.at("in/a.jsonl"))), "ok");
    assert_eq!(house.input(&format!("file://{}", house.at("in/%2e%2e/out/secret.jsonl"))), "input/not-allowed");
}

#[test]
fn the_answer_does_not_tell_what_is_outside() {
    let house = House::new(false);
    let said = |path: &str| {
        let plan = Plan::from_layers([json!({"input": {"paths": [house.at(path)]}})]).unwrap();
        house.places.check(&plan).unwrap_err().to_string()
    };
    assert_eq!(said("out/secret.jsonl"), said("out/missing.jsonl"));
    assert_eq!(said("out/*.jsonl"), said("out/missing/*.jsonl"));
}

#[test]
fn urls_models_and_scorers() {
    let house = House::new(false);
    assert_eq!(house.input("s3://lake/sets/*.parquet"), "ok");
    for url in
        ["s3://lake/other", "https://example.org/a.jsonl", "http://169.254.169.254/latest", "http://scores.example/v2"]
    {
        assert_eq!(house.input(url), "input/not-allowed", "{url}");
    }
    let (inside, outside) = (house.at("in/model"), house.at("out/sub"));
    for key in ["model", "embed"] {
        let plan = |name: &str| if key == "model" { json!({key: name}) } else { json!({key: {"use": name}}) };
        assert_eq!(house.code(plan(&inside)), "ok", "{key}");
        assert_eq!(house.code(plan(&outside)), "input/not-allowed", "{key}");
        assert_eq!(house.code(plan("owner/name@main")), "input/not-allowed", "{key}");
        assert_eq!(House::new(true).code(plan("owner/name@main")), "ok", "{key}");
        assert_eq!(House::new(true).code(plan("../name")), "input/not-allowed", "{key}");
    }
    for name in ["static", "column:v", "lm:mean"] {
        assert_eq!(house.code(json!({"embed": {"use": name}})), "ok");
    }
    assert_eq!(house.code(json!({"model": "builtin"})), "ok");
    let score = |url: &str, env: &str| {
        house.code(json!({"score": [{"use": "mtld"}, {"use": "http", "name": "r", "url": url, "token_env": env}]}))
    };
    assert_eq!(score("http://scores.example/v1/reward", "CURATE_REWARD"), "ok");
    assert_eq!(score("http://scores.example/v1/reward", "CURATE_DATABASE"), "input/not-allowed");
    assert_eq!(score("http://127.0.0.1:22/", "CURATE_REWARD"), "input/not-allowed");
    assert_eq!(score("", "CURATE_REWARD"), "input/not-allowed");
    assert_eq!(house.code(json!({"score": [{"use": "http"}]})), "input/not-allowed");
}

#[test]
fn targets_templates_and_training() {
    let house = House::new(false);
    let (inside, outside) = (house.at("in/a.jsonl"), house.at("out/secret.jsonl"));
    let all = |path: &str| {
        [
            json!({"target": [path]}),
            json!({"input": {"chat_template": path}}),
            json!({"train": {"model": "builtin", "eval": [path]}}),
            json!({"train": {"model": "builtin", "adapter": path}}),
            json!({"online": {"use": "rho-loss", "reference": path}}),
            json!({"train": {"model": path}}),
            json!({"train": {"model": path, "from_scratch": true}}),
        ]
    };
    assert!(all(&inside).into_iter().all(|plan| house.code(plan) == "ok"));
    assert!(all(&outside).into_iter().all(|plan| house.code(plan) == "input/not-allowed"));
}

#[test]
fn outputs_are_plain_names() {
    let house = House::new(false);
    for name in
        ["/x.parquet", "../x.parquet", "a/b.parquet", "a/", "..", ".hidden", "s3://b/x", "a\\b", "a b", "é.json"]
    {
        for plan in [
            json!({"output": {"path": name}}),
            json!({"output": {"path": "a.json", "report": name}}),
            json!({"train": {"model": "builtin", "out": name}}),
        ] {
            assert_eq!(house.code(plan), "output/name", "{name}");
        }
    }
    assert_eq!(house.code(json!({"output": {"path": "a.parquet", "report": "r.html"}})), "ok");
}

/// Texts in plans and in the parameters of methods, that is: everything that could name a place.
const PLACES: &[&str] = &[
    "input.paths",
    "input.chat_template",
    "embed.use",
    "model",
    "target",
    "output.path",
    "output.report",
    "online.reference",
    "train.model",
    "train.adapter",
    "train.out",
    "train.eval",
    "http.url",
    "http.token_env",
];
/// Texts that name none: columns, methods, expressions over them.
const OTHERS: &[&str] = &[
    "input.map",
    "input.where",
    "quality",
    "score.use",
    "filter.use",
    "select.use",
    "select.budget",
    "online.use",
    "online.budget",
    "http.name",
    "http.version",
    "craig.classes",
    "goracs.classes",
    "influence.items",
    "influence.next",
    "influence.target",
    "instructmining.rule",
    "perplexity.column",
];

#[test]
fn every_text_of_a_plan_is_known() {
    let schema = schemars::schema_for!(Plan);
    let mut texts = BTreeSet::new();
    walk(schema.as_value(), schema.as_value(), "", &mut texts);
    for method in curate_api::methods() {
        let free = method.params.iter().filter(|param| param.choices.is_empty() && !is_numeric(&param.kind));
        texts.extend(free.map(|param| format!("{}.{}", method.info.name, param.name)));
    }
    let known: BTreeSet<String> = PLACES.iter().chain(OTHERS).map(|text| (*text).to_owned()).collect();
    let unseen: Vec<&String> = texts.difference(&known).collect();
    assert!(unseen.is_empty(), "do these name places? then `check` must look at them: {unseen:?}");
    let gone: Vec<&String> = known.difference(&texts).collect();
    assert!(gone.is_empty(), "these are no longer there: {gone:?}");
}

fn is_numeric(kind: &str) -> bool {
    ["integer", "number", "true or false"].iter().any(|plain| kind.starts_with(plain))
}

/// Collect the paths of all texts below a schema.
fn walk(root: &Value, at: &Value, path: &str, texts: &mut BTreeSet<String>) {
    if let Some(name) = at.get("$ref").and_then(Value::as_str) {
        return walk(root, root.pointer(&name[1..]).unwrap(), path, texts);
    }
    let is_text = |kind: &Value| kind == "string" || kind.as_array().is_some_and(|all| all.contains(&json!("string")));
    if at.get("type").is_some_and(is_text) && at.get("enum").is_none() && at.get("const").is_none() {
        texts.insert(path.to_owned());
    }
    for (name, below) in at.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        walk(root, below, &format!("{path}{dot}{name}"), texts);
    }
    let parts = ["anyOf", "oneOf", "allOf"].iter().filter_map(|key| at.get(key)?.as_array()).flatten();
    let below = ["items", "additionalProperties"].iter().filter_map(|key| at.get(key)).filter(|v| v.is_object());
    parts.chain(below).for_each(|below| walk(root, below, path, texts));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    /// Whatever is put together from these parts: what is let through is not outside, even where it exists.
    #[test]
    fn no_way_leads_out(parts in prop::collection::vec(prop::sample::select(vec![
        "in", "out", "..", ".", "door", "sub", "mixed", "own", "loop", "again", "a.jsonl", "secret.jsonl", "link.jsonl", "near.jsonl", "dangling", "*", "**", "s*", "?n", "[io]*", "", "*.jsonl",
    ]), 1..7)) {
        let house = House::new(false);
        let text = house.at(&parts.join("/"));
        if house.input(&text) == "ok" {
            let real = house.dir.path().canonicalize().unwrap();
            let found = if Path::new(&text).exists() { vec![PathBuf::from(&text)] } else {
                glob::glob(&text).map(|all| all.flatten().collect()).unwrap_or_default()
            };
            for path in found {
                let path = path.canonicalize().unwrap();
                prop_assert!(path.starts_with(real.join("in")) && !path.starts_with(real.join("in/own")), "{text} -> {path:?}");
            }
        }
    }
}
