//! Files of JSON lines: a first pass finds shape, blocks and bad rows; blocks are decoded when asked for.

use super::lines::{Line, Lines, is_full};
use super::unit::{BadRow, Chunk, Part, Reader};
use super::watch::Watched;
use crate::errors::io_at;
use crate::json::decode::{Decoder, narrow};
use crate::json::parser::{self, Broken};
use crate::json::shape::{Learner, Spot};
use crate::spec::{InputSpec, OnBadRow};
use crate::spool::Local;
use arrow::datatypes::SchemaRef;
use curate_core::{Ctx, Error, Location, Result};
use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};

/// A block of lines.
#[derive(Debug)]
struct Block {
    offset: u64,
    first_line: u64,
    first_row: u64,
    bad: Vec<u32>,
}

/// A scanned file; it becomes a reader once the shape of all files is known.
pub(crate) struct Scanned {
    file: Watched,
    local: Local,
    blocks: Vec<Block>,
    parts: Vec<Part>,
    rows: u64,
    most_bytes: u64,
}

/// A file of JSON lines.
pub(crate) struct JsonLines {
    scanned: Scanned,
    schema: SchemaRef,
}

/// What is wrong with a row.
struct Fault {
    code: &'static str,
    what: String,
    hint: &'static str,
}

fn broken(broken: &Broken) -> Fault {
    Fault {
        code: "json/broken",
        what: format!("not valid JSON: {} (byte {})", broken.what, broken.at + 1),
        hint: "every line must be one complete JSON object; --on-bad-row skip leaves such rows out",
    }
}

/// The text of a row, if the line is one that can be a row at all.
fn row_text<'a>(line: &Line, bytes: &'a [u8], most_bytes: u64) -> std::result::Result<&'a str, Fault> {
    if *line == Line::TooLong {
        return Err(Fault {
            code: "row/too-large",
            what: format!("the row is longer than {}", curate_core::format_bytes(most_bytes)),
            hint: "raise max_row_bytes, or leave such rows out with --on-bad-row skip",
        });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| Fault {
        code: "text/utf8",
        what: format!("invalid UTF-8 at byte {} of the line", e.valid_up_to() + 1),
        hint: "convert the file to UTF-8, or leave such rows out with --on-bad-row skip",
    })?;
    parser::check_object(text).map_err(|e| broken(&e))?;
    Ok(text)
}

impl Scanned {
    /// Read the whole file once, teaching `learner` its shape.
    pub(crate) fn scan(local: Local, index: usize, spec: &InputSpec, learner: &mut Learner, ctx: &Ctx) -> Result<Self> {
        let file = Watched::new(&local.path, &local.name)?;
        let mut this =
            Self { file, local, blocks: Vec::new(), parts: Vec::new(), rows: 0, most_bytes: spec.max_row_bytes };
        let input = BufReader::with_capacity(1 << 18, this.file.open()?);
        let mut lines = Lines::new(input, spec.max_row_bytes, 0, 0);
        lines.digest();
        while this.scan_block(&mut lines, index, spec, learner)? {
            ctx.tick(this.parts.last().map_or(0, |part| u64::from(part.rows)))?;
        }
        Ok(this)
    }

    /// Read one block; `false` at the end of the file.
    fn scan_block(
        &mut self,
        lines: &mut Lines<BufReader<File>>,
        file: usize,
        spec: &InputSpec,
        learner: &mut Learner,
    ) -> Result<bool> {
        let (offset, first_line, first_row) = (lines.offset, lines.count, self.rows);
        let (mut rows, mut bad) = (0, Vec::new());
        let mut more = true;
        while more && !is_full(rows, lines.offset - offset) {
            let line = lines.next().map_err(|e| io_at(e, self.file.name()))?;
            more = line != Line::End;
            if !more || (line == Line::Whole && lines.buffer.trim_ascii().is_empty()) {
                continue;
            }
            let spot = Spot { file, row: self.rows, line: lines.count };
            let learnt = row_text(&line, &lines.buffer, self.most_bytes)
                .and_then(|text| learner.observe(text, spot).map_err(|e| broken(&e)));
            match learnt {
                Ok(()) => {}
                Err(_) if spec.on_bad_row == OnBadRow::Skip => bad.push(rows),
                Err(fault) => {
                    return Err(Error::data(fault.code, fault.what)
                        .hint(fault.hint)
                        .at(self.place(spot.row, spot.line)));
                }
            }
            rows += 1;
            self.rows += 1;
        }
        let (digest, bytes) = (lines.digest(), lines.offset - offset);
        if rows > 0 {
            self.parts.push(Part { group: self.blocks.len(), start: 0, rows, digest, bytes });
            self.blocks.push(Block { offset, first_line, first_row, bad });
        }
        Ok(more)
    }

