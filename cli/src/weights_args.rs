//! The flags of `curate weights`.

use clap::{Args, Subcommand};
use curate_api::{Error, LinesConfig, Outer, Pair, Place, Result};

/// `curate weights`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "Examples:\n  curate weights sparsity --base BASE --tuned run/model\n  \
    curate weights lines --base BASE --tuned run/model --alpha 0.5 -o scaled\n  \
    curate weights graft --base BASE --tuned run/model --share 0.01 -o grafted\n  \
    curate weights delta --base BASE --tuned run/model -o change.safetensors\n  \
    curate weights apply --base BASE --delta change.safetensors -o again")]
pub(crate) struct WeightsArgs {
    /// What to do.
    #[command(subcommand)]
    pub tool: WeightsTool,
}

/// What `curate weights` can do.
#[derive(Subcommand, Debug, Clone)]
pub(crate) enum WeightsTool {
    /// Say how much training changed: entries, blocks, ranks
    Sparsity {
        #[command(flatten)]
        pair: PairArgs,
        /// Changes up to this size count as none
        #[arg(long, default_value_t = 1e-5)]
        atol: f32,
        /// Also find the rank of every matrix's change (slow for large models)
        #[arg(long)]
        ranks: bool,
    },
    /// Keep less of the change in lower blocks, so that less is forgotten (`LiNeS`)
    Lines {
        #[command(flatten)]
        pair: PairArgs,
        /// Share of the change that the lowest block keeps; the top block keeps all of it
        #[arg(long, default_value_t = 0.5)]
        alpha: f32,
        /// What the top block keeps more than the lowest [default: 1 - alpha]
        #[arg(long)]
        beta: Option<f32>,
        /// What embeddings, final norm and head keep: alpha, or one for all of it
        #[arg(long, default_value = "alpha")]
        outer: String,
        #[command(flatten)]
        to: ToArgs,
    },
    /// Give the base only the entries that moved most
    Graft {
        #[command(flatten)]
        pair: PairArgs,
        /// Share of the entries, from 0 (base) to 1 (tuned)
        #[arg(long)]
        share: f64,
        /// Embeddings and head as well
        #[arg(long)]
        everything: bool,
        #[command(flatten)]
        to: ToArgs,
    },
    /// Write what changed as a sparse file, also for 'curate train -O tuning.sparse.mask=FILE'
    Delta {
        #[command(flatten)]
        pair: PairArgs,
        /// Only this share of all entries, those that moved most
        #[arg(long)]
        share: Option<f64>,
        #[command(flatten)]
        to: ToArgs,
    },
    /// Put sparse changes on the model they were made from
    Apply {
        /// The model the changes were made from: folder or hub id
        #[arg(long)]
        base: String,
        /// File of a change (repeatable; several are added up)
        #[arg(long, required = true)]
        delta: Vec<String>,
        #[command(flatten)]
        to: ToArgs,
    },
}

/// Two states of one model.
#[derive(Args, Debug, Clone)]
pub(crate) struct PairArgs {
    /// The model before training: folder or hub id
    #[arg(long)]
    pub base: String,
    /// The model after training: folder or hub id, or the folder of an adapter
    #[arg(long)]
    pub tuned: String,
}

/// Where the result goes.
#[derive(Args, Debug, Clone)]
pub(crate) struct ToArgs {
    /// Folder of the result, for delta a .safetensors file
    #[arg(long, short)]
    pub output: String,
    /// Replace an existing result
    #[arg(long)]
    pub overwrite: bool,
}

impl PairArgs {
    pub(crate) fn pair(&self) -> Pair {
        Pair { base: self.base.clone(), tuned: self.tuned.clone() }
    }
}

impl ToArgs {
    pub(crate) fn place(&self) -> Place {
        Place { path: self.output.clone(), overwrite: self.overwrite }
    }
}

/// The parameters of `LiNeS` from its flags.
pub(crate) fn lines(alpha: f32, beta: Option<f32>, outer: &str) -> Result<LinesConfig> {
    let outer = match outer {
        "alpha" => Outer::Alpha,
        "one" => Outer::One,
        other => {
            return Err(Error::usage("weights/outer", format!("--outer {other} is not known"))
                .hint("write --outer alpha or --outer one"));
        }
    };
    Ok(LinesConfig { alpha, beta, outer })
}
