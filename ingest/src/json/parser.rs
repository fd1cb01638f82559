//! A strict pull parser over one JSON text. It owns nothing and never panics; nesting is limited.

use std::borrow::Cow;

/// Deepest nesting accepted; the same as `serde_json`'s, so that every accepted row can be read elsewhere.
const MAX_DEPTH: u32 = 127;

/// What is wrong with a JSON text, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) at: usize,
}

/// The beginning of a value: scalars are complete, containers are open.
#[derive(Debug)]
pub(crate) enum Head<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    Text(Cow<'a, str>),
    Object,
    Array,
}

/// Reads one value from a text.
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
}

type Parsed<T> = Result<T, Broken>;

impl<'a> Parser<'a> {
    pub(crate) const fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    pub(crate) const fn fail<T>(&self, what: &'static str) -> Parsed<T> {
        Err(Broken { what, at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Parsed<()> {
        self.blank();
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        self.fail(what)
    }

    /// Read the head of the next value.
    pub(crate) fn head(&mut self) -> Parsed<Head<'a>> {
        self.blank();
        match self.peek() {
            Some(b'{') => self.open(Head::Object),
            Some(b'[') => self.open(Head::Array),
            Some(b'"') => self.text().map(Head::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Head::Number),
            Some(b'n') => self.word("null", Head::Null),
            Some(b't') => self.word("true", Head::Bool(true)),
            Some(b'f') => self.word("false", Head::Bool(false)),
            Some(_) => self.fail("a JSON value was expected"),
            None => self.fail("the text ends inside a value"),
        }
    }

    fn open(&mut self, head: Head<'a>) -> Parsed<Head<'a>> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.fail("nested too deeply") } else { Ok(head) }
    }

    fn word(&mut self, word: &'static str, head: Head<'a>) -> Parsed<Head<'a>> {
        if self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(head);
        }
        self.fail("a JSON value was expected")
    }

    /// In an open object: the next key with its colon read, or `None` at the end of the object.
    pub(crate) fn key(&mut self, first: bool) -> Parsed<Option<Cow<'a, str>>> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        self.blank();
        if self.peek() != Some(b'"') {
            return self.fail("a key in double quotes was expected");
        }
        let key = self.text()?;
        self.expect(b':', "a colon was expected after the key")?;
        Ok(Some(key))
    }

    /// In an open array: whether another element follows.
    pub(crate) fn element(&mut self, first: bool) -> Parsed<bool> {
        self.more(first, b']')
    }

    fn more(&mut self, first: bool, close: u8) -> Parsed<bool> {
        self.blank();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            Some(_) => self.fail("a comma or the end of the list or object was expected"),
            None => self.fail("the text ends inside a list or object"),
        }
    }

    /// Read over one value, checking it.
    pub(crate) fn skip(&mut self) -> Parsed<()> {
        let head = self.head()?;
        self.skip_rest(&head)
    }

    /// Read over what remains of a value whose head was read.
    pub(crate) fn skip_rest(&mut self, head: &Head<'_>) -> Parsed<()> {
        let mut first = true;
        match head {
            Head::Object => {
                while self.key(first)?.is_some() {
                    self.skip()?;
                    first = false;
                }
            }
            Head::Array => {
                while self.element(first)? {
                    self.skip()?;
                    first = false;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Read over one value and give its text.
    pub(crate) fn raw(&mut self) -> Parsed<&'a str> {
        self.blank();
        let start = self.at;
        self.skip()?;
        Ok(&self.text[start..self.at])
    }

    /// Check that nothing but blanks remains.
    pub(crate) fn end(&mut self) -> Parsed<()> {
        self.blank();
        if self.at == self.text.len() { Ok(()) } else { self.fail("text after the end of the value") }
    }

    fn number(&mut self) -> Parsed<&'a str> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fail("a digit was expected"),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if number.parse::<f64>().is_ok_and(f64::is_finite) { Ok(number) } else { self.fail("a number out of range") }
    }

    fn digits(&mut self) -> Parsed<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fail("a digit was expected") } else { Ok(()) }
    }

    /// Read a string whose opening quote is next.
    fn text(&mut self) -> Parsed<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        let plain = self.plain_run();
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut owned = self.text[start..self.at].to_owned();
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(owned));
                }
                Some(b'\\') => owned.push(self.escape()?),
                Some(0..=0x1f) => return self.fail("a control character inside a string"),
                Some(_) => owned.push_str(self.plain_run()),
                None => return self.fail("the text ends inside a string"),
            }
        }
    }

    /// The longest run without quote, backslash or control character.
    fn plain_run(&mut self) -> &'a str {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn escape(&mut self) -> Parsed<char> {
        self.at += 1;
        let escaped = match self.peek() {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'u') => return self.unicode(),
            _ => return self.fail("an unknown escape in a string"),
        };
        self.at += 1;
        Ok(escaped)
    }

    /// After `\`, at `u`: one code unit, or two where they form a surrogate pair.
    fn unicode(&mut self) -> Parsed<char> {
        let high = self.unit()?;
        if let Some(c) = char::from_u32(high) {
            return Ok(c);
        }
        if high < 0xdc00 && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            self.at += 1;
            let low = self.unit()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).map_or_else(|| self.fail("half of a surrogate pair"), Ok);
            }
        }
        self.fail("half of a surrogate pair")
    }

    fn unit(&mut self) -> Parsed<u32> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).unwrap_or_default();
        let mut value = 0;
        for &digit in digits {
            let Some(nibble) = char::from(digit).to_digit(16) else {
                return self.fail("four hexadecimal digits were expected");
            };
            value = value * 16 + nibble;
        }
        if digits.len() < 4 {
            return self.fail("four hexadecimal digits were expected");
        }
        self.at += 5;
        Ok(value)
    }
}

/// Check that `text` is one JSON object and nothing else.
pub(crate) fn check_object(text: &str) -> Result<(), Broken> {
    let mut parser = Parser::new(text);
    let head = parser.head()?;
    if !matches!(head, Head::Object) {
        return Err(Broken { what: "a JSON object was expected", at: 0 });
    }
    parser.skip_rest(&head)?;
    parser.end()
}
