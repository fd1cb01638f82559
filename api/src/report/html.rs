//! The page: a fixed frame, style and script, and the report as JSON in their midst. All words of the data are put on the page
//! as text, never as markup, and no byte of it can end the element it lies in.

use super::data::Report;
use curate_core::{Error, Result};

const FRAME: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const MAP: &str = include_str!("map.js");
const SCRIPT: &str = include_str!("page.js");

/// The report as one HTML file.
pub(super) fn page(report: &Report) -> Result<String> {
    let data = serde_json::to_string(report).map_err(|e| Error::io("json", e.to_string()))?;
    let data = harmless(&data);
    let parts = [("/*style*/", STYLE), ("/*data*/", data.as_str()), ("/*map*/", MAP), ("/*script*/", SCRIPT)];
    let mut page = String::with_capacity(data.len() + FRAME.len() + STYLE.len() + MAP.len() + SCRIPT.len());
    let mut rest = FRAME;
    for (mark, part) in parts {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

/// The same JSON without a character that means something to HTML or ends a line of a script.
fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + json.len() / 16);
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_text() {
        let hostile = "</script><script>alert(1)</script><!-- \u{2028} &amp;";
        let json = serde_json::to_string(hostile).unwrap();
        let safe = harmless(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), hostile);
    }

    #[test]
    fn the_frame_has_a_place_for_each_part() {
        let at = |mark: &str| FRAME.match_indices(mark).map(|found| found.0).collect::<Vec<_>>();
        let places = ["/*style*/", "/*data*/", "/*map*/", "/*script*/"].map(at);
        assert!(places.iter().all(|p| p.len() == 1) && places.is_sorted(), "{places:?}");
        assert!(!FRAME.contains("http:") && !FRAME.contains("https:"));
    }
}
