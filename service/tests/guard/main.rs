//! The guard in front of small routes: who comes in, with what, and what everybody else is told.

mod bodies;
mod callers;
mod door;
mod frames;
mod support;
