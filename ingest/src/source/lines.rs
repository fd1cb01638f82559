//! Lines of a text file: bounded in memory however long a line is, cut into blocks that later appends leave as they are.

use super::unit::UNIT_ROWS;
use std::io::{self, BufRead};

/// A block is closed after this many bytes.
pub(crate) const BLOCK_BYTES: u64 = 8 << 20;

/// One line as read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Its bytes are in the buffer, without the line end.
    Whole,
    /// Longer than allowed; its bytes were passed over.
    TooLong,
    /// Nothing left.
    End,
}

/// Reads lines and knows where it is.
pub(crate) struct Lines<R> {
    input: R,
    most_bytes: u64,
    /// Bytes read so far, line ends included.
    pub(crate) offset: u64,
    /// Lines read so far.
    pub(crate) count: u64,
    pub(crate) buffer: Vec<u8>,
    tap: Option<blake3::Hasher>,
}

impl<R: BufRead> Lines<R> {
    /// Lines of `input`, which begins at byte `offset` after `count` lines of its file.
    pub(crate) fn new(input: R, most_bytes: u64, offset: u64, count: u64) -> Self {
        Self { input, most_bytes, offset, count, buffer: Vec::new(), tap: None }
    }

    /// Start hashing what is read; gives the digest of what was read since the last call.
    pub(crate) fn digest(&mut self) -> [u8; 32] {
        self.tap.replace(blake3::Hasher::new()).map_or([0; 32], |hasher| *hasher.finalize().as_bytes())
    }

    /// Read the next line into the buffer.
    pub(crate) fn next(&mut self) -> io::Result<Line> {
        self.buffer.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(chunk.len(), |end| end + 1);
            if let Some(tap) = &mut self.tap {
                tap.update(&chunk[..used]);
            }
            too_long |= (self.buffer.len() + end.unwrap_or(used)) as u64 > self.most_bytes;
            if too_long {
                self.buffer = Vec::new();
            } else {
                self.buffer.extend_from_slice(&chunk[..end.unwrap_or(used)]);
            }
            self.input.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                break;
            }
        }
        self.count += u64::from(any);
        self.strip();
        Ok(if !any {
            Line::End
        } else if too_long {
            Line::TooLong
        } else {
            Line::Whole
        })
    }

    /// Drop the byte-order mark of the first line and the carriage return of Windows line ends.
    fn strip(&mut self) {
        if self.count == 1 && self.buffer.starts_with(b"\xef\xbb\xbf") {
            self.buffer.drain(..3);
        }
        if self.buffer.last() == Some(&b'\r') {
            self.buffer.pop();
        }
    }
}

/// Whether a block of this many rows and bytes is full.
pub(crate) const fn is_full(rows: u32, bytes: u64) -> bool {
    rows as u64 >= UNIT_ROWS || bytes >= BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::BufReader;

    #[test]
    fn lines_are_bounded_and_counted() {
        let text = b"\xef\xbb\xbfab\r\n\n0123456789\nlast";
        let mut lines = Lines::new(BufReader::with_capacity(3, &text[..]), 8, 0, 0);
        let mut seen = Vec::new();
        loop {
            match lines.next().unwrap() {
                Line::End => break,
                Line::Whole => seen.push(String::from_utf8(lines.buffer.clone()).unwrap()),
                Line::TooLong => seen.push("<too long>".into()),
            }
        }
        assert_eq!(seen, ["ab", "", "<too long>", "last"]);
        assert_eq!((lines.count, lines.offset), (4, text.len() as u64));
    }
}
