//! The front door: flags become a plan, progress becomes a bar, errors become words and exit codes. No logic lives here.

#![allow(clippy::cast_precision_loss)] // reason: counts become bars and rates

mod args;
mod commands;
mod compare_args;
mod compare_view;
mod doctor;
mod error;
mod fit_rule;
mod inspect_view;
mod progress;
mod run_args;
mod serve;
mod serve_args;
mod train_args;
mod train_view;
mod view;
mod weights_args;
mod weights_view;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    curate_api::report_panics(error::print_panic);
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return refuse(&refused),
    };
    let json = cli.machine.json;
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            error::print(&error, json);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Say what is wrong with the command line, or print the help that was asked for. The flags could not be read, so `--json` is looked for.
fn refuse(refused: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json");
    if json && refused.use_stderr() {
        error::print(&of_flags(&refused.to_string()), true);
    } else {
        // A closed pipe is the reader's choice, not an error.
        let _ = refused.print();
    }
    ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(2))
}

/// The parser's words as an error of the house: the first sentence, and the rest as its hint.
fn of_flags(words: &str) -> curate_api::Error {
    let (what, rest) = words.split_once("\n\n").unwrap_or((words, "try --help"));
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    curate_api::Error::usage("flag/invalid", one_line(what.trim_start_matches("error: "))).hint(one_line(rest))
}

#[cfg(test)]
mod tests {
    use super::of_flags;

    #[test]
    fn the_words_of_the_parser_become_message_and_hint() {
        let error = of_flags("error: unexpected argument '--buget' found\n\n  tip: use '--budget'\n\nUsage: curate\n");
        assert_eq!((error.code(), error.exit_code()), ("flag/invalid", 2));
        assert_eq!(error.to_string(), "unexpected argument '--buget' found");
        assert_eq!(error.hint_text(), Some("tip: use '--budget' Usage: curate"));
    }
}
