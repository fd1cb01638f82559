//! The exact cost, plan and potentials of one transport problem; see `simplex.rs`. Rows and columns without mass take no
//! part; they get the largest potentials that keep `u_i + v_j <= C_ij`.

use super::Costs;
use super::mass::Mass;
use super::simplex::Simplex;
use crate::{KernelError, backend::Tick};

/// An optimal plan with its proof.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Exact {
    /// The least cost.
    pub cost: f64,
    /// Potentials of rows; `u_i + v_j <= C_ij`, equal where mass flows, `a.u = b.v`.
    pub u: Vec<f64>,
    /// Potentials of columns.
    pub v: Vec<f64>,
    /// Row, column and mass of every flow.
    pub flows: Vec<(usize, usize, f64)>,
    /// Least reduced cost over pairs with mass: 0 but for rounding.
    pub slack: f64,
    /// Pivots it took.
    pub pivots: usize,
}

/// Move `a` to `b` at least cost.
///
/// # Errors
/// [`KernelError::Shape`] for weights that are negative, not finite or differ in sum; [`KernelError::NotFinite`] for
/// costs; [`KernelError::Stopped`] when `tick` asks to stop.
pub fn exact(costs: &dyn Costs, a: &[f64], b: &[f64], tick: Tick<'_>) -> Result<Exact, KernelError> {
    crate::backend::check_len("transport", "row weights", costs.rows(), a.len())?;
    crate::backend::check_len("transport", "column weights", costs.cols(), b.len())?;
    let mass = Mass::new(a, b)?;
    let live = |weights: &[i64]| (0..weights.len()).filter(|&i| weights[i] > 0).collect::<Vec<_>>();
    let (rows, cols) = (live(&mass.rows), live(&mass.cols));
    let (cost, part) = (gather(costs, &rows, &cols)?, shrink(&mass, &rows, &cols));
    let mut simplex = Simplex::new(cost, cols.len(), part);
    simplex.solve(tick)?;
    let flows = simplex.flows().map(|(i, j, mass)| (rows[i], cols[j], mass)).collect();
    let (u, v) = spread(costs, simplex.duals(), &rows, &cols);
    let slack = least_slack(costs, &u, &v);
    Ok(Exact { cost: simplex.value(), u, v, flows, slack, pivots: simplex.pivots() })
}

fn shrink(mass: &Mass, rows: &[usize], cols: &[usize]) -> Mass {
    Mass {
        rows: rows.iter().map(|&i| mass.rows[i]).collect(),
        cols: cols.iter().map(|&j| mass.cols[j]).collect(),
        unit: mass.unit,
    }
}

fn gather(costs: &dyn Costs, rows: &[usize], cols: &[usize]) -> Result<Vec<f64>, KernelError> {
    let mut row = vec![0.0; costs.cols()];
    let mut all = Vec::with_capacity(rows.len() * cols.len());
    for &i in rows {
        costs.row(i, &mut row);
        all.extend(cols.iter().map(|&j| row[j]));
    }
    super::Dense::new(&all, cols.len())?;
    Ok(all)
}

/// Potentials of all rows and columns: those without mass as large as can be, rows first against columns with mass.
fn spread(costs: &dyn Costs, (u, v): (Vec<f64>, Vec<f64>), rows: &[usize], cols: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let (mut all_u, mut all_v) = (vec![f64::INFINITY; costs.rows()], vec![f64::INFINITY; costs.cols()]);
    rows.iter().zip(u).for_each(|(&i, u)| all_u[i] = u);
    cols.iter().zip(v).for_each(|(&j, v)| all_v[j] = v);
    if rows.len() == costs.rows() && cols.len() == costs.cols() {
        return (all_u, all_v);
    }
    let mut row = vec![0.0; costs.cols()];
    for (i, u) in all_u.iter_mut().enumerate() {
        costs.row(i, &mut row);
        if u.is_infinite() {
            *u = cols.iter().map(|&j| row[j] - all_v[j]).fold(f64::INFINITY, f64::min);
        }
    }
    let mut room = vec![f64::INFINITY; costs.cols()];
    for (i, u) in all_u.iter().enumerate() {
        costs.row(i, &mut row);
        room.iter_mut().zip(&row).for_each(|(r, c)| *r = r.min(c - u));
    }
    all_v.iter_mut().zip(room).filter(|(v, _)| v.is_infinite()).for_each(|(v, room)| *v = room);
    (all_u, all_v)
}

fn least_slack(costs: &dyn Costs, u: &[f64], v: &[f64]) -> f64 {
    let mut row = vec![0.0; costs.cols()];
    let mut least = f64::INFINITY;
    for (i, u) in u.iter().enumerate() {
        costs.row(i, &mut row);
        least = row.iter().zip(v).fold(least, |least, (c, v)| least.min(c - u - v));
    }
    least
}
