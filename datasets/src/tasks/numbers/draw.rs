//! Draws the operands of a task.

use super::super::ratio::gcd;
use super::apply::read;
use super::decimal::compare;
use super::task::{Kind, Op, Task};
use crate::SplitMix;
use std::cmp::Ordering;

/// Digits of the second operand of an easy item.
const EASY_DIGITS: usize = 3;

/// Operands of a task whose longer number has `digits` digits.
pub(super) fn operands(task: Task, digits: usize, easy: bool, rng: &mut SplitMix) -> Vec<String> {
    let first = number(task, digits, rng);
    if task.op.numbers() == 1 {
        let extra = extra(task.op, &first, rng);
        return std::iter::once(first).chain(extra).collect();
    }
    let other = second(task, digits, easy, rng);
    let other = match task.op {
        Op::Max | Op::Min if rng.below(2) == 0 => alike(task.kind, &first, rng).unwrap_or(other),
        Op::TrueDiv | Op::FloorDiv | Op::Mod if is_zero(&other) => "1".to_owned(),
        Op::Add | Op::Sub if task.kind == Kind::Scientific => near(&first, &other, rng),
        _ => other,
    };
    ordered(task, first, other, rng)
}

/// A position, a digit, or a number of figures.
fn extra(op: Op, number: &str, rng: &mut SplitMix) -> Option<String> {
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    match op {
        Op::GetDigit => Some(rng.below(digits).to_string()),
        Op::Count => Some(rng.below(10).to_string()),
        Op::Sig => Some((2 + rng.below(digits.saturating_sub(2).max(1))).to_string()),
        _ => None,
    }
}

/// The second number: at least half as long, at most 3 digits when easy; a divisor has at most 0.7 of the digits plus one, so
/// that a remainder is more than one subtraction.
fn second(task: Task, digits: usize, easy: bool, rng: &mut SplitMix) -> String {
    let longest = match task.op {
        Op::Mod => (digits * 7 / 10 + 1).min(digits),
        _ => digits,
    };
    let longest = if easy { longest.min(EASY_DIGITS) } else { longest };
    let shortest = longest.div_ceil(2);
    number(task, shortest + rng.below(longest - shortest + 1), rng)
}

/// Larger first where the operation wants it, else in either order.
fn ordered(task: Task, a: String, b: String, rng: &mut SplitMix) -> Vec<String> {
    let is_less = || match task.kind {
        Kind::Fraction => read(&a).zip(read(&b)).and_then(|(a, b)| a.less_than(b)) == Some(true),
        _ => compare(&a, &b) == Ordering::Less,
    };
    let swap = match task.op {
        Op::TrueDiv => false,
        Op::Sub | Op::FloorDiv | Op::Mod => is_less(),
        _ => rng.below(2) == 0,
    };
    match (swap, task.op) {
        (true, Op::FloorDiv | Op::Mod) if is_zero(&a) => vec![b, "1".to_owned()],
        (true, _) => vec![b, a],
        (false, _) => vec![a, b],
    }
}

fn is_zero(number: &str) -> bool {
    number.bytes().all(|b| b == b'0')
}

fn number(task: Task, digits: usize, rng: &mut SplitMix) -> String {
    match task.kind {
        Kind::Integer => integer(digits, rng),
        Kind::Float => float(digits, rng),
        Kind::Fraction if task.op == Op::ToFloat => ending_fraction(digits, rng),
        Kind::Fraction => any_fraction(digits, rng),
        Kind::Scientific => scientific(digits, if task.op == Op::ToFloat { 21 } else { 100 }, rng),
    }
}

fn digit(rng: &mut SplitMix, least: u8) -> char {
    let span = usize::from(10 - least);
    char::from(b'0' + least + u8::try_from(rng.below(span)).unwrap_or(0))
}

/// `digits` digits, no zero in front unless it is the only one.
fn integer(digits: usize, rng: &mut SplitMix) -> String {
    let first = u8::from(digits > 1);
    (0..digits).map(|at| digit(rng, if at == 0 { first } else { 0 })).collect()
}

/// `count` decimals, no zero at the end.
fn decimals(count: usize, rng: &mut SplitMix) -> String {
    (1..=count).map(|at| digit(rng, u8::from(at == count))).collect()
}

fn float(digits: usize, rng: &mut SplitMix) -> String {
    let whole = integer(digits, rng);
    let count = 1 + rng.below(digits);
    format!("{whole}.{}", decimals(count, rng))
}

fn scientific(digits: usize, exponents: usize, rng: &mut SplitMix) -> String {
    let first = digit(rng, 1);
    let rest = if digits == 1 { "0".to_owned() } else { decimals(digits - 1, rng) };
    format!("{first}.{rest}e{}", rng.below(exponents))
}

/// A fraction in lowest terms whose longer part has `digits` digits.
fn any_fraction(digits: usize, rng: &mut SplitMix) -> String {
    loop {
        let other = 1 + rng.below(digits);
        let (long, short) = (integer(digits, rng), integer(other, rng));
        let (above, below) = if rng.below(2) == 0 { (long, short) } else { (short, long) };
        if lowest(&above, &below) {
            return format!("{above}/{below}");
        }
    }
}

/// A fraction in lowest terms whose denominator is 2^a 5^b.
fn ending_fraction(digits: usize, rng: &mut SplitMix) -> String {
    let most = 10u128.pow(u32::try_from(digits).unwrap_or(1));
    loop {
        let (twos, fives) = (rng.below(4 * digits), rng.below(2 * digits));
        let below = 2u128
            .checked_pow(u32::try_from(twos).unwrap_or(0))
            .and_then(|twos| twos.checked_mul(5u128.checked_pow(u32::try_from(fives).unwrap_or(0))?));
        let above = integer(digits, rng);
        let below = below.filter(|below| *below > 1 && *below < most).map(|below| below.to_string());
        if let Some(below) = below.filter(|below| lowest(&above, below)) {
            return format!("{above}/{below}");
        }
    }
}

/// Whether `above / below` is a positive fraction in lowest terms that is no whole number.
fn lowest(above: &str, below: &str) -> bool {
    let (Ok(above), Ok(below)) = (above.parse::<i128>(), below.parse::<i128>()) else { return false };
    above > 0 && below > 1 && gcd(above, below) == 1
}

/// `other` with an exponent at most 5 away from that of `first`.
fn near(first: &str, other: &str, rng: &mut SplitMix) -> String {
    let exponent = first.split_once('e').and_then(|(_, e)| e.parse::<usize>().ok()).unwrap_or(0);
    let low = exponent.saturating_sub(5);
    let mantissa = other.split_once('e').map_or(other, |(mantissa, _)| mantissa);
    format!("{mantissa}e{}", low + rng.below(exponent + 6 - low))
}

/// A number as long as `first` that shares its leading digits, so that the first digit does not tell which is larger.
fn alike(kind: Kind, first: &str, rng: &mut SplitMix) -> Option<String> {
    let mantissa = first.split_once('e').map_or(first, |(mantissa, _)| mantissa);
    if kind == Kind::Fraction || mantissa.len() < 2 {
        return None;
    }
    let kept = 1 + rng.below(mantissa.len() - 1);
    let last = mantissa.len() - 1;
    let redraw = |(at, c): (usize, char)| {
        let keep = at < kept || !c.is_ascii_digit();
        if keep { c } else { digit(rng, u8::from(at == last && mantissa.contains('.'))) }
    };
    let drawn: String = mantissa.chars().enumerate().map(redraw).collect();
    Some(first.replacen(mantissa, &drawn, 1))
}
