//! One walk over the input for what the pool does not hold: the source of every row, and the texts of a few. One unit is in
//! memory at a time.

use super::shares::Labels;
use super::table::Table;
use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::{cast, take_record_batch};
use arrow::datatypes::DataType;
use curate_core::{Ctx, Result};
use curate_ingest::{Source, Unit, UnitData};
use std::collections::BTreeMap;

/// Names that a column of sources usually has, the likeliest first.
const NAMES: [&str; 10] =
    ["source", "dataset", "data_source", "subset", "task", "category", "domain", "topic", "template", "type"];

/// A column of more different values tells no sources.
const MOST_SOURCES: usize = 2000;

/// Characters of a source's name.
const NAME_CHARS: usize = 60;

/// Rows whose text is wanted, and how many characters of it at most.
#[derive(Default)]
pub(super) struct Wanted(BTreeMap<u64, usize>);

impl Wanted {
    pub(super) fn add(&mut self, rows: impl IntoIterator<Item = u64>, chars: usize) {
        for row in rows {
            let most = self.0.entry(row).or_default();
            *most = chars.max(*most);
        }
    }
}

/// What the walk found.
pub(super) struct Found {
    pub(super) sources: Option<Labels>,
    texts: BTreeMap<u64, String>,
}

impl Found {
    /// At most `chars` characters of the text of a row, on one line or as it is.
    pub(super) fn text(&self, row: u64, chars: usize) -> String {
        self.texts.get(&row).map(|text| shortened(text, chars)).unwrap_or_default()
    }

    /// The same with every run of white space as one blank, at most so many bytes.
    pub(super) fn line(&self, row: u64, bytes: usize) -> String {
        let text = self.texts.get(&row).map_or("", String::as_str);
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = (0..=bytes.min(line.len())).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        if end < line.len() { format!("{}…", line[..end].trim_end()) } else { line }
    }
}

/// The first characters of a text.
pub(super) fn shortened(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// Read the input once.
pub(super) fn read(source: &Source, table: &Table, wanted: &Wanted, ctx: &Ctx) -> Result<Found> {
    let column = column_of_sources(source);
    let several_files = source.files().len() > 1;
    let mut names = Names { of: vec![u32::MAX; table.rows()], ..Names::default() };
    let mut texts = BTreeMap::new();
    for unit in source.units() {
        let mine = unit.first_row..unit.first_row + u64::from(unit.rows);
        let any_text = wanted.0.range(mine).next().is_some();
        if column.is_none() && !any_text {
            names.add_file(source, unit, table);
            continue;
        }
        let data = source.read(unit, if any_text { None } else { column.as_ref().map(std::slice::from_ref) })?;
        match column.as_deref().and_then(|name| data.batch.column_by_name(name)) {
            Some(array) => names.add_column(array, &data.rows, table)?,
            None => names.add_file(source, unit, table),
        }
        texts.extend(texts_of(source, &data, wanted)?);
        ctx.tick(0)?;
    }
    let known = column.is_some() || several_files;
    Ok(Found { sources: if known { names.labels(column.as_deref()) } else { None }, texts })
}

/// The likeliest column of sources: text, by its name.
pub(crate) fn column_of_sources(source: &Source) -> Option<String> {
    let fields = source.schema().fields();
    let text = |kind: &DataType| match kind {
        DataType::Dictionary(_, values) => is_text(values),
        other => is_text(other),
    };
    let named = |name: &str| fields.iter().find(|f| f.name().eq_ignore_ascii_case(name) && text(f.data_type()));
    NAMES.iter().find_map(|name| named(name)).map(|field| field.name().clone())
}

const fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn texts_of(source: &Source, data: &UnitData, wanted: &Wanted) -> Result<Vec<(u64, String)>> {
    let chosen = (0u32..).zip(&data.rows).filter_map(|(at, row)| wanted.0.get(row).map(|&chars| (at, *row, chars)));
    let (at, rest): (Vec<u32>, Vec<(u64, usize)>) = chosen.map(|(at, row, chars)| (at, (row, chars))).unzip();
    if at.is_empty() {
        return Ok(Vec::new());
    }
    let few = UnitData {
        unit: data.unit,
        rows: rest.iter().map(|own| own.0).collect(),
        batch: take_record_batch(&data.batch, &UInt32Array::from(at))?,
        skipped: Vec::new(),
        filtered: 0,
    };
    let texts = source.texts(&few)?;
    Ok(rest.iter().zip(texts).map(|(&(row, chars), text)| (row, shortened(text.full.trim(), chars))).collect())
}

/// Names of sources in the order in which they were met.
#[derive(Default)]
struct Names {
    known: BTreeMap<String, u32>,
    of: Vec<u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&known) = self.known.get(name) {
            return known;
        }
        // Beyond the limit the labels are given up as a whole; until then nothing more need be remembered.
        let new = u32::try_from(self.known.len()).unwrap_or(u32::MAX);
        if self.known.len() <= MOST_SOURCES {
            self.known.insert(name.to_owned(), new);
        }
        new
    }

    fn add_column(&mut self, array: &ArrayRef, rows: &[u64], table: &Table) -> Result<()> {
        let texts = cast(array, &DataType::Utf8)?;
        let texts = texts.as_string::<i32>();
        for (at, &row) in rows.iter().enumerate() {
            if let Ok(position) = table.ids.binary_search(&row) {
                let name = if texts.is_null(at) { "(none)" } else { texts.value(at).trim() };
                self.of[position] = self.number(&shortened(name, NAME_CHARS));
            }
        }
        Ok(())
    }

    fn add_file(&mut self, source: &Source, unit: &Unit, table: &Table) {
        let path = source.files().get(unit.file).map_or("", |file| file.path.as_str());
        let name = path.rsplit(['/', std::path::MAIN_SEPARATOR]).next().unwrap_or_default();
        let number = self.number(&shortened(name, NAME_CHARS));
        let first = table.ids.partition_point(|&id| id < unit.first_row);
        let end = table.ids.partition_point(|&id| id < unit.first_row + u64::from(unit.rows));
        self.of[first..end].fill(number);
    }

    fn labels(self, column: Option<&str>) -> Option<Labels> {
        if self.known.len() < 2 || self.known.len() > MOST_SOURCES {
            return None;
        }
        let mut names = vec![String::new(); self.known.len()];
        self.known.into_iter().for_each(|(name, number)| names[number as usize] = name);
        let note = column.map_or("the input's files".to_owned(), |name| format!("the input's column '{name}'"));
        Some(Labels { by: "source".to_owned(), note, names, of: self.of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("grün", 3), "grü…");
        assert_eq!(shortened("grün", 4), "grün");
        let found = Found { sources: None, texts: BTreeMap::from([(3, " a\n  ü b".to_owned())]) };
        assert_eq!(
            (found.line(3, 3).as_str(), found.line(3, 99).as_str(), found.line(4, 9).as_str()),
            ("a…", "a ü b", "")
        );
    }

    #[test]
    fn more_names_than_sources_can_have_are_given_up() {
        let mut names = Names::default();
        (0..MOST_SOURCES + 5).for_each(|i| {
            names.number(&i.to_string());
        });
        assert!(names.labels(Some("source")).is_none());
    }
}
