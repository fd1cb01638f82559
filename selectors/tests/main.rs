//! What every selector and every filter must keep to, whatever it chooses; then golden vectors and planted truth.
//! The suites run over the tables: a method entered there is tested without a line here.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    reason = "numbers of test data are small"
)]

mod suite {
    mod dealrec;
    mod docs;
    mod filters;
    mod golden;
    mod planted;
    mod pools;
    mod selectors;
    mod streaming;
    mod tokens;
    mod transport;
}
