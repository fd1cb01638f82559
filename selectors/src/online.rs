//! Choosing batches while a model learns: one file a method, one line here for each. Parameters are the struct, as for every
//! selector; what a run remembers is a value beside them (`running`), saved and restored without loss.

mod batch;
mod running;
mod smallest;
mod stored;

use curate_core::{OnlineSelector, register};
use running::Running;

pub use kmeans_refine::share_of_round;

register! {
    /// The online selectors.
    dyn OnlineSelector, ONLINE via Running::new:
    uds::Uds,
    mopps::Mopps,
    kmeans_refine::KMeansRefine,
    greats::Greats,
    max_loss::MaxLoss,
    max_grad_norm::MaxGradNorm,
    rho_loss::RhoLoss,
    random_k::RandomK,
    full_batch::FullBatch,
}
