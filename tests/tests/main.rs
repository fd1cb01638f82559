//! Checks across rooms: which room may see which, and the rules of the house. Stories through the binary are in
//! `cli/tests/stories`, since only there Cargo tells a test where the binary is.

mod arrows;
mod rules;
