//! Adapters as PEFT reads and writes them: `adapter_config.json` and `adapter_model.safetensors`.

use super::attach::{Attached, dimensions, freeze, paths, put};
use super::{Adaptable, LoraConfig, PREFIX, attached};
use crate::checkpoint::{self, Entry, TensorFile};
use crate::sft::Differentiable;
use crate::{ParamId, Params, Tensor};
use curate_core::{Error, Location, Result};
use serde_json::{Value, json};
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const TENSORS: &str = "adapter_model.safetensors";

/// The tensors of all adapters under their names in the file.
pub(crate) fn adapter_entries(params: &Params) -> Vec<Entry<'_>> {
    let adapters = params.iter().filter(|(_, t)| super::is_adapter(&t.name) && !t.data.is_empty());
    adapters.map(|(_, t)| Entry::floats(t.name.clone(), &t.shape, &t.data)).collect()
}

/// The content of `adapter_config.json`: few keys, since some versions refuse those they do not know.
pub(crate) fn adapter_json(config: &LoraConfig, base: &str) -> Value {
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.r,
        "lora_alpha": whole(config.lora_alpha),
        "lora_dropout": 0.0,
        "target_modules": config.target_modules,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "use_rslora": config.use_rslora,
        "use_dora": false,
        "modules_to_save": null,
        "rank_pattern": config.rank_pattern,
        "alpha_pattern": config.alpha_pattern.iter().map(|(k, v)| (k.clone(), whole(*v))).collect::<serde_json::Map<_, _>>(),
        "layers_to_transform": config.layers_to_transform,
    })
}

/// A whole number as such: PEFT declares alpha as one.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
fn whole(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { json!(x as i64) } else { json!(x) }
}

/// Write the adapters of a model into a folder.
///
/// # Errors
/// `lora/none` when the model has none; `io`.
pub fn save_adapter<M: Differentiable>(model: &M, config: &LoraConfig, base: &str, folder: &Path) -> Result<()> {
    let entries = adapter_entries(model.params());
    if entries.is_empty() {
        return Err(Error::usage("lora/none", "the model carries no adapter").hint("attach or load one first"));
    }
    std::fs::create_dir_all(folder)?;
    checkpoint::write(&folder.join(TENSORS), &entries, None)?;
    let text = serde_json::to_string_pretty(&adapter_json(config, base)).unwrap_or_default();
    checkpoint::place(&folder.join(CONFIG), |path| Ok(std::fs::write(path, text)?))
}

/// Put the adapters of a PEFT folder on a model. The rest of the model is frozen; the adapters are trained when `train` says so.
/// Gives the configuration as read.
///
/// # Errors
/// `lora/file` when the folder holds something that cannot be put on this model, naming it; `tensors/*`, `io`.
pub fn load_adapter<M: Adaptable + Differentiable>(model: &mut M, folder: &Path, train: bool) -> Result<LoraConfig> {
    let config = read_config(&folder.join(CONFIG))?;
    let path = folder.join(TENSORS);
    let mut file = TensorFile::open(&path)?;
    let linears = paths(model);
    let pairs = pair_up(&file.names(), &linears).map_err(|e| e.at(Location::file(path.display().to_string())))?;
    let mut read = Vec::new();
    for (weight, module) in pairs {
        read.push((weight, read_pair(&mut file, model, (weight, &module), &config)?, config.scale(&module)));
    }
    freeze(model);
    for (weight, (mut a, mut b), scale) in read {
        (a.trained, b.trained) = (train, train);
        put(model, weight, (a, b), scale);
    }
    Ok(config)
}

fn refuse(what: impl Into<String>) -> Error {
    Error::data("lora/file", what)
}

fn read_config(path: &Path) -> Result<LoraConfig> {
    let place = || Location::file(path.display().to_string());
    let text = std::fs::read_to_string(path).map_err(|e| Error::from(e).at(place()))?;
    let value: Value =
        serde_json::from_str(&text).map_err(|e| refuse(e.to_string()).hint("write the adapter again").at(place()))?;
    parse_config(&value).map_err(|e| e.at(place()))
}

fn parse_config(value: &Value) -> Result<LoraConfig> {
    supported(value)?;
    let mut map = serde_json::Map::new();
    for key in ["r", "lora_alpha", "use_rslora", "layers_to_transform", "rank_pattern", "alpha_pattern"] {
        match value.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::Number(one)) if key == "layers_to_transform" => drop(map.insert(key.to_owned(), json!([one]))),
            Some(found) => drop(map.insert(key.to_owned(), found.clone())),
        }
    }
    if let Some(Value::Array(list)) = value.get("target_modules") {
        // PEFT keeps them as a set: their order means nothing
        let mut names: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        map.insert("target_modules".to_owned(), json!(names));
    }
    let config: LoraConfig = serde_json::from_value(Value::Object(map))
        .map_err(|e| refuse(e.to_string()).hint("write the adapter again with a current PEFT"))?;
    config.check()?;
    Ok(config)
}

