//! An opened input: many files of any kind as one numbered sequence of rows, read a unit at a time.

mod csv;
mod ipc;
mod jsonl;
mod lines;
mod open;
mod parquet;
mod reconcile;
mod size;
mod unit;
mod watch;

pub use unit::{FileInfo, SkippedRow, Unit, UnitData};

use crate::detect::{Extractor, Layout, Role};
use crate::predicate::Predicate;
use crate::source::unit::{BadRow, Chunk, Reader};
use crate::spec::{EmbedText, Format, InputSpec, OnBadRow};
use crate::store::Stores;
use crate::template::ChatTemplate;
use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use curate_core::{Ctx, Error, Location, Result};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// An opened input. Holds no rows; cheap to share between threads.
pub struct Source {
    spec: InputSpec,
    schema: SchemaRef,
    layout: Layout,
    files: Vec<FileInfo>,
    readers: Vec<Box<dyn Reader>>,
    units: Vec<Unit>,
    /// Place of each unit among the parts of its file.
    places: Vec<usize>,
    verdicts: Vec<OnceLock<Arc<Verdict>>>,
    predicate: Option<Predicate>,
    template: Option<ChatTemplate>,
    rows: u64,
}

/// Which rows of a unit stay; the same whatever columns are read.
#[derive(Default)]
struct Verdict {
    /// Places within the readable rows of the unit; `None` when all stay.
    keep: Option<UInt32Array>,
    skipped: Vec<SkippedRow>,
    filtered: usize,
}

/// The texts of one row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// What is embedded, by [`InputSpec::embed_text`].
    pub embed: String,
    /// The whole row: all turns, or the text the chat template makes of them where one was given.
    pub full: String,
    /// Characters of `full`.
    pub chars: u32,
    /// Characters of system and user turns.
    pub prompt_chars: u32,
    /// Characters of assistant turns.
    pub response_chars: u32,
    /// Number of turns.
    pub turns: u32,
}

impl Source {
    /// Open everything `spec` names. Standard input, packed files and remote text are spooled to `scratch` first.
    ///
    /// # Errors
    /// `input/*`, `json/*`, `csv/*`, `text/utf8`, `row/*`, `schema/*`, `format/unknown`, `map/*`, `where/*`, `store/*`,
    /// `template/*`, `io/*`; `cancelled`.
    pub fn open(spec: &InputSpec, scratch: &Path, ctx: &Ctx) -> Result<Self> {
        Self::open_with(spec, scratch, &Stores::default(), ctx)
    }

