//! Outcomes of rollouts: read and checked.

use curate_core::{Column, Error, Location, Result};

/// Column of successes.
pub(super) fn successes() -> Column {
    Column::signal("successes")
}

/// Column of trials.
pub(super) fn trials() -> Column {
    Column::signal("trials")
}

/// Successes and failures of every row.
pub(super) fn outcomes(rows: &[u64], successes: &[f64], trials: &[f64]) -> Result<Vec<[f64; 2]>> {
    let wrong = |i: &usize| !(0.0 <= successes[*i] && successes[*i] <= trials[*i]);
    if let Some(i) = (0..rows.len()).find(wrong) {
        let message = format!("{} successes in {} trials cannot be", successes[i], trials[i]);
        return Err(Error::data("feedback/successes", message)
            .at(Location::default().row(rows[i]).column(self::successes().as_str()))
            .hint("count successes from 0 to the number of trials"));
    }
    Ok(successes.iter().zip(trials).map(|(s, n)| [*s, n - s]).collect())
}
