//! The gallery's office: a [`Plan`] says what is wanted, the planner finds who provides which column, the runner walks the
//! data through the rooms, the cache remembers, the manifest records. No algorithm lives here.

#![allow(
    clippy::cast_precision_loss,      // reason: counts become percentages, rates and forecasts
    clippy::cast_possible_truncation, // reason: figures for people, and positions already checked against lengths
    clippy::cast_sign_loss,
    clippy::needless_for_each
)]

pub mod bench;
pub mod cache;
mod choose;
mod columns;
mod compare;
pub mod doctor;
mod explain;
mod features;
mod fit_rule;
mod gather;
mod host;
mod http_scorer;
mod inspect;
mod manifest;
mod methods;
mod online;
mod plan;
pub mod report;
mod scores;
mod select;
pub mod serving;
mod signals;
mod train;
mod verify;
mod weights;

pub use choose::{Chosen, Prepared, choose, prepare};
pub use columns::{ColumnsDone, cluster, embed, score};
pub use compare::{
    ArmDone, ArmForecast, BreakEven, CompareDone, CompareForecast, ComparePlan, Line as CompareLine, Stat, compare,
    forecast as forecast_compare, legend as compare_legend, table as compare_table,
};
pub use curate_core::ParamDoc;
pub use curate_core::{
    Budget, Cancel, Error, Location, Memory, Progress, Result, Room, Snapshot, format_bytes, guarded, parse_bytes,
    report_panics,
};
pub use curate_core::{
    Column, Ctx, Feedback, Group, Memo, Needs, OnlineSelector, Pick, Pool, Selection, State, kernels,
};
pub use curate_embed::HubOptions;
pub use curate_ingest::{Format, InputSpec, OnBadRow};
pub use curate_selectors::ClusterParams;
pub use curate_trainer::eval::{EvalReport, LossTotal};
pub use curate_trainer::posthoc::{LinesConfig, Outer};
pub use curate_trainer::sft::Arm;
pub use explain::{Explanation, Nearest, explain};
pub use fit_rule::{FitDone, FitPlan, FitTerm, fit_rule, write_rule};
pub use host::{Host, configure_devices, local, peak_rss_bytes, rss_bytes, why_no_gpu};
pub use http_scorer::{HttpScorer, Sent};
pub use inspect::{Distribution, Inspection, Sample, inspect};
pub use manifest::{Cost, Counts, InputRecord, Manifest, OutputRecord, manifest_path, read_manifest, selection_digest};
pub use methods::{Method, OnlineNeeds, find_method, methods, methods_markdown};
pub use online::{OnlineForecast, OnlinePlan, OnlineReport};
pub use plan::{DEFAULT_METHOD, EmbedPlan, OutputPlan, Plan, SelectPlan, Use};
pub use select::{Forecast, forecast, pretty, select};
pub use train::forecast as forecast_train;
pub use train::{EvalDone, EvalPlan, TrainDone, TrainForecast, TrainPlan, judge, train, train_options};
pub use verify::{Check, verify};
pub use weights::{
    Pair, Place, UpdateReport, WeightsDone, apply_deltas, export_delta, graft_onto, scale, update_report,
};
