//! Errors as people read them: the sentence, the place, the hint; as JSON on stdout where asked.

use curate_api::Error;

/// A core error dressed for the terminal.
#[derive(Debug)]
struct Dressed<'a>(&'a Error);

impl std::fmt::Display for Dressed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Dressed<'_> {}

impl miette::Diagnostic for Dressed<'_> {
    fn code<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        Some(Box::new(self.0.code()))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        self.0.hint_text().map(|h| Box::new(h) as Box<dyn std::fmt::Display>)
    }
}

/// Print an error on stderr; with `json` also as one object on stdout.
pub(crate) fn print(error: &Error, json: bool) {
    let handler = miette::GraphicalReportHandler::new().with_links(false);
    let mut text = String::new();
    if handler.render_report(&mut text, &Dressed(error)).is_err() {
        text = error.to_string();
    }
    eprintln!("{}", text.trim_end());
    if json {
        let place = error.location().map(ToString::to_string);
        let body = serde_json::json!({"error": {"code": error.code(), "message": error.to_string(), "hint": error.hint_text(), "location": place, "exit_code": error.exit_code()}});
        println!("{body}");
    }
}

/// A panic is a defect of ours: say where, and that it is worth a report.
pub(crate) fn print_panic(info: &std::panic::PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let what = info.payload_as_str().unwrap_or("no message");
    eprintln!(
        "internal error at {place}: {what}\nThis is a defect of curate; outputs are untouched. Please report it with the command you ran."
    );
}
