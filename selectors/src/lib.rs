//! Choosing rows: one file an algorithm, one line here for each. A selector reads columns of the pool, never a model, and
//! reaches numbers through the context's backend.

pub mod allocate;
mod cluster;
mod clustering;
mod distances;
pub mod draw;
mod grouping;
mod limit;
mod neighbours;
pub mod online;
mod ranking;
mod strata;
mod target;
mod vectors;

pub use clustering::{ClusterParams, Clustering, auto_k, clusters};
pub use online::ONLINE;

use curate_core::{Filter, Selector, register};

register! {
    /// The selectors, the default first.
    dyn Selector, SELECTORS:
    kmeans_quality::KMeansQuality,
    random::Random,
    length_matched_random::LengthMatchedRandom,
    top_score::TopScore,
    k_center::KCenter,
    facility_location::FacilityLocation,
    gotd::GotD,
    goracs::Goracs,
    dealrec::DealRec,
    perplexity::Perplexity,
    ifd::Ifd,
    instructmining::InstructMining,
    deita::Deita,
    craig::Craig,
    dsir::Dsir,
}

register! {
    /// The filters, which drop rows before a selector sees them.
    dyn Filter, FILTERS:
    semantic_dedup::SemanticDedup,
}
