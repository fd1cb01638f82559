//! Which bytes of a rendered conversation a model is trained on.

use super::{ChatTemplate, generation};
use crate::detect::{Conversation, Role, Turn};
use std::ops::Range;

/// From the marks of a template: one a trained assistant turn. `None` when turns that must not be trained on cannot be told
/// from the others.
pub(super) fn of_marks(spans: Vec<Range<usize>>, turns: &[Turn]) -> Option<Vec<Range<usize>>> {
    let assistants: Vec<bool> = turns.iter().filter(|t| t.role == Role::Assistant).map(|t| t.trained).collect();
    let kept: Vec<_> = match assistants.iter().all(|&trained| trained) {
        true => spans,
        false if spans.len() == assistants.len() => {
            spans.into_iter().zip(assistants).filter(|(_, trained)| *trained).map(|(s, _)| s).collect()
        }
        false => return None,
    };
    Some(kept.into_iter().filter(|span| !span.is_empty()).collect())
}

/// From the growth of the text: what a turn adds after the generation prompt. Where the template does not grow turn by turn, the
/// turn's own text is looked for.
pub(super) fn of_growth(template: &ChatTemplate, conversation: &Conversation, text: &str) -> Option<Vec<Range<usize>>> {
    let (mut spans, mut from) = (Vec::new(), 0);
    for (i, turn) in conversation.turns.iter().enumerate() {
        if turn.role != Role::Assistant {
            continue;
        }
        let span = grown(template, conversation, i, text)
            .filter(|span| span.start >= from)
            .or_else(|| found(text, from, turn.text.trim()))?;
        from = span.end;
        if turn.trained && !span.is_empty() {
            spans.push(span);
        }
    }
    Some(spans)
}

fn grown(template: &ChatTemplate, conversation: &Conversation, turn: usize, text: &str) -> Option<Range<usize>> {
    let part = |turns: usize, prompt: bool| {
        let raw = template.text_of(&conversation.turns[..turns], conversation.tools.as_deref(), prompt).ok()?;
        Some(generation::split(&raw).0)
    };
    let (before, after) = (part(turn, true)?, part(turn + 1, false)?);
    (after.starts_with(&before) && text.starts_with(&after)).then_some(before.len()..after.len())
}

fn found(text: &str, from: usize, turn: &str) -> Option<Range<usize>> {
    let start = from + text.get(from..)?.find(turn)?;
    Some(start..start + turn.len())
}
