//! What a file is: by extension first, by its first bytes when the extension says nothing.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Kind of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Apache Parquet.
    Parquet,
    /// One JSON object a line.
    Jsonl,
    /// A JSON array of objects, or objects one after another.
    Json,
    /// Comma-separated values with a header line.
    Csv,
    /// Tab-separated values with a header line.
    Tsv,
    /// Arrow IPC, file or stream.
    Arrow,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet => "parquet",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Arrow => "arrow",
        })
    }
}

/// How the bytes of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    Zstd,
}

/// Kind and packing from a file name; `None` for a kind the extension does not tell.
pub(crate) fn from_name(name: &str) -> (Option<Kind>, Packing) {
    let lower = name.to_ascii_lowercase();
    let (stem, packing) = match lower.rsplit_once('.') {
        Some((stem, "gz" | "gzip")) => (stem, Packing::Gzip),
        Some((stem, "zst" | "zstd")) => (stem, Packing::Zstd),
        _ => (lower.as_str(), Packing::None),
    };
    let kind = match stem.rsplit_once('.').map(|(_, ext)| ext) {
        Some("parquet" | "pq") => Some(Kind::Parquet),
        Some("jsonl" | "ndjson") => Some(Kind::Jsonl),
        Some("json") => Some(Kind::Json),
        Some("csv") => Some(Kind::Csv),
        Some("tsv") => Some(Kind::Tsv),
        Some("arrow" | "arrows" | "feather" | "ipc") => Some(Kind::Arrow),
        _ => None,
    };
    (kind, packing)
}

/// Packing from the first bytes.
pub(crate) fn packing_of(head: &[u8]) -> Packing {
    match head {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Packing::Zstd,
        _ => Packing::None,
    }
}

/// Kind from the first (unpacked) bytes.
pub(crate) fn from_magic(head: &[u8]) -> Option<Kind> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match head {
        [b'P', b'A', b'R', b'1', ..] => Some(Kind::Parquet),
        [b'A', b'R', b'R', b'O', b'W', b'1', ..] | [0xff, 0xff, 0xff, 0xff, ..] => Some(Kind::Arrow),
        _ if text.starts_with(b"[") => Some(Kind::Json),
        _ if text.starts_with(b"{") => Some(Kind::Jsonl),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kind_and_packing() {
        assert_eq!(from_name("a/b.JSONL.gz"), (Some(Kind::Jsonl), Packing::Gzip));
        assert_eq!(from_name("x.parquet"), (Some(Kind::Parquet), Packing::None));
        assert_eq!(from_name("x.tsv.zst"), (Some(Kind::Tsv), Packing::Zstd));
        assert_eq!(from_name("README.md"), (None, Packing::None));
    }

    #[test]
    fn magic_tells_the_rest() {
        assert_eq!(from_magic(b"PAR1...."), Some(Kind::Parquet));
        assert_eq!(from_magic(b"\xef\xbb\xbf  [1"), Some(Kind::Json));
        assert_eq!(from_magic(b"{\"a\":1}"), Some(Kind::Jsonl));
        assert_eq!(from_magic(b"hello"), None);
    }
}
