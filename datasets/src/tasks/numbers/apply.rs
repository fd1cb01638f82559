//! The answer of every task.

use super::super::ratio::Ratio;
use super::decimal::{Decimal, compare, parts, scientific, significant};
use super::task::{Kind, Op, Task};
use std::cmp::Ordering;

/// The answer; `None` when the operands are none of this task's, or the result leaves 128 bits.
pub(super) fn answer(task: Task, operands: &[String]) -> Option<String> {
    let (a, b) = (operands.first()?.as_str(), operands.get(1).map_or("", String::as_str));
    match (task.op, task.kind) {
        (Op::GetDigit, _) => digits(a).nth(b.parse().ok()?).map(String::from),
        (Op::Length, _) => Some(digits(a).count().to_string()),
        (Op::Count, _) => Some(digits(a).filter(|digit| b.starts_with(*digit)).count().to_string()),
        (Op::Sig, _) => Some(significant(a, b.parse().ok()?)),
        (Op::ToScient, _) => {
            let (whole, decimals) = parts(a);
            Some(scientific(&[whole, decimals].concat(), -i32::try_from(decimals.len()).ok()?))
        }
        (Op::DigitMax, _) => Some(digit_wise(a, b, Ord::max)),
        (Op::DigitMin, _) => Some(digit_wise(a, b, Ord::min)),
        (Op::DigitAdd, _) => Some(digit_wise(a, b, |x, y| (x + y) % 10)),
        (_, Kind::Fraction) => fraction(task.op, a, b),
        (Op::Max | Op::Min, _) => {
            let first = (compare(a, b) == Ordering::Less) == (task.op == Op::Min);
            Some(if first { a } else { b }.to_owned())
        }
        (Op::TrueDiv | Op::FloorDiv | Op::Mod, _) => divide(task.op, a.parse().ok()?, b.parse().ok()?),
        _ => decimal(task, a, b),
    }
}

fn digits(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(char::is_ascii_digit)
}

/// Digit by digit: whole parts aligned at the right, decimals at the left, missing digits 0.
fn digit_wise(a: &str, b: &str, op: impl Fn(u8, u8) -> u8) -> String {
    let ((whole_a, decimals_a), (whole_b, decimals_b)) = (parts(a), parts(b));
    let value = |digit: Option<u8>| digit.map_or(0, |digit| digit - b'0');
    let both = |x: Option<u8>, y: Option<u8>| char::from(b'0' + op(value(x), value(y)));
    let places = whole_a.len().max(whole_b.len());
    let from_right = |text: &str, place: usize| text.bytes().rev().nth(place);
    let whole: String =
        (0..places).rev().map(|place| both(from_right(whole_a, place), from_right(whole_b, place))).collect();
    let places = decimals_a.len().max(decimals_b.len());
    let decimals: String = (0..places)
        .map(|place| both(decimals_a.as_bytes().get(place).copied(), decimals_b.as_bytes().get(place).copied()))
        .collect();
    if decimals.is_empty() { whole } else { format!("{whole}.{decimals}") }
}

fn divide(op: Op, a: u128, b: u128) -> Option<String> {
    match op {
        Op::TrueDiv => Ratio::new(i128::try_from(a).ok()?, i128::try_from(b).ok()?).map(written),
        Op::FloorDiv => a.checked_div(b).map(|q| q.to_string()),
        _ => a.checked_rem(b).map(|r| r.to_string()),
    }
}

fn decimal(task: Task, a: &str, b: &str) -> Option<String> {
    let first = Decimal::read(a)?;
    let value = match task.op {
        Op::ToFloat => return Some(first.float()),
        Op::Add => first.plus(Decimal::read(b)?)?,
        Op::Sub => first.minus(Decimal::read(b)?)?,
        Op::Multiply => first.times(Decimal::read(b)?)?,
        _ => return None,
    };
    match task.kind {
        Kind::Integer => Some(value.digits.to_string()),
        Kind::Float => Some(value.float()),
        _ => Some(value.scientific()),
    }
}

fn fraction(op: Op, a: &str, b: &str) -> Option<String> {
    let first = read(a)?;
    if op == Op::ToFloat {
        return ended(first);
    }
    let second = read(b)?;
    let value = match op {
        Op::Add => first.plus(second)?,
        Op::Sub => first.minus(second)?,
        Op::Multiply => first.times(second)?,
        Op::TrueDiv => first.over(second)?,
        Op::Max | Op::Min if first.less_than(second)? == (op == Op::Min) => first,
        Op::Max | Op::Min => second,
        _ => return None,
    };
    Some(written(value))
}

/// Read `3/4`.
pub(super) fn read(text: &str) -> Option<Ratio> {
    let (above, below) = text.split_once('/')?;
    Ratio::new(above.parse().ok()?, below.parse().ok()?)
}

fn written(value: Ratio) -> String {
    format!("{}/{}", value.above(), value.below())
}

/// A fraction as a decimal that ends; `None` when it does not end.
fn ended(value: Ratio) -> Option<String> {
    let (mut above, below) = (value.above(), value.below());
    let mut exponent = 0;
    while above % below != 0 {
        above = above.checked_mul(10)?;
        exponent -= 1;
    }
    Some(Decimal { digits: u128::try_from(above / below).ok()?, exponent }.float())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_by_hand() {
        for (name, operands, wanted) in [
            ("add-integer", "999 1", "1000"),
            ("sub-float", "2.5 0.75", "1.75"),
            ("add-float", "0.5 0.5", "1.0"),
            ("multiply-float", "0.5 0.02", "0.01"),
            ("truediv-integer", "6 4", "3/2"),
            ("truediv-integer", "6 3", "2/1"),
            ("floordiv-integer", "17 5", "3"),
            ("mod-integer", "17 5", "2"),
            ("max-integer", "99 100", "100"),
            ("min-float", "9.5 10.25", "9.5"),
            ("max-scientific", "9.9e9 1.0e10", "1.0e10"),
            ("max-fraction", "1/2 2/3", "2/3"),
            ("digit_max-integer", "123 45", "145"),
            ("digit_min-integer", "123 45", "023"),
            ("digit_add-float", "9.5 12.75", "11.25"),
            ("get_digit-float", "12.5 2", "5"),
            ("length-float", "12.5", "3"),
            ("count-integer", "1211 1", "3"),
            ("to_float-fraction", "3/8", "0.375"),
            ("to_float-scientific", "1.5e3", "1500.0"),
            ("to_scient-integer", "1200", "1.2e3"),
            ("to_scient-float", "0.05", "5.0e-2"),
            ("sig-integer", "99951 3", "1.00e5"),
            ("sig-float", "12.345 4", "1.235e1"),
            ("sig-integer", "0 2", "0.0e0"),
            ("add-fraction", "1/2 1/2", "1/1"),
            ("add-scientific", "9.5e3 5.0e2", "1.0e4"),
            ("sub-scientific", "1.0e5 1.0e5", "0.0e0"),
        ] {
            let operands: Vec<String> = operands.split(' ').map(String::from).collect();
            let task = Task::find(name).unwrap();
            assert_eq!(answer(task, &operands).as_deref(), Some(wanted), "{name} {operands:?}");
        }
        let huge = "9".repeat(30);
        let product = Task { op: Op::Multiply, kind: Kind::Integer };
        assert_eq!(answer(product, &[huge.clone(), huge]), None, "beyond 128 bits");
    }
}
