//! The table: means and deviations over seeds, and when a choice pays.

use super::arm::ArmDone;
use serde::{Deserialize, Serialize};

/// Mean and sample deviation over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; none for one seed.
    pub sd: Option<f64>,
}

impl Stat {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self { mean, sd: (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt()) }
    }
}

/// When choosing takes less time in all than training longer on random rows would.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakEven {
    /// It is the baseline.
    Baseline,
    /// It gains nothing over random, or never reaches what random reaches in as many steps.
    Never,
    /// What it gains is no more than the gain differs from seed to seed.
    WithinNoise,
    /// It takes less time than random at any length of training.
    Always,
    /// It pays as soon as training on random rows would take longer than so many seconds.
    Above(f64),
}

/// One line of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Method with its parameters.
    pub method: String,
    /// Whether every batch was chosen while the model learned.
    pub online: bool,
    /// Loss on the rows to judge by.
    pub loss: Stat,
    /// Share of right answers.
    pub exact: Option<Stat>,
    /// Gain over random, seed by seed: of right answers where they were judged, else of loss; positive is better.
    pub gain: Stat,
    /// Different rows trained on.
    pub rows: f64,
    /// Tokens trained on.
    pub tokens: f64,
    /// Operations of the model for choosing.
    pub select_flop: f64,
    /// Operations of the model for training.
    pub train_flop: f64,
    /// Seconds of choosing, of the first seed: nothing was cached then.
    pub select_s: f64,
    /// Seconds of training.
    pub train_s: f64,
    /// When it pays.
    pub break_even: BreakEven,
    /// Mean loss along the way.
    pub curve: Vec<(u64, f64)>,
    /// Seed by seed: seed, loss, share of right answers.
    pub arms: Vec<(u64, f64, Option<f64>)>,
}

/// All lines, best first.
pub(super) fn summary(arms: &[Vec<ArmDone>]) -> Vec<Line> {
    let random = arms.iter().find(|seeds| seeds.first().is_some_and(|arm| arm.method == "random"));
    let random = random.map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<Line> = arms.iter().filter(|seeds| !seeds.is_empty()).map(|seeds| line(seeds, random)).collect();
    lines.sort_by(|a, b| b.gain.mean.total_cmp(&a.gain.mean).then_with(|| a.method.cmp(&b.method)));
    lines
}

fn mean(arms: &[ArmDone], of: impl Fn(&ArmDone) -> f64) -> f64 {
    Stat::of(&arms.iter().map(of).collect::<Vec<_>>()).mean
}

fn line(arms: &[ArmDone], random: &[ArmDone]) -> Line {
    let exact: Option<Vec<f64>> = arms.iter().map(|arm| arm.exact).collect();
    let gain = |(arm, other): (&ArmDone, &ArmDone)| match (arm.exact, other.exact) {
        (Some(own), Some(others)) => own - others,
        _ => other.loss - arm.loss,
    };
    let gains: Vec<f64> = arms.iter().zip(random).map(gain).collect();
    Line {
        method: arms[0].method.clone(),
        online: arms[0].online,
        loss: Stat::of(&arms.iter().map(|arm| arm.loss).collect::<Vec<_>>()),
        exact: exact.map(|values| Stat::of(&values)),
        gain: Stat::of(&gains),
        rows: mean(arms, |arm| arm.rows as f64),
        tokens: mean(arms, |arm| arm.tokens as f64),
        select_flop: mean(arms, |arm| arm.select_flop),
        train_flop: mean(arms, |arm| arm.train_flop),
        select_s: if arms[0].online { mean(arms, |arm| arm.select_s) } else { arms[0].select_s },
        train_s: mean(arms, |arm| arm.train_s),
        break_even: break_even(arms, random),
        curve: mean_curve(arms),
        arms: arms.iter().map(|arm| (arm.seed, arm.loss, arm.exact)).collect(),
    }
}

/// The curve at the steps that all seeds have.
fn mean_curve(arms: &[ArmDone]) -> Vec<(u64, f64)> {
    let at = |arm: &ArmDone, step: u64| arm.curve.iter().find(|point| point.0 == step).map(|point| point.1);
    let steps = arms.first().map_or(&[][..], |arm| &arm.curve).iter().map(|point| point.0);
    let mean = |step: u64| {
        let values: Option<Vec<f64>> = arms.iter().map(|arm| at(arm, step)).collect();
        values.map(|values| (step, Stat::of(&values).mean))
    };
    steps.filter_map(mean).collect()
}

