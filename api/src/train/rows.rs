//! From rows of the input to sequences for the model: rendered, tokenised and labelled a unit at a time, so that text is never
//! held whole.

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use curate_core::{Column, Ctx, Error, Location, Pool, Result};
use curate_ingest::{ChatTemplate, Conversation, Format, RenderedChat, Role, Source, Unit, UnitData};
use curate_trainer::Sequence;
use curate_trainer::data::{
    Dataset, DatasetReport, SequenceOptions, TEXT, TRAINED, WEIGHT, tokenised, trained_column, weightless,
};
use curate_trainer::tokenizer::TextTokenizer;
use std::path::Path;
use std::sync::Arc;

/// Where a selection writes the weights of its picks.
const PICKED: &str = "curate_weight";

/// How a conversation becomes a text.
pub(crate) enum Renderer {
    /// By a chat template.
    Template(Box<ChatTemplate>),
    /// Turns one after another with nothing between, for rows of prompt and completion and a model without a template.
    Plain,
    /// The answers alone, for the loss that a model has without the prompt.
    Answer,
}

impl Renderer {
    /// The template named, else the model's own, else plain joining for prompt and completion, else `ChatML`.
    pub(crate) fn choose(source: &Source, folder: &Path) -> Result<Self> {
        if let Some(template) = source.template() {
            return Ok(Self::Template(Box::new(template.clone())));
        }
        match ChatTemplate::load(folder) {
            Ok(template) => Ok(Self::Template(Box::new(template))),
            Err(e) if e.code() == "template/missing" => Ok(match source.layout().format {
                Format::PromptCompletion | Format::Text => Self::Plain,
                _ => Self::Template(Box::new(ChatTemplate::chatml()?)),
            }),
            Err(e) => Err(e),
        }
    }

    /// The whole row.
    pub(crate) fn render(&self, conversation: &Conversation) -> Result<RenderedChat> {
        match self {
            Self::Template(template) => template.render(conversation, false),
            Self::Plain => Ok(joined(conversation, |_| true)),
            Self::Answer => Ok(joined(conversation, |role| conversation.plain || role == Role::Assistant)),
        }
    }

    /// What stands before the last answer, and that answer.
    pub(crate) fn question(&self, conversation: &Conversation) -> Result<Option<(String, String)>> {
        let Some(last) = conversation.turns.iter().rposition(|turn| turn.role == Role::Assistant) else {
            return Ok(None);
        };
        let before = Conversation { turns: conversation.turns[..last].to_vec(), ..conversation.clone() };
        let prompt = match self {
            Self::Template(template) => template.render(&before, true)?.text,
            Self::Plain | Self::Answer => joined(&before, |_| true).text,
        };
        Ok(Some((prompt, conversation.turns[last].text.clone())))
    }
}

fn joined(conversation: &Conversation, wanted: impl Fn(Role) -> bool) -> RenderedChat {
    let (mut text, mut trained) = (String::new(), Vec::new());
    for turn in conversation.turns.iter().filter(|turn| wanted(turn.role)) {
        let start = text.len();
        text.push_str(&turn.text);
        if (conversation.plain || (turn.role == Role::Assistant && turn.trained)) && !turn.text.is_empty() {
            trained.push(start..text.len());
        }
    }
    RenderedChat { text, trained }
}

/// The rows of a unit as the trainer reads them: ids, texts, trained ranges.
pub(crate) fn pool_of(source: &Source, data: &UnitData, renderer: &Renderer) -> Result<Pool> {
    Ok(Pool::from_batch(RecordBatch::try_from_iter(columns_of(source, data, renderer)?)?))
}

/// The same, as columns.
fn columns_of(source: &Source, data: &UnitData, renderer: &Renderer) -> Result<Vec<(String, ArrayRef)>> {
    let conversations = source.layout().conversations(&data.batch)?;
    let chats = conversations.iter().map(|c| renderer.render(c)).collect::<Result<Vec<_>>>()?;
    let (texts, trained): (Vec<String>, Vec<_>) = chats.into_iter().map(|chat| (chat.text, chat.trained)).unzip();
    Ok(vec![
        (Column::ROW.as_str().to_owned(), Arc::new(UInt64Array::from(data.rows.clone()))),
        (TEXT.to_owned(), Arc::new(StringArray::from(texts))),
        (TRAINED.to_owned(), trained_column(&trained)?),
    ])
}

/// The column of a source that weighs its rows, as the option `row_weights` says.
///
/// # Errors
/// `column/missing` for a column that is not there.
pub(crate) fn weights_of<'a>(source: &Source, wanted: &'a str) -> Result<Option<&'a str>> {
    let has = |name: &str| source.schema().field_with_name(name).is_ok();
    match wanted {
        "none" => Ok(None),
        "auto" => Ok(has(PICKED).then_some(PICKED)),
        name if has(name) => Ok(Some(name)),
        name => Err(crate::features::missing_column(source, name)),
    }
}

/// A column of weights as numbers; a file without types has them as text.
fn numbers(batch: &RecordBatch, name: &str) -> Result<ArrayRef> {
    let wrong = || {
        Error::data("column/type", "the column holds no numbers")
            .hint("a weight is a number from 0; row_weights=none trains without weights")
            .at(Location::default().column(name))
    };
    let column = batch.column_by_name(name).ok_or_else(wrong)?;
    let found = column.data_type();
    let text = matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if found.is_numeric() || text { Ok(cast(column, &DataType::Float64)?) } else { Err(wrong()) }
}

