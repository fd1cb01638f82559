//! Load on a server of its own: `load WHAT --binary target/release/curate [--secs N] [--seed N] [-- more arguments of the server]`.
//!
//! WHAT is `figures` (all of `batch uds mopps sessions training`), one of these, or `chaos`, which kills the server again and again and
//! ends with 1 when anything answered was lost, doubled or changed.

#![allow(clippy::cast_precision_loss)] // reason: counts become rates and made-up signals

mod chaos;
mod client;
mod clients;
mod figures;
mod oracle;

use client::Place;
use std::path::PathBuf;
use std::process::ExitCode;

/// What was asked for.
struct Asked {
    what: String,
    binary: PathBuf,
    secs: Option<u64>,
    seed: u64,
    more: Vec<String>,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked {
        what: "figures".to_owned(),
        binary: "target/release/curate".into(),
        secs: None,
        seed: 1,
        more: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--binary" => asked.binary = next()?.into(),
            "--secs" => asked.secs = Some(next()?.parse().map_err(|e| format!("--secs: {e}"))?),
            "--seed" => asked.seed = next()?.parse().map_err(|e| format!("--seed: {e}"))?,
            "--" => asked.more = words.by_ref().collect(),
            _ => asked.what = word,
        }
    }
    Ok(asked)
}

fn main() -> ExitCode {
    match asked().and_then(|asked| run(&asked)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Asked) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let binary = std::fs::canonicalize(&asked.binary).map_err(|e| format!("{}: {e}", asked.binary.display()))?;
    let place = Place { more: asked.more.clone(), ..Place::new(&binary, folder.path()) };
    if asked.what == "chaos" {
        let report = chaos::run(&place, asked.secs.unwrap_or(600), asked.seed);
        println!("{report:#?}");
        return if report.wrong.is_empty() { Ok(()) } else { Err("something answered was not kept".to_owned()) };
    }
    let secs = asked.secs.unwrap_or(20);
    let known = ["batch", "uds", "sessions", "training", "mopps"];
    let wanted: Vec<&str> = known.into_iter().filter(|one| asked.what == "figures" || asked.what == *one).collect();
    if wanted.is_empty() {
        return Err(format!("'{}' is not known: figures, {}, chaos", asked.what, known.join(", ")));
    }
    for one in wanted {
        figure(&place, one, secs);
    }
    Ok(())
}

/// One figure, on a fresh server.
fn figure(place: &Place, name: &str, secs: u64) {
    let place = Place { folder: place.folder.join(name), ..place.clone() };
    std::fs::create_dir_all(&place.folder).expect("a folder");
    let mut server = place.start();
    match name {
        "batch" => figures::batch(&place, secs),
        "uds" => figures::uds(&place, secs * 50),
        "mopps" => figures::mopps(&place, 1_000_000, secs * 10),
        "sessions" => figures::sessions(&place, server.id(), 200),
        _ => figures::training(&place, secs * 10),
    }
    let _ = server.kill();
    let _ = server.wait();
}
