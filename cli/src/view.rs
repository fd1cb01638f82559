//! What the commands say to people, on stderr or stdout, apart from `inspect`.

use curate_api::{Check, Explanation, Manifest, Method, ParamDoc, format_bytes, manifest_path};

/// After `select` and `run`.
pub(crate) fn manifest(m: &Manifest) -> String {
    let c = &m.counts;
    let mut lines = vec![format!("read      {} rows, {}", c.input_rows, visible(&m.layout))];
    for (count, what) in [
        (c.filtered_rows, "excluded by --where"),
        (c.skipped_rows, "skipped as unreadable"),
        (c.unsaid_rows, "left out: the prompt alone fills the model's window, or there is no answer"),
        (c.dropped_rows, "dropped by filters"),
    ] {
        if count > 0 {
            lines.push(format!("          {count} {what}"));
        }
    }
    let select = m.plan.select.as_ref();
    let (method, budget) = select.map_or((String::new(), String::new()), |s| (s.name.clone(), s.budget.to_string()));
    lines.push(format!(
        "chose     {} of {} rows with {method} (budget {budget}, seed {})",
        c.selected_rows, c.pool_rows, m.plan.seed
    ));
    if !m.groups.is_empty() {
        let used = m.groups.iter().filter(|g| g.picked_rows > 0).count();
        lines.push(format!("          from {used} of {} groups", m.groups.len()));
    }
    for key in ["warning", "note", "inertia", "silhouette"] {
        if let Some(value) = m.report.get(key) {
            let words = value.as_f64().map_or_else(|| value.to_string(), |number| format!("{number:.4}"));
            lines.push(format!("          {key} {}", value.as_str().map_or(words, str::to_owned)));
        }
    }
    let bytes = m.outputs.iter().map(|o| o.bytes).sum();
    let manifest = manifest_path(&m.plan.output.path).unwrap_or_else(|| "not written".to_owned());
    lines.push(format!("wrote     {} ({}), manifest {manifest}", m.plan.output.path, format_bytes(bytes)));
    lines.push(format!(
        "took      {:.1} s, peak memory {}, {} threads, {}",
        m.cost.seconds,
        format_bytes(m.cost.peak_rss_bytes),
        m.cost.threads,
        m.cost.backend
    ));
    let again = !m.plan.input.paths.iter().any(|path| path == "-");
    lines.extend(again.then(|| format!("next      curate explain {} --row N", m.plan.output.path)));
    lines.join("\n")
}

/// `curate explain`.
pub(crate) fn explanation(e: &Explanation) -> String {
    let verdict = if e.kept { "KEPT" } else { "DROPPED" };
    let mut lines = vec![format!("row {}: {verdict}", e.row), quote(&e.text)];
    lines.extend(e.warning.iter().map(|w| format!("  ! {w}")));
    lines.extend(e.because.iter().map(|b| format!("  - {}", visible(b))));
    if let (Some(score), Some(p)) = (e.score, e.score_percentile) {
        lines.push(format!("  - Score {score:.4}: higher than {p:.1}% of the pool."));
    }
    if let (Some(quality), Some(p)) = (e.quality, e.quality_percentile) {
        lines.push(format!("  - Quality {quality:.4}: higher than {p:.1}% of the pool."));
    }
    if let Some(n) = &e.nearest_kept {
        lines.push(format!("  - Nearest kept neighbour: row {} (rank {}, cosine {:.3}):", n.row, n.rank + 1, n.cosine));
        lines.push(quote(&n.text));
    }
    lines.join("\n")
}

fn quote(text: &str) -> String {
    let short: String = text.chars().take(160).collect();
    let more = if text.chars().count() > 160 { "..." } else { "" };
    format!("      \"{}{more}\"", visible(&short.replace(['\n', '\r'], " ")))
}

/// A text that moves no cursor and changes no colour: control characters other than line ends and tabs are written out.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.replace("\r\n", "\n").chars() {
        match character {
            '\n' | '\t' => out.push(character),
            c if c.is_control() => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// `curate methods`.
pub(crate) fn methods(all: &[Method]) -> String {
    let mut lines = Vec::new();
    for kind in ["selector", "online selector", "filter", "scorer"] {
        lines.push(format!("{kind}s:"));
        for m in all.iter().filter(|m| m.kind == kind) {
            let default = if m.info.name == curate_api::DEFAULT_METHOD { " [default]" } else { "" };
            lines.push(format!("  {:<22} {}{default}", m.info.name, m.info.summary));
        }
        lines.push(String::new());
    }
    lines.push("curate methods NAME shows parameters, source and cost.".to_owned());
    lines.join("\n")
}

/// `curate methods NAME`.
pub(crate) fn method(m: &Method) -> String {
    let mut lines =
        vec![format!("{} ({})", m.info.name, m.kind), String::new(), wrap(m.info.summary, 2), String::new()];
    lines.push(format!("  source  {}", wrap(m.info.source, 10).trim_start()));
    lines.push(format!("  cost    {}", wrap(m.info.cost, 10).trim_start()));
    let online = m.online_lines().into_iter();
    lines.extend(online.map(|(label, what)| format!("  {}  {what}", label.to_lowercase())));
    lines.push(String::new());
    lines.push(if m.params.is_empty() {
        "  It takes no parameters.".to_owned()
    } else {
        "parameters (--set NAME=VALUE):".to_owned()
    });
    lines.extend(parameters(&m.params));
    lines.join("\n")
}

/// Parameters with default, type, range and meaning.
pub(crate) fn parameters(params: &[ParamDoc]) -> Vec<String> {
    let mut lines = Vec::new();
    for p in params {
        let default = if p.default.is_null() { "auto".to_owned() } else { p.default.to_string().replace('"', "") };
        let range = match (p.min, p.max) {
            (Some(a), Some(b)) => format!(", {a} to {b}"),
            (Some(a), None) => format!(", at least {a}"),
            (None, Some(b)) => format!(", at most {b}"),
            (None, None) => String::new(),
        };
        lines.push(format!("  {} = {default}   ({}{range})", p.name, p.kind));
        lines.push(wrap(&p.doc, 6));
        lines.extend(
            p.choices
                .iter()
                .filter(|c| !c.1.is_empty())
                .map(|(name, doc)| format!("{}{name}: {}", " ".repeat(8), wrap(doc, 10).trim_start())),
        );
    }
    lines
}

fn wrap(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if !lines[last].is_empty() && lines[last].chars().count() + word.chars().count() + indent >= 100 {
            lines.push(word.to_owned());
        } else {
            if !lines[last].is_empty() {
                lines[last].push(' ');
            }
            lines[last].push_str(word);
        }
    }
    lines.iter().map(|l| format!("{}{l}", " ".repeat(indent))).collect::<Vec<_>>().join("\n")
}

/// `curate verify`.
pub(crate) fn checks(all: &[Check]) -> String {
    let line = |c: &Check| {
        format!(
            "{} {}{}",
            if c.ok { "ok      " } else { "DIFFERS " },
            c.what,
            if c.ok { String::new() } else { format!(": {}", c.detail) }
        )
    };
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        let shown = visible("a\tb\r\nc\u{1b}[2J\u{7}\0\u{9b}31m\u{7f}ü\r");
        assert_eq!(shown, "a\tb\nc\\u{1b}[2J\\u{7}\\u{0}\\u{9b}31m\\u{7f}ü\\u{d}");
        assert_eq!(quote("x\u{1b}]0;t\u{7}\ny"), "      \"x\\u{1b}]0;t\\u{7} y\"");
    }
}
