//! Kernels of models: their sources.

use super::program::Source;

/// Programs of this room.
pub(super) const SOURCES: &[Source] = &[];
