//! The study: texts in, vectors out. Owns tokenising, length-aware batches, the built-in static encoder, BERT-family sentence
//! encoders and the client that fetches them; knows nothing of pools, retrieval or selection.
//!
//! [`open`] turns what the user wrote (`static`, a folder, a hub id) into a [`curate_core::Embedder`].

mod choice;
mod digest;
mod hub;
mod sentence;
mod static_encoder;
mod wordpiece;

pub use choice::{EmbedderChoice, OpenOptions};
pub use hub::{Hub, HubOptions};
pub use sentence::SentenceEncoder;
pub use static_encoder::{StaticEncoder, static_encoder};
pub use wordpiece::{Encoding, WordPiece, WordPieceOptions};

use curate_core::{Ctx, Embedder, Result};
use std::path::Path;

/// Open the embedder that `choice` names; hub models are fetched into the cache first.
///
/// # Errors
/// `device/*` when the device cannot be used, `hub/*` when fetching fails, `model/*` when the files are not a model we can run.
pub fn open(choice: &EmbedderChoice, options: &OpenOptions, ctx: &Ctx) -> Result<Box<dyn Embedder>> {
    match choice {
        EmbedderChoice::Static => Ok(Box::new(limited(static_encoder()?, options))),
        EmbedderChoice::Folder(path) if path.is_file() => {
            Ok(Box::new(limited(StaticEncoder::from_file(path)?, options)))
        }
        EmbedderChoice::Folder(path) => open_folder(path, options),
        EmbedderChoice::Hub { id, revision } => {
            sentence::devices(&options.device)?;
            let folder = Hub::new(&options.hub)?.fetch(id, revision, ctx)?;
            open_folder(&folder, options)
        }
    }
}

fn open_folder(path: &Path, options: &OpenOptions) -> Result<Box<dyn Embedder>> {
    Ok(Box::new(SentenceEncoder::open(path, &options.device, options.max_tokens)?))
}

fn limited(encoder: StaticEncoder, options: &OpenOptions) -> StaticEncoder {
    match options.max_tokens {
        Some(max_tokens) => encoder.with_max_tokens(max_tokens),
        None => encoder,
    }
}
