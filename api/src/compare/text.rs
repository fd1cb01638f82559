//! The table in words.

use super::summary::{BreakEven, Line, Stat};
use super::{CompareDone, plan::BASELINES};
use std::fmt::Write as _;

/// Heads and cells of the table, best method first.
#[must_use]
pub fn table(done: &CompareDone) -> Vec<Vec<String>> {
    let judged = done.lines.iter().any(|line| line.exact.is_some());
    let mut heads = vec!["method", "loss"];
    heads.extend(judged.then_some("exact"));
    heads.extend(["vs random", "rows", "tokens", "FLOP choose", "FLOP train", "s choose", "s train", "pays"]);
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect()];
    rows.extend(done.lines.iter().map(|line| cells(line, judged)));
    rows
}

fn cells(line: &Line, judged: bool) -> Vec<String> {
    let percent = |s: &Stat| spread(&Stat { mean: 100.0 * s.mean, sd: s.sd.map(|sd| 100.0 * sd) }, 1);
    let gain = match (line.break_even, judged) {
        (BreakEven::Baseline, _) => "-".to_owned(),
        (_, true) => signed(percent(&line.gain), line.gain.mean),
        (_, false) => signed(spread(&line.gain, 4), line.gain.mean),
    };
    let mut cells = vec![line.method.clone(), spread(&line.loss, 4)];
    cells.extend(judged.then(|| line.exact.as_ref().map_or_else(String::new, percent)));
    cells.push(gain);
    cells.extend([line.rows, line.tokens].map(|count| format!("{count:.0}")));
    cells.extend([line.select_flop, line.train_flop].map(flop));
    cells.extend([line.select_s, line.train_s].map(|s| format!("{s:.1}")));
    cells.push(pays(line.break_even));
    cells
}

fn signed(text: String, value: f64) -> String {
    if value > 0.0 { format!("+{text}") } else { text }
}

fn spread(stat: &Stat, digits: usize) -> String {
    let sd = stat.sd.map_or_else(String::new, |sd| format!(" ± {sd:.digits$}"));
    format!("{:.digits$}{sd}", stat.mean)
}

fn flop(flop: f64) -> String {
    if flop == 0.0 { "0".to_owned() } else { format!("{flop:.1e}") }
}

fn pays(break_even: BreakEven) -> String {
    match break_even {
        BreakEven::Baseline => "-".to_owned(),
        BreakEven::Never => "never".to_owned(),
        BreakEven::Always => "at once".to_owned(),
        BreakEven::Above(seconds) => format!("above {seconds:.1} s"),
    }
}

/// What the columns mean, for below the table.
#[must_use]
pub fn legend(done: &CompareDone) -> String {
    let gain = if done.compare.judge.is_some() { "points of exact match" } else { "loss" };
    format!(
        "{} seeds, {} steps an arm, budget {}; mean ± sample deviation. 'vs random' is the gain in {gain} over {}, seed by seed. \
         FLOP counts matrix products of the model only. 's choose' is without a cache. 'pays' says from which length of \
         training on random rows choosing and training to the same loss take less time.",
        done.compare.seeds.len(),
        done.steps,
        done.compare.budget,
        BASELINES[0],
    )
}

/// The table for a page.
pub(super) fn markdown(done: &CompareDone) -> String {
    let rows = table(done);
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if at == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    let _ = writeln!(text, "\n{}", legend(done));
    text
}
