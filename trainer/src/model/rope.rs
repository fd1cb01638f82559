//! Rotary positions: how fast each pair of a head turns, plain or stretched to longer contexts.
//!
//! Formula: angle(p, i) = p / theta^(2 i / d); `linear` divides by the factor; `llama3` divides low frequencies by the
//! factor, keeps high ones and blends between; `yarn` blends over a ramp of pairs and scales cosine and sine. Source: Su
//! et al., `RoFormer` (section 3.2); Llama 3.1 and `YaRN` (section 3.2) as `transformers` has them (`modeling_rope_utils`).
//! Deviation: frequencies in f64, rounded once to f32. `dynamic` and `longrope` depend on the length of the
//! sequence and are refused. Cost: positions x d/2 sines and cosines a batch.

use curate_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::f64::consts::PI;

/// A stretching of the context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeKind {
    /// None.
    Default,
    /// All frequencies divided by the factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1.
    Llama3 {
        /// Division of low frequencies.
        factor: f64,
        /// Turns over the original context below which a frequency counts as low.
        low_freq_factor: f64,
        /// Turns above which it counts as high.
        high_freq_factor: f64,
        /// The original context.
        original: f64,
    },
    /// `YaRN`.
    Yarn {
        /// Division of low frequencies.
        factor: f64,
        /// First and last pair of the ramp.
        ramp: (f64, f64),
        /// Factor on cosine and sine.
        attention_factor: f64,
    },
}

/// The rotation of a model's queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Width of a head.
    pub head_dim: usize,
    /// Stretching.
    pub kind: RopeKind,
}

#[derive(Default, Deserialize)]
struct Keys {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    truncate: Option<bool>,
    partial_rotary_factor: Option<f64>,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::data("model/rope", message).hint("see rope_parameters (or rope_theta and rope_scaling) in config.json")
}

fn need(value: Option<f64>, name: &str) -> Result<f64> {
    let value = value.ok_or_else(|| wrong(format!("'{name}' is missing")))?;
    if value > 0.0 && value.is_finite() { Ok(value) } else { Err(wrong(format!("'{name}' is {value}, not above 0"))) }
}

impl Rope {
    /// Read `rope_parameters`, or the older `rope_theta` and `rope_scaling`, out of a configuration.
    pub(super) fn from_json(raw: &Value, head_dim: usize, max_positions: usize) -> Result<Self> {
        let given = ["rope_parameters", "rope_scaling"].iter().filter_map(|key| raw.get(key)).find(|v| !v.is_null());
        let keys = match given {
            Some(value) => Keys::deserialize(value).map_err(|e| wrong(format!("{e}")))?,
            None => Keys::default(),
        };
        let partial = keys.partial_rotary_factor.or_else(|| raw.get("partial_rotary_factor").and_then(Value::as_f64));
        if partial.is_some_and(|share| (share - 1.0).abs() > f64::EPSILON) {
            return Err(wrong("partial_rotary_factor other than 1 is not supported"));
        }
        let theta = keys.rope_theta.or_else(|| raw.get("rope_theta").and_then(Value::as_f64)).unwrap_or(10_000.0);
        let theta = need(Some(theta), "rope_theta")?;
        let original = raw
            .get("original_max_position_embeddings")
            .and_then(Value::as_f64)
            .or(keys.original_max_position_embeddings)
            .unwrap_or(max_positions as f64);
        Ok(Self { theta, head_dim, kind: keys.kind(theta, head_dim, original)? })
    }

    /// Turns a token of each pair, and the factor on cosine and sine.
    #[must_use]
    pub fn frequencies(&self) -> (Vec<f32>, f32) {
        let dim = self.head_dim as f64;
        let plain = (0..self.head_dim / 2).map(|i| (i as f64, self.theta.powf(-2.0 * i as f64 / dim)));
        let turned: Vec<f32> = plain.map(|(i, f)| self.kind.stretch(i, f) as f32).collect();
        let scale = if let RopeKind::Yarn { attention_factor, .. } = self.kind { attention_factor } else { 1.0 };
        (turned, scale as f32)
    }

    /// Cosines and sines of the first `positions` positions, each `[positions, head_dim / 2]`.
    #[must_use]
    pub fn tables(&self, positions: usize) -> (Vec<f32>, Vec<f32>) {
        let (frequencies, scale) = self.frequencies();
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
        angles.map(|angle| (angle.cos() as f32 * scale, angle.sin() as f32 * scale)).unzip()
    }
}

impl RopeKind {
    fn stretch(self, pair: f64, frequency: f64) -> f64 {
        match self {
            Self::Default => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original } => {
                let turns = original * frequency / (2.0 * PI);
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
            Self::Yarn { factor, ramp: (low, high), .. } => {
                let width = if high > low { high - low } else { 0.001 };
                let stretched = ((pair - low) / width).clamp(0.0, 1.0);
                stretched * frequency / factor + (1.0 - stretched) * frequency
            }
        }
    }
}

impl Keys {
    fn kind(&self, theta: f64, head_dim: usize, original: f64) -> Result<RopeKind> {
        let factor = || need(self.factor, "factor");
        match self.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(RopeKind::Default),
            "linear" => Ok(RopeKind::Linear { factor: factor()? }),
            "llama3" => Ok(RopeKind::Llama3 {
                factor: factor()?,
                low_freq_factor: need(self.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: need(self.high_freq_factor, "high_freq_factor")?,
                original,
            }),
            "yarn" => Ok(RopeKind::Yarn {
                factor: factor()?,
                ramp: self.ramp(theta, head_dim as f64, original),
                attention_factor: self.attention_factor.unwrap_or_else(|| self.mscales()),
            }),
            other => Err(Error::device("model/unsupported", format!("rope type '{other}' is not supported"))
                .hint("supported rope types: default, linear, llama3, yarn")),
        }
    }

    /// The pairs between which `YaRN` blends: those that turn `beta_fast` and `beta_slow` times over the original context.
    fn ramp(&self, theta: f64, dim: f64, original: f64) -> (f64, f64) {
        let pair = |turns: f64| dim * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let (low, high) = (pair(self.beta_fast.unwrap_or(32.0)), pair(self.beta_slow.unwrap_or(1.0)));
        let whole = self.truncate.unwrap_or(true);
        let (low, high) = if whole { (low.floor(), high.ceil()) } else { (low, high) };
        (low.max(0.0), high.min(dim - 1.0))
    }

    fn mscales(&self) -> f64 {
        let factor = self.factor.unwrap_or(1.0);
        let scale = |m: f64| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
        match (self.mscale, self.mscale_all_dim) {
            (Some(m), Some(all)) if m != 0.0 && all != 0.0 => scale(m) / scale(all),
            _ => scale(1.0),
        }
    }
}
