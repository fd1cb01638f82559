//! What a row is: which format the columns make, which column plays which role, and the conversation a row holds.

mod chat;
mod conversation;
mod families;
mod layout;
mod path;
mod rules;

pub use conversation::{Conversation, Role, Turn};
pub(crate) use conversation::{Extractor, Problem};
pub(crate) use families::TEXT_NAMES;
pub use layout::{Layout, Origin, Roles};
pub use path::ColumnPath;
pub(crate) use rules::detect;
