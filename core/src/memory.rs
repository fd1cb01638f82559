//! The memory the run may use, and how byte counts are read and printed.

use crate::{Error, Result};

/// A promise about memory: large allocations are asked for here first, so that `--memory` gives an error with a hint
/// instead of an out-of-memory kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    limit_bytes: u64,
}

impl Memory {
    /// At most `limit_bytes` resident.
    #[must_use]
    pub const fn limited(limit_bytes: u64) -> Self {
        Self { limit_bytes }
    }

    /// The limit.
    #[must_use]
    pub const fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Check that one structure of `bytes` may be built: it may take up to three quarters of the limit.
    ///
    /// # Errors
    /// `memory/too-small` naming what was to be built.
    pub fn reserve(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes <= self.limit_bytes / 4 * 3 {
            return Ok(());
        }
        Err(Error::usage("memory/too-small", format!("{what} needs {} but --memory allows {}", format_bytes(bytes), format_bytes(self.limit_bytes)))
            .hint(format!("raise --memory to at least {}, select fewer rows with --where, or use a method that streams (curate methods)", format_bytes(bytes / 3 * 4 + (64 << 20)))))
    }
}

impl Default for Memory {
    /// 8 GiB, the default of `--memory` where the machine's own size is not known.
    fn default() -> Self {
        Self::limited(8 << 30)
    }
}

/// Read `8GiB`, `512MiB`, `2G`, `1000000`.
///
/// # Errors
/// `memory/invalid` when the text is not a positive size.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked before the cast")]
pub fn parse_bytes(text: &str) -> Result<u64> {
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(trimmed.len());
    let unit: Option<f64> = match trimmed[split..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1.0),
        "k" | "kib" => Some(1024.0),
        "kb" => Some(1e3),
        "m" | "mib" => Some(1024.0 * 1024.0),
        "mb" => Some(1e6),
        "g" | "gib" => Some(1024.0 * 1024.0 * 1024.0),
        "gb" => Some(1e9),
        "t" | "tib" => Some(1024.0 * 1024.0 * 1024.0 * 1024.0),
        "tb" => Some(1e12),
        _ => None,
    };
    let bytes = trimmed[..split].trim().parse::<f64>().ok().zip(unit).map(|(number, unit)| number * unit);
    match bytes {
        Some(bytes) if bytes.is_finite() && (1.0..1e18).contains(&bytes) => Ok(bytes as u64),
        _ => Err(Error::usage("memory/invalid", format!("'{trimmed}' is not a size"))
            .hint("write 8GiB, 512MiB or a number of bytes")),
    }
}

/// Print bytes the way people read them: `1.5 GiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "for reading, not for counting")]
pub fn format_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_round_trip() {
        assert_eq!(parse_bytes("2GiB").unwrap(), 2 << 30);
        assert_eq!(parse_bytes("1.5 MiB").unwrap(), 3 << 19);
        assert_eq!(format_bytes(3 << 29), "1.5 GiB");
        for bad in ["", "-1", "lots", "1e40", "NaN", "0"] {
            assert_eq!(parse_bytes(bad).unwrap_err().code(), "memory/invalid", "{bad}");
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(Memory::limited(100).reserve(90, "x").unwrap_err().code(), "memory/too-small");
    }
}