/// All rows of a source as labelled sequences.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) source: &'a Source,
    pub(crate) renderer: &'a Renderer,
    pub(crate) tokenizer: &'a TextTokenizer,
    pub(crate) options: SequenceOptions,
    /// The column that weighs rows.
    pub(crate) weights: Option<&'a str>,
}

impl Rows<'_> {
    /// Read, render and tokenise everything.
    ///
    /// # Errors
    /// What reading, rendering and tokenising give; `data/nothing-to-learn` when no row has a label, `data/weightless` when
    /// none that has one counts; `cancelled`.
    pub(crate) fn read(&self, ctx: &Ctx) -> Result<(Vec<Sequence>, DatasetReport)> {
        let mut all = Vec::new();
        let report = self.each(ctx, |found| all.extend(found))?;
        Ok((all, report))
    }

    /// Read, render and tokenise everything, handing on the sequences a unit at a time.
    ///
    /// # Errors
    /// As [`Rows::read`].
    pub(crate) fn each(&self, ctx: &Ctx, mut take: impl FnMut(Vec<Sequence>)) -> Result<DatasetReport> {
        let ctx = ctx.child("tokenise");
        ctx.progress().set_total(self.source.rows());
        let mut report = DatasetReport::default();
        for unit in self.source.units() {
            let (_, found) = self.unit(unit, &ctx)?;
            add(&mut report, found.report);
            take(found.sequences);
        }
        ctx.progress().finish();
        match report.kept_rows {
            0 if !report.weightless.is_empty() => Err(weightless(usize::try_from(report.rows).unwrap_or(usize::MAX))),
            0 => Err(nothing_to_learn(&report)),
            _ => Ok(report),
        }
    }

    /// One unit: its rows as texts, and the sequences they make. A unit may have nothing to learn; only all of them may not.
    ///
    /// # Errors
    /// What reading, rendering and tokenising give; `cancelled`.
    pub(crate) fn unit(&self, unit: &Unit, ctx: &Ctx) -> Result<(Pool, Dataset)> {
        let pool = self.pool(unit)?;
        let found = tokenised(&pool, self.tokenizer, &self.options, ctx).map_err(|e| self.named(e))?;
        Ok((pool, found))
    }

    fn pool(&self, unit: &Unit) -> Result<Pool> {
        let data = self.source.read(unit, None)?;
        let mut columns = columns_of(self.source, &data, self.renderer)?;
        if let Some(name) = self.weights {
            columns.push((WEIGHT.to_owned(), numbers(&data.batch, name)?));
        }
        Ok(Pool::from_batch(RecordBatch::try_from_iter(columns)?))
    }

    /// Call the column of weights by the name it has in the input.
    fn named(&self, error: Error) -> Error {
        let row = error.location().and_then(|place| place.row);
        match (error.code(), row, self.weights) {
            ("data/row-weight", Some(row), Some(name)) => error.at(Location::default().row(row).column(name)),
            _ => error,
        }
    }
}

/// The error for rows that teach nothing, with what would help.
fn nothing_to_learn(report: &DatasetReport) -> Error {
    let DatasetReport { rows, beyond_rows, max_length, .. } = report;
    let (what, hint) = if *beyond_rows > 0 {
        let what = format!("in {beyond_rows} of them the answer begins behind the {max_length} tokens that are read");
        (what, "raise --max-length where the model's context allows it, or leave such rows out".to_owned())
    } else if report.empty.len() as u64 == *rows {
        ("they are empty".to_owned(), "look at the rows with 'curate inspect'".to_owned())
    } else {
        let hint = "name the column of the answers with --map response=COLUMN, or learn all tokens with -O loss_on=all";
        ("they have no answer".to_owned(), format!("{hint}; 'curate inspect' shows how the rows are read"))
    };
    Error::data("data/nothing-to-learn", format!("none of {rows} rows has something to learn: {what}")).hint(hint)
}

fn add(sum: &mut DatasetReport, part: DatasetReport) {
    sum.rows += part.rows;
    sum.kept_rows += part.kept_rows;
    sum.tokens += part.tokens;
    sum.labelled_tokens += part.labelled_tokens;
    sum.labelled_bytes += part.labelled_bytes;
    sum.longest_tokens = sum.longest_tokens.max(part.longest_tokens);
    sum.max_length = sum.max_length.max(part.max_length);
    sum.beyond_rows += part.beyond_rows;
    sum.truncated_rows += part.truncated_rows;
    sum.truncated_tokens += part.truncated_tokens;
    sum.eos_rows += part.eos_rows;
    sum.empty.extend(part.empty);
    sum.unlabelled.extend(part.unlabelled);
    sum.weightless.extend(part.weightless);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_teach_nothing_are_told_apart() {
        let report = DatasetReport { rows: 2, unlabelled: vec![0, 1], max_length: 64, ..DatasetReport::default() };
        let of = |report: &DatasetReport| {
            let error = nothing_to_learn(report);
            format!("{error} {}", error.hint_text().unwrap_or_default())
        };
        assert!(of(&report).contains("--map response=COLUMN"));
        let beyond = of(&DatasetReport { beyond_rows: 1, ..report.clone() });
        assert!(beyond.contains("behind the 64 tokens") && beyond.contains("--max-length"), "{beyond}");
        assert!(of(&DatasetReport { empty: vec![0, 1], unlabelled: vec![], ..report }).contains("empty"));
    }
}
