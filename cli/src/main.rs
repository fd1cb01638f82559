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
    let cli = args::Cli::parse();
    let json = cli.machine.json;
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => {
            error::print(&error, json);
            ExitCode::from(error.exit_code())
        }
    }
}
