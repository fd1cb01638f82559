//! What a model says of rows: computed a unit at a time by the trainer's learner, forward only unless a gradient is asked for.
//!
//! `signal.loss` is the mean loss of the answer given the prompt, `signal.loss_alone` of the same answer with nothing before it,
//! `signal.loss_reference` is the loss by the model that `[online] reference` names, `signal.perplexity` is `exp(loss)`; all others are the learner's own. The planner asks for those that a run needs, and for no others;
//! lists (`sketch`, `ghost`) are for selection while a model learns and have no place in a corpus.

use crate::host::Host;
use crate::plan::Plan;
use crate::train::{Loaded, Renderer, TrainPlan, load_model, pool_of};
use arrow::array::{Array, ArrayRef, AsArray, Float32Array, RecordBatch};
use arrow::datatypes::{Field, Float32Type, Schema};
use curate_core::{Column, Ctx, Error, Learner, Pool, Result};
use curate_ingest::{Source, UnitData};
use curate_trainer::builtin;
use curate_trainer::lora::LoraConfig;
use curate_trainer::sft::{SftConfig, SftLearner, Tuning};
use curate_trainer::signals::{HiddenEmbedder, HiddenPooling, SIGNALS, SignalOptions};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Signals made here from others or from the answer alone.
const OURS: [&str; 2] = ["loss_alone", "perplexity"];

/// The loss by the reference model.
pub(crate) const REFERENCE: &str = "signal.loss_reference";

/// Whether a model can say this of a row.
pub(crate) fn is_signal(name: &str) -> bool {
    let known = |name: &str| name != "ghost_validation" && (SIGNALS.contains(&name) || OURS.contains(&name));
    name.strip_prefix("signal.").is_some_and(known)
}

/// A model ready to say things of rows.
pub(crate) struct Signals {
    /// What is asked of it, all of the form `signal.<name>`.
    pub(crate) columns: Vec<Column>,
    /// Digest of the model and of how rows are rendered for it.
    pub(crate) digest: String,
    learner: Mutex<Box<dyn Learner>>,
    renderer: Renderer,
}

impl Signals {
    /// Load the plan's model, the built-in one where it names none.
    pub(crate) fn open(plan: &Plan, host: &Host, source: &Source, columns: Vec<Column>, ctx: &Ctx) -> Result<Self> {
        let loaded = load_model(plan.model.as_deref().unwrap_or(builtin::NAME), None, host, ctx)?;
        // A gradient norm is that of fresh adapters, as GORACS and DEALRec take it: with B = 0 only B has one.
        let norms = columns.iter().any(|column| column.as_str() == "signal.grad_norm");
        let tuning = if norms { Tuning::Lora(LoraConfig::default()) } else { Tuning::Full };
        Self::of(loaded, source, columns, SftConfig { max_length: 2048, tuning, ..SftConfig::default() }, ctx)
    }

    /// Load the reference that `[online]` names: its losses are taken of the same tokens that the learner's are.
    ///
    /// # Errors
    /// `online/reference` where none is named; what loading gives.
    pub(crate) fn reference(plan: &Plan, host: &Host, source: &Source, ctx: &Ctx) -> Result<Self> {
        let Some(name) = plan.online.as_ref().and_then(|online| online.reference.as_deref()) else {
            return Err(Error::usage("online/reference", format!("nobody provides the column '{REFERENCE}'")).hint(
                "name a model trained on held-out rows, which says it: --reference FOLDER; or give the input such a column",
            ));
        };
        let SftConfig { max_length, loss_on, .. } =
            plan.train.as_ref().map(TrainPlan::sft).transpose()?.unwrap_or_default();
        let config = SftConfig { max_length, loss_on, ..SftConfig::default() };
        let mut own =
            Self::of(load_model(name, None, host, ctx)?, source, vec![Column::named(REFERENCE)], config, ctx)?;
        own.digest = format!("{} {max_length} {loss_on:?}", own.digest);
        Ok(own)
    }

    fn of(loaded: Loaded, source: &Source, columns: Vec<Column>, config: SftConfig, ctx: &Ctx) -> Result<Self> {
        let renderer = Renderer::choose(source, &loaded.folder)?;
        let digest = digest(&loaded.folder)?;
        let max_length = config.max_length.min(loaded.model.config.max_position_embeddings);
        let config = SftConfig { learning_rate: Some(1e-4), max_length, ..config };
        let learner = SftLearner::new(loaded.model, loaded.tokenizer, config, 1, ctx)?;
        // No step follows.
        let learner = learner.with_signals(SignalOptions { share_bytes: 0, ..SignalOptions::default() });
        Ok(Self { columns, digest, learner: Mutex::new(Box::new(learner)), renderer })
    }