/// A method that ends no better than random does not pay. Let random need `T` seconds for its final mean loss, and the method the share `f` of the steps for the same loss. A choice
/// before training costs `S` once: it pays when `S + f T < T`. A choice in every step costs a share `s` of training: it pays
/// when `f (1 + s) < 1`.
fn break_even(arms: &[ArmDone], random: &[ArmDone]) -> BreakEven {
    if arms.first().zip(random.first()).is_none_or(|(a, b)| a.method == b.method) {
        return BreakEven::Baseline;
    }
    let gained = Stat::of(&arms.iter().zip(random).map(|(arm, other)| other.loss - arm.loss).collect::<Vec<_>>());
    if gained.mean.is_nan() || gained.mean <= 0.0 {
        return BreakEven::Never;
    }
    if gained.sd.is_some_and(|sd| gained.mean <= sd) {
        return BreakEven::WithinNoise;
    }
    let (own, others) = (mean_curve(arms), mean_curve(random));
    let Some((steps, goal)) = others.last().copied() else { return BreakEven::Never };
    let Some(reached) = own.iter().find(|point| point.1 <= goal) else { return BreakEven::Never };
    let share = reached.0 as f64 / steps.max(1) as f64;
    let select_s = if arms[0].online { mean(arms, |arm| arm.select_s) } else { arms[0].select_s };
    let pays = if arms[0].online {
        share * (1.0 + select_s / mean(arms, |arm| arm.train_s).max(1e-9)) < 1.0
    } else {
        share < 1.0
    };
    match (pays, arms[0].online) {
        (false, _) => BreakEven::Never,
        (true, true) => BreakEven::Always,
        (true, false) => BreakEven::Above(select_s / (1.0 - share)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(method: &str, seed: u64, curve: &[f64]) -> ArmDone {
        let curve: Vec<(u64, f64)> = (1..).map(|i| i * 10).zip(curve.iter().copied()).collect();
        let loss = curve.last().map_or(0.0, |point| point.1);
        ArmDone { method: method.into(), seed, loss, curve, select_s: 3.0, train_s: 10.0, ..ArmDone::default() }
    }

    #[test]
    fn means_gains_and_when_it_pays() {
        let random = vec![arm("random", 1, &[3.0, 2.5, 2.0, 1.5]), arm("random", 2, &[3.0, 2.5, 2.0, 1.7])];
        let good = vec![arm("good", 1, &[2.0, 1.6, 1.2, 1.0]), arm("good", 2, &[2.0, 1.6, 1.4, 1.2])];
        let bad = vec![arm("bad", 1, &[3.0, 3.0, 3.0, 3.0]), arm("bad", 2, &[3.0, 3.0, 3.0, 3.0])];
        let lines = summary(&[random, good, bad]);
        let names: Vec<&str> = lines.iter().map(|line| line.method.as_str()).collect();
        assert_eq!(names, ["good", "random", "bad"]);
        assert!((lines[0].gain.mean - 0.5).abs() < 1e-12 && lines[0].gain.sd.unwrap() < 1e-12);
        assert!((lines[1].loss.mean - 1.6).abs() < 1e-12 && (lines[1].loss.sd.unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
        // random ends at 1.6 after 40 steps, good is there after 20: 3 s are paid back where training takes above 6 s
        assert_eq!(lines[0].break_even, BreakEven::Above(6.0));
        assert_eq!((lines[1].break_even, lines[2].break_even), (BreakEven::Baseline, BreakEven::Never));
    }

    #[test]
    fn what_is_no_gain_never_pays_wherever_the_curves_cross() {
        let random = || vec![arm("random", 1, &[3.0, 2.0, 1.5]), arm("random", 2, &[3.0, 2.0, 1.7])];
        let dips = vec![arm("dips", 1, &[3.0, 1.0, 1.6]), arm("dips", 2, &[3.0, 1.0, 1.8])];
        let same = vec![arm("same", 1, &[3.0, 1.6, 1.5]), arm("same", 2, &[3.0, 1.6, 1.7])];
        let noisy = vec![arm("noisy", 1, &[3.0, 1.5, 1.0]), arm("noisy", 2, &[3.0, 1.5, 1.9])];
        let pays = |arms: &[ArmDone]| break_even(arms, &random());
        assert_eq!(
            [pays(&dips), pays(&same), pays(&noisy)],
            [BreakEven::Never, BreakEven::Never, BreakEven::WithinNoise]
        );
    }
}
