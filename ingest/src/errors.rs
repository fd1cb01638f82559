//! How failures of the libraries below become errors of the house, always with the file they happened in.

use curate_core::{Error, Location};
use std::io;

/// An I/O failure while reading or writing `file`.
pub(crate) fn io_at(error: io::Error, file: &str) -> Error {
    let place = Location::file(file);
    match error.kind() {
        io::ErrorKind::NotFound => Error::io("input/not-found", "there is no such file or folder")
            .hint("check the path; relative paths start at the current folder")
            .because(error),
        io::ErrorKind::PermissionDenied => Error::io("io/permission", "permission denied")
            .hint("check the permissions of the file and its folder")
            .because(error),
        io::ErrorKind::StorageFull => Error::io("io/disk-full", "the disk is full")
            .hint("free some space, or choose another place for the output or the cache")
            .because(error),
        _ => Error::from(error),
    }
    .at(place)
}

/// A compressed or binary file that cannot be decoded.
pub(crate) fn corrupt(kind: &str, file: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::data("input/corrupt", format!("not a readable {kind} file: {error}"))
        .hint("the file is damaged or cut off; fetch or write it again")
        .at(Location::file(file))
        .because(error)
}

/// The I/O error hidden inside an error chain, if there is one: a full disk must not be reported as damaged data.
pub(crate) fn io_cause(error: &(dyn std::error::Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

/// A failure of a writer: I/O underneath, or data the format cannot hold.
pub(crate) fn writing(kind: &str, file: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    match io_cause(&error) {
        Some(cause) => io_at(io::Error::new(cause, error.to_string()), file),
        None if error.to_string().contains("os error 28") => {
            io_at(io::Error::new(io::ErrorKind::StorageFull, error.to_string()), file)
        }
        None => Error::data("output/encode", format!("cannot write this as {kind}: {error}"))
            .hint("choose another output format, such as .parquet or .jsonl")
            .at(Location::file(file))
            .because(error),
    }
}
