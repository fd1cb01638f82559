//! What `curate compare` says to people.

use curate_api::{CompareDone, compare_legend, compare_table};

/// The table, aligned, with what its columns mean and where the files are.
pub(crate) fn compared(done: &CompareDone) -> String {
    let rows = compare_table(done);
    let columns = rows.first().map_or(0, Vec::len);
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cell = |(at, (text, width)): (usize, (&String, &usize))| {
            if at == 0 { format!("{text:<width$}") } else { format!("{text:>width$}") }
        };
        row.iter().zip(&widths).enumerate().map(cell).collect::<Vec<_>>().join("  ")
    };
    let table: Vec<String> = rows.iter().map(line).collect();
    format!(
        "{}\n\n{}\n\nwrote     {}",
        table.join("\n"),
        folded(&compare_legend(done), 110),
        done.files.join("\n          ")
    )
}

/// The text in lines of at most so many characters.
fn folded(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}
