//! Weights from safetensors, under the names of each family.

use super::config::{Config, Family};
use super::folder::Folder;
use super::ops::{LayerNorm, vector};
use candle_core::{DType, Device, Tensor};
use curate_core::{Error, Result};
use std::collections::HashMap;

/// All tensors of a model and the prefix its names carry (`bert.`, or nothing).
pub(super) struct Weights {
    tensors: HashMap<String, Tensor>,
    prefix: String,
}

/// Names of one layer's parts below `encoder.layer.N.` or its like.
pub(super) struct LayerNames {
    pub(super) stem: &'static str,
    pub(super) query_key_value: [&'static str; 3],
    pub(super) attention_out: &'static str,
    pub(super) attention_norm: &'static str,
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) output_norm: &'static str,
}

const BERT: LayerNames = LayerNames {
    stem: "encoder.layer",
    query_key_value: ["attention.self.query", "attention.self.key", "attention.self.value"],
    attention_out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    output_norm: "output.LayerNorm",
};

const DISTILBERT: LayerNames = LayerNames {
    stem: "transformer.layer",
    query_key_value: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
    attention_out: "attention.out_lin",
    attention_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    output_norm: "output_layer_norm",
};

const MPNET: LayerNames = LayerNames {
    query_key_value: ["attention.attn.q", "attention.attn.k", "attention.attn.v"],
    attention_out: "attention.attn.o",
    attention_norm: "attention.LayerNorm",
    ..BERT
};

impl LayerNames {
    pub(super) const fn of(family: Family) -> &'static Self {
        match family {
            Family::Bert | Family::Roberta => &BERT,
            Family::DistilBert => &DISTILBERT,
            Family::MpNet => &MPNET,
        }
    }
}

impl Weights {
    /// Read `model.safetensors` or its shards below `transformer`, as f32.
    pub(super) fn open(folder: &mut Folder, transformer: &str) -> Result<Self> {
        let mut tensors = HashMap::new();
        for name in files(folder, transformer)? {
            let bytes = folder.need(&name)?;
            let part = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu)
                .map_err(|e| folder.broken(&name, &format!("not readable as safetensors: {e}")))?;
            tensors.extend(part);
        }
        let mark = "embeddings.word_embeddings.weight";
        let prefix = tensors.keys().filter_map(|name| name.strip_suffix(mark)).min().map(ToOwned::to_owned);
        let missing = || folder.broken("model.safetensors", &format!("tensor '{mark}' is missing"));
        let prefix = prefix.ok_or_else(missing)?;
        Ok(Self { tensors, prefix })
    }

    /// Tensor `name` on the host, checked against `shape`; 0 stands for any size.
    pub(super) fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let name = format!("{}{name}", self.prefix);
        let bad = |what: String| Error::device("model/weights", format!("tensor '{name}' {what}"));
        // Very old files call gain and shift of a norm gamma and beta.
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let tensor = self.tensors.get(&name).or_else(|| self.tensors.get(&old));
        let tensor = tensor.ok_or_else(|| bad("is missing".to_owned()))?;
        let fits =
            tensor.dims().len() == shape.len() && tensor.dims().iter().zip(shape).all(|(a, b)| a == b || *b == 0);
        if !fits {
            return Err(bad(format!("has shape {:?} where {shape:?} is expected", tensor.dims())));
        }
        tensor.to_dtype(DType::F32).map_err(|e| bad(e.to_string()))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Vec<f32>> {
        vector(&self.get(name, &[len])?).map_err(failed)
    }

    pub(super) fn norm(&self, name: &str, config: &Config) -> Result<LayerNorm> {
        let part = |part: &str| self.vector(&format!("{name}.{part}"), config.hidden);
        Ok(LayerNorm { gain: part("weight")?, shift: part("bias")?, eps: config.eps })
    }
}

fn files(folder: &mut Folder, transformer: &str) -> Result<Vec<String>> {
    let whole = format!("{transformer}model.safetensors");
    if folder.exists(&whole) {
        return Ok(vec![whole]);
    }
    if let Some(index) = folder.read(&format!("{whole}.index.json"))? {
        return Ok(crate::hub::shards(&index)?.into_iter().map(|name| format!("{transformer}{name}")).collect());
    }
    if folder.exists(&format!("{transformer}pytorch_model.bin")) {
        return Err(Error::device("model/no-safetensors", "the folder has pickled weights only")
            .hint("pickled weights (.bin) are not read because they can run code; convert them: model.save_pretrained(folder, safe_serialization=True)")
            .at(folder.at("pytorch_model.bin")));
    }
    Err(folder.broken("model.safetensors", "the file is missing"))
}

/// A failure inside the tensor library.
pub(super) fn failed(error: candle_core::Error) -> Error {
    Error::device("model/failed", error.to_string()).because(error)
}
