//! The report of a selection: what was chosen of what, against chance, as data (`--report out.json`) or as one page that needs
//! nothing else (`--report out.html`).

mod data;
mod head;
mod html;
pub(crate) mod map;
mod objective;
mod rows;
pub(crate) mod scores;
mod shares;
mod table;
pub(crate) mod texts;

pub use data::*;

use crate::choose::Chosen;
use crate::features::Features;
use crate::manifest::Cost;
use crate::plan::Plan;
use curate_core::{Column, Ctx, Error, Result};
use curate_ingest::WholeFile;
use map::Drawn;
use shares::{LISTED, Labels};
use std::path::Path;
use table::Table;
use texts::Wanted;

/// Bytes that all texts of the map may take together, and characters of the example of a part.
const MAP_TEXT_BYTES: usize = 1_200_000;
const PART_CHARS: usize = 90;

/// Parts with a colour of their own.
const COLOURS: usize = 8;

/// A report that is to be written: its place is found writable before any work starts, and nothing stands there until it is whole.
pub(crate) struct Place {
    file: WholeFile,
    json: bool,
}

impl Place {
    /// The place that the plan names, if it names one.
    ///
    /// # Errors
    /// `report/format`, `report/same-path`, `output/exists`, `output/unwritable`.
    pub(crate) fn of(plan: &Plan) -> Result<Option<Self>> {
        let Some((path, json)) = named(plan)? else { return Ok(None) };
        Ok(Some(Self { file: WholeFile::create(path, plan.output.overwrite)?, json }))
    }

    /// The same check without leaving anything, not even a folder.
    ///
    /// # Errors
    /// As [`Place::of`], as far as can be told.
    pub(crate) fn check(plan: &Plan) -> Result<()> {
        let Some((path, _)) = named(plan)? else { return Ok(()) };
        let folder = Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
        if folder.is_none_or(Path::is_dir) { Self::of(plan).map(|_| ()) } else { Ok(()) }
    }

    /// Write the report.
    ///
    /// # Errors
    /// `io/*`, `store/*`.
    pub(crate) fn write(self, mut report: Report, cost: &Cost) -> Result<()> {
        head::add_cost(&mut report.cost, cost);
        let bytes = if self.json { crate::select::pretty(&report)? } else { html::page(&report)?.into_bytes() };
        self.file.finish(&bytes)
    }
}

/// The report's path, and whether it is JSON, by the extension.
fn named(plan: &Plan) -> Result<Option<(&str, bool)>> {
    let Some(path) = plan.output.report.as_deref() else { return Ok(None) };
    if path == plan.output.path {
        return Err(Error::usage("report/same-path", "report and output have the same name")
            .hint("give the report a name of its own, such as report.html"));
    }
    match path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("json") => Ok(Some((path, true))),
        Some("html" | "htm") => Ok(Some((path, false))),
        _ => Err(Error::usage("report/format", format!("a report cannot be written as '{path}'"))
            .hint("name it .html for a page, or .json for the data behind it")),
    }
}

/// Columns that a report reads besides the method's.
pub(crate) fn needs() -> [Column; 2] {
    [Column::EMBEDDING, Column::TOKENS]
}