/// Say clearly what is not read.
fn supported(value: &Value) -> Result<()> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let yes = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    let filled = |key: &str| match value.get(key) {
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        _ => false,
    };
    if text("peft_type") != "LORA" {
        return Err(refuse(format!("an adapter of type '{}'", text("peft_type"))).hint("only LoRA adapters are read"));
    }
    let flags = ["use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"];
    let lists = ["loftq_config", "modules_to_save", "trainable_token_indices", "target_parameters", "corda_config"];
    let unread = flags.into_iter().find(|key| yes(key)).or_else(|| lists.into_iter().find(|key| filled(key)));
    let start = text("init_lora_weights");
    let moved = ["pissa", "olora", "corda", "loftq", "lora_ga"].into_iter().find(|kind| start.starts_with(kind));
    let what = match (unread, moved, text("bias")) {
        (Some(key), _, _) => format!("an adapter with {key}"),
        (_, Some(kind), _) => format!("an adapter that began as {kind} and goes with a changed base"),
        (_, _, bias) if !matches!(bias, "" | "none") => format!("an adapter with bias '{bias}'"),
        _ => return Ok(()),
    };
    Err(refuse(format!("{what} is not supported"))
        .hint("convert it to plain LoRA, or merge it into the base with PEFT"))
}

/// The modules that the file adapts, in the order of the model.
fn pair_up(names: &[String], linears: &[(ParamId, String)]) -> Result<Vec<(ParamId, String)>> {
    for name in names {
        let known = name.strip_prefix(PREFIX).and_then(|rest| {
            let module = rest.strip_suffix(".lora_A.weight").or_else(|| rest.strip_suffix(".lora_B.weight"))?;
            linears.iter().find(|(_, path)| path == module)
        });
        if known.is_none() {
            return Err(refuse(format!("tensor '{name}' fits no linear map of this model"))
                .hint("the adapter was made for another base model"));
        }
    }
    let has = |path: &str| names.iter().any(|name| name.strip_prefix(PREFIX) == Some(&format!("{path}.lora_A.weight")));
    let found: Vec<_> = linears.iter().filter(|(_, path)| has(path)).cloned().collect();
    if found.len() * 2 == names.len() {
        return Ok(found);
    }
    Err(refuse("some adapters lack one of their two matrices").hint("the file is damaged; write it again"))
}

fn read_pair<M: Differentiable>(
    file: &mut TensorFile,
    model: &M,
    module: (ParamId, &str),
    config: &LoraConfig,
) -> Result<(Tensor, Tensor)> {
    let (out, input) = dimensions(model, module.0);
    let rank = config.rank(module.1);
    let mut read = |letter: char, shape: [usize; 2]| {
        let name = format!("{PREFIX}{}.lora_{letter}.weight", module.1);
        let found = file.shape(&name).unwrap_or_default().to_vec();
        if found != shape {
            return Err(refuse(format!("tensor '{name}' is {found:?}, this model and rank {rank} need {shape:?}"))
                .hint("the adapter was made for another base model, or its configuration was changed"));
        }
        Ok(Tensor { data: file.floats(&name)?, name, shape: found, trained: false })
    };
    Ok((read('A', [rank, input])?, read('B', [out, rank])?))
}

impl Attached {
    /// Names of the two tensors in the file.
    #[must_use]
    pub fn keys(&self) -> [String; 2] {
        ['A', 'B'].map(|letter| format!("{PREFIX}{}.lora_{letter}.weight", self.path))
    }
}

/// The keys of a whole adapter, sorted, as they stand in the file.
#[must_use]
pub fn keys<M: Adaptable + Differentiable>(model: &M) -> Vec<String> {
    let mut keys: Vec<String> = attached(model).iter().flat_map(Attached::keys).collect();
    keys.sort_unstable();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_peft_writes_and_refuses_the_rest() {
        let plain = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": false, "loftq_config": {},
            "target_modules": ["v_proj", "q_proj"], "layers_to_transform": 1, "unknown_key": 3, "modules_to_save": null});
        let config = parse_config(&plain).unwrap();
        assert_eq!((config.r, config.layers_to_transform.as_deref()), (4, Some(&[1][..])));
        assert_eq!(config.target_modules, ["q_proj", "v_proj"]);
        for (key, value) in [
            ("use_dora", json!(true)),
            ("bias", json!("all")),
            ("peft_type", json!("IA3")),
            ("modules_to_save", json!(["lm_head"])),
            ("init_lora_weights", json!("pissa_niter_4")),
        ] {
            let mut other = plain.clone();
            other[key] = value;
            assert_eq!(parse_config(&other).unwrap_err().code(), "lora/file", "{key}");
        }
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let json = adapter_json(&LoraConfig::default(), "base");
        assert_eq!(json["lora_alpha"].to_string(), "16");
        assert_eq!(json["layers_to_transform"], Value::Null);
    }
}
