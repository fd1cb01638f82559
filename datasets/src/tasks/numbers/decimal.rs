//! Decimals as digits: what the tasks compute with, exact for 38 digits, and of any length where digits suffice.

use std::cmp::Ordering;

/// `digits * 10^exponent`, not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) digits: u128,
    pub(super) exponent: i32,
}

impl Decimal {
    /// Read `12`, `12.5` or `1.25e12`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, decimals) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent = exponent.parse::<i32>().ok()?.checked_sub(i32::try_from(decimals.len()).ok()?)?;
        Some(Self { digits: [whole, decimals].concat().parse().ok()?, exponent })
    }

    /// The digits at a lower exponent.
    fn at(self, exponent: i32) -> Option<u128> {
        self.digits.checked_mul(10u128.checked_pow(u32::try_from(self.exponent - exponent).ok()?)?)
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        Some(Self { digits: self.at(exponent)?.checked_add(other.at(exponent)?)?, exponent })
    }

    /// `None` when `other` is larger.
    pub(super) fn minus(self, other: Self) -> Option<Self> {
        let exponent = self.exponent.min(other.exponent);
        Some(Self { digits: self.at(exponent)?.checked_sub(other.at(exponent)?)?, exponent })
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        Some(Self { digits: self.digits.checked_mul(other.digits)?, exponent: self.exponent + other.exponent })
    }

    /// As `12.5`.
    pub(super) fn float(self) -> String {
        let digits = self.digits.to_string();
        let Ok(places) = usize::try_from(-i64::from(self.exponent)) else {
            let zeros = usize::try_from(self.exponent).unwrap_or(0);
            return format!("{digits}{}.0", "0".repeat(if self.digits == 0 { 0 } else { zeros }));
        };
        let padded = format!("{}{digits}", "0".repeat((places + 1).saturating_sub(digits.len())));
        let (whole, decimals) = padded.split_at(padded.len() - places);
        format!("{whole}.{}", with_one_digit(decimals.trim_end_matches('0')))
    }

    /// As `1.25e12`.
    pub(super) fn scientific(self) -> String {
        scientific(&self.digits.to_string(), self.exponent)
    }
}

/// How many digits a text has.
fn count(digits: &str) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

fn with_one_digit(digits: &str) -> &str {
    if digits.is_empty() { "0" } else { digits }
}

/// `digits * 10^exponent` with one digit before the point and no zeros at the end.
pub(super) fn scientific(digits: &str, exponent: i32) -> String {
    let digits = digits.trim_start_matches('0');
    let Some(first) = digits.get(..1) else { return "0.0e0".to_owned() };
    let exponent = i64::from(exponent) + count(digits) - 1;
    format!("{first}.{}e{exponent}", with_one_digit(digits[1..].trim_end_matches('0')))
}

/// Whole digits and decimals of `12` or `12.5`.
pub(super) fn parts(text: &str) -> (&str, &str) {
    text.split_once('.').unwrap_or((text, ""))
}

/// Compare two numbers of one form (`12`, `12.5`, `1.2e5`) by their digits, of any length.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let key = |text: &str| -> (i64, String) {
        let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
        let (whole, decimals) = parts(mantissa);
        let all = [whole, decimals].concat();
        let digits = all.trim_start_matches('0');
        // place of the first digit that is not 0; a number of zeros alone is the smallest
        let place = exponent.parse::<i64>().unwrap_or(0) + count(whole) - (count(&all) - count(digits));
        (if digits.is_empty() { i64::MIN } else { place }, digits.trim_end_matches('0').to_owned())
    };
    key(a).cmp(&key(b))
}

/// Rounded to `figures` significant figures, halves up, as `1.20e4`.
pub(super) fn significant(text: &str, figures: usize) -> String {
    let (whole, decimals) = parts(text);
    let all = [whole, decimals].concat();
    let digits = all.trim_start_matches('0');
    if digits.is_empty() {
        return format!("0.{}e0", "0".repeat(figures.max(2) - 1));
    }
    let mut exponent = count(digits) - 1 - count(decimals);
    let mut kept: Vec<u8> = digits.bytes().chain(std::iter::repeat(b'0')).take(figures).collect();
    let up = digits.as_bytes().get(figures).is_some_and(|next| *next >= b'5');
    if up && !carry(&mut kept) {
        kept.insert(0, b'1');
        kept.truncate(figures);
        exponent += 1;
    }
    let text: String = kept.into_iter().map(char::from).collect();
    format!("{}.{}e{exponent}", &text[..1], &text[1..])
}

/// Add one in the last place; `false` when all digits were 9 and are 0 now.
fn carry(digits: &mut [u8]) -> bool {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return true;
        }
        *digit = b'0';
    }
    false
}
