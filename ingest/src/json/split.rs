//! Cuts a JSON array of objects, or objects one after another, into one object a line while it streams past.

use std::io::{self, BufRead, Write};

/// Copy the elements of `input` to `output`, one a line; gives their count. The text inside an element is not checked here:
/// only brackets, strings and the commas between elements.
pub(crate) fn to_lines(mut input: impl BufRead, mut output: impl Write) -> io::Result<Result<u64, &'static str>> {
    let mut splitter = Splitter::default();
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(splitter.finish());
        }
        let used = chunk.len();
        if let Err(what) = splitter.feed(chunk, &mut output)? {
            return Ok(Err(what));
        }
        input.consume(used);
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum State {
    /// Nothing but blanks so far.
    #[default]
    Start,
    /// Before an element, or the end of the array.
    Open,
    /// After a comma.
    Comma,
    /// Inside an element.
    Inside,
    /// After an element.
    Between,
    /// After the closing bracket.
    Closed,
}

#[derive(Debug, Default)]
struct Splitter {
    state: State,
    array: bool,
    depth: u64,
    text: bool,
    escaped: bool,
    elements: u64,
    bom: usize,
}

impl Splitter {
    fn feed(&mut self, chunk: &[u8], output: &mut impl Write) -> io::Result<Result<(), &'static str>> {
        let mut start = 0;
        for (i, &byte) in chunk.iter().enumerate() {
            if self.state == State::Inside {
                if matches!(byte, b'\n' | b'\r') {
                    if self.text {
                        return Ok(Err("a line break inside a string"));
                    }
                    output.write_all(&chunk[start..i])?;
                    output.write_all(b" ")?;
                    start = i + 1;
                }
                if self.inside(byte) {
                    output.write_all(&chunk[start..=i])?;
                    output.write_all(b"\n")?;
                }
                continue;
            }
            match self.outside(byte) {
                Ok(()) => start = i,
                Err(what) => return Ok(Err(what)),
            }
        }
        if self.state == State::Inside {
            output.write_all(&chunk[start.min(chunk.len())..])?;
        }
        Ok(Ok(()))
    }

    /// One byte of an element; whether it was the last.
    fn inside(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.text => self.escaped = true,
            b'"' => self.text = !self.text,
            b'{' | b'[' if !self.text => self.depth += 1,
            b'}' | b']' if !self.text => {
                self.depth -= 1;
                if self.depth == 0 {
                    self.state = State::Between;
                    self.elements += 1;
                    return true;
                }
            }
            _ => {}
        }
        false
    }

    fn outside(&mut self, byte: u8) -> Result<(), &'static str> {
        if self.state == State::Start && self.bom < 3 && byte == b"\xef\xbb\xbf"[self.bom] {
            self.bom += 1;
            return Ok(());
        }
        self.state = match (self.state, byte) {
            (state, b' ' | b'\t' | b'\n' | b'\r') => state,
            (State::Start, b'[') => {
                self.array = true;
                State::Open
            }
            (State::Start | State::Open | State::Comma, b'{') => return self.begin(),
            (State::Between, b'{') if !self.array => return self.begin(),
            (State::Open | State::Between, b']') if self.array => State::Closed,
            (State::Between, b',') if self.array => State::Comma,
            (State::Between, _) => return Err("a comma or the end of the array was expected"),
            (State::Closed, _) => return Err("text after the end of the array"),
            _ => return Err("a JSON object was expected"),
        };
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "ends a match whose other arms can fail")]
    const fn begin(&mut self) -> Result<(), &'static str> {
        self.state = State::Inside;
        self.depth = 1;
        Ok(())
    }

    const fn finish(&self) -> Result<u64, &'static str> {
        match self.state {
            State::Start | State::Closed => Ok(self.elements),
            State::Between if !self.array => Ok(self.elements),
            _ => Err("the text ends inside the array"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    fn split(text: &str, buffer: usize) -> Result<Vec<String>, &'static str> {
        let mut out = Vec::new();
        let count = to_lines(BufReader::with_capacity(buffer, text.as_bytes()), &mut out).unwrap()?;
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(count, lines.len() as u64);
        Ok(lines)
    }

    #[test]
    fn arrays_and_sequences_become_lines_whatever_the_buffer() {
        for buffer in [1, 2, 3, 7, 4096] {
            assert_eq!(
                split("\u{feff}[ {\"a\": [1,\n {\"b\":\"}]\\\"\"}]} ,\n{}]\n", buffer).unwrap(),
                ["{\"a\": [1,  {\"b\":\"}]\\\"\"}]}", "{}"]
            );
            assert_eq!(
                split("{\"a\":1}\n{\"a\":2}{\"a\":3}", buffer).unwrap(),
                ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]
            );
            assert_eq!(split("[]", buffer).unwrap(), Vec::<String>::new());
            for bad in ["[{}", "[{},]", "[{} {}]", "[1]", "[{}]x", "{\"a\":\"x\ny\"}", "3", "[{\"a\":[}"] {
                assert!(split(bad, buffer).is_err(), "{bad}");
            }
        }
    }
}
