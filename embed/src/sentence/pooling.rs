//! From token vectors to one vector a text.
//!
//! Formula: cls = first row; last = last row; max = largest value a column; mean = sum / n; mean-sqrt = sum / sqrt(n).
//! Source: `sentence_transformers.models.Pooling`. Deviation: a text without tokens has the zero vector. Cost: one pass.

use super::config::unsupported;
use curate_core::Result;
use curate_core::kernels::cuda::net;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    Cls,
    Last,
    Max,
    Mean,
    MeanSqrt,
}

/// Settings of older files, one switch a mode, and the mode's name in newer files.
const MODES: &[(&str, &str, Option<Pooling>)] = &[
    ("pooling_mode_cls_token", "cls", Some(Pooling::Cls)),
    ("pooling_mode_mean_tokens", "mean", Some(Pooling::Mean)),
    ("pooling_mode_max_tokens", "max", Some(Pooling::Max)),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Some(Pooling::MeanSqrt)),
    ("pooling_mode_lasttoken", "lasttoken", Some(Pooling::Last)),
    ("pooling_mode_weightedmean_tokens", "weightedmean", None),
];

impl Pooling {
    /// The mode a pooling module's `config.json` asks for.
    pub(super) fn parse(config: &Value) -> Result<Self> {
        let named = config.get("pooling_mode").and_then(Value::as_str);
        let on = |switch: &str| config.get(switch).and_then(Value::as_bool).unwrap_or(false);
        let chosen: Vec<_> =
            MODES.iter().filter(|(switch, name, _)| named.map_or(on(switch), |n| n == *name)).collect();
        match chosen[..] {
            [(_, _, Some(mode))] => Ok(*mode),
            [(_, name, None)] => Err(unsupported(&format!("the pooling mode '{name}'"))),
            [] => Err(unsupported(&format!("the pooling mode '{}'", named.unwrap_or("none")))),
            _ => Err(unsupported("a pooling of several modes side by side")),
        }
    }

    /// The same for a device.
    pub(super) const fn on_device(self) -> net::Pooling {
        match self {
            Self::Cls => net::Pooling::First,
            Self::Last => net::Pooling::Last,
            Self::Max => net::Pooling::Max,
            Self::Mean => net::Pooling::Mean,
            Self::MeanSqrt => net::Pooling::MeanSqrt,
        }
    }

    /// Pool `rows`, shape `[tokens, dim]`, into `out`, shape `[dim]`.
    #[expect(clippy::cast_precision_loss, reason = "token counts are small")]
    pub(super) fn pool(self, rows: &[f32], out: &mut [f32]) {
        let dim = out.len();
        let mut each = rows.chunks_exact(dim);
        let count = each.len() as f32;
        out.fill(0.0);
        match self {
            Self::Cls => each.next().into_iter().for_each(|row| out.copy_from_slice(row)),
            Self::Last => each.next_back().into_iter().for_each(|row| out.copy_from_slice(row)),
            Self::Max => {
                each.next().into_iter().for_each(|row| out.copy_from_slice(row));
                each.for_each(|row| out.iter_mut().zip(row).for_each(|(max, x)| *max = max.max(*x)));
            }
            Self::Mean | Self::MeanSqrt => {
                each.for_each(|row| out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
                let divisor = if self == Self::Mean { count.max(1.0) } else { count.max(1.0).sqrt() };
                for x in out.iter_mut() {
                    *x /= divisor;
                }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "small whole numbers are exact")]
mod tests {
    use super::*;

    #[test]
    fn pools_by_hand() {
        let of = |mode: Pooling| {
            let mut out = [0.0; 2];
            mode.pool(&[1.0, 4.0, 3.0, 2.0, 5.0, 0.0, -1.0, 2.0], &mut out);
            out
        };
        assert_eq!(of(Pooling::Cls), [1.0, 4.0]);
        assert_eq!(of(Pooling::Last), [-1.0, 2.0]);
        assert_eq!(of(Pooling::Max), [5.0, 4.0]);
        assert_eq!(of(Pooling::Mean), [2.0, 2.0]);
        assert_eq!(of(Pooling::MeanSqrt), [4.0, 4.0]);
    }

    #[test]
    fn reads_old_and_new_settings() {
        let parse = |json: &str| Pooling::parse(&serde_json::from_str(json).unwrap());
        assert_eq!(
            parse(r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#).unwrap(),
            Pooling::Cls
        );
        assert_eq!(parse(r#"{"pooling_mode": "lasttoken"}"#).unwrap(), Pooling::Last);
        for bad in [
            "{}",
            r#"{"pooling_mode": "weightedmean"}"#,
            r#"{"pooling_mode_max_tokens": true, "pooling_mode_cls_token": true}"#,
        ] {
            assert_eq!(parse(bad).unwrap_err().code(), "model/architecture");
        }
    }
}
