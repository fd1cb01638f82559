//! Stories through the built binary: what a user types, and what must come of it.

mod compare;
mod fit_rule;
mod http_scorer;
mod hub;
mod inputs;
mod interrupted;
mod killed;
mod memory;
mod methods;
mod online;
mod outputs;
mod refusals;
mod report;
mod row_weights;
mod same;
mod story;
mod tables;
mod train;
mod weights;
