//! JSON text into Arrow columns: a strict pull parser, inference of one shape over all rows, and a decoder that fills
//! column builders. Numbers keep every digit, columns of mixed kinds keep their original JSON text.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod parser;
pub(crate) mod shape;
pub(crate) mod split;

#[cfg(test)]
mod tests;

/// Field metadata that marks a text column whose values are JSON text, to be written back to JSON as they are.
pub const JSON_TEXT: &str = "curate.json";
