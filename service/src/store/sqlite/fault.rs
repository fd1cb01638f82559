//! What a failure of the embedded database means to a caller.

use crate::store::pack::broken;
use curate_api::Error;
use rusqlite::Error as Fault;
use rusqlite::ErrorCode as Code;

/// A write failed: nothing was stored.
pub(super) fn writing(fault: &Fault) -> Error {
    match fault.sqlite_error_code() {
        Some(Code::DiskFull | Code::ReadOnly | Code::SystemIoFailure) => full(fault),
        _ => reading(fault),
    }
}

/// A read failed.
pub(super) fn reading(fault: &Fault) -> Error {
    match fault.sqlite_error_code() {
        Some(Code::DiskFull) => full(fault),
        Some(Code::DatabaseBusy | Code::DatabaseLocked | Code::OutOfMemory | Code::OperationInterrupted) => busy(fault),
        Some(Code::CannotOpen | Code::PermissionDenied | Code::ReadOnly) => closed(fault),
        _ => broken(&fault.to_string()),
    }
}

fn full(fault: &Fault) -> Error {
    Error::io("store/full", format!("nothing more can be written to the store: {fault}"))
        .hint("free space on the disk of the server's folder; what is stored can be read meanwhile")
}

fn busy(fault: &Fault) -> Error {
    Error::io("store/unavailable", format!("the store is busy: {fault}"))
        .hint("send the same call again a little later")
}

fn closed(fault: &Fault) -> Error {
    Error::io("store/unavailable", format!("the store cannot be opened: {fault}"))
        .hint("check that the server may read and write its folder and the files in it")
}
