//! The pantry: corpora with planted truth, made from a seed, and the way to the files that lie beside this package (the
//! sample corpus, golden vectors, the built-in model). Product code never depends on it.

mod planted;
mod splitmix;
pub mod tasks;

pub use planted::{Planted, TOPICS, planted};
pub use splitmix::SplitMix;

use std::path::{Path, PathBuf};

/// A file of this package, by its path inside the folder `datasets/`.
#[must_use]
pub fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The sample corpus: 2,000 rows in Alpaca form.
#[must_use]
pub fn sample() -> PathBuf {
    fixture("sample.parquet")
}

/// Golden vectors, such as `golden("kmq", "budgets.json")`.
#[must_use]
pub fn golden(family: &str, file: &str) -> PathBuf {
    fixture("golden").join(family).join(file)
}

/// The built-in encoder.
#[must_use]
pub fn static_encoder() -> PathBuf {
    fixture("models/static-minilm-256.safetensors")
}

#[cfg(test)]
mod tests {
    #[test]
    fn fixtures_are_there() {
        for path in [super::sample(), super::golden("kmq", "budgets.json"), super::static_encoder()] {
            assert!(path.is_file(), "{} is missing", path.display());
        }
    }
}
