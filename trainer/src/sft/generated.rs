//! The loss of a model on its own answers: a row's question is put to it, and the answer it gives greedily is read like a given one.
//!
//! The question is everything before the last labelled range of the row; the answer ends with the token that ends it, or after
//! [`generated_tokens`](crate::signals::SignalOptions::generated_tokens), or where question and answer reach `max_length`. Formula: mean of `-ln p(token | before)` over the answer.
//! Source: "Diversify and Conquer" (2024), the perplexity form of its score, which sets `PPL(generated)` beside `PPL(gold)`.
//! Deviation: none known. A row with nothing before its answer has 0. Cost: one pass over the questions, two operations a weight
//! and generated token, one pass over questions and answers.

use super::{SftLearner, Trainable};
use crate::model::{Draws, Generator, Sample};
use crate::signals::Row;
use crate::{Batch, IGNORE, Sequence};
use curate_core::{Ctx, Result};

impl<M: Trainable> SftLearner<M> {
    /// Fill in what the model thinks of its own answers.
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    pub(super) fn own_answers(&self, rows: &[Sequence], found: &mut [Row], ctx: &Ctx) -> Result<()> {
        let Some(model) = self.model.transformer() else { return Ok(()) };
        let questions: Vec<Vec<u32>> = rows.iter().map(|row| row.tokens[..last_answer(row)].to_vec()).collect();
        let stream = ctx.stream("own answers");
        let (max_new, stop) = (self.signals.generated_tokens.max(1), self.tokenizer.stops());
        let draws = Draws { copies: 1, max_new, stop, rng: &|question, _| stream(question as u64) };
        let answers = Generator::new(model).sample(&questions, &draws, ctx)?;
        let fitting = |(question, answer): (Vec<u32>, Sample)| {
            let room = self.config.max_length.saturating_sub(question.len()).max(1);
            joined(question, &answer.tokens[..room.min(answer.tokens.len())])
        };
        let answered: Vec<Sequence> = questions.into_iter().zip(answers).map(fitting).collect();
        let size = self.config.batch_size.max(1);
        for (group, rows) in answered.chunks(size).zip(found.chunks_mut(size)) {
            ctx.tick(0)?;
            let asked: Vec<usize> = (0..group.len()).filter(|i| group[*i].labelled() > 0).collect();
            if asked.is_empty() {
                continue;
            }
            let losses = self.model.losses(&Batch::of(asked.iter().map(|i| &group[*i])).unweighted(), ctx)?;
            for (at, i) in asked.into_iter().enumerate() {
                rows[i].generated = losses.nll[at] / losses.labelled[at].max(1) as f64;
            }
        }
        Ok(())
    }
}

/// Where the last labelled range begins.
fn last_answer(row: &Sequence) -> usize {
    let labelled = |at: &usize| row.labels[*at] != IGNORE;
    let end = (0..row.labels.len()).rev().find(labelled).map_or(row.labels.len(), |at| at + 1);
    (0..end).rev().take_while(labelled).last().unwrap_or(end)
}

/// A question with an answer that carries the labels.
fn joined(mut tokens: Vec<u32>, answer: &[u32]) -> Sequence {
    let labels = tokens.iter().map(|_| IGNORE).chain(answer.iter().copied()).collect();
    tokens.extend(answer);
    Sequence { tokens, labels, ..Sequence::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_ends_where_the_last_answer_begins() {
        let row = |labels: &[u32]| Sequence { labels: labels.to_vec(), ..Sequence::default() };
        assert_eq!(last_answer(&row(&[IGNORE, 7, 7, IGNORE, 5, 6])), 4);
        assert_eq!(last_answer(&row(&[IGNORE, 7, IGNORE])), 1);
        assert_eq!(last_answer(&row(&[3, 4])), 0);
        assert_eq!(joined(vec![1, 2], &[9]).labels, [IGNORE, IGNORE, 9]);
    }
}
