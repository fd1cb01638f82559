//! The examination as people read it.

use super::{Check, Examination, Figure, LibraryFound, Patient, Roof};
use crate::format_bytes;
use std::fmt;

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "curate {}, device {}, {} threads", self.version, self.asked, self.threads)?;
        writeln!(f, "\nwhat a GPU needs")?;
        self.libraries.iter().try_for_each(|library| line(f, library))?;
        if !self.embedded_ptx.is_empty() {
            let made: Vec<String> = self.embedded_ptx.iter().map(|c| format!("{}.{}", c / 10, c % 10)).collect();
            writeln!(f, "  ok    kernels compiled ahead for {}", made.join(", "))?;
        }
        if let Some(version) = &self.kernel_driver {
            writeln!(f, "        the driver is {version}")?;
        }
        if let Some(why) = &self.no_gpu {
            writeln!(f, "\nno GPU is used: {why}")?;
            if !self.patients.is_empty() {
                writeln!(f, "what follows is about the processor")?;
            }
        }
        self.patients.iter().try_for_each(|patient| write!(f, "{patient}"))?;
        write!(f, "\n{}", if self.ok { "all is well" } else { "something is wrong, see above" })
    }
}

fn line(f: &mut fmt::Formatter<'_>, library: &LibraryFound) -> fmt::Result {
    let LibraryFound { name, file, version, install } = library;
    match (version, install) {
        (Some(version), _) => writeln!(f, "  ok    {name:<10}{file:<18}{version}"),
        (None, Some(install)) => writeln!(f, "  none  {name:<10}{file:<18}{install}"),
        (None, None) => writeln!(f, "  none  {name:<10}{file:<18}not needed: kernels were compiled ahead"),
    }
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.name)?;
        if let (Some(chip), Some(capability)) = (&self.chip, &self.capability) {
            write!(f, ": {chip}, compute capability {capability}")?;
        }
        if let (Some(total), Some(free)) = (self.memory_bytes, self.free_bytes) {
            write!(f, ", {} of {} free", format_bytes(free), format_bytes(total))?;
        }
        writeln!(f, "\n\n  {:<66}{:>10}{:>10}", "check", "error", "bound")?;
        self.checks.iter().try_for_each(|check| write!(f, "{check}"))?;
        if !self.roofs.is_empty() {
            writeln!(f, "\n  {:<28}{:<36}{:>20}", "limit", "how", "rate")?;
        }
        self.roofs.iter().try_for_each(|roof| write!(f, "{roof}"))?;
        let goal = if self.figures.iter().any(|figure| figure.goal.is_some()) { "  goal (H200)" } else { "" };
        writeln!(f, "\n  {:<28}{:<48}{:>10}{:>20}{:>9}{goal}", "workload", "size", "seconds", "rate", "of limit")?;
        self.figures.iter().try_for_each(|figure| write!(f, "{figure}"))
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, error) = (if self.ok { "ok" } else { "WRONG" }, self.error.map(brief).unwrap_or_default());
        writeln!(f, "  {:<66}{error:>10}{:>10}  {mark}", self.name, brief(self.bound))?;
        self.failure.iter().try_for_each(|why| writeln!(f, "    {why}"))
    }
}

impl fmt::Display for Roof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<28}{:<36}{:>20}", self.name, self.size, rate(self.rate, &self.unit))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds.map(|s| format!("{s:.4}")).unwrap_or_default();
        let rate = self.rate.map(|r| rate(r, &self.unit)).unwrap_or_default();
        let share = self.of_roof.map(share).unwrap_or_default();
        let goal = self.goal.as_deref().unwrap_or_default();
        let text = format!("  {:<28}{:<48}{seconds:>10}{rate:>20}{share:>9}  {goal}", self.name, self.size);
        writeln!(f, "{}", text.trim_end())?;
        self.note.iter().try_for_each(|note| writeln!(f, "    {note}"))?;
        if self.of_roof.is_some_and(|share| share > ROUNDS_TO_ALL) {
            writeln!(
                f,
                "    above the limit: what is counted was not all done, or the limit was measured on a busy machine"
            )?;
        }
        self.failure.iter().try_for_each(|why| writeln!(f, "    FAILED: {why}"))
    }
}

/// A larger share than this is not rounded to 100 %.
const ROUNDS_TO_ALL: f64 = 1.005;

/// A share of the limit; how much more than all of it was reached says nothing.
fn share(share: f64) -> String {
    if share > ROUNDS_TO_ALL { "> 100 %".to_owned() } else { format!("{:.0} %", 100.0 * share) }
}

/// A rate with three digits or so.
fn rate(rate: f64, unit: &str) -> String {
    let digits = if rate >= 100.0 { 0 } else { 2 };
    format!("{rate:.digits$} {unit}")
}

/// An error in few characters.
fn brief(v: f64) -> String {
    if v == 0.0 { "0".to_owned() } else { format!("{v:.1e}") }
}