    /// Like [`Source::open`] with object stores of the caller's.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn open_with(spec: &InputSpec, scratch: &Path, stores: &Stores, ctx: &Ctx) -> Result<Self> {
        open::open(spec, scratch, stores, &ctx.child("open"))
    }

    /// The original columns, reconciled over all files.
    #[must_use]
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The format and the roles of the columns.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All rows, bad and filtered ones included.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The files, in row order.
    #[must_use]
    pub fn files(&self) -> &[FileInfo] {
        &self.files
    }

    /// The units, in row order.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// What the source was opened with.
    #[must_use]
    pub const fn spec(&self) -> &InputSpec {
        &self.spec
    }

    /// The chat template, if one was named.
    #[must_use]
    pub const fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Read the rows of a unit that are neither bad nor filtered out, with all columns or those named.
    ///
    /// # Errors
    /// `column/missing` for a column that is not there, `row/no-text` and `messages/*` for bad rows unless they are skipped,
    /// `input/*` when the file is damaged or has changed.
    pub fn read(&self, unit: &Unit, columns: Option<&[String]>) -> Result<UnitData> {
        let (Some(place), Some(verdict)) = (self.places.get(unit.index), self.verdicts.get(unit.index)) else {
            return Err(Error::usage("input/unit", format!("there is no unit {}", unit.index)));
        };
        let wanted = self.projection(columns)?;
        let known = verdict.get().cloned();
        let mut needed: Vec<String> = wanted.fields().iter().map(|f| f.name().clone()).collect();
        if known.is_none() {
            needed.extend(self.layout.columns());
            needed.extend(self.predicate.iter().flat_map(|p| p.columns().iter().cloned()));
        }
        let chunk = self.readers[unit.file].read(*place, &needed)?;
        let verdict = if let Some(verdict) = known {
            verdict
        } else {
            let judged = Arc::new(self.judge(unit, *place, &chunk)?);
            Arc::clone(verdict.get_or_init(|| judged))
        };
        Self::assemble(unit, &chunk, &verdict, &wanted)
    }

    /// The columns named, in the order of the schema.
    fn projection(&self, columns: Option<&[String]>) -> Result<SchemaRef> {
        let Some(names) = columns else { return Ok(Arc::clone(&self.schema)) };
        if let Some(missing) = names.iter().find(|name| self.schema.field_with_name(name).is_err()) {
            let known = self.schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::usage("column/missing", format!("there is no column '{missing}'"))
                .hint(format!("columns: {known}")));
        }
        Ok(crate::json::decode::narrow(&self.schema, Some(names)))
    }

    /// Decide which rows of a unit stay.
    fn judge(&self, unit: &Unit, place: usize, chunk: &Chunk) -> Result<Verdict> {
        let mut used = self.layout.columns();
        used.extend(self.predicate.iter().flat_map(|p| p.columns().iter().cloned()));
        let batch = reconcile::adapt(&chunk.batch, &crate::json::decode::narrow(&self.schema, Some(&used)))?;
        let present = present_rows(unit.rows, &chunk.bad);
        let mask = self.predicate.as_ref().map(|p| p.mask(&batch)).transpose()?;
        let stays = |i: usize| mask.as_ref().is_none_or(|m: &BooleanArray| m.value(i));
        let extractor = Extractor::new(&self.layout, &batch)?;
        let mut verdict =
            Verdict { skipped: chunk.bad.iter().map(|bad| skipped(unit, bad)).collect(), ..Verdict::default() };
        let mut keep = Vec::with_capacity(present.len());
        for (i, &at) in present.iter().enumerate() {
            if !stays(i) {
                verdict.filtered += 1;
                continue;
            }
            let large = self.too_large(&batch, i);
            match large.or_else(|| extractor.check(i)) {
                None => keep.push(u32::try_from(i).unwrap_or(u32::MAX)),
                Some(problem) => {
                    let location = self.readers[unit.file].location(place, at);
                    if self.spec.on_bad_row == OnBadRow::Fail {
                        let elsewhere = (problem.code == "row/no-text").then(|| self.other_shape(unit.file)).flatten();
                        return Err(elsewhere.unwrap_or_else(|| problem.error(location)));
                    }
                    let location = location.column(problem.column);
                    verdict.skipped.push(SkippedRow {
                        row: unit.first_row + u64::from(at),
                        location,
                        reason: problem.what,
                    });
                }
            }
        }
        verdict.skipped.sort_by_key(|s| s.row);
        verdict.keep = (keep.len() < present.len()).then(|| keep.into());
        Ok(verdict)
    }

    /// The error that says that a file's rows have another shape than those of the other files, if that is so.
    #[must_use]
    pub fn other_shape(&self, file: usize) -> Option<Error> {
        if self.files.len() < 2 || self.spec.format != Format::Auto || !self.spec.map.is_empty() {
            return None;
        }
        let own = self.own_format(file)?;
        let others = (0..self.files.len()).filter(|&other| other != file);
        let (other, theirs) =
            others.filter_map(|other| Some((other, self.own_format(other)?))).find(|(_, theirs)| *theirs != own)?;
        let mut both = [(file, own), (other, theirs)];
        both.sort_by_key(|(file, _)| *file);
        let words = both.map(|(file, format)| format!("{} is {format}", self.files[file].path)).join(", ");
        Some(
            Error::data("input/shapes", format!("these files have different shapes: {words}"))
                .hint("give them one at a time, or bring one into the shape of the other"),
        )
    }

    /// The format of the first rows of a file, as if it were alone.
    fn own_format(&self, file: usize) -> Option<Format> {
        let names: Vec<String> = self.schema.fields().iter().map(|f| f.name().clone()).collect();
        let chunk = self.readers.get(file)?.read(0, &names).ok()?;
        let filled = |f: &&arrow::datatypes::FieldRef| {
            chunk.batch.column_by_name(f.name()).is_some_and(|values| values.logical_null_count() < values.len())
        };
        let own: Vec<_> = self.schema.fields().iter().filter(filled).cloned().collect();
        let layout = crate::detect::detect(&Schema::new(own), &self.spec, &self.files[file].path);
        layout.ok().map(|layout| layout.format)
    }

    /// Rows of columnar files can be too large as well.
    fn too_large(&self, batch: &RecordBatch, row: usize) -> Option<crate::detect::Problem> {
        let most = self.spec.max_row_bytes;
        if (batch.get_array_memory_size() as u64) <= most {
            return None;
        }
        let total: u64 = batch.columns().iter().map(|column| size::span_bytes(column, row..row + 1)).sum();
        (total > most).then(|| crate::detect::Problem {
            code: "row/too-large",
            column: self.layout.columns().into_iter().next().unwrap_or_default(),
            what: format!("the row holds more than {}", curate_core::format_bytes(most)),
        })
    }

    fn assemble(unit: &Unit, chunk: &Chunk, verdict: &Verdict, wanted: &SchemaRef) -> Result<UnitData> {
        let present = present_rows(unit.rows, &chunk.bad);
        let batch = reconcile::adapt(&chunk.batch, wanted)?;
        let (batch, places) = match &verdict.keep {
            None => (batch, present),
            Some(keep) => {
                let places = keep.values().iter().filter_map(|&i| present.get(i as usize).copied()).collect();
                (take_rows(&batch, keep)?, places)
            }
        };
        let rows = places.into_iter().map(|at| unit.first_row + u64::from(at)).collect();
        Ok(UnitData { unit: unit.index, rows, batch, skipped: verdict.skipped.clone(), filtered: verdict.filtered })
    }

    /// The texts of the rows of a unit that was read with at least [`Layout::columns`].
    ///
    /// # Errors
    /// `column/missing` when a column of the layout was not read, `messages/*`, `template/*`.
    pub fn texts(&self, data: &UnitData) -> Result<Vec<Rendered>> {
        let extractor = Extractor::new(&self.layout, &data.batch)?;
        let place = |row: usize| {
            let unit = self.units.get(data.unit);
            let file = unit.and_then(|u| self.files.get(u.file)).map(|f| f.path.clone()).unwrap_or_default();
            let before = unit.map_or(0, |u| self.units.iter().find(|o| o.file == u.file).map_or(0, |o| o.first_row));
            Location::file(file).row(data.rows.get(row).map_or(0, |id| id - before))
        };
        let render = |row: usize| {
            let conversation = extractor.conversation(row).map_err(|problem| problem.error(place(row)))?;
            self.rendered(&conversation).map_err(|e| e.at(place(row)))
        };
        (0..data.batch.num_rows()).map(render).collect()
    }

    fn rendered(&self, conversation: &crate::Conversation) -> Result<Rendered> {
        let all = conversation.join(|_| true);
        let prompt = conversation.join(|role| matches!(role, Role::System | Role::User));
        let response = conversation.join(|role| role == Role::Assistant);
        let full = match &self.template {
            Some(template) => template.render(conversation, false)?.text,
            None => all.clone(),
        };
        let (prompt_chars, response_chars) =
            if conversation.plain { (0, count(&all)) } else { (count(&prompt), count(&response)) };
        let embed = match self.spec.embed_text {
            _ if conversation.plain => all,
            EmbedText::Prompt => prompt,
            EmbedText::PromptResponse => all,
        };
        let turns = u32::try_from(conversation.turns.len()).unwrap_or(u32::MAX);
        Ok(Rendered { embed, chars: count(&full), full, prompt_chars, response_chars, turns })
    }
}

fn count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

fn skipped(unit: &Unit, bad: &BadRow) -> SkippedRow {
    SkippedRow { row: unit.first_row + u64::from(bad.at), location: bad.location.clone(), reason: bad.reason.clone() }
}

/// Places of the readable rows among all rows of a unit.
fn present_rows(rows: u32, bad: &[BadRow]) -> Vec<u32> {
    let mut bad = bad.iter().map(|b| b.at).peekable();
    (0..rows).filter(|&at| bad.next_if_eq(&at).is_none()).collect()
}

fn take_rows(batch: &RecordBatch, keep: &UInt32Array) -> Result<RecordBatch> {
    if batch.num_columns() > 0 {
        return Ok(take_record_batch(batch, keep)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(keep.len()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)?)
}
