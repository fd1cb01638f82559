//! Stories through the built binary: what a user types, and what must come of it.

mod compare;
mod inputs;
mod interrupted;
mod methods;
mod online;
mod outputs;
mod refusals;
mod same;
mod story;
mod tables;
mod train;
