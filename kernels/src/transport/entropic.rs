//! What an entropic transport is asked, and what it answers; see `sinkhorn.rs`.

/// What to solve and how well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropic {
    /// Strength of the entropy, in units of cost.
    pub eps: f64,
    /// Error to reach: sum over columns and rows of the mass that is missing or too much, as a share of all mass.
    pub tolerance: f64,
    /// Sweeps allowed at the last eps.
    pub max_sweeps: usize,
    /// Costs kept in memory, bytes; the others are made anew every sweep.
    pub hold_bytes: usize,
}

impl Entropic {
    /// A tolerance of 1e-6, 10 000 sweeps, costs of up to 1 GiB in memory.
    #[must_use]
    pub const fn new(eps: f64) -> Self {
        Self { eps, tolerance: 1e-6, max_sweeps: 10_000, hold_bytes: 1 << 30 }
    }
}

/// Potentials and cost of the entropic plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sinkhorn {
    /// Potentials of rows, shifted so that `a.f = b.g`.
    pub f: Vec<f64>,
    /// Potentials of columns.
    pub g: Vec<f64>,
    /// Transport cost of the plan, without the entropy.
    pub cost: f64,
    /// Value of the dual: the cost plus eps times the divergence of the plan from the product of its margins.
    pub dual: f64,
    /// Mass of columns that is missing or too much; rows are met exactly.
    pub error: f64,
    /// Sweeps over all costs.
    pub sweeps: usize,
}
