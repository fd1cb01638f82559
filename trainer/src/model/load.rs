//! A model folder, read whole: `config.json` with `model.safetensors`, or the shards its index names.

use super::build::{Role, build};
use super::{Config, Model};
use crate::checkpoint::TensorFile;
use curate_core::{Ctx, Error, Location, Result};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All files of a model and which tensor lies in which.
struct Shards {
    folder: PathBuf,
    files: Vec<TensorFile>,
    place: BTreeMap<String, usize>,
    used: BTreeSet<String>,
}

fn missing(folder: &Path, name: &str) -> Error {
    Error::data("model/tensor", format!("tensor '{name}' is missing"))
        .hint("config.json and the weights do not belong together, or a shard is missing")
        .at(Location::file(folder.display().to_string()))
}

impl Shards {
    fn open(folder: &Path) -> Result<Self> {
        let paths = Self::paths(folder)?;
        let mut shards =
            Self { folder: folder.to_owned(), files: Vec::new(), place: BTreeMap::new(), used: BTreeSet::new() };
        for path in paths {
            let file = TensorFile::open_model(&path)?;
            let at = shards.files.len();
            shards.place.extend(file.names().into_iter().map(|name| (name, at)));
            shards.files.push(file);
        }
        Ok(shards)
    }

    fn paths(folder: &Path) -> Result<Vec<PathBuf>> {
        let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
        if single.exists() || !index.exists() {
            return Ok(vec![single]);
        }
        let at = || Location::file(index.display().to_string());
        let text = std::fs::read_to_string(&index).map_err(|e| Error::from(e).at(at()))?;
        let names: Index = serde_json::from_str(&text).map_err(|e| {
            Error::data("model/index", format!("{e}")).hint("the index lists a shard for every tensor").at(at())
        })?;
        let files: BTreeSet<String> = names.weight_map.into_values().collect();
        if let Some(bad) = files.iter().find(|name| Path::new(name).components().count() != 1) {
            let message = format!("shard '{bad}' lies outside the folder");
            return Err(Error::data("model/index", message).hint("shards lie beside their index").at(at()));
        }
        Ok(files.into_iter().map(|name| folder.join(name)).collect())
    }

    fn read(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let at = *self.place.get(name).ok_or_else(|| missing(&self.folder, name))?;
        let found = self.files[at].shape(name).unwrap_or_default();
        if found != shape {
            let message = format!("tensor '{name}' has shape {found:?}, config.json asks for {shape:?}");
            return Err(Error::data("model/shape", message)
                .hint("config.json and the weights do not belong together")
                .at(Location::file(self.folder.display().to_string())));
        }
        self.used.insert(name.to_owned());
        self.files[at].floats(name)
    }

    /// A tensor nobody asked for means that the model is another one than its configuration says.
    fn refuse_the_rest(&self, tied: bool) -> Result<()> {
        let known = |name: &str| name.ends_with("rotary_emb.inv_freq") || (tied && name == "lm_head.weight");
        match self.place.keys().find(|name| !self.used.contains(*name) && !known(name)) {
            None => Ok(()),
            Some(name) => {
                Err(Error::data("model/tensor", format!("tensor '{name}' has no place in this architecture"))
                    .hint("the weights hold more than config.json says (a bias, an adapter, another architecture?)")
                    .at(Location::file(self.folder.display().to_string())))
            }
        }
    }
}

impl Model {
    /// Read a model folder. Every tensor is marked as trained.
    ///
    /// # Errors
    /// When a file is missing or broken, the weights do not fit, or the architecture is not supported.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::read(folder, false)
    }

    /// The same for adapters on weights that rest: the linear maps of the blocks are kept in 16 bits, which loses nothing where
    /// the file holds bf16. Only one tensor at a time is in memory in 32 bits.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_compact(folder: &Path) -> Result<Self> {
        Self::read(folder, true)
    }

    fn read(folder: &Path, compact: bool) -> Result<Self> {
        let config = Config::read(&folder.join("config.json"))?;
        let tied = config.tie_word_embeddings;
        let mut shards = Shards::open(folder)?;
        let model = build(config, compact, |name: &str, shape: &[usize], _: Role| shards.read(name, shape))?;
        shards.refuse_the_rest(tied)?;
        Ok(model)
    }

    /// A model of random weights: matrices N(0, `initializer_range`), norms 1, biases 0. Every tensor is trained.
    ///
    /// # Errors
    /// When asked to stop.
    pub fn init(config: Config, ctx: &Ctx) -> Result<Self> {
        let (range, mut place) = (f64::from(config.initializer_range), 0);
        build(config, false, |_: &str, shape: &[usize], role: Role| {
            place += 1;
            ctx.tick(0)?;
            let count = shape.iter().product();
            Ok(match role {
                Role::Gain => vec![1.0; count],
                Role::Bias => vec![0.0; count],
                Role::Matrix => normals(ctx, place, count).map(|x| (x * range) as f32).collect(),
            })
        })
    }
}

/// Standard normal variates by Box and Muller, from the stream of tensor `place`.
fn normals(ctx: &Ctx, place: u64, count: usize) -> impl Iterator<Item = f64> {
    let mut rng = ctx.rng("init", place);
    let pairs = std::iter::repeat_with(move || {
        let (radius, angle) = ((-2.0 * rng.uniform().ln()).sqrt(), TAU * rng.uniform());
        [radius * angle.cos(), radius * angle.sin()]
    });
    pairs.flatten().take(count)
}
