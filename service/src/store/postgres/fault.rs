//! What a failure of the server means to a caller. No message here names a password.

use crate::store::pack::broken;
use curate_api::Error;
use postgres::Error as Fault;
use postgres::error::SqlState;

/// Failures that pass, by the class of their code: connection, resources, waiting for others, shutting down.
const PASSING: [&str; 6] = ["08", "40", "53", "55", "57", "58"];

/// What `fault` means, where `place` names the server.
pub(super) fn fault(fault: &Fault, place: &str) -> Error {
    let Some(code) = fault.code() else { return unavailable(&said(fault), place) };
    let what = said(fault);
    match code.code() {
        _ if *code == SqlState::DISK_FULL || *code == SqlState::READ_ONLY_SQL_TRANSACTION => full(&what),
        code if PASSING.contains(&class(code)) => unavailable(&what, place),
        code if ["28", "3D", "42501"].iter().any(|refusal| code.starts_with(refusal)) => refused(&what, place),
        code if class(code) == "22" => Error::data("store/value", format!("the store cannot keep a value: {what}"))
            .hint("leave out the character with the number 0"),
        _ => broken(&what),
    }
}

/// Whether the server will not let us in, however often we ask.
pub(super) fn is_refusal(error: &Error) -> bool {
    error.code() == "store/refused"
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or(code)
}

/// What the server said, or why it could not be asked.
pub(super) fn said(fault: &Fault) -> String {
    let cause = || std::error::Error::source(fault).map_or_else(String::new, |cause| format!(": {cause}"));
    fault.as_db_error().map_or_else(|| format!("{fault}{}", cause()), |error| error.message().to_owned())
}

/// The server cannot be asked now.
pub(super) fn unavailable(what: &str, place: &str) -> Error {
    Error::io("store/unavailable", format!("the database at {place} cannot be used now: {what}"))
        .hint("nothing that was answered is lost; send the same call again when the database is back")
}

fn full(what: &str) -> Error {
    Error::io("store/full", format!("nothing more can be written to the database: {what}"))
        .hint("free space on the disk of the database, or let it be written to; what is stored can be read meanwhile")
}

fn refused(what: &str, place: &str) -> Error {
    Error::usage("store/refused", format!("the database at {place} does not let us in: {what}"))
        .hint("check user, password and database in the URL, and the rights of the user")
}