/// Look back at a finished choice.
///
/// # Errors
/// What reading gives; `memory/too-small`; `cancelled`.
pub(crate) fn report(plan: &Plan, chosen: &Chosen, ctx: &Ctx) -> Result<Report> {
    let stage = ctx.child("report");
    let Features { pool, .. } = &chosen.features;
    let table = Table::of(chosen)?;
    let regions = objective::regions(pool, &table, &stage)?;
    let dim = pool.dim(&Column::EMBEDDING)?;
    let drawn = map::draw(&table, dim, &stage);
    let shown = rows::Shown::of(chosen, &table);
    let groups = groups(&table).unwrap_or_else(|| parts_of(&regions));
    let own = groups.without_removed(&table);
    let examples = examples(&own, &table);
    let mut wanted = Wanted::default();
    wanted.add(shown.whole(&table), rows::TEXT_CHARS);
    wanted.add(shown.pairs(), rows::PAIR_CHARS);
    wanted.add(examples.iter().flatten().copied(), 2 * PART_CHARS);
    wanted.add(drawn.rows.iter().map(|&at| table.ids[at]), 2 * PART_CHARS);
    let found = texts::read(&chosen.source, &table, &wanted, &stage)?;
    let mut map = map::map(pool, &table, &drawn, &stage)?;
    let room = (MAP_TEXT_BYTES / drawn.rows.len().max(1)).min(2 * PART_CHARS);
    map.text = map.row.iter().map(|&row| found.line(row, room)).collect();
    map.parts = found.sources.iter().chain([&groups]).map(|labels| colours(labels, &drawn)).collect();
    map.numbers = table.numbers.iter().map(|number| coloured(number, &drawn)).collect();
    let mut by_group = shares::share(&own, &table);
    for (part, example) in by_group.parts.iter_mut().zip(examples) {
        part.example = example.map(|row| found.line(row, PART_CHARS));
    }
    let by_source = found.sources.iter().map(|labels| shares::share(&labels.without_removed(&table), &table));
    let regions = regions.without_removed(&table);
    let against = objective::objective(plan, pool, &table, Some(&regions), &stage)?;
    stage.progress().finish();
    Ok(Report {
        version: REPORT_VERSION,
        head: head::head(plan, chosen, &table)?,
        shares: by_source.chain([shares::by_length(&table), by_group]).collect(),
        scores: scores::distributions(&table),
        map: Some(map),
        best: shown.best(chosen, &table, &found),
        rejected: shown.rejected(chosen, &table, &found),
        filters: shown.removed(&found),
        objective: against.measures,
        cost: ReportCost {
            stages: head::stages(ctx, &table, (plan.embed.name == "static").then_some(dim), against.flop),
            ..ReportCost::default()
        },
    })
}

/// The method's own groups as parts.
fn groups(table: &Table) -> Option<Labels> {
    let of = table.group.clone()?;
    let most = of.iter().copied().filter(|&group| group != u32::MAX).max()?;
    let names = (0..=most).map(|group| format!("cluster {group}")).collect();
    Some(Labels { by: "cluster".to_owned(), note: "as the method sees them".to_owned(), names, of })
}

fn parts_of(labels: &Labels) -> Labels {
    let Labels { by, note, names, of } = labels;
    let note = format!("{note}, since the method has no groups");
    Labels { by: by.clone(), note, names: names.clone(), of: of.clone() }
}

/// For each listed part the row that shows what it is about: its best pick, else its first row.
fn examples(labels: &Labels, table: &Table) -> Vec<Option<u64>> {
    let mut first: Vec<Option<u64>> = vec![None; labels.names.len()];
    for at in table.picks.iter().copied().chain(0..table.rows()) {
        if let Some(own) = first.get_mut(labels.of[at] as usize) {
            own.get_or_insert(table.ids[at]);
        }
    }
    labels.by_size().into_iter().take(LISTED).map(|part| first[part]).collect()
}

/// Colours of the drawn rows: the largest parts have one each.
fn colours(labels: &Labels, drawn: &Drawn) -> Colours {
    let own: Vec<usize> = labels.by_size().into_iter().take(COLOURS).collect();
    let place = |&at: &usize| own.iter().position(|&part| part == labels.of[at] as usize).unwrap_or(own.len()) as u16;
    Colours {
        by: labels.by.clone(),
        names: own.iter().map(|&part| labels.names[part].clone()).collect(),
        part: drawn.rows.iter().map(place).collect(),
    }
}

/// A number as colour: its middle 98% from the first colour to the last.
fn coloured(number: &table::Numbers, drawn: &Drawn) -> Numbers {
    let values = || drawn.rows.iter().map(|&at| f64::from(number.values[at]));
    let mut sorted: Vec<f64> = values().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (scores::quantile(&sorted, 0.01), scores::quantile(&sorted, 0.99));
    let span = if high > low { high - low } else { 1.0 };
    let step = |value: f64| ((value - low) / span * 99.0).round().clamp(0.0, 99.0) as u8;
    let place = |value: f64| if value.is_finite() { step(value) } else { 255 };
    Numbers { by: number.name.clone(), range: [low, high], value: values().map(place).collect() }
}
