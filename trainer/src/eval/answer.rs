//! Finds the answer in what a model wrote.
//!
//! `gsm8k_*` follow the published extractors to the letter, so that scores can be compared: the first
//! `#### (-?[0-9.,]+)` (openai/grade-school-math, `dataset.py`), the last one within the last 300 characters, and the last
//! number of the text (volcengine/verl, `gsm8k.py`: strict and flexible). They compare as text: `72.` is not `72`.
//! `numeric` (ours) reads the number behind the last `####`, else the last number, exactly. Cost: one pass.

use super::rational::Rational;

/// Characters from the end in which verl's strict rule looks.
const LAST_CHARS: usize = 300;

/// Cut into a run of `-?[0-9.,]+` at the start of `text`.
fn run_at(text: &str) -> Option<&str> {
    let sign = usize::from(text.starts_with('-'));
    let length = text[sign..].bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')).count();
    (length > 0).then(|| &text[..sign + length])
}

/// Every match of `#### (-?[0-9.,]+)`, in order.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(found) = text.get(from..).and_then(|rest| rest.find("#### ")) {
            let start = from + found + 5;
            if let Some(run) = run_at(&text[start..]) {
                from = start + run.len();
                return Some(run);
            }
            from += found + 1;
        }
        None
    })
}

/// The first marked answer, commas dropped.
#[must_use]
pub fn gsm8k_first(text: &str) -> Option<String> {
    marked(text).next().map(|run| run.replace(',', ""))
}

/// The last marked answer within the last 300 characters, commas dropped.
#[must_use]
pub fn gsm8k_last(text: &str) -> Option<String> {
    let start = text.char_indices().rev().nth(LAST_CHARS - 1).map_or(0, |(at, _)| at);
    marked(&text[start..]).last().map(|run| run.replace(',', ""))
}

/// The last run of digits, points and commas that is more than one point; commas are kept.
#[must_use]
pub fn gsm8k_flexible(text: &str) -> Option<String> {
    let start = text.char_indices().rev().nth(LAST_CHARS - 1).map_or(0, |(at, _)| at);
    let text = &text[start..];
    let mut runs = Vec::new();
    let mut from = 0;
    while from < text.len() {
        let run = if text.is_char_boundary(from) { run_at(&text[from..]) } else { None };
        runs.extend(run);
        from += run.map_or(1, str::len);
    }
    let best = runs.iter().rev().find(|run| **run != ".").or(runs.first());
    best.map(|run| (*run).to_owned())
}

/// The number an answer stands for: behind the last `####` if there is one, else the last number of the text.
#[must_use]
pub fn numeric(text: &str) -> Option<Rational> {
    match text.rsplit_once("####") {
        Some((_, behind)) => first_number(behind.lines().next().unwrap_or("")),
        None => last_number(text),
    }
}

/// The last number of a text.
#[must_use]
pub fn last_number(text: &str) -> Option<Rational> {
    Numbers { text, at: 0 }.last()
}

fn first_number(text: &str) -> Option<Rational> {
    Numbers { text, at: 0 }.next()
}

/// The numbers of a text: thousands in groups of three, decimals, fractions without spaces, powers of ten.
struct Numbers<'a> {
    text: &'a str,
    at: usize,
}

impl Iterator for Numbers<'_> {
    type Item = Rational;

    fn next(&mut self) -> Option<Rational> {
        let bytes = self.text.as_bytes();
        while self.at < bytes.len() {
            let start = self.at;
            let end = number_end(bytes, start);
            self.at = end.max(start + 1);
            if end > start
                && let Some(value) = Rational::parse(&self.text[start..end])
            {
                return if is_negative(&self.text[..start]) { negated(value) } else { Some(value) };
            }
        }
        None
    }
}

fn negated(value: Rational) -> Option<Rational> {
    Rational::parse(&format!("-{value}"))
}

/// Whether a number behind `before` has a minus sign: `-5`, `$-5` and `-$5` have, the 3 of `5-3` and of `x-3` has not.
fn is_negative(before: &str) -> bool {
    let before = before.strip_suffix('$').unwrap_or(before);
    let Some(rest) = before.strip_suffix(['-', '\u{2212}']) else { return false };
    let rest = rest.strip_suffix('$').unwrap_or(rest);
    !rest.ends_with(|c: char| c.is_alphanumeric() || matches!(c, ')' | ']'))
}

/// Where the number that begins at `start` ends; `start` itself when none begins there.
fn number_end(bytes: &[u8], start: usize) -> usize {
    let end = fraction_end(bytes, grouped_end(bytes, start));
    // a point right behind a letter or digit begins no number
    let attached = bytes[start] == b'.' && start > 0 && bytes[start - 1].is_ascii_alphanumeric();
    if end == start || attached {
        return start;
    }
    let over = digits_end(bytes, end + 1);
    if bytes.get(end) == Some(&b'/') && over > end + 1 {
        return over;
    }
    exponent_end(bytes, end)
}

fn digits_end(bytes: &[u8], start: usize) -> usize {
    start + bytes.iter().skip(start).take_while(|b| b.is_ascii_digit()).count()
}

/// Digits, and then groups of a comma and exactly three digits.
fn grouped_end(bytes: &[u8], start: usize) -> usize {
    let mut end = digits_end(bytes, start);
    while end > start && bytes.get(end) == Some(&b',') && digits_end(bytes, end + 1) == end + 4 {
        end += 4;
    }
    end
}

/// Past a point with digits behind it.
fn fraction_end(bytes: &[u8], end: usize) -> usize {
    let past = digits_end(bytes, end + 1);
    if bytes.get(end) == Some(&b'.') && past > end + 1 { past } else { end }
}

/// Past `e` and a whole number that no letter follows.
fn exponent_end(bytes: &[u8], end: usize) -> usize {
    let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
    let past = digits_end(bytes, end + 1 + sign);
    let is_exponent = matches!(bytes.get(end), Some(b'e' | b'E')) && past > end + 1 + sign;
    if is_exponent && !bytes.get(past).is_some_and(u8::is_ascii_alphabetic) { past } else { end }
}
