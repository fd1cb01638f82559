//! `{% generation %}` blocks: rewritten into plain Jinja that leaves marks in the text, which are taken out again.

use std::ops::Range;

/// Marks around generated text. They are built from code points that are no characters, so that no text holds them.
const OPEN: &str = "\u{fdd0}\u{fdd1}\u{fdd2}";
const CLOSE: &str = "\u{fdd0}\u{fdd3}\u{fdd2}";

/// Rewrite the generation tags of a template; also whether there were any. White-space control of the tags is kept: what stands
/// left of the tag is governed by the first new tag, what stands right of it by the last.
pub(super) fn rewrite(source: &str) -> (String, bool) {
    let (mut out, mut rest, mut marked) = (String::with_capacity(source.len()), source, false);
    while let Some(start) = rest.find("{%") {
        // The sign of an opening is not that of its closing: `{%}` is open still.
        let Some(length) = rest[start + 2..].find("%}") else { break };
        let tag = &rest[start..start + length + 4];
        let inner = &tag[2..tag.len() - 2];
        let (left, inner) = control(inner, true);
        let (right, inner) = control(inner, false);
        out.push_str(&rest[..start]);
        match inner.trim() {
            "generation" => {
                marked = true;
                out.extend(["{%", left, " if true %}", OPEN, "{% if true ", right, "%}"]);
            }
            "endgeneration" => out.extend(["{%", left, " endif %}", CLOSE, "{% endif ", right, "%}"]),
            _ => out.push_str(tag),
        }
        rest = &rest[start + tag.len()..];
    }
    out.push_str(rest);
    (out, marked)
}

/// The white-space control sign at one end of a tag, and the tag without it.
fn control(inner: &str, left: bool) -> (&str, &str) {
    let at = if left { inner.len().min(1) } else { inner.len().saturating_sub(1) };
    if !inner.is_char_boundary(at) {
        return ("", inner);
    }
    let (a, b) = inner.split_at(at);
    let (sign, body) = if left { (a, b) } else { (b, a) };
    if matches!(sign, "-" | "+") { (sign, body) } else { ("", inner) }
}

/// Take the marks out of a rendered text and give the ranges between them.
pub(super) fn split(raw: &str) -> (String, Vec<Range<usize>>) {
    let (mut text, mut spans, mut open, mut rest) = (String::with_capacity(raw.len()), Vec::new(), None, raw);
    while let Some(at) = rest.find('\u{fdd0}') {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        if let Some(next) = after.strip_prefix(OPEN) {
            open = Some(text.len());
            rest = next;
        } else if let Some(next) = after.strip_prefix(CLOSE) {
            spans.extend(open.take().map(|start| start..text.len()));
            rest = next;
        } else {
            text.push('\u{fdd0}');
            rest = &after['\u{fdd0}'.len_utf8()..];
        }
    }
    text.push_str(rest);
    (text, spans)
}
