//! Reading an expression: recursive descent into a program for a stack, its depth and length bounded.

use super::{Expression, MAX_BYTES, MAX_DEPTH, Step};
use curate_core::{Column, Error, Result};

/// Functions: name, numbers they take, step.
const FUNCTIONS: [(&str, usize, Step); 5] = [
    ("z", 1, Step::Z),
    ("rank", 1, Step::Rank),
    ("minmax", 1, Step::MinMax),
    ("log", 1, Step::Log),
    ("clip", 3, Step::Clip),
];

/// Bare names that are columns themselves.
const PLAIN: [&str; 2] = ["tokens", "chars"];

const FORM: &str = "write for example 0.5*z(ifd) + z(mtld)";

/// Read `text`; with `known`, bare names must be among them.
pub(super) fn parse(text: &str, known: Option<&[&str]>) -> Result<Expression> {
    if text.len() > MAX_BYTES {
        return Err(Error::usage("expression/too-long", format!("an expression of {} bytes", text.len()))
            .hint(format!("at most {MAX_BYTES} bytes are read")));
    }
    let mut parser = Parser { text, at: 0, depth: 0, known, columns: Vec::new(), steps: Vec::new() };
    parser.sum()?;
    parser.space();
    if parser.at < text.len() {
        return Err(parser.unexpected());
    }
    Ok(Expression { text: text.trim().to_owned(), columns: parser.columns, steps: parser.steps })
}

struct Parser<'a> {
    text: &'a str,
    /// Byte at which to read on.
    at: usize,
    depth: usize,
    known: Option<&'a [&'a str]>,
    columns: Vec<Column>,
    steps: Vec<Step>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn peek(&mut self) -> Option<char> {
        self.space();
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn error(&self, code: &'static str, at: usize, what: &str) -> Error {
        let place = self.text[..at].chars().count() + 1;
        Error::usage(code, format!("{what} at character {place} of the expression '{}'", self.text))
    }

    fn unexpected(&mut self) -> Error {
        match self.peek() {
            Some(found) => self.error("expression/syntax", self.at, &format!("'{found}' is not expected")).hint(FORM),
            None => self.error("expression/syntax", self.at, "the expression ends too early").hint(FORM),
        }
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn sum(&mut self) -> Result<()> {
        self.product()?;
        loop {
            let step = match self.peek() {
                Some('+') => Step::Add,
                Some('-') => Step::Subtract,
                _ => return Ok(()),
            };
            self.at += 1;
            self.product()?;
            self.steps.push(step);
        }
    }

    fn product(&mut self) -> Result<()> {
        self.signed()?;
        loop {
            let step = match self.peek() {
                Some('*') => Step::Multiply,
                Some('/') => Step::Divide,
                _ => return Ok(()),
            };
            self.at += 1;
            self.signed()?;
            self.steps.push(step);
        }
    }

    /// Any number of signs, then one value.
    fn signed(&mut self) -> Result<()> {
        let mut negative = false;
        while let Some(sign @ ('+' | '-')) = self.peek() {
            negative ^= sign == '-';
            self.at += 1;
        }
        self.value()?;
        self.steps.extend(negative.then_some(Step::Negate));
        Ok(())
    }

    fn value(&mut self) -> Result<()> {
        match self.peek() {
            Some('(') => self.nested(|parser| {
                parser.expect('(')?;
                parser.sum()?;
                parser.expect(')')
            }),
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.word(),
            _ => Err(self.unexpected()),
        }
    }

    fn nested(&mut self, inner: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let hint = format!("at most {MAX_DEPTH} parentheses may be open");
            return Err(self.error("expression/too-deep", self.at, "nesting is too deep").hint(hint));
        }
        inner(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |text: &str| text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let mut len = digits(rest);
        if let Some(exponent) = rest[len..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let figures = unsigned.bytes().take_while(u8::is_ascii_digit).count();
            len += if figures == 0 { 0 } else { 1 + exponent.len() - unsigned.len() + figures };
        }
        match rest[..len].parse::<f64>() {
            Ok(number) if number.is_finite() => self.steps.push(Step::Number(number)),
            _ => {
                let what = format!("'{}' is no number", &rest[..len]);
                return Err(self.error("expression/number", self.at, &what).hint("write numbers such as 0.5 or 8e-5"));
            }
        }
        self.at += len;
        Ok(())
    }

    /// A name: letters, digits, `_`, `.`, and dashes before a letter.
    fn word(&mut self) -> Result<()> {
        let (start, rest) = (self.at, self.rest());
        let mut len = 0;
        let mut letters = rest.char_indices().peekable();
        while let Some((at, c)) = letters.next() {
            let dash = c == '-' && letters.peek().is_some_and(|(_, next)| next.is_alphabetic());
            if !(c.is_alphanumeric() || c == '_' || c == '.' || dash) {
                break;
            }
            len = at + c.len_utf8();
        }
        let word = &rest[..len];
        self.at += len;
        if self.peek() == Some('(') { self.function(word, start) } else { self.column(word, start) }
    }

    fn function(&mut self, word: &str, start: usize) -> Result<()> {
        let Some(&(_, takes, step)) = FUNCTIONS.iter().find(|(name, ..)| *name == word) else {
            let names = FUNCTIONS.map(|(name, ..)| name).join(", ");
            let what = format!("there is no function '{word}'");
            return Err(self.error("expression/function", start, &what).hint(format!("known: {names}")));
        };
        self.nested(|parser| {
            parser.expect('(')?;
            parser.sum()?;
            for _ in 1..takes {
                parser.expect(',')?;
                parser.sum()?;
            }
            parser.expect(')')
        })?;
        self.steps.push(step);
        Ok(())
    }

    fn column(&mut self, word: &str, start: usize) -> Result<()> {
        let own = word.contains('.') || PLAIN.contains(&word);
        if let Some(known) = self.known.filter(|known| !own && !known.contains(&word)) {
            let what = format!("there is no scorer '{word}'");
            let dash = if word.contains('-') { "put spaces around a minus; " } else { "" };
            let error = self.error("expression/name", start, &what).did_you_mean(word, known);
            let names = error.hint_text().unwrap_or_default();
            let hint = format!("{dash}{names}; a column of the input is score.{word}");
            return Err(error.hint(hint));
        }
        let column = if own { Column::named(word) } else { Column::score(word) };
        let at = self.columns.iter().position(|other| *other == column).unwrap_or(self.columns.len());
        if at == self.columns.len() {
            self.columns.push(column);
        }
        self.steps.push(Step::Column(at));
        Ok(())
    }
}
