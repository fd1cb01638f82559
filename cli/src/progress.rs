//! The progress display: one line a stage with bar, count, rate and time left, and the memory in use.

use curate_api::{Progress, Snapshot, format_bytes, rss_bytes};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A display that follows a progress tree until dropped.
pub(crate) struct Display {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Display {
    /// Follow `progress` on stderr; nothing is drawn when stderr is no terminal or `quiet`.
    pub(crate) fn follow(progress: Progress, quiet: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = (!quiet).then(|| std::thread::spawn(move || draw(&progress, &flag)));
        Self { stop, thread }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn draw(progress: &Progress, stop: &AtomicBool) {
    let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
    let mut bars: Vec<ProgressBar> = Vec::new();
    loop {
        let last = stop.load(Ordering::Relaxed);
        let stages = leaves(&progress.snapshot());
        while bars.len() < stages.len() {
            bars.push(screen.add(ProgressBar::new(0)));
        }
        for (bar, (stage, label)) in bars.iter().zip(&stages) {
            show(bar, stage, label, last);
        }
        if last {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Stages in the order they were opened; a stage with parts is followed by them.
fn leaves(root: &Snapshot) -> Vec<(Snapshot, String)> {
    let mut found = Vec::new();
    for child in &root.children {
        found.push((child.clone(), child.label.clone()));
        for part in child.children.iter().filter(|part| part.total > 0) {
            found.push((part.clone(), format!("  {}", part.label)));
        }
    }
    found
}

fn show(bar: &ProgressBar, stage: &Snapshot, label: &str, last: bool) {
    if bar.is_finished() {
        return;
    }
    let known = stage.total > 0;
    let template = if known {
        "{prefix:<12} {bar:24.cyan/dim} {human_pos:>9}/{human_len:<9} {msg}"
    } else {
        "{prefix:<12} {spinner} {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.set_prefix(label.to_owned());
    bar.set_length(stage.total);
    bar.set_position(stage.done.min(stage.total.max(stage.done)));
    bar.set_message(message(stage));
    if stage.finished || last {
        bar.abandon();
    } else {
        bar.tick();
    }
}

fn message(stage: &Snapshot) -> String {
    let rate = if stage.elapsed_secs > 0.2 { stage.done as f64 / stage.elapsed_secs } else { 0.0 };
    let mut parts = vec![format!("{:.1}s", stage.elapsed_secs)];
    if rate >= 1.0 {
        parts.push(format!("{}/s", human(rate)));
    }
    if !stage.finished && rate > 0.0 && stage.total > stage.done {
        parts.push(format!("{:.0}s left", (stage.total - stage.done) as f64 / rate));
    }
    if !stage.finished {
        parts.push(format_bytes(rss_bytes()));
    }
    if !stage.note.is_empty() {
        parts.push(stage.note.clone());
    }
    parts.join(" · ")
}

fn human(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.1}M", r / 1e6),
        r if r >= 1e3 => format!("{:.1}k", r / 1e3),
        r => format!("{r:.0}"),
    }
}
