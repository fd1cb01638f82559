//! Running an expression over whole columns.

use super::Step;
use crate::reading::moments;
use std::borrow::Cow;

/// A number for all rows, or one for each.
#[derive(Clone)]
enum Value<'a> {
    One(f64),
    Each(Cow<'a, [f64]>),
}

/// The program's value for every row.
pub(super) fn run(steps: &[Step], columns: &[Vec<f64>], rows: usize) -> Vec<f64> {
    let mut stack: Vec<Value> = Vec::new();
    for step in steps {
        let value = match *step {
            Step::Number(number) => Value::One(number),
            Step::Column(at) => Value::Each(Cow::Borrowed(&columns[at])),
            Step::Negate => pop(&mut stack).map(|v| 0.0 - v),
            Step::Log => pop(&mut stack).map(f64::ln),
            Step::Z => pop(&mut stack).over_pool(0.0, standardise),
            Step::Rank => pop(&mut stack).over_pool(0.5, rank),
            Step::MinMax => pop(&mut stack).over_pool(0.0, stretch),
            Step::Clip => {
                let (high, low) = (pop(&mut stack), pop(&mut stack));
                pop(&mut stack).with(&low, max).with(&high, min)
            }
            Step::Add => both(&mut stack, |a, b| a + b),
            Step::Subtract => both(&mut stack, |a, b| a - b),
            Step::Multiply => both(&mut stack, |a, b| a * b),
            Step::Divide => both(&mut stack, |a, b| a / b),
        };
        stack.push(value);
    }
    match pop(&mut stack) {
        Value::One(number) => vec![number; rows],
        Value::Each(values) => values.into_owned(),
    }
}

/// The program as `[constant, coefficient of column 0, ...]`, if it has that form.
pub(super) fn linear(steps: &[Step], columns: usize) -> Option<Vec<f64>> {
    let mut stack: Vec<Vec<f64>> = Vec::new();
    let constant = |form: &[f64]| form[1..].iter().all(|&c| c == 0.0).then_some(form[0]);
    let scaled = |form: &[f64], factor: f64| form.iter().map(|v| v * factor).collect::<Vec<f64>>();
    let sum = |a: &[f64], b: &[f64], sign: f64| a.iter().zip(b).map(|(a, b)| a + sign * b).collect::<Vec<f64>>();
    for step in steps {
        let form = match *step {
            Step::Number(number) => [number].into_iter().chain(std::iter::repeat_n(0.0, columns)).collect(),
            Step::Column(at) => (0..=columns).map(|i| f64::from(u8::from(i == at + 1))).collect(),
            Step::Negate => scaled(&stack.pop()?, -1.0),
            Step::Add | Step::Subtract => {
                let (b, a) = (stack.pop()?, stack.pop()?);
                sum(&a, &b, if *step == Step::Add { 1.0 } else { -1.0 })
            }
            Step::Multiply => {
                let (b, a) = (stack.pop()?, stack.pop()?);
                constant(&a).map(|c| scaled(&b, c)).or_else(|| constant(&b).map(|c| scaled(&a, c)))?
            }
            Step::Divide => {
                let (b, a) = (stack.pop()?, stack.pop()?);
                let divisor = constant(&b)?;
                a.iter().map(|v| v / divisor).collect()
            }
            Step::Z | Step::Rank | Step::MinMax | Step::Log | Step::Clip => return None,
        };
        stack.push(form);
    }
    stack.pop()
}

/// The parser pushes what it pops; an empty stack would be its fault and shows as NaN, which is refused later.
fn pop<'a>(stack: &mut Vec<Value<'a>>) -> Value<'a> {
    stack.pop().unwrap_or(Value::One(f64::NAN))
}

fn both<'a>(stack: &mut Vec<Value<'a>>, f: impl Fn(f64, f64) -> f64) -> Value<'a> {
    let b = pop(stack);
    pop(stack).with(&b, f)
}

/// NaN stays NaN, unlike `f64::max`.
fn max(a: f64, b: f64) -> f64 {
    if a < b { b } else { a }
}

fn min(a: f64, b: f64) -> f64 {
    if a > b { b } else { a }
}

impl<'a> Value<'a> {
    fn map(self, f: impl Fn(f64) -> f64) -> Value<'a> {
        match self {
            Self::One(number) => Self::One(f(number)),
            Self::Each(mut values) => {
                values.to_mut().iter_mut().for_each(|v| *v = f(*v));
                Self::Each(values)
            }
        }
    }

    fn with(self, other: &Value<'a>, f: impl Fn(f64, f64) -> f64) -> Value<'a> {
        match (self, other) {
            (own, Self::One(number)) => own.map(|v| f(v, *number)),
            (Self::One(number), Self::Each(others)) => Self::Each(others.iter().map(|&v| f(number, v)).collect()),
            (Self::Each(mut values), Self::Each(others)) => {
                values.to_mut().iter_mut().zip(others.iter()).for_each(|(a, &b)| *a = f(*a, b));
                Self::Each(values)
            }
        }
    }

    /// A function of all rows; `of_equals` where there is one number for all. NaN and infinities stay for the final check.
    fn over_pool(self, of_equals: f64, f: impl Fn(&[f64]) -> Vec<f64>) -> Value<'a> {
        match self {
            Self::One(number) if number.is_finite() => Self::One(of_equals),
            Self::Each(values) if values.iter().all(|v| v.is_finite()) => Self::Each(Cow::Owned(f(&values))),
            other => other,
        }
    }
}

fn standardise(values: &[f64]) -> Vec<f64> {
    let (low, high) = extent(values);
    if low >= high {
        return vec![0.0; values.len()];
    }
    let (mean, deviation) = moments(values);
    values.iter().map(|v| (v - mean) / deviation).collect()
}

fn stretch(values: &[f64]) -> Vec<f64> {
    let (low, high) = extent(values);
    values.iter().map(|v| if high > low { (v - low) / (high - low) } else { 0.0 }).collect()
}

/// Least and greatest value.
fn extent(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)))
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn rank(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().map(|v| v + 0.0).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let others = values.len().saturating_sub(1).max(1) as f64;
    let place = |v: &f64| {
        let (below, up_to) = (sorted.partition_point(|s| s < v), sorted.partition_point(|s| s <= v));
        (below as f64 + (up_to - below).saturating_sub(1) as f64 / 2.0) / others
    };
    if values.len() < 2 { vec![0.5; values.len()] } else { values.iter().map(place).collect() }
}
