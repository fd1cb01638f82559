//! Asks a model every question and judges its answers.

use super::items::EvalItem;
use super::judge::{Judge, Verdict};
use crate::model::Generator;
use crate::tokenizer::TextTokenizer;
use curate_core::{Ctx, Error, Result};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// A model that writes: the most likely token after each prompt, again and again.
pub trait Generate {
    /// New tokens after each prompt, at most `max_new`, up to the first of `stop` (given back or not).
    ///
    /// # Errors
    /// What the model gives; `cancelled`.
    fn generate(&self, prompts: &[Vec<u32>], max_new: usize, stop: &[u32], ctx: &Ctx) -> Result<Vec<Vec<u32>>>;
}

impl Generate for Generator<'_> {
    fn generate(&self, prompts: &[Vec<u32>], max_new: usize, stop: &[u32], ctx: &Ctx) -> Result<Vec<Vec<u32>>> {
        Generator::generate(self, prompts, max_new, stop, ctx)
    }
}

/// How a model is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvalOptions {
    /// Longest answer, tokens.
    pub max_new_tokens: usize,
    /// Prompts asked at once.
    pub batch_size: usize,
    /// How answers are compared.
    pub judge: Judge,
}

impl Default for EvalOptions {
    fn default() -> Self {
        Self { max_new_tokens: 64, batch_size: 32, judge: Judge::Exact }
    }
}

/// A question, what the model wrote, and what the judge says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Row id of the item.
    pub row: u64,
    /// Task of the item.
    pub task: String,
    /// Group of the item.
    pub group: String,
    /// What the model wrote.
    pub completion: String,
    /// What the judge says.
    pub verdict: Verdict,
}

/// Ask `model` every item, in batches of like length; the answers come in the order of `items`.
///
/// # Errors
/// `eval/empty-prompt` with the row, `eval/answers` when the model answers more or fewer prompts than it was asked,
/// `cancelled`, and what model and tokenizer give.
pub fn evaluate(
    model: &dyn Generate,
    tokenizer: &TextTokenizer,
    items: &[EvalItem],
    options: &EvalOptions,
    ctx: &Ctx,
) -> Result<Vec<Judged>> {
    let prompts = items.iter().map(|item| prompt_ids(item, tokenizer)).collect::<Result<Vec<_>>>()?;
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&at| (Reverse(prompts[at].len()), at));
    let mut judged = vec![Judged::default(); items.len()];
    for batch in order.chunks(options.batch_size.max(1)) {
        ctx.tick(batch.len() as u64)?;
        let asked: Vec<Vec<u32>> = batch.iter().map(|&at| prompts[at].clone()).collect();
        let answers = model.generate(&asked, options.max_new_tokens, tokenizer.stops(), ctx)?;
        if answers.len() != batch.len() {
            let (got, asked) = (answers.len(), batch.len());
            return Err(Error::data("eval/answers", format!("{got} answers to {asked} prompts"))
                .hint("the model's generator is broken; report it"));
        }
        for (&at, answer) in batch.iter().zip(&answers) {
            let completion = tokenizer.decode(until_stop(answer, tokenizer.stops()))?;
            judged[at] = judge(&items[at], completion, options.judge);
        }
    }
    Ok(judged)
}

/// The prompt as ids.
pub(crate) fn prompt_ids(item: &EvalItem, tokenizer: &TextTokenizer) -> Result<Vec<u32>> {
    let ids = tokenizer.ids(&item.prompt)?;
    if ids.is_empty() {
        return Err(Error::data("eval/empty-prompt", "a prompt has no token")
            .hint("drop rows without a prompt")
            .at(curate_core::Location::default().row(item.row).column("prompt")));
    }
    Ok(ids)
}

fn until_stop<'a>(ids: &'a [u32], stops: &[u32]) -> &'a [u32] {
    let end = ids.iter().position(|id| stops.contains(id)).unwrap_or(ids.len());
    &ids[..end]
}

fn judge(item: &EvalItem, completion: String, judge: Judge) -> Judged {
    let verdict = judge.judge(&completion, &item.label);
    let (task, group) = (item.task.clone(), item.group.clone());
    Judged { row: item.row, task, group, completion, verdict }
}
