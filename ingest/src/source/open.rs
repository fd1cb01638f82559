//! Opening an input: every file is looked at once, then schema, rows and format of the whole are known.

use super::csv::Csv;
use super::ipc::Ipc;
use super::jsonl::Scanned;
use super::parquet::Parquet;
use super::unit::{FileInfo, Reader, Unit};
use super::{Source, reconcile};
use crate::detect::{self, Layout};
use crate::expand::{self, Item, Place};
use crate::json::shape::{self, Learner, Shape};
use crate::kind::Kind;
use crate::predicate::Predicate;
use crate::spec::InputSpec;
use crate::spool;
use crate::store::Stores;
use crate::template::ChatTemplate;
use arrow::datatypes::{Schema, SchemaRef};
use curate_core::{Ctx, Error, Location, Result};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// A file that was looked at.
enum Opened {
    Json(Box<Scanned>),
    Ready(Box<dyn Reader>),
}

struct Opener<'a> {
    spec: &'a InputSpec,
    scratch: &'a Path,
    texts: Vec<String>,
    learner: Learner,
    files: Vec<FileInfo>,
    opened: Vec<Opened>,
}

pub(super) fn open(spec: &InputSpec, scratch: &Path, stores: &Stores, ctx: &Ctx) -> Result<Source> {
    let template = spec.chat_template.as_deref().map(|path| ChatTemplate::load(Path::new(path))).transpose()?;
    let mut texts: Vec<String> = detect::TEXT_NAMES.iter().map(ToString::to_string).collect();
    texts.extend(
        spec.map.values().flat_map(|text| std::iter::once(text.as_str()).chain(text.split('+'))).map(str::to_owned),
    );
    let mut opener =
        Opener { spec, scratch, texts, learner: Learner::default(), files: Vec::new(), opened: Vec::new() };
    for item in expand::expand(&spec.paths, stores)? {
        ctx.progress().note(&item.name);
        opener.add(&item, ctx)?;
    }
    let source = opener.finish(template)?;
    ctx.progress().finish();
    Ok(source)
}

impl Opener<'_> {
    fn add(&mut self, item: &Item, ctx: &Ctx) -> Result<()> {
        let (opened, kind, bytes) = match spool::localise(item, self.scratch)? {
            None => {
                let Place::Remote(object) = &item.place else {
                    return Err(Error::io("input/place", "a local file without a path"));
                };
                let (reader, bytes) = Parquet::remote(object.clone(), ctx)?;
                (Opened::Ready(Box::new(reader)), Kind::Parquet, bytes)
            }
            Some(local) => {
                let (kind, bytes) = (local.kind, local.bytes);
                let opened = match kind {
                    Kind::Parquet => Opened::Ready(Box::new(Parquet::local(local, ctx)?)),
                    Kind::Arrow => Opened::Ready(Box::new(Ipc::open(local, self.scratch, ctx)?)),
                    Kind::Csv | Kind::Tsv => Opened::Ready(Box::new(Csv::open(local, self.spec, &self.texts, ctx)?)),
                    Kind::Json | Kind::Jsonl => Opened::Json(Box::new(Scanned::scan(
                        local,
                        self.files.len(),
                        self.spec,
                        &mut self.learner,
                        ctx,
                    )?)),
                };
                (opened, kind, bytes)
            }
        };
        if let Opened::Ready(reader) = &opened {
            reconcile::refuse_duplicates(reader.schema(), &item.name)?;
        }
        self.files.push(FileInfo { path: item.name.clone(), rows: 0, bytes, kind });
        self.opened.push(opened);
        Ok(())
    }

    fn finish(mut self, template: Option<ChatTemplate>) -> Result<Source> {
        let json: SchemaRef = Arc::new(Schema::new(shape::fields(self.learner.columns())));
        let schemas: Vec<SchemaRef> = self
            .opened
            .iter()
            .map(|o| match o {
                Opened::Json(_) => Arc::clone(&json),
                Opened::Ready(reader) => Arc::clone(reader.schema()),
            })
            .collect();
        let schema = reconcile::unify(&schemas.iter().zip(self.files.iter().map(|f| f.path.as_str())))?;
        let name = self.files.first().map_or("", |f| f.path.as_str()).to_owned();
        let layout = self.layout(&schema, &name)?;
        let readers: Vec<Box<dyn Reader>> = std::mem::take(&mut self.opened)
            .into_iter()
            .map(|o| match o {
                Opened::Json(scanned) => Box::new(scanned.with_schema(Arc::clone(&json))) as Box<dyn Reader>,
                Opened::Ready(reader) => reader,
            })
            .collect();
        let (units, places, rows) = number(&readers, &mut self.files);
        if rows == 0 {
            return Err(empty(&name));
        }
        let predicate = self.spec.where_.as_deref().map(|sql| Predicate::compile(sql, &schema)).transpose()?;
        let verdicts = units.iter().map(|_| OnceLock::new()).collect();
        Ok(Source {
            spec: self.spec.clone(),
            schema,
            layout,
            files: self.files,
            readers,
            units,
            places,
            verdicts,
            predicate,
            template,
            rows,
        })
    }

    /// The layout; a column of mixed kinds is reported at the first row that does not fit.
    fn layout(&self, schema: &SchemaRef, name: &str) -> Result<Layout> {
        if schema.fields().is_empty() {
            return Err(empty(name));
        }
        detect::detect(schema, self.spec, name).map_err(|error| {
            if error.code() == "format/unknown" && self.files.len() > 1 {
                let known = error.hint_text().unwrap_or_default();
                let hint = format!("where the files have different shapes, give them one at a time; else {known}");
                return error.hint(hint);
            }
            let column = error.location().and_then(|l| l.column.clone()).filter(|_| error.code() == "column/mixed");
            let member = column.as_ref().and_then(|c| self.learner.columns().iter().find(|m| m.name == *c));
            let (Some(column), Some(Shape::Mixed(clash))) = (column, member.map(|m| &m.shape)) else { return error };
            match self.opened.get(clash.spot.file) {
                Some(Opened::Json(scanned)) => Error::data(
                    "column/mixed",
                    format!("{} here, {} before, where text is needed", clash.now, clash.was),
                )
                .hint(error.hint_text().unwrap_or_default().to_owned())
                .at(scanned.spot(clash.spot).column(column)),
                _ => error,
            }
        })
    }
}

fn empty(name: &str) -> Error {
    let hint = match name {
        "-" => {
            "pipe the rows into the command; a selection that was made from standard input is explained and verified with the same data piped in again"
        }
        _ => "check the path and whether the files are complete",
    };
    let what = if name == "-" { "nothing came on standard input" } else { "there is no row in the input" };
    Error::data("input/empty", what).hint(hint).at(Location::file(name))
}

/// Number the rows of all files and list their units.
fn number(readers: &[Box<dyn Reader>], files: &mut [FileInfo]) -> (Vec<Unit>, Vec<usize>, u64) {
    let (mut units, mut places, mut rows) = (Vec::new(), Vec::new(), 0);
    for (file, reader) in readers.iter().enumerate() {
        for (place, part) in reader.parts().iter().enumerate() {
            units.push(Unit {
                index: units.len(),
                file,
                part: part.group,
                first_row: rows,
                rows: part.rows,
                digest: part.digest,
                bytes: part.bytes,
                start: part.start,
            });
            places.push(place);
            rows += u64::from(part.rows);
            files[file].rows += u64::from(part.rows);
        }
    }
    (units, places, rows)
}