    /// The signals of the rows of a unit; null where nothing would be learned.
    pub(crate) fn of_unit(&self, source: &Source, data: &UnitData, ctx: &Ctx) -> Result<RecordBatch> {
        let whole = pool_of(source, data, &self.renderer)?;
        let asked: Vec<Column> = self.columns.iter().filter_map(asked).collect();
        let found = self.probe(&whole, &asked, ctx)?;
        let alone = if self.columns.iter().any(|column| column.as_str() == "signal.loss_alone") {
            Some(self.probe(&pool_of(source, data, &Renderer::Answer)?, &[Column::signal("loss")], ctx)?)
        } else {
            None
        };
        let arrays =
            self.columns.iter().map(|column| one(column, &found, alone.as_ref())).collect::<Result<Vec<_>>>()?;
        let field =
            |(column, array): (&Column, &ArrayRef)| Field::new(column.as_str(), array.data_type().clone(), true);
        let fields: Vec<Field> = self.columns.iter().zip(&arrays).map(field).collect();
        Ok(RecordBatch::try_new(std::sync::Arc::new(Schema::new(fields)), arrays)?)
    }

    fn probe(&self, pool: &Pool, asked: &[Column], ctx: &Ctx) -> Result<RecordBatch> {
        let mut learner = self.learner.lock().unwrap_or_else(PoisonError::into_inner);
        match learner.probe(pool, asked, ctx) {
            Err(e) if e.code() == "data/nothing-to-learn" => {
                let nothing = std::sync::Arc::new(Float32Array::new_null(pool.rows())) as ArrayRef;
                Ok(RecordBatch::try_from_iter_with_nullable(asked.iter().map(|c| (c.as_str(), nothing.clone(), true)))?)
            }
            other => other,
        }
    }
}

/// What the learner is asked for this column.
fn asked(column: &Column) -> Option<Column> {
    match column.as_str() {
        "signal.loss_alone" => None,
        "signal.perplexity" | REFERENCE => Some(Column::signal("loss")),
        _ => Some(column.clone()),
    }
}

fn one(column: &Column, found: &RecordBatch, alone: Option<&RecordBatch>) -> Result<ArrayRef> {
    let (batch, name) = match (column.as_str(), alone) {
        ("signal.loss_alone", Some(alone)) => (alone, "signal.loss"),
        ("signal.perplexity" | REFERENCE, _) => (found, "signal.loss"),
        (name, _) => (found, name),
    };
    let missing = || {
        Error::device("signal/missing", format!("the model gave no {name}")).hint("this is a defect; please report it")
    };
    let array = batch.column_by_name(name).ok_or_else(missing)?;
    if column.as_str() != "signal.perplexity" {
        return Ok(array.clone());
    }
    let losses = array.as_primitive_opt::<Float32Type>().ok_or_else(missing)?;
    Ok(std::sync::Arc::new(losses.iter().map(|loss| loss.map(f32::exp)).collect::<Float32Array>()))
}

/// The hidden states of the plan's model as vectors.
///
/// # Errors
/// `embedder/unknown`, `model/missing`, what loading gives.
pub(crate) fn embedder(plan: &Plan, pooling: &str, host: &Host) -> Result<HiddenEmbedder> {
    let pooling: HiddenPooling = pooling.parse()?;
    let Some(name) = &plan.model else {
        return Err(Error::usage(
            "model/missing",
            format!("lm:{pooling} takes vectors from a model, and none is named"),
        )
        .hint("add --model FOLDER or --model owner/name"));
    };
    let loaded = load_model(name, None, host, &host.ctx(plan.seed)?)?;
    let digest = digest(&loaded.folder)?;
    HiddenEmbedder::new(loaded.model, loaded.tokenizer, pooling, plan.embed.max_tokens, &digest)
}

/// Digest of all files that decide what a model says.
pub(crate) fn digest(folder: &Path) -> Result<String> {
    let kind = |name: &str| Path::new(name).extension().map(|ext| ext.to_string_lossy().to_lowercase());
    let decides = |name: &str| kind(name).is_some_and(|ext| ["safetensors", "json", "jinja"].contains(&ext.as_str()));
    let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    let mut names: Vec<String> = entries.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| decides(name));
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        let own = curate_ingest::digest_whole(&folder.join(&name).to_string_lossy())?;
        hasher.update(name.as_bytes()).update(&[0]).update(own.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Positions at which every signal is known.
pub(crate) fn known_rows(columns: &[Vec<ArrayRef>]) -> Vec<usize> {
    let flags = |parts: &Vec<ArrayRef>| {
        parts.iter().flat_map(|p| (0..p.len()).map(|i| p.is_valid(i)).collect::<Vec<_>>()).collect()
    };
    let all: Vec<Vec<bool>> = columns.iter().map(flags).collect();
    let rows = all.first().map_or(0, Vec::len);
    (0..rows).filter(|&row| all.iter().all(|column| column[row])).collect()
}
