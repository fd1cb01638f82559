//! Stories through the built binary: what a user types, and what must come of it.

#![allow(clippy::cast_precision_loss)] // reason: rows and steps of stories are small numbers

mod browser;
mod compare;
mod dashboard;
mod doctor;
mod fit_rule;
mod http_scorer;
mod hub;
mod inputs;
mod interrupted;
mod killed;
mod live;
mod memory;
mod methods;
mod online;
mod outputs;
mod refusals;
mod report;
mod row_weights;
mod same;
mod serve;
mod service;
mod service_survival;
mod story;
mod tables;
mod train;
mod weights;
