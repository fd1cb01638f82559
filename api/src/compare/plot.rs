//! One plot, as an SVG that needs nothing else: results of every seed on the left, loss along the way on the right.

use super::CompareDone;
use super::summary::{Line, Stat};
use std::fmt::Write as _;

const COLOURS: [&str; 10] =
    ["#2563a8", "#c2571a", "#2f7d4f", "#8a3ea8", "#b3263a", "#6b6f1d", "#1d7f8c", "#a84f7d", "#5a4a9c", "#7a5a3a"];
const GREY: &str = "#6b7280";
const ROW: f64 = 30.0;
const TOP: f64 = 64.0;

/// A part of the page with a scale in each direction.
struct Panel {
    x: (f64, f64),
    y: (f64, f64),
    from: (f64, f64),
    to: (f64, f64),
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        self.x.0 + (value - self.from.0) / (self.to.0 - self.from.0).max(f64::MIN_POSITIVE) * (self.x.1 - self.x.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.y.1 - (value - self.from.1) / (self.to.1 - self.from.1).max(f64::MIN_POSITIVE) * (self.y.1 - self.y.0)
    }
}

/// The plot.
pub(super) fn svg(done: &CompareDone) -> String {
    let lines = &done.lines;
    let height = (TOP + ROW * lines.len() as f64 + 60.0).max(340.0);
    let names = 12.0 + 7.2 * lines.iter().map(|line| line.method.chars().count()).max().unwrap_or(0) as f64;
    let (left, right) = (names.max(120.0), names.max(120.0) + 330.0);
    let width = right + 470.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    results(&mut text, done, (left, right), height);
    curves(&mut text, done, (right + 90.0, width - 30.0), height);
    text.push_str("</svg>\n");
    text
}

fn colour(at: usize) -> &'static str {
    COLOURS[at % COLOURS.len()]
}

/// What is shown of an arm, with its name: right answers where they were judged, else loss.
fn metric(done: &CompareDone) -> (&'static str, bool) {
    if done.lines.iter().all(|line| line.exact.is_some()) {
        ("exact match, %", true)
    } else {
        ("loss on held-out rows", false)
    }
}

fn results(text: &mut String, done: &CompareDone, x: (f64, f64), height: f64) {
    let (name, exact) = metric(done);
    let value = |loss: f64, right: Option<f64>| if exact { 100.0 * right.unwrap_or(0.0) } else { loss };
    let all = done.lines.iter().flat_map(|line| line.arms.iter().map(|arm| value(arm.1, arm.2)));
    let (low, high) = ticks_range(all);
    let bottom = TOP + ROW * done.lines.len() as f64;
    let panel = Panel { x, y: (TOP, bottom), from: (low, 0.0), to: (high, 1.0) };
    title(text, 12.0, "Result by method and seed", &format!("{name}; bar: mean ± deviation; dashed: random"));
    for tick in ticks(low, high) {
        line(text, (panel.x(tick), TOP), (panel.x(tick), bottom), "#e5e7eb");
        label(text, panel.x(tick), bottom + 18.0, "middle", GREY, &number(tick));
    }
    label(text, f64::midpoint(x.0, x.1), (bottom + 38.0).min(height - 6.0), "middle", GREY, name);
    for (at, row) in done.lines.iter().enumerate() {
        let y = TOP + ROW * (at as f64 + 0.5);
        label(text, x.0 - 10.0, y + 4.0, "end", colour(at), &row.method);
        let stat = if exact { row.exact.unwrap_or_default() } else { row.loss };
        spread(text, &panel, y, &stat, (if exact { 100.0 } else { 1.0 }, colour(at)));
        for arm in &row.arms {
            let _ = writeln!(
                text,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{}\" fill-opacity=\"0.55\"><title>seed {}</title></circle>",
                panel.x(value(arm.1, arm.2)),
                colour(at),
                arm.0
            );
        }
        if row.method == "random" {
            let x = panel.x(stat.mean * if exact { 100.0 } else { 1.0 });
            let _ =
                writeln!(text, "<path d=\"M{x:.1} {TOP}V{bottom:.1}\" stroke=\"{GREY}\" stroke-dasharray=\"4 3\"/>");
        }
    }
}

fn spread(text: &mut String, panel: &Panel, y: f64, stat: &Stat, (scale, colour): (f64, &str)) {
    let (mean, sd) = (stat.mean * scale, stat.sd.unwrap_or(0.0) * scale);
    let (from, to) = (panel.x((mean - sd).max(panel.from.0)), panel.x((mean + sd).min(panel.to.0)));
    let middle = panel.x(mean);
    let (top, bottom) = (y - 8.0, y + 8.0);
    let _ = writeln!(
        text,
        "<path d=\"M{from:.1} {y:.1}H{to:.1}M{middle:.1} {top:.1}V{bottom:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>"
    );
}

fn curves(text: &mut String, done: &CompareDone, x: (f64, f64), height: f64) {
    let points = |line: &Line| line.curve.clone();
    let all: Vec<(u64, f64)> = done.lines.iter().flat_map(points).collect();
    title(text, x.0 - 50.0, "Loss on held-out rows along the way", "mean over seeds; lower is better");
    let (low, high) = ticks_range(all.iter().map(|point| point.1));
    let last = all.iter().map(|point| point.0).max().unwrap_or(1) as f64;
    let panel = Panel { x, y: (TOP, height - 60.0), from: (0.0, low), to: (last, high) };
    for tick in ticks(low, high) {
        line(text, (x.0, panel.y(tick)), (x.1, panel.y(tick)), "#e5e7eb");
        label(text, x.0 - 8.0, panel.y(tick) + 4.0, "end", GREY, &number(tick));
    }
    for tick in ticks(0.0, last) {
        label(text, panel.x(tick), height - 42.0, "middle", GREY, &number(tick));
    }
    label(text, f64::midpoint(x.0, x.1), height - 22.0, "middle", GREY, "steps");
    for (at, row) in done.lines.iter().enumerate() {
        let path: Vec<String> =
            row.curve.iter().map(|p| format!("{:.1},{:.1}", panel.x(p.0 as f64), panel.y(p.1))).collect();
        let _ = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.8\"><title>{}</title></polyline>",
            path.join(" "),
            colour(at),
            escaped(&row.method)
        );
    }
}

fn title(text: &mut String, x: f64, head: &str, below: &str) {
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"24\" font-size=\"15\" fill=\"#111827\">{head}</text>");
    label(text, x, 44.0, "start", GREY, below);
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, colour: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{words}</text>");
}

fn line(text: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let _ = writeln!(text, "<path d=\"M{:.1} {:.1}L{:.1} {:.1}\" stroke=\"{colour}\"/>", from.0, from.1, to.0, to.1);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

/// Smallest and largest of the values, with a little room.
fn ticks_range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if !(low.is_finite() && high.is_finite()) {
        return (0.0, 1.0);
    }
    let room = if high > low { (high - low) * 0.08 } else { (0.1 * low.abs()).max(0.5) };
    (low - room, high + room)
}

/// About five round numbers between two.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..first + 12).map(|i| i as f64 * step).take_while(|tick| *tick <= high + step * 1e-9).collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        assert_eq!(ticks(0.0, 100.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(1.23, 1.31).iter().map(|t| number(*t)).collect::<Vec<_>>(), ["1.24", "1.26", "1.28", "1.3"]);
        assert_eq!(ticks_range([].into_iter()), (0.0, 1.0));
    }
}
