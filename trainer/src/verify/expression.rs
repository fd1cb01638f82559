//! Reads and judges an expression: `expression = term {(+|-) term}`, `term = factor {(*|/) factor}`, `factor = number |
//! ( expression )`. Numbers are plain whole numbers without a zero in front; nothing else is known. Values are exact fractions. Cost:
//! one pass over at most 256 bytes.

use crate::eval::Rational;
use std::fmt;

/// Longest expression, bytes.
const MAX_BYTES: usize = 256;
/// Deepest brackets.
const MAX_DEPTH: usize = 32;
/// Longest number, digits.
const MAX_DIGITS: usize = 9;

/// Why an expression is no solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than 256 bytes.
    TooLong,
    /// Brackets deeper than 32.
    TooDeep,
    /// Not an expression, at this byte: `**`, `//`, a decimal point, a sign and words are not known.
    Syntax(usize),
    /// A division by zero.
    ZeroDivision,
    /// A value beyond 128 bits.
    Overflow,
    /// The numbers used are not the numbers given.
    Numbers,
    /// A correct expression with another value.
    Value,
    /// No `<answer>` where one is asked for.
    NoAnswer,
    /// The label is no puzzle.
    NoPuzzle,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "longer than {MAX_BYTES} bytes"),
            Self::TooDeep => write!(f, "brackets deeper than {MAX_DEPTH}"),
            Self::Syntax(at) => write!(f, "not an expression of whole numbers, + - * / and brackets, at byte {at}"),
            Self::ZeroDivision => f.write_str("division by zero"),
            Self::Overflow => f.write_str("a value beyond 128 bits"),
            Self::Numbers => f.write_str("other numbers than those given"),
            Self::Value => f.write_str("another value than the target"),
            Self::NoAnswer => f.write_str("no <answer> .. </answer>"),
            Self::NoPuzzle => f.write_str("the label is neither a solution nor a puzzle"),
        }
    }
}

/// Whether `expression` uses every one of `numbers` once and has the value `target`.
///
/// # Errors
/// Why not.
pub fn check(expression: &str, numbers: &[u32], target: Rational) -> Result<(), Refusal> {
    let (value, mut used) = evaluate(expression)?;
    let mut given = numbers.to_vec();
    given.sort_unstable();
    used.sort_unstable();
    if used != given {
        return Err(Refusal::Numbers);
    }
    if value == target { Ok(()) } else { Err(Refusal::Value) }
}

/// The value of an expression, and the numbers in it in their order.
///
/// # Errors
/// Why it is none.
pub fn evaluate(expression: &str) -> Result<(Rational, Vec<u32>), Refusal> {
    if expression.len() > MAX_BYTES {
        return Err(Refusal::TooLong);
    }
    let mut reader = Reader { text: expression.as_bytes(), at: 0, used: Vec::new() };
    let value = reader.expression(0)?;
    reader.skip_spaces();
    if reader.at < reader.text.len() {
        return Err(Refusal::Syntax(reader.at));
    }
    Ok((value, reader.used))
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    used: Vec<u32>,
}

impl Reader<'_> {
    fn skip_spaces(&mut self) {
        while self.text.get(self.at) == Some(&b' ') {
            self.at += 1;
        }
    }

    /// The next byte that is no space, if it is one of `wanted`; then it is read.
    fn take(&mut self, wanted: &[u8]) -> Option<u8> {
        self.skip_spaces();
        let found = self.text.get(self.at).copied().filter(|byte| wanted.contains(byte))?;
        self.at += 1;
        Some(found)
    }

    fn expression(&mut self, depth: usize) -> Result<Rational, Refusal> {
        let mut value = self.term(depth)?;
        while let Some(op) = self.take(b"+-") {
            value = apply(op, value, self.term(depth)?)?;
        }
        Ok(value)
    }

    fn term(&mut self, depth: usize) -> Result<Rational, Refusal> {
        let mut value = self.factor(depth)?;
        while let Some(op) = self.take(b"*/") {
            value = apply(op, value, self.factor(depth)?)?;
        }
        Ok(value)
    }

    fn factor(&mut self, depth: usize) -> Result<Rational, Refusal> {
        if depth > MAX_DEPTH {
            return Err(Refusal::TooDeep);
        }
        if self.take(b"(").is_none() {
            return self.number();
        }
        let value = self.expression(depth + 1)?;
        self.take(b")").map(|_| value).ok_or(Refusal::Syntax(self.at))
    }

    fn number(&mut self) -> Result<Rational, Refusal> {
        let start = self.at;
        let digits: Vec<u8> = self.text[start..].iter().copied().take_while(u8::is_ascii_digit).collect();
        let plain = digits.len() == 1 || digits.first().is_some_and(|first| *first != b'0');
        if !plain || digits.len() > MAX_DIGITS {
            return Err(Refusal::Syntax(start));
        }
        let number = digits.iter().fold(0, |number: u32, digit| 10 * number + u32::from(digit - b'0'));
        self.at += digits.len();
        self.used.push(number);
        Ok(Rational::whole(i128::from(number)))
    }
}

fn apply(op: u8, a: Rational, b: Rational) -> Result<Rational, Refusal> {
    let value = match op {
        b'+' => a.plus(b),
        b'-' => a.minus(b),
        b'*' => a.times(b),
        _ if b.is_zero() => return Err(Refusal::ZeroDivision),
        _ => a.over(b),
    };
    value.ok_or(Refusal::Overflow)
}
