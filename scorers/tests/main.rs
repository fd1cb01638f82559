//! What every scorer must keep to, whatever it computes; then golden vectors and score expressions.
//! The suite runs over the table: a scorer entered there is tested without a line here.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    clippy::float_cmp,
    reason = "numbers of test data are small, and same bits is the promise"
)]

mod suite {
    mod docs;
    mod expressions;
    mod golden;
    mod hard_texts;
    mod items;
    mod planted;
    mod pools;
    mod scorers;
}
