//! Exact numbers, so that "72", "72.0" and "144/2" are the same answer and 0.1 + 0.2 is 0.3.

use std::fmt;

/// A fraction in lowest terms; the denominator is positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

impl Rational {
    /// `numerator / denominator`; `None` for a zero denominator or a value out of range.
    #[must_use]
    pub fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let divisor = i128::try_from(gcd(numerator.unsigned_abs(), denominator.unsigned_abs())).ok()?;
        if denominator == 0 {
            return None;
        }
        let (numerator, denominator) = (numerator / divisor, denominator / divisor);
        let sign = if denominator < 0 { -1 } else { 1 };
        Some(Self { numerator: numerator.checked_mul(sign)?, denominator: denominator.checked_mul(sign)? })
    }

    /// A whole number.
    #[must_use]
    pub const fn whole(value: i128) -> Self {
        Self { numerator: value, denominator: 1 }
    }

    /// Whether it is 0.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// The sum; `None` when it is out of range.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// The difference; `None` when it is out of range.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(Self { numerator: other.numerator.checked_neg()?, ..other })
    }

    /// The product; `None` when it is out of range.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.numerator)?;
        Self::new(numerator, self.denominator.checked_mul(other.denominator)?)
    }

    /// The quotient; `None` when `other` is 0, or it is out of range.
    #[must_use]
    pub fn over(self, other: Self) -> Option<Self> {
        let numerator = self.numerator.checked_mul(other.denominator)?;
        Self::new(numerator, self.denominator.checked_mul(other.numerator)?)
    }

    /// Read `12`, `-1,234.50`, `.5`, `3/4`, `1.5e3`; commas are dropped. `None` when it is no such number, or out of range
    /// (about 38 digits).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain: String = text.trim().chars().filter(|c| *c != ',').collect();
        if let Some((above, below)) = plain.split_once('/') {
            let (above, below) = (Self::parse(above)?, Self::parse(below)?);
            let numerator = above.numerator.checked_mul(below.denominator)?;
            return Self::new(numerator, above.denominator.checked_mul(below.numerator)?);
        }
        let (mantissa, exponent) = match plain.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (plain.as_str(), 0),
        };
        let (negative, digits) = match mantissa.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0');
        let all = [whole, fraction].concat();
        if all.bytes().any(|b| !b.is_ascii_digit())
            || (whole.is_empty() && !digits.contains(|c: char| c.is_ascii_digit()))
        {
            return None;
        }
        let value = if all.is_empty() { 0 } else { all.parse::<i128>().ok()? };
        let value = if negative { -value } else { value };
        let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        let scale = if value == 0 { 1 } else { 10i128.checked_pow(shift.unsigned_abs())? };
        if shift < 0 { Self::new(value, scale) } else { Self::new(value.checked_mul(scale)?, 1) }
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.denominator == 1 {
            write!(f, "{}", self.numerator)
        } else {
            write!(f, "{}/{}", self.numerator, self.denominator)
        }
    }
}

/// Greatest common divisor, at least 1.
fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
