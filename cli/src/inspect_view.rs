//! `curate inspect` in the terminal.

use crate::view::visible;
use curate_api::{Distribution, Inspection, Sample, format_bytes};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RESET: &str = "\x1b[0m";

/// Paints only when the output is a terminal.
pub(crate) struct Paint(pub bool);

impl Paint {
    fn on(&self, code: &str, text: &str) -> String {
        if self.0 { format!("{code}{text}{RESET}") } else { text.to_owned() }
    }
}

/// The whole report.
pub(crate) fn inspection(found: &Inspection, paint: &Paint) -> String {
    let head = |text: &str| paint.on(BOLD, text);
    let mut lines = vec![format!("{}  {} rows in {} file(s)", head("INPUT"), found.rows, found.files.len())];
    lines.extend(
        found.files.iter().take(8).map(|f| format!("  {} ({} rows, {})", f.path, f.rows, format_bytes(f.bytes))),
    );
    if found.files.len() > 8 {
        lines.push(format!("  ... and {} more", found.files.len() - 8));
    }
    lines.push(format!("\n{}  {}", head("FORMAT"), visible(&found.layout)));
    let width = found.columns.iter().map(|c| c.name.chars().count()).max().unwrap_or(0).min(32);
    for c in &found.columns {
        let nulls = if c.nulls > 0 { paint.on(YELLOW, &format!("  {} null", c.nulls)) } else { String::new() };
        let kind: String = visible(&c.kind).chars().take(60).collect();
        lines.push(format!("  {:<width$}  {}{nulls}", visible(&c.name), paint.on(DIM, &kind)));
    }
    if !found.roles.is_empty() {
        let roles: Vec<String> = found.roles.iter().map(|(role, n)| format!("{role} {n}")).collect();
        lines.push(format!("  turns: {}", roles.join(", ")));
    }
    lines.push(format!("\n{}", head("LENGTH")));
    lines.push(distribution("tokens", &found.tokens));
    lines.push(distribution("characters", &found.chars));
    lines.push(format!("\n{}", head("HEALTH")));
    lines.extend(health(found, paint));
    for sample in &found.samples {
        lines.push(format!(
            "\n{}  {}",
            head(&format!("ROW {}", sample.row)),
            paint.on(DIM, "(what would be trained on is marked)")
        ));
        lines.push(render(sample, paint));
    }
    lines.join("\n")
}

fn health(found: &Inspection, paint: &Paint) -> Vec<String> {
    let items = [
        (found.empty_rows, "rows with empty text", "drop them with --where, or check --map"),
        (
            found.duplicate_rows,
            "rows repeat an earlier row exactly",
            "--filter semantic-dedup removes them and near copies",
        ),
        (found.oversized_rows, "rows above 2048 tokens", "a trainer will cut them, or --where on length"),
        (found.zero_label_rows, "rows with nothing to train on", "check the response column (--map response=NAME)"),
        (found.skipped_rows, "unreadable rows", "repair them, or leave them out with --on-bad-row skip"),
        (found.filtered_rows, "rows excluded by --where", ""),
    ];
    let bad = found.bad_rows.iter().map(|bad| format!("       {}", visible(bad)));
    items
        .iter()
        .map(|(count, what, hint)| match count {
            0 => format!("  {} no {what}", paint.on(GREEN, "ok")),
            n if hint.is_empty() => format!("  -- {n} {what}"),
            n => format!(
                "  {} {n} {what} ({:.1}%): {hint}",
                paint.on(YELLOW, "!!"),
                100.0 * *n as f64 / found.rows.max(1) as f64
            ),
        })
        .chain(bad)
        .collect()
}

fn distribution(name: &str, d: &Distribution) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = d.histogram.iter().copied().max().unwrap_or(0).max(1);
    let first = d.histogram.iter().position(|&n| n > 0).unwrap_or(0);
    let bar = |n: u64| if n == 0 { ' ' } else { BARS[((n * 7).div_ceil(top)).min(7) as usize] };
    let shape: String = d.histogram[first.min(d.histogram.len())..].iter().map(|&n| bar(n)).collect();
    let low = if first == 0 { 0 } else { 1u64 << (first - 1) };
    let high = 1u64 << d.histogram.len().saturating_sub(1);
    format!(
        "  {name:<10}  median {:>6}  90% {:>6}  99% {:>6}  max {:>7}  mean {:>8.1}  {low} {shape} {high}",
        d.p50, d.p90, d.p99, d.max, d.mean
    )
}

/// The sample with trained parts marked: green in a terminal, ⟦ ⟧ elsewhere.
fn render(sample: &Sample, paint: &Paint) -> String {
    marked(&sample.text, &sample.trained, paint)
}

/// A text with ranges of it marked, long stretches cut.
pub(crate) fn marked(text: &str, ranges: &[std::ops::Range<usize>], paint: &Paint) -> String {
    let mut out = String::new();
    let mut at = 0;
    for range in ranges {
        out.push_str(&shorten(text.get(at..range.start).unwrap_or_default()));
        let inside = shorten(text.get(range.clone()).unwrap_or_default());
        let (before, after) = if paint.0 { (GREEN, RESET) } else { ("⟦", "⟧") };
        out.extend([before, &inside, after]);
        at = range.end;
    }
    out.push_str(&shorten(text.get(at..).unwrap_or_default()));
    out.lines().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n")
}

/// Long stretches are cut in the middle; control characters are written out.
fn shorten(text: &str) -> String {
    let count = text.chars().count();
    if count <= 700 {
        return visible(text);
    }
    let head: String = text.chars().take(500).collect();
    let tail: String = text.chars().skip(count - 150).collect();
    format!("{} [... {} characters ...] {}", visible(&head), count - 650, visible(&tail))
}
