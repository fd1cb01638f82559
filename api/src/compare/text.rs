//! The table in words.

use super::summary::{BreakEven, Line, Stat};
use super::{CompareDone, plan::BASELINES};
use std::fmt::Write as _;

/// Heads and cells of the table, best method first.
#[must_use]
pub fn table(done: &CompareDone) -> Vec<Vec<String>> {
    let judged = done.lines.iter().any(|line| line.exact.is_some());
    let digits = digits(&done.lines);
    let mut heads = vec!["method", "loss"];
    heads.extend(judged.then_some("exact"));
    heads.extend(["vs random", "rows", "tokens", "FLOP choose", "FLOP train", "s choose", "s train", "pays"]);
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect()];
    rows.extend(done.lines.iter().map(|line| cells(line, judged, digits)));
    rows
}

fn cells(line: &Line, judged: bool, digits: usize) -> Vec<String> {
    let percent = |s: &Stat| spread(&Stat { mean: 100.0 * s.mean, sd: s.sd.map(|sd| 100.0 * sd) }, 1);
    let gain = match (line.break_even, judged) {
        (BreakEven::Baseline, _) => "-".to_owned(),
        (_, true) => signed(percent(&line.gain), line.gain.mean),
        (_, false) => signed(spread(&line.gain, digits), line.gain.mean),
    };
    let mut cells = vec![line.method.clone(), spread(&line.loss, digits)];
    cells.extend(judged.then(|| line.exact.as_ref().map_or_else(String::new, percent)));
    cells.push(gain);
    cells.extend([line.rows, line.tokens].map(|count| format!("{count:.0}")));
    cells.extend([line.select_flop, line.train_flop].map(flop));
    cells.extend([line.select_s, line.train_s].map(|s| format!("{s:.1}")));
    cells.push(pays(line.break_even));
    cells
}

/// Decimals of losses: as many as tell the methods' means apart with two digits, four at least.
fn digits(lines: &[Line]) -> usize {
    let mut losses: Vec<f64> = lines.iter().map(|line| line.loss.mean).filter(|loss| loss.is_finite()).collect();
    losses.sort_by(f64::total_cmp);
    let gaps = losses.windows(2).map(|pair| pair[1] - pair[0]);
    // what is smaller than a millionth of the loss is rounding, not a difference
    let gap = gaps.zip(&losses).filter(|(gap, loss)| *gap > 1e-6 * loss.abs()).map(|(gap, _)| gap);
    let least = gap.fold(f64::INFINITY, f64::min);
    (4..9).find(|&digits| least >= 10f64.powi(1 - digits)).map_or(4, |digits| digits.unsigned_abs() as usize)
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
        BreakEven::WithinNoise => "within noise".to_owned(),
        BreakEven::Always => "at once".to_owned(),
        BreakEven::Above(seconds) if seconds >= 0.1 => format!("above {seconds:.1} s"),
        BreakEven::Above(seconds) => format!("above {seconds:.0e} s"),
    }
}

/// What the columns mean, for below the table.
#[must_use]
pub fn legend(done: &CompareDone) -> String {
    let gain = if done.compare.judge.is_some() { "points of exact match" } else { "loss" };
    format!(
        "{} seeds, {} steps an arm, budget {}; mean ± sample deviation. 'vs random' is the gain in {gain} over {}, seed by seed. \
         FLOP counts matrix products of the model only. 's choose' is without a cache. 'pays' says from which length of \
         training on random rows choosing and training to the same loss take less time: never where nothing is gained, and \
         within noise where the gain is no larger than its deviation.",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(loss: f64) -> Line {
        let stat = Stat { mean: loss, sd: None };
        let (exact, curve, arms) = (None, Vec::new(), Vec::new());
        let (rows, tokens, select_flop, train_flop, select_s, train_s) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        let (method, online, gain, break_even) = (String::new(), false, stat, BreakEven::Never);
        Line {
            method,
            online,
            loss: stat,
            exact,
            gain,
            rows,
            tokens,
            select_flop,
            train_flop,
            select_s,
            train_s,
            break_even,
            curve,
            arms,
        }
    }

    #[test]
    fn close_losses_are_told_apart() {
        assert_eq!(digits(&[line(2.5), line(2.25)]), 4);
        assert_eq!(digits(&[line(2.5), line(2.500_03), line(2.25)]), 6);
        assert_eq!(digits(&[line(2.5), line(2.5)]), 4);
        assert_eq!(pays(BreakEven::Above(0.02)), "above 2e-2 s");
    }
}
