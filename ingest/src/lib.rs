//! The front door of the house: parquet, JSON lines, JSON, CSV and Arrow files in and out, local and in object stores;
//! which format a row has and what it says; chat templates; filters; atomic outputs. Nothing here scores a row.

mod detect;
mod errors;
mod expand;
mod json;
mod kind;
mod predicate;
mod sink;
mod source;
mod spec;
mod spool;
mod store;
mod template;
mod vectors;

pub use detect::{ColumnPath, Conversation, Layout, Origin, Role, Roles, Turn};
pub use json::JSON_TEXT;
pub use kind::Kind;
pub use sink::{
    OutputSpec, RowSink, WholeFile, Written, WrittenFile, create, create_with, digest_whole, read_whole, write_atomic,
    write_whole,
};
pub use source::{FileInfo, Rendered, SkippedRow, Source, Unit, UnitData};
pub use spec::{EmbedText, Format, InputSpec, OnBadRow};
pub use store::Stores;
pub use template::{ChatTemplate, RenderedChat};
pub use vectors::columns_f32_vector;
