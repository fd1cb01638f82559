//! The trainer against references: `PyTorch` goldens, finite differences, closed forms.
mod data;
mod eval;
mod grpo;
mod model;
mod numbers;
mod train;
mod verify;
