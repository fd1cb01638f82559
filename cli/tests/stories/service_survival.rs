//! A server that is killed again and again, and clients that die in the middle of their calls: nothing answered is lost, doubled or
//! changed. Longer, and with any seed: `cargo run --release -p curate-service --example load -- chaos --secs 600`.

#![allow(dead_code)] // reason: the load generator's parts can do more than this story asks of them

#[path = "../../../service/examples/load/chaos.rs"]
mod chaos;
#[path = "../../../service/examples/load/client.rs"]
mod client;
#[path = "../../../service/examples/load/clients.rs"]
mod clients;
#[path = "../../../service/examples/load/oracle.rs"]
mod oracle;

use crate::story::Story;
use std::path::Path;

#[test]
fn a_server_that_is_killed_keeps_what_it_answered() {
    let story = Story::new();
    let place = client::Place::new(Path::new(env!("CARGO_BIN_EXE_curate")), Path::new(&story.at("")));
    let report = chaos::run(&place, 20, 7);
    assert_eq!(report.wrong, [""; 0], "{report:#?}");
    assert!(report.kills >= 3 && report.deaths > 0 && report.repeated > 0 && report.answered > 100, "{report:#?}");
}
