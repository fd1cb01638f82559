//! What a learner can say of a row, under the name `signal.NAME`; all from one forward pass, and one pass back where gradients are asked for.
//!
//! | name | what it is |
//! |---|---|
//! | `loss`, `accuracy` | mean negative log-likelihood of the labels; share of them that were the model's first choice |
//! | `tokens`, `labels` | their numbers |
//! | `loss_generated` | mean negative log-likelihood of the answer that the model itself would give, greedily, to what comes before the last answer |
//! | `logprob_mean`, `_std`, `_min`, `_p05`, `_p50` | of the log-likelihoods of the labels: mean, deviation, least, quantiles (interpolated) |
//! | `nuclear_norm` | sum of the singular values of the logits, without forming them |
//! | `sketch` | list: the logits, reduced so that distances stay ([`SketchOptions`]) |
//! | `grad_norm` | norm of the gradient of the row's mean loss by everything that is trained |
//! | `grad_norm_last` | the same by the weights of the head alone, trained or not |
//! | `ghost` | list: inner products of the row's gradient with those of every row of the batch, by the linear maps that are trained |
//! | `ghost_validation` | mean of its inner products with the gradients of the validation rows |

mod embedder;
mod ghost;
mod head;
mod summary;
mod table;

pub use embedder::{HiddenEmbedder, HiddenPooling};
pub(crate) use ghost::Tap;
pub(crate) use head::{Heads, of_hidden};
pub(crate) use table::{Row, table};

use curate_core::kernels::nuclear::{Side, Sketch};
use curate_core::{Column, Ctx, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Signals that are one number a row.
pub const SIGNALS: [&str; 14] = [
    "loss",
    "loss_generated",
    "accuracy",
    "tokens",
    "labels",
    "logprob_mean",
    "logprob_std",
    "logprob_min",
    "logprob_p05",
    "logprob_p50",
    "nuclear_norm",
    "grad_norm",
    "grad_norm_last",
    "ghost_validation",
];

/// Signals that are a list a row.
pub const LISTS: [&str; 2] = ["sketch", "ghost"];

/// Whose logits count for `nuclear_norm` and `sketch`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenScope {
    /// Every token of the row, from t = 0. Nothing is padded here, so that this is also what `all` means.
    #[default]
    #[serde(alias = "all")]
    Unmasked,
    /// Tokens whose successor carries a loss.
    Response,
}

/// The sketch of the logits. In the authors' convention distances are about `sqrt(V T) / 2` times those of the logits themselves; a
/// weight `alpha` on such distances becomes `alpha sqrt(V T)` with orthonormal transforms, and `alpha_F = alpha sqrt(V T) / 2` is its
/// weight on a unit of the distance of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SketchOptions {
    /// Frequencies kept along the tokens (`r1`).
    #[schemars(range(min = 1))]
    pub times: usize,
    /// Frequencies kept along the words (`r2`).
    #[schemars(range(min = 1))]
    pub words: usize,
    /// Places along the tokens (`T`); when left out 512, or the longest row where that is longer.
    pub places: Option<usize>,
    /// Use orthonormal transforms in place of the authors' unnormalised ones.
    pub orthonormal: bool,
}

impl Default for SketchOptions {
    fn default() -> Self {
        Self { times: 8, words: 128, places: None, orthonormal: false }
    }
}

/// How signals are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SignalOptions {
    /// Whose logits count.
    pub token_scope: TokenScope,
    /// The sketch of the logits.
    pub sketch: SketchOptions,
    /// Bytes of activations that a probe may leave behind, so that a step on rows of the batch just probed needs no forward pass
    /// of its own; 0 keeps none. The step has the same bits either way.
    pub share_bytes: u64,
    /// Longest answer of the model's own for `loss_generated`, tokens.
    #[schemars(range(min = 1))]
    pub generated_tokens: usize,
}

impl Default for SignalOptions {
    fn default() -> Self {
        Self {
            token_scope: TokenScope::default(),
            sketch: SketchOptions::default(),
            share_bytes: 1 << 30,
            generated_tokens: 128,
        }
    }
}

impl SketchOptions {
    /// Places along the tokens, for rows of at most `longest` tokens.
    ///
    /// # Errors
    /// `signal/sketch` when a row would not fit.
    pub(crate) fn places(&self, longest: usize) -> Result<usize> {
        let places = self.places.unwrap_or_else(|| longest.max(512));
        let fits = places >= longest && self.times > 0 && self.words > 0;
        fits.then_some(places).ok_or_else(|| {
            Error::usage("signal/sketch", format!("a sketch of {places} places cannot hold rows of {longest} tokens"))
                .hint("raise places or lower max_length; times and words must be 1 or more")
        })
    }

    /// Draw signs and frequencies: from `ctx`, streams `word signs`, `word frequencies`, `time signs`, `time frequencies`, in order.
    pub(crate) fn draw(&self, vocabulary: usize, places: usize, ctx: &Ctx) -> Result<Sketch> {
        let side = |name: &str, length: usize, kept: usize| {
            let mut rng = ctx.rng(&format!("{name} signs"), 0);
            let negative = (0..length).map(|_| rng.bits() & 1 == 1).collect();
            let mut rng = ctx.rng(&format!("{name} frequencies"), 0);
            let frequency = |_| u32::try_from(rng.below(length as u64)).unwrap_or(0);
            Side::new(negative, (0..kept).map(frequency).collect())
        };
        let sketch = Sketch::new(side("time", places, self.times)?, side("word", vocabulary, self.words)?);
        Ok(if self.orthonormal { sketch.orthonormal() } else { sketch })
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted(Vec<String>);

impl Wanted {
    /// Read the names of columns.
    ///
    /// # Errors
    /// `column/unknown-signal`.
    pub(crate) fn of(columns: &[Column]) -> Result<Self> {
        let name = |column: &Column| {
            let name = column.as_str().strip_prefix("signal.").unwrap_or_default();
            let known = SIGNALS.iter().chain(&LISTS).any(|known| *known == name);
            known.then(|| name.to_owned()).ok_or_else(|| unknown(column))
        };
        Ok(Self(columns.iter().map(name).collect::<Result<_>>()?))
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.0
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|wanted| wanted == name)
    }

    /// Whether pairs of gradients are wanted.
    pub(crate) fn pairs(&self) -> bool {
        self.has("ghost") || self.has("ghost_validation")
    }

    /// Whether all hidden states are wanted.
    pub(crate) fn hidden(&self) -> bool {
        self.has("nuclear_norm") || self.has("sketch")
    }

    /// Whether likelihoods are wanted: without them the head need not run.
    pub(crate) fn losses(&self) -> bool {
        self.0.iter().any(|name| name == "loss" || name == "accuracy" || name.starts_with("logprob_"))
    }

    /// Whether more is wanted than the losses say.
    pub(crate) fn more(&self) -> bool {
        self.pairs()
            || self.hidden()
            || ["grad_norm", "grad_norm_last", "loss_generated"].iter().any(|name| self.has(name))
    }
}

fn unknown(column: &Column) -> Error {
    let names: Vec<String> = SIGNALS.iter().chain(&LISTS).map(|name| format!("signal.{name}")).collect();
    Error::usage("column/unknown-signal", format!("the trainer does not give '{column}'"))
        .hint(format!("it gives {}", names.join(", ")))
}
