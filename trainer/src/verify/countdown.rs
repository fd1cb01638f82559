//! Countdown: an expression that uses every given number once and reaches the target.
//!
//! The label is a solution (`<answer> (8 - 5) * 3 </answer>`, or the bare expression): its numbers are the given ones, its value is the
//! target; or the puzzle itself, `8, 5, 3 = 9`. Source: the task of `TinyZero` (`Jiayi-Pan/TinyZero`, `countdown.py`). Deviations: exact
//! fractions; a grammar without its holes (`2**3`, `7//2`, `1.5`, unary minus, and `9**9**9`, on which it hangs); the answer
//! may be bare where the label is. Cost: one pass over label and answer.

use super::expression::{Refusal, check, evaluate};
use crate::eval::{Rational, Verdict};

/// Given numbers and what to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Puzzle {
    /// The numbers, each to be used once.
    pub numbers: Vec<u32>,
    /// The value to reach.
    pub target: Rational,
}

impl Puzzle {
    /// The puzzle that a label stands for; `None` when it is neither a solution nor a puzzle.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        let text = extract(label).unwrap_or_else(|| label.trim());
        if let Some((numbers, target)) = text.split_once('=') {
            let words = numbers.split([',', ' ']).filter(|word| !word.is_empty());
            let numbers = words.map(|word| word.parse().ok()).collect::<Option<Vec<u32>>>()?;
            return Some(Self { numbers, target: Rational::parse(target)? });
        }
        let (target, numbers) = evaluate(text).ok()?;
        Some(Self { numbers, target })
    }
}

/// The expression in a response: the text of the last whole `<answer>..</answer>`.
#[must_use]
pub fn extract(response: &str) -> Option<&str> {
    let end = response.rfind("</answer>")?;
    let start = response[..end].rfind("<answer>")? + "<answer>".len();
    Some(response[start..end].trim())
}

/// The expression a response gives for this label, and why it is no solution.
///
/// # Errors
/// Why not; also when the label is no puzzle.
pub fn countdown<'a>(response: &'a str, label: &str) -> Result<&'a str, Refusal> {
    let bare = || (!label.contains("</answer>")).then(|| response.trim());
    let expression = extract(response).or_else(bare).ok_or(Refusal::NoAnswer)?;
    let puzzle = Puzzle::of_label(label).ok_or(Refusal::NoPuzzle)?;
    check(expression, &puzzle.numbers, puzzle.target).map(|()| expression)
}

/// The verdict on a response.
pub(crate) fn judge(response: &str, label: &str) -> Verdict {
    let answer = extract(response).unwrap_or_else(|| response.trim()).to_owned();
    Verdict { correct: countdown(response, label).is_ok(), answer: Some(answer), digits: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_solutions_or_puzzles() {
        let puzzle = |label: &str| Puzzle::of_label(label).map(|p| (p.numbers, p.target.to_string()));
        assert_eq!(puzzle("<answer> (8 - 5) * 3 </answer>"), Some((vec![8, 5, 3], "9".to_owned())));
        assert_eq!(puzzle("8/(3-8/3)"), Some((vec![8, 3, 8, 3], "24".to_owned())));
        assert_eq!(puzzle("8, 5 3 = 9"), Some((vec![8, 5, 3], "9".to_owned())));
        assert_eq!((puzzle("nine"), puzzle("a = 9"), puzzle("1 = x")), (None, None, None));
    }

    #[test]
    fn the_label_says_whether_an_answer_is_marked() {
        let marked = "<answer> 3 * (8 - 5) </answer>";
        assert_eq!(countdown("so <answer>(8-5)*3</answer>", marked), Ok("(8-5)*3"));
        assert_eq!(countdown("(8-5)*3", marked), Err(Refusal::NoAnswer));
        assert_eq!(countdown(" (8-5)*3\n", "3*(8-5)"), Ok("(8-5)*3"));
        assert_eq!(countdown("8+1", "3*(8-5)"), Err(Refusal::Numbers));
        assert_eq!(countdown("9", "no puzzle"), Err(Refusal::NoPuzzle));
        assert!(judge("(8-5)*3", "8, 5, 3 = 9").correct && !judge("8*5*3", "8, 5, 3 = 9").correct);
    }
}
