//! What every online selector must keep to, golden vectors through the trait object, and the simulation of prompt selection.
//! The suite runs over the table: a method entered there is tested without a line here.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "numbers of test data are small"
)]

mod contract;
mod golden_mopps;
mod golden_refine;
mod golden_uds;
mod simulation;
mod stream;
mod wrong;
