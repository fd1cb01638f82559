//! The trainer against references: `PyTorch` goldens, finite differences, closed forms.
mod data;
mod eval;
mod model;
mod numbers;
mod train;
