//! Optimal transport between two weighted clouds: the exact plan with its potentials ([`exact`], [`Simplex`]) and the
//! entropic one ([`sinkhorn`]). Costs come as rows ([`Costs`]): a matrix, or two clouds of points and a ground distance.
//!
//! Promise: the same bits for any number of threads. Ties in a search fall to the lower index.

mod entropic;
mod exact;
mod fused;
mod ground;
mod mass;
mod pace;
mod real;
mod simplex;
mod sinkhorn;
mod start;
mod sweep;
mod thinned;
mod tree;

pub use entropic::{Entropic, Sinkhorn};
pub use exact::{Exact, exact};
pub(crate) use fused::{LogSums, Side, solve};
pub use ground::{Clouds, Costs, Dense, Ground, Points, each_row, narrow};
pub use simplex::{Basis, Simplex};
pub use sinkhorn::sinkhorn;
