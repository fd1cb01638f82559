//! A batch on its way out, as JSON or Arrow.

use crate::wire::SessionSpec;
use arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{LineDelimited, WriterBuilder};
use bytes::Bytes;
use curate_api::serving::{Corpus, RowRenderer};
use curate_api::{Error, Pick, Result};
use serde_json::{Value, json};
use std::sync::{Arc, OnceLock};

/// A batch of one rank.
pub(crate) struct Served {
    pub(crate) session: String,
    pub(crate) method: String,
    pub(crate) step: u64,
    pub(crate) rank: u32,
    pub(crate) epoch: u64,
    pub(crate) end: bool,
    pub(crate) cursor: String,
    pub(crate) picks: Vec<Pick>,
    pub(crate) data: Option<RecordBatch>,
    json: OnceLock<Bytes>,
    arrow: OnceLock<Bytes>,
}

/// Rows of a corpus as the session wants them.
pub(crate) fn rendered(corpus: &Corpus, renderer: &RowRenderer, rows: &[u64]) -> Result<RecordBatch> {
    let place = |row: &u64| {
        corpus
            .position(*row)
            .map(|at| at as u64)
            .ok_or_else(|| Error::usage("row/unknown", format!("there is no row {row}")))
    };
    let batch = corpus.rows.read(&rows.iter().map(place).collect::<Result<Vec<u64>>>()?)?;
    let (fields, columns): (Vec<_>, Vec<_>) = renderer.render(&batch)?.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// Rows as JSON texts, one a row; nulls are written.
pub(crate) fn json_rows(batch: &RecordBatch) -> Result<Vec<String>> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let text = String::from_utf8(writer.into_inner()).map_err(|e| Error::io("json", e.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

impl Served {
    pub(crate) fn new(
        spec: (&str, &SessionSpec, &str),
        (step, rank, epoch): (u64, u32, u64),
        cursor: String,
        (picks, data): (Vec<Pick>, Option<RecordBatch>),
    ) -> Self {
        let (session, method) = (spec.0.to_owned(), spec.2.to_owned());
        let (json, arrow) = (OnceLock::new(), OnceLock::new());
        Self { session, method, step, rank, epoch, end: false, cursor, picks, data, json, arrow }
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Result<Bytes> {
        if let Some(done) = self.json.get() {
            return Ok(done.clone());
        }
        let data = self.data.as_ref().filter(|data| data.num_columns() > 0).map(json_rows).transpose()?;
        let mut text = Vec::with_capacity(256 + self.picks.len() * 128);
        let head = json!({"session": self.session, "step": self.step, "rank": self.rank, "epoch": self.epoch, "end": self.end,
            "cursor": self.cursor, "method": self.method});
        text.extend_from_slice(head.to_string().trim_end_matches('}').as_bytes());
        text.extend_from_slice(b",\"rows\":[");
        for (at, pick) in self.picks.iter().enumerate() {
            let row = json!({"row": pick.row, "weight": number(pick.weight), "score": number(pick.score), "group": pick.group}).to_string();
            text.extend_from_slice(if at > 0 { b"," } else { b"" });
            text.extend_from_slice(row.trim_end_matches('}').as_bytes());
            if let Some(data) = data.as_ref().and_then(|data| data.get(at)) {
                text.extend_from_slice(b",\"data\":");
                text.extend_from_slice(data.as_bytes());
            }
            text.extend_from_slice(b"}");
        }
        text.extend_from_slice(b"]}");
        Ok(self.json.get_or_init(|| text.into()).clone())
    }

    /// As an Arrow stream.
    pub(crate) fn arrow(&self) -> Result<Bytes> {
        if let Some(done) = self.arrow.get() {
            return Ok(done.clone());
        }
        let mut fields: Vec<Arc<Field>> = vec![
            Arc::new(Field::new("row", DataType::UInt64, false)),
            Arc::new(Field::new("weight", DataType::Float32, false)),
            Arc::new(Field::new("score", DataType::Float32, false)),
            Arc::new(Field::new("group", DataType::UInt32, true)),
        ];
        let picks = &self.picks;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(picks.iter().map(|p| p.row))),
            Arc::new(Float32Array::from_iter_values(picks.iter().map(|p| p.weight))),
            Arc::new(Float32Array::from_iter_values(picks.iter().map(|p| p.score))),
            Arc::new(picks.iter().map(|p| p.group).collect::<UInt32Array>()),
        ];
        if let Some(data) = &self.data {
            let taken = |name: &str| ["row", "weight", "score", "group"].contains(&name);
            for (field, values) in data.schema().fields().iter().zip(data.columns()) {
                let name = if taken(field.name()) { format!("data.{}", field.name()) } else { field.name().clone() };
                fields.push(Arc::new(field.as_ref().clone().with_name(name)));
                columns.push(values.clone());
            }
        }
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
        writer.write(&batch)?;
        let bytes: Bytes = writer.into_inner()?.into();
        Ok(self.arrow.get_or_init(|| bytes).clone())
    }
}

/// JSON has no infinite numbers.
fn number(x: f32) -> Value {
    if x.is_finite() { json!(x) } else { Value::Null }
}
