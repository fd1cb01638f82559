//! `curate doctor`: what the examination found, in words or as JSON, and the exit code that goes with it.

use crate::commands::{print, to_json};
use curate_api::Result;
use curate_api::doctor::Examination;
use serde_json::json;
use std::process::ExitCode;

/// Print the findings; what is wrong goes to stderr too, and into the exit code.
pub(crate) fn say(found: &Examination, as_json: bool) -> Result<ExitCode> {
    let complaint = found.complaint();
    if as_json {
        let mut body = serde_json::to_value(found).unwrap_or_default();
        if let Some(error) = &complaint {
            body["error"] = json!({"code": error.code(), "message": error.to_string(), "hint": error.hint_text(), "exit_code": error.exit_code()});
        }
        print(&to_json(&body)?);
    } else {
        print(&found.to_string());
    }
    let Some(error) = complaint else { return Ok(ExitCode::SUCCESS) };
    crate::error::print(&error, false);
    Ok(ExitCode::from(error.exit_code()))
}
