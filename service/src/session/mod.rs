//! Sessions: batches out, signals in, nothing acknowledged ever lost.

mod keeping;
mod load;
mod look;
mod machine;
mod manager;
mod one;
mod order;
mod points;
mod served;
mod signals;
mod state;
#[cfg(test)]
mod tests;
mod weights;

pub(crate) use manager::{Sessions, Shared, check_id, drawn_id};
pub(crate) use one::{Session, Told, now};
pub(crate) use served::{Served, json_rows};
pub(crate) use signals::{Fed, from_arrow, from_json};
