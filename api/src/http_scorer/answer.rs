//! What a server may answer: one finite number for each row asked about, in order. Anything else names the row.

use curate_core::{Error, Location, Result};
use serde_json::Value;

/// The scores of an answer for these rows.
///
/// # Errors
/// `http/answer` when it is no `{"scores": [...]}`, `http/answer-length` when there are more or fewer scores than rows,
/// `http/answer-value` with the row of a score that is no finite number.
pub(super) fn scores(body: &[u8], ids: &[u64]) -> Result<Vec<f32>> {
    let form = "answer {\"scores\": [0.5, ...]}, one finite number for each row, in their order";
    let parsed: Value = serde_json::from_slice(body).map_err(|e| {
        Error::data("http/answer", format!("the answer for {} is not JSON: {e}", named(ids))).at(first(ids)).hint(form)
    })?;
    let Some(list) = parsed.get("scores").and_then(Value::as_array) else {
        let what = format!("the answer for {} has no list 'scores'", named(ids));
        return Err(Error::data("http/answer", what).at(first(ids)).hint(form));
    };
    if list.len() != ids.len() {
        let what = format!("{} scores for the {} rows {}", list.len(), ids.len(), named(ids));
        return Err(Error::data("http/answer-length", what).at(missing(list.len(), ids)).hint(form));
    }
    ids.iter().zip(list).map(|(&id, value)| score(value, id).map_err(|e| e.hint(form))).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "scores are f32 columns")]
fn score(value: &Value, id: u64) -> Result<f32> {
    let found = value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    found.ok_or_else(|| {
        let shown: String = value.to_string().chars().take(60).collect();
        Error::data("http/answer-value", format!("the server's score is {shown}, not a finite number"))
            .at(Location::default().row(id))
    })
}

/// The first row without a score, or the last row where there are too many.
fn missing(scores: usize, ids: &[u64]) -> Location {
    ids.get(scores).or(ids.last()).map_or_else(Location::default, |&id| Location::default().row(id))
}

/// The place of the first row.
pub(super) fn first(ids: &[u64]) -> Location {
    missing(0, ids)
}

/// Rows in words.
pub(super) fn named(ids: &[u64]) -> String {
    match ids {
        [] => "no row".to_owned(),
        [one] => format!("row {one}"),
        [first, .., last] => format!("rows {first} to {last}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lies_are_named_with_their_row() {
        let ids = [4, 9];
        assert_eq!(scores(br#"{"scores": [1, -0.5]}"#, &ids).unwrap(), [1.0, -0.5]);
        for (body, code, row) in [
            ("", "http/answer", 4),
            ("<html>", "http/answer", 4),
            (r#"{"score": [1, 2]}"#, "http/answer", 4),
            (r#"{"scores": "12"}"#, "http/answer", 4),
            (r#"{"scores": [1, NaN]}"#, "http/answer", 4),
            (r#"{"scores": [1]}"#, "http/answer-length", 9),
            (r#"{"scores": []}"#, "http/answer-length", 4),
            (r#"{"scores": [1, 2, 3]}"#, "http/answer-length", 9),
            (r#"{"scores": [1, null]}"#, "http/answer-value", 9),
            (r#"{"scores": ["1", 2]}"#, "http/answer-value", 4),
            (r#"{"scores": [1, 1e300]}"#, "http/answer-value", 9),
            (r#"{"scores": [[1], 2]}"#, "http/answer-value", 4),
        ] {
            let error = scores(body.as_bytes(), &ids).unwrap_err();
            let place = error.location().and_then(|at| at.row);
            assert_eq!((error.code(), place, error.exit_code()), (code, Some(row), 3), "{body}");
            assert!(error.hint_text().is_some());
        }
    }
}
