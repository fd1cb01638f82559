//! Influence against the definition: the surrogate trained anew without the row.

use super::pools::{DIM, Row, pool, rows};
use curate_core::{Column, Ctx, Scorer};
use curate_scorers::influence::Influence;

/// Rows whose loss is a line in their vector, and one that is far off it.
fn planted() -> Vec<Row> {
    let mut rows = rows(300, 12);
    for row in &mut rows {
        row.numbers[0] = 5.0 + row.vector.iter().zip(1..).map(|(v, w)| v * w as f32 * 0.1).sum::<f32>();
    }
    rows[77].numbers[0] += 50.0;
    rows
}

#[test]
fn a_row_far_off_the_line_harms_most() {
    let rows = planted();
    let scores = Influence::default().score(&pool(&rows), &Ctx::new(3)).unwrap();
    let worst = (0..rows.len()).min_by(|&a, &b| scores.value(a).total_cmp(&scores.value(b)));
    assert_eq!(worst, Some(77));
}

/// Weighted ridge regression of the target on vector and 1: `argmin sum w_i (theta x_i - y_i)^2 / 2n + ridge |theta|^2 / 2`.
fn train(x: &[Vec<f64>], y: &[f64], weights: &[f64], ridge: f64) -> Vec<f64> {
    let (n, width) = (x.len() as f64, DIM + 1);
    let mut a = vec![vec![0.0; width + 1]; width];
    for ((row, y), w) in x.iter().zip(y).zip(weights) {
        for i in 0..width {
            (0..width).for_each(|j| a[i][j] += w * row[i] * row[j] / n);
            a[i][width] += w * row[i] * y / n;
        }
    }
    (0..width).for_each(|i| a[i][i] += ridge);
    for i in 0..width {
        let pivot = a[i].clone();
        for (other, row) in a.iter_mut().enumerate().filter(|(other, _)| *other != i) {
            let factor = row[i] / pivot[i];
            row.iter_mut().zip(&pivot).for_each(|(v, p)| *v -= factor * p);
            debug_assert!(other < width);
        }
    }
    (0..width).map(|i| a[i][width] / a[i][i]).collect()
}

/// The derivative of the other half's risk by the row's weight, by central differences: without the row's own penalty term it is
/// minus the influence, `1/n` apart.
#[test]
fn influence_is_the_derivative_of_the_others_risk() {
    let (rows, ctx) = (planted(), Ctx::new(3));
    let scores = Influence::default().score(&pool(&rows), &ctx).unwrap();
    let lot = ctx.child("influence").stream("half");
    let y: Vec<f64> = standardised(&rows);
    let x: Vec<Vec<f64>> = rows.iter().map(|r| r.vector.iter().map(|&v| f64::from(v)).chain([1.0]).collect()).collect();
    let (own, other): (Vec<usize>, Vec<usize>) = (0..rows.len()).partition(|&i| lot(rows[i].id).bits() & 1 == 1);
    let part = |of: &[usize]| {
        (of.iter().map(|&i| x[i].clone()).collect::<Vec<_>>(), of.iter().map(|&i| y[i]).collect::<Vec<_>>())
    };
    let ((own_x, own_y), (other_x, other_y)) = (part(&own), part(&other));
    let n = own.len() as f64;
    let trace: f64 = own_x.iter().flatten().map(|v| v * v).sum::<f64>() / n / (DIM + 1) as f64;
    let ridge = 0.01 * trace;
    let risk = |theta: &[f64]| {
        let residual = |(row, y): (&Vec<f64>, &f64)| row.iter().zip(theta).map(|(a, b)| a * b).sum::<f64>() - y;
        other_x.iter().zip(&other_y).map(|pair| residual(pair).powi(2)).sum::<f64>() / 2.0 / other.len() as f64
    };
    for at in [0, 5, 40] {
        let shifted = |step: f64| {
            let mut weights = vec![1.0; own.len()];
            weights[at] += step;
            // the row's gradient holds the penalty too: taking the row away takes its share of it away
            risk(&train(&own_x, &own_y, &weights, ridge * (1.0 + step / n)))
        };
        let slope = (shifted(-1e-4) - shifted(1e-4)) / 2e-4 * n;
        let got = f64::from(scores.value(own[at]));
        assert!((slope - got).abs() <= 1e-4 * got.abs() + 1e-7, "row {at}: {got} is not {slope}");
    }
}

fn standardised(rows: &[Row]) -> Vec<f64> {
    let values: Vec<f64> = rows.iter().map(|r| f64::from(r.numbers[0])).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    values.iter().map(|v| (v - mean) / deviation).collect()
}

#[test]
fn a_target_without_spread_influences_nothing() {
    let mut rows = rows(50, 1);
    for row in &mut rows {
        row.numbers[0] = 0.7;
    }
    let scores = Influence::default().score(&pool(&rows), &Ctx::new(3)).unwrap();
    assert!(scores.values().iter().all(|v| v.abs() == 0.0));
    let other = Influence { target: "score.reward".to_owned(), ..Influence::default() };
    assert_eq!(other.needs(), [Column::EMBEDDING, Column::score("reward")]);
}
