//! Rows as a trainer wants them: their original columns, messages, a text with the ranges that carry a loss, or token ids with
//! labels.

use super::corpus::{CONVERSATION, Corpus, ROW};
use crate::host::Host;
use crate::train::{Renderer, folder_of};
use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, ListArray, RecordBatch, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, UInt64Type};
use curate_core::{Column, Ctx, Error, Location, Pool, Result};
use curate_ingest::{ChatTemplate, Conversation, Format, RenderedChat};
use curate_trainer::Sequence;
use curate_trainer::data::{SequenceOptions, TEXT, TRAINED, sequences, trained_column};
use curate_trainer::tokenizer::TextTokenizer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// The shape of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Rendering {
    /// Its original columns.
    #[default]
    Columns,
    /// `messages`: role and content of each turn.
    Messages,
    /// `text`, and `trained`: the byte ranges that carry a loss.
    Text,
    /// `input_ids` and `labels` (-100 where no loss is carried).
    Tokens,
    /// Nothing but its number.
    Rows,
}

/// Texts, and of each the byte ranges that carry a loss.
type Texts = (Vec<String>, Vec<Vec<Range<usize>>>);

/// Makes rows of a corpus into what a trainer wants.
pub struct RowRenderer {
    rendering: Rendering,
    columns: Vec<usize>,
    renderer: Option<Renderer>,
    tokenizer: Option<TextTokenizer>,
    options: SequenceOptions,
}

impl RowRenderer {
    /// Open what a rendering needs. `columns` are wanted original columns, all of them when empty; `tokenizer` names a model folder or hub id.
    ///
    /// # Errors
    /// `column/missing`, `render/no-text` for rows without text, what opening the tokenizer gives.
    pub fn open(
        rendering: Rendering,
        columns: &[String],
        (tokenizer, max_length): (Option<&str>, usize),
        corpus: &Corpus,
        host: &Host,
    ) -> Result<Self> {
        let mut found = Self {
            rendering,
            columns: places(columns, corpus)?,
            renderer: None,
            tokenizer: None,
            options: SequenceOptions::new(max_length),
        };
        if matches!(rendering, Rendering::Columns | Rendering::Rows) {
            return Ok(found);
        }
        if corpus.meta.format == Format::Table {
            return Err(Error::data("render/no-text", "the rows have no text to render")
                .hint("ask for render: columns, or name the columns with input.map"));
        }
        if matches!(rendering, Rendering::Text | Rendering::Tokens) {
            let folder = folder_of(tokenizer.unwrap_or("builtin"), host, &host.ctx(0)?)?;
            found.renderer = Some(renderer(corpus, &folder, tokenizer.is_some())?);
            if rendering == Rendering::Tokens {
                found.tokenizer = Some(TextTokenizer::load(&folder)?);
            }
        }
        Ok(found)
    }

    /// Rows read from the corpus, one for one, as columns.
    ///
    /// # Errors
    /// What rendering gives.
    pub fn render(&self, rows: &RecordBatch) -> Result<Vec<(Arc<Field>, ArrayRef)>> {
        match self.rendering {
            Rendering::Rows => Ok(Vec::new()),
            Rendering::Columns => {
                let schema = rows.schema();
                Ok(self.columns.iter().map(|&at| (schema.fields()[at].clone(), rows.column(at).clone())).collect())
            }
            Rendering::Messages => messages(&conversations(rows)?),
            Rendering::Text => {
                let (texts, trained) = self.texts(rows)?;
                let trained = trained_column(&trained)?;
                Ok(vec![named("text", Arc::new(StringArray::from(texts))), named("trained", trained)])
            }
            Rendering::Tokens => self.tokens(rows),
        }
    }

    fn texts(&self, rows: &RecordBatch) -> Result<Texts> {
        let Some(renderer) = &self.renderer else { return Ok((Vec::new(), Vec::new())) };
        let chats = conversations(rows)?.iter().map(|c| renderer.render(c)).collect::<Result<Vec<RenderedChat>>>()?;
        Ok(chats.into_iter().map(|chat| (chat.text, chat.trained)).unzip())
    }

