//! What `curate train` and `curate eval` say to people.

use crate::inspect_view::{Paint, marked};
use curate_api::{EvalDone, OnlineForecast, TrainDone, TrainForecast, format_bytes};

/// After training.
pub(crate) fn trained(done: &TrainDone) -> String {
    let (data, report) = (&done.data, &done.report);
    let mut lines = vec![format!(
        "rows      {} of {} kept, {} empty, {} with nothing to learn, {} cut; {} held out",
        data.kept_rows,
        data.rows,
        data.empty.len(),
        data.unlabelled.len(),
        data.truncated_rows,
        done.eval_rows
    )];
    lines.extend(data.at_the_limit().map(|said| format!("lengths   {said}")));
    if !data.weightless.is_empty() {
        lines.push(format!("weights   {} rows weigh 0 and are left out", data.weightless.len()));
    }
    lines.push(format!("tokens    {} in these rows, {} of them to be learned", data.tokens, data.labelled_tokens));
    let resumed = report.resumed_from.map_or_else(String::new, |step| format!(", resumed from step {step}"));
    let ends = |losses: &[f64]| Some((*losses.first()?, *losses.last()?));
    if let Some((first, last)) = ends(&report.losses) {
        lines.push(format!("trained   {} steps{resumed}: loss {first:.4} to {last:.4}", report.steps));
    }
    if let Some(online) = &done.online {
        lines.push(format!(
            "chose     {} rows of {} offered with {}, {} different ones; asking {:.1} s, choosing {:.1} s, training {:.1} s",
            online.trained_rows,
            online.offered_rows,
            online.method,
            online.distinct_rows,
            online.probe_s,
            online.choose_s,
            online.train_s
        ));
    }
    if let Some(loss) = report.eval.as_ref().and_then(curate_api::LossTotal::mean) {
        lines.push(format!("held out  loss {loss:.4}, perplexity {:.2}", loss.exp()));
    }
    if let Some(sweep) = &report.sweep {
        let arm = |arm: &curate_api::Arm| format!("{:e}: {:.4}", arm.learning_rate, arm.loss);
        lines.push(format!(
            "sweep     {}; best {:e}",
            sweep.arms.iter().map(arm).collect::<Vec<_>>().join(", "),
            sweep.best
        ));
    }
    lines.push(format!("wrote     {}", done.model));
    lines.push(format!(
        "took      {:.1} s, {:.1} s of it training{}, peak memory {}",
        done.seconds,
        done.training_seconds,
        pace(done),
        format_bytes(done.peak_rss_bytes)
    ));
    lines.join("\n")
}

/// Seconds and speed of the steps alone; those of a resumed run hold the steps before it.
fn pace(done: &TrainDone) -> String {
    let (tokens, seconds) = (done.report.tokens, done.step_seconds);
    if seconds <= 0.0 {
        return String::new();
    }
    let of = if done.report.resumed_from.is_some() { "all steps" } else { "the steps" };
    format!(" ({of} alone {seconds:.1} s: {tokens} tokens at {:.0} tokens/s)", tokens as f64 / seconds)
}

/// Before training.
pub(crate) fn forecast(found: &TrainForecast, paint: &Paint) -> String {
    let (data, memory) = (&found.data, &found.memory);
    let mut lines = vec![
        format!(
            "rows      {} of {} kept, {} empty, {} with nothing to learn",
            data.kept_rows,
            data.rows,
            data.empty.len(),
            data.unlabelled.len()
        ),
        format!(
            "tokens    {}, {} of them learned; longest row {}, {} rows cut",
            data.tokens, data.labelled_tokens, data.longest_tokens, data.truncated_rows
        ),
        format!("steps     {}; {} rows held out", found.steps, found.eval_rows),
    ];
    lines.extend(data.at_the_limit().map(|said| format!("lengths   {said}")));
    lines.extend(found.online.iter().flat_map(online));
    lines.extend([
        format!(
            "memory    about {}: weights {}, gradients {}, optimizer {}, activations {}",
            format_bytes(found.total_bytes),
            format_bytes(memory.weights_bytes),
            format_bytes(memory.gradients_bytes),
            format_bytes(memory.optimizer_bytes),
            format_bytes(memory.activations_bytes)
        ),
        format!("trained   {} numbers; largest pass {} tokens", memory.trained, memory.batch_tokens),
    ]);
    for sample in &found.samples {
        let eos = if sample.eos_added { ", an end token is added" } else { "" };
        lines.push(format!(
            "\nROW {}  {} tokens, {} learned (marked){eos}",
            sample.row, sample.tokens, sample.labelled_tokens
        ));
        lines.push(marked(&sample.text, &sample.trained, paint));
    }
    lines.join("\n")
}

/// What a loop would do.
fn online(found: &OnlineForecast) -> Vec<String> {
    let listed = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let step = match (found.rounds, found.candidates) {
        (Some((rounds, budget)), _) => format!("{budget} rows of all, in {rounds} rounds"),
        (None, Some(candidates)) => format!("{} of {candidates} candidates a step", found.rows),
        (None, None) => format!("{} rows a step", found.rows),
    };
    let answers = found.answers.map_or_else(String::new, |answers| format!(", {answers} answers to each"));
    let ahead = if found.ahead { "; chosen ahead, while the model learns" } else { "" };
    let kept = match found.kept_bytes {
        0 => String::new(),
        bytes => format!("; up to {} of activations kept for the step", format_bytes(bytes)),
    };
    vec![
        format!("chooses   {}: {step}{answers}{ahead}", found.method),
        format!("asks      the model for {} at every step{kept}", listed(&found.asked)),
        format!("reads     {} of the corpus; hears {} after a step", listed(&found.columns), listed(&found.heard)),
    ]
}

/// After judging.
pub(crate) fn judged(done: &EvalDone) -> String {
    let mut rows = vec![curate_api::EvalReport::HEADS.map(str::to_owned)];
    rows.extend(done.report.rows());
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    let data = &done.data;
    let left_out = match data.rows.saturating_sub(data.kept_rows) {
        0 => String::new(),
        _ => format!(" ({} empty, {} with nothing to judge)", data.empty.len(), data.unlabelled.len()),
    };
    let head = format!("{} of {} rows{left_out}, model {}", done.rows, data.rows, done.model);
    let head: Vec<String> = [head].into_iter().chain(data.at_the_limit()).collect();
    format!("{}\n\n{}", head.join("\n"), rows.iter().map(line).collect::<Vec<_>>().join("\n"))
}