    /// Where a row stands: by line, or by row where the lines are ours.
    fn place(&self, row: u64, line: u64) -> Location {
        let place = Location::file(self.file.name()).row(row);
        if self.local.lines { place.line(line) } else { place }
    }

    /// The place of a spot the learner noted in this file.
    pub(crate) fn spot(&self, spot: Spot) -> Location {
        self.place(spot.row, spot.line)
    }

    pub(crate) fn with_schema(self, schema: SchemaRef) -> JsonLines {
        JsonLines { scanned: self, schema }
    }

    /// The lines of block `index`, from its beginning.
    fn lines_of(&self, block: &Block) -> Result<Lines<BufReader<File>>> {
        let mut file = self.file.open()?;
        file.seek(SeekFrom::Start(block.offset)).map_err(|e| io_at(e, self.file.name()))?;
        Ok(Lines::new(BufReader::with_capacity(1 << 18, file), self.most_bytes, block.offset, block.first_line))
    }

    /// Call `each` with every row of block `index`: its place in the block, its line number, kind of line and bytes.
    fn rows_of(&self, index: usize, mut each: impl FnMut(u32, u64, &Line, &[u8]) -> Result<()>) -> Result<()> {
        let (Some(block), Some(part)) = (self.blocks.get(index), self.parts.get(index)) else {
            return Err(self.file.changed());
        };
        let mut lines = self.lines_of(block)?;
        let mut at = 0;
        while at < part.rows {
            let line = lines.next().map_err(|e| io_at(e, self.file.name()))?;
            match line {
                Line::End => return Err(self.file.changed()),
                Line::Whole if lines.buffer.trim_ascii().is_empty() => {}
                _ => {
                    each(at, lines.count, &line, &lines.buffer)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }
}

impl Reader for JsonLines {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn parts(&self) -> &[Part] {
        &self.scanned.parts
    }

    fn read(&self, index: usize, wanted: &[String]) -> Result<Chunk> {
        let scanned = &self.scanned;
        let mut decoder = Decoder::new(narrow(&self.schema, Some(wanted)));
        let mut bad = Vec::new();
        let (known_bad, first_row) = scanned.blocks.get(index).map_or((&[][..], 0), |b| (&b.bad[..], b.first_row));
        scanned.rows_of(index, |at, line, kind, bytes| {
            if known_bad.binary_search(&at).is_ok() {
                let fault = row_text(kind, bytes, scanned.most_bytes).err();
                let reason =
                    fault.map_or_else(|| "a key stands twice, or there are too many keys".to_owned(), |f| f.what);
                bad.push(BadRow { at, location: scanned.place(first_row + u64::from(at), line), reason });
                return Ok(());
            }
            let text = std::str::from_utf8(bytes).map_err(|_| scanned.file.changed())?;
            decoder.push(text).map_err(|_| scanned.file.changed())
        })?;
        Ok(Chunk { batch: decoder.finish()?, bad })
    }

    fn location(&self, index: usize, at: u32) -> Location {
        let first = self.scanned.blocks.get(index).map_or(0, |b| b.first_row);
        let mut found = 0;
        let lines = self.scanned.rows_of(index, |i, line, _, _| {
            if i == at {
                found = line;
            }
            Ok(())
        });
        let place = Location::file(self.scanned.file.name()).row(first + u64::from(at));
        if lines.is_ok() && self.scanned.local.lines { place.line(found) } else { place }
    }
}
