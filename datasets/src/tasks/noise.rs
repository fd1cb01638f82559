//! Plants errors: a given share of wrong answers, of copies and of rows from another task, each marked in hidden columns.

use super::rows::{TaskRow, Truth};
use crate::SplitMix;
use curate_core::{Error, Result};

/// Which share of the rows is spoiled, and how. The three kinds never meet in one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noise {
    /// Share of rows with a wrong answer: other digits, or the answer of another row where there are no digits.
    pub wrong: f64,
    /// Share of rows that become copies of a clean row.
    pub duplicate: f64,
    /// Share of rows that become rows of another task.
    pub off_task: f64,
}

/// Spoil some of `rows`; the counts are the shares of all rows, rounded to the nearest. `others` are the rows of another task.
///
/// # Errors
/// `tasks/noise` when a share is none or all shares exceed 1, when nothing clean is left to copy, when there is no row of
/// another task, or when a row has no wrong answer.
pub fn spoil(rows: &[TaskRow], noise: &Noise, others: &[TaskRow], seed: u64) -> Result<Vec<TaskRow>> {
    let counts = counts(rows.len(), noise)?;
    let order = shuffled(rows.len(), seed);
    let (wrong, rest) = order.split_at(counts[0]);
    let (copies, rest) = rest.split_at(counts[1]);
    let (off_task, clean) = rest.split_at(counts[2]);
    if (clean.is_empty() && !copies.is_empty()) || (others.is_empty() && !off_task.is_empty()) {
        return Err(refuse("there is no clean row to copy, or no row of another task".to_owned()));
    }
    let mut spoiled = rows.to_vec();
    for &at in wrong {
        let completion = wrong_answer(rows, at, &mut rng(seed, at))?;
        spoiled[at] = TaskRow { completion, truth: Truth::Wrong, ..rows[at].clone() };
    }
    for &at in copies {
        let source = clean[rng(seed, at).below(clean.len())];
        spoiled[at] = TaskRow { truth: Truth::Duplicate, ..rows[source].clone() };
    }
    for &at in off_task {
        let source = rng(seed, at).below(others.len());
        spoiled[at] = TaskRow { truth: Truth::OffTask, ..others[source].clone() };
    }
    Ok(spoiled)
}

/// Rows of each kind.
fn counts(rows: usize, noise: &Noise) -> Result<[usize; 3]> {
    let shares = [noise.wrong, noise.duplicate, noise.off_task];
    let valid = shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.iter().sum::<f64>() <= 1.0 + 1e-9;
    let counts = shares.map(|share| rounded(share, rows));
    if valid && counts.iter().sum::<usize>() <= rows {
        return Ok(counts);
    }
    Err(refuse(format!("the shares {shares:?} of {rows} rows are more than all rows, or none at all")))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count; negative and NaN become 0 and were refused"
)]
fn rounded(share: f64, rows: usize) -> usize {
    (share * rows as f64).round() as usize
}

fn refuse(why: String) -> Error {
    Error::usage("tasks/noise", why).hint("shares lie between 0 and 1, and add up to 1 at most")
}

fn rng(seed: u64, at: usize) -> SplitMix {
    SplitMix::of(seed ^ 0x6E6F_6973_6500, at as u64)
}

/// All places in a drawn order.
fn shuffled(rows: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<(u64, usize)> =
        (0..rows).map(|at| (SplitMix::of(seed ^ 0x6F72_6465_7200, at as u64).bits(), at)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, at)| at).collect()
}

/// A completion of the same form that is not the right one.
fn wrong_answer(rows: &[TaskRow], at: usize, rng: &mut SplitMix) -> Result<String> {
    let right = &rows[at].right;
    for _ in 0..1000 {
        let drawn = if right.contains(|c: char| c.is_ascii_digit()) {
            other_digits(right, rng)
        } else {
            rows[rng.below(rows.len())].right.clone()
        };
        if drawn != *right {
            return Ok(drawn);
        }
    }
    Err(refuse(format!("row {at} has no wrong answer: every row has the same")))
}

/// The text with every digit drawn anew; the first digit of a number stays other than 0 if it was.
fn other_digits(text: &str, rng: &mut SplitMix) -> String {
    let mut before = ' ';
    let mut drawn = |c: char| {
        let least = usize::from(c != '0' && !before.is_ascii_digit() && before != '.');
        before = c;
        if !c.is_ascii_digit() {
            return c;
        }
        let digit = least + rng.below(10 - least);
        char::from(b'0' + u8::try_from(digit).unwrap_or(0))
    };
    text.chars().map(&mut drawn).collect()
}