    fn tokens(&self, rows: &RecordBatch) -> Result<Vec<(Arc<Field>, ArrayRef)>> {
        let Some(tokenizer) = &self.tokenizer else { return Ok(Vec::new()) };
        let (texts, trained) = self.texts(rows)?;
        let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..texts.len() as u64));
        let columns = [
            (Column::ROW.as_str(), ids),
            (TEXT, Arc::new(StringArray::from(texts)) as ArrayRef),
            (TRAINED, trained_column(&trained)?),
        ];
        let pool = Pool::from_batch(RecordBatch::try_from_iter(columns)?);
        let found = match sequences(&pool, tokenizer, &self.options, &Ctx::new(0)) {
            Err(e) if e.code() == "data/nothing-to-learn" => Vec::new(),
            found => found?.sequences,
        };
        let mut by_row: Vec<Option<&Sequence>> = vec![None; rows.num_rows()];
        found.iter().for_each(|sequence| by_row[sequence.row as usize] = Some(sequence));
        let list = |of: &dyn Fn(&Sequence) -> Vec<i32>| {
            lists(by_row.iter().map(|sequence| sequence.map(of).unwrap_or_default()).collect())
        };
        let label = |&label: &u32| i32::try_from(label).unwrap_or(-100);
        let input = list(&|s| s.tokens.iter().map(|&id| i32::try_from(id).unwrap_or_default()).collect())?;
        Ok(vec![named("input_ids", input), named("labels", list(&|s| s.labels.iter().map(label).collect())?)])
    }

    /// The texts of rows for people: the whole conversation, or all columns where there is none.
    ///
    /// # Errors
    /// What reading gives.
    pub fn plain_texts(rows: &RecordBatch) -> Result<Vec<String>> {
        let column = rows.column_by_name(CONVERSATION).map(AsArray::as_string::<i32>);
        let known = |at: usize| column.filter(|column| column.is_valid(at)).map(|column| column.value(at));
        let text = |at: usize| match known(at).and_then(|text| serde_json::from_str::<Conversation>(text).ok()) {
            Some(found) => found.join(|_| true),
            None => String::new(),
        };
        Ok((0..rows.num_rows()).map(text).collect())
    }
}

fn places(columns: &[String], corpus: &Corpus) -> Result<Vec<usize>> {
    let names = corpus.columns();
    let wanted = if columns.is_empty() { &names } else { columns };
    let place = |name: &String| match corpus.rows.schema().index_of(name) {
        Ok(at) if names.contains(name) => Ok(at),
        _ => Err(Error::usage("column/missing", format!("the rows have no column '{name}'"))
            .hint(format!("columns: {}", names.join(", ")))),
    };
    wanted.iter().map(place).collect()
}

/// The template of the plan, else that of the tokenizer's folder, else as training would.
fn renderer(corpus: &Corpus, folder: &std::path::Path, named: bool) -> Result<Renderer> {
    if let Some(source) = &corpus.meta.template {
        return Ok(Renderer::Template(Box::new(ChatTemplate::parse("chat_template", source)?)));
    }
    match ChatTemplate::load(folder) {
        Ok(template) if named => Ok(Renderer::Template(Box::new(template))),
        Err(e) if e.code() != "template/missing" => Err(e),
        _ if matches!(corpus.meta.format, Format::PromptCompletion | Format::Text) => Ok(Renderer::Plain),
        _ => Ok(Renderer::Template(Box::new(ChatTemplate::chatml()?))),
    }
}

fn named(name: &str, values: ArrayRef) -> (Arc<Field>, ArrayRef) {
    (Arc::new(Field::new(name, values.data_type().clone(), true)), values)
}

fn conversations(rows: &RecordBatch) -> Result<Vec<Conversation>> {
    let column = rows.column_by_name(CONVERSATION).map(AsArray::as_string::<i32>);
    let ids = rows.column_by_name(ROW).map(AsArray::as_primitive::<UInt64Type>);
    let one = |at: usize| {
        let text = column.filter(|column| column.is_valid(at)).map(|column| column.value(at));
        text.and_then(|text| serde_json::from_str(text).ok()).ok_or_else(|| {
            let place = ids.map_or_else(Location::default, |ids| Location::default().row(ids.value(at)));
            Error::data("render/no-text", "the row has no text to render").hint("ask for render: columns").at(place)
        })
    };
    (0..rows.num_rows()).map(one).collect()
}

fn messages(conversations: &[Conversation]) -> Result<Vec<(Arc<Field>, ArrayRef)>> {
    let turns = || conversations.iter().flat_map(|c| &c.turns);
    let text = |values: Vec<&str>| Arc::new(StringArray::from(values)) as ArrayRef;
    let fields =
        Fields::from(vec![Field::new("role", DataType::Utf8, false), Field::new("content", DataType::Utf8, false)]);
    let columns =
        vec![text(turns().map(|t| t.role.name()).collect()), text(turns().map(|t| t.text.as_str()).collect())];
    let values = StructArray::try_new(fields.clone(), columns, None)?;
    let item = Arc::new(Field::new("item", DataType::Struct(fields), false));
    let offsets = OffsetBuffer::from_lengths(conversations.iter().map(|c| c.turns.len()));
    let list = Arc::new(ListArray::try_new(item, offsets, Arc::new(values), None)?) as ArrayRef;
    let mut columns = vec![named("messages", list)];
    if conversations.iter().any(|c| c.tools.is_some()) {
        let tools: StringArray = conversations.iter().map(|c| c.tools.as_deref()).collect();
        columns.push(named("tools", Arc::new(tools)));
    }
    Ok(columns)
}

fn lists(rows: Vec<Vec<i32>>) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
    let values = Arc::new(rows.into_iter().flatten().collect::<Int32Array>());
    let item = Arc::new(Field::new("item", DataType::Int32, false));
    Ok(Arc::new(ListArray::try_new(item, offsets, values, None)?))
}
