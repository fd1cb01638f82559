//! One error for every trait boundary: a stable code, a sentence, a hint, and where in the data it happened.

use std::fmt;

/// Shorthand used by every room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of failure; decides the exit code and the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Room {
    /// The request itself is wrong: an unknown name, a value out of range. Exit code 2.
    Usage,
    /// The data is wrong: broken file, missing column, NaN. Exit code 3.
    Data,
    /// A device or model cannot be used. Exit code 4.
    Device,
    /// Reading or writing failed. Exit code 5.
    Io,
    /// The caller asked to stop. Exit code 130.
    Cancelled,
}

/// Where in the input an error was found. Rows are counted from 0 in their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// File or URL.
    pub file: Option<String>,
    /// Row group of a parquet file.
    pub row_group: Option<usize>,
    /// Row within the file.
    pub row: Option<u64>,
    /// Line within a text file, counted from 1 as editors do.
    pub line: Option<u64>,
    /// Column name.
    pub column: Option<String>,
}

impl Location {
    /// A place in `file`.
    #[must_use]
    pub fn file(file: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..Self::default() }
    }

    /// The same place, in this row group.
    #[must_use]
    pub const fn row_group(mut self, row_group: usize) -> Self {
        self.row_group = Some(row_group);
        self
    }

    /// The same place, at this row of the file.
    #[must_use]
    pub const fn row(mut self, row: u64) -> Self {
        self.row = Some(row);
        self
    }

    /// The same place, at this line (from 1).
    #[must_use]
    pub const fn line(mut self, line: u64) -> Self {
        self.line = Some(line);
        self
    }

    /// The same place, in this column.
    #[must_use]
    pub fn column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.file.clone());
        parts.extend(self.row_group.map(|g| format!("row group {g}")));
        parts.extend(self.row.map(|r| format!("row {r}")));
        parts.extend(self.line.map(|l| format!("line {l}")));
        parts.extend(self.column.as_ref().map(|c| format!("column '{c}'")));
        f.write_str(&parts.join(", "))
    }
}

/// The error of the house.
#[derive(Debug, thiserror::Error)]
#[error("{}{message}", .location.as_ref().map_or(String::new(), |l| format!("{l}: ")))]
pub struct Error {
    room: Room,
    code: &'static str,
    message: String,
    hint: Option<String>,
    location: Option<Box<Location>>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    fn new(room: Room, code: &'static str, message: impl Into<String>) -> Self {
        Self { room, code, message: message.into(), hint: None, location: None, source: None }
    }

    /// The request is wrong (exit code 2). `code` is stable, lower-case, `noun/what`.
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Room::Usage, code, message)
    }

    /// The data is wrong (exit code 3).
    pub fn data(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Room::Data, code, message)
    }

    /// A device or model cannot be used (exit code 4).
    pub fn device(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Room::Device, code, message)
    }

    /// Reading or writing failed (exit code 5).
    pub fn io(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Room::Io, code, message)
    }

    /// The caller asked to stop (exit code 130).
    #[must_use]
    pub fn cancelled() -> Self {
        Self::new(Room::Cancelled, "cancelled", "stopped on request")
            .hint("finished work is kept in the cache; run the same command again to go on from here")
    }

    /// What the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Where it happened.
    #[must_use]
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(Box::new(location));
        self
    }

    /// What caused it.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Stable machine-readable code, such as `budget/too-large`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// The kind of failure.
    #[must_use]
    pub const fn room(&self) -> Room {
        self.room
    }

    /// What to do about it, if known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Where it happened, if known.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        self.location.as_deref()
    }

    /// Exit code of the CLI contract.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self.room {
            Room::Usage => 2,
            Room::Data => 3,
            Room::Device => 4,
            Room::Io => 5,
            Room::Cancelled => 130,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::StorageFull => "the disk is full; free some space or choose another place",
            std::io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
            std::io::ErrorKind::NotFound => "check the path",
            _ => "check the path, its permissions and the free space",
        };
        Self::io("io", error.to_string()).hint(hint).because(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::data("arrow", error.to_string()).because(error)
    }
}

impl From<curate_kernels::KernelError> for Error {
    fn from(error: curate_kernels::KernelError) -> Self {
        use curate_kernels::KernelError as K;
        match &error {
            K::Stopped => Self::cancelled(),
            K::NotFinite { row, .. } => Self::data("embedding/not-finite", error.to_string())
                .hint("drop or repair the row, for example with --where")
                .at(Location::default().row(*row as u64)),
            K::Device { .. } => Self::device("device/unusable", error.to_string())
                .hint("use --device cpu, or fix the driver")
                .because(error),
            K::OutOfMemory { .. } => Self::device("device/out-of-memory", error.to_string())
                .hint("raise --vram, use smaller batches, or use --device cpu")
                .because(error),
            _ => Self::data("kernel/shape", error.to_string()).because(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_puts_the_place_first() {
        let error = Error::data("text/utf8", "invalid UTF-8").at(Location::file("a.jsonl").line(3).column("output"));
        assert_eq!(error.to_string(), "a.jsonl, line 3, column 'output': invalid UTF-8");
        assert_eq!(error.exit_code(), 3);
    }
}
