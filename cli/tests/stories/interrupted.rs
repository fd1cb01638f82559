//! A run that is killed or cancelled leaves no output, and the next one answers as if nothing had happened.

use crate::story::{Story, digest};
use crate::tables;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

const ROWS: usize = 30_000;

fn corpus(story: &Story) -> String {
    let input = story.at("corpus.parquet");
    tables::write(&input, &curate_datasets::planted(ROWS, 8, 11).expect("a corpus").batch);
    input
}

fn start(story: &Story, input: &str, out: &str) -> Child {
    let args = story.select_args(input, out, &["--budget", "1%"]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    story.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts")
}

#[test]
fn killed_and_run_again() {
    let story = Story::new();
    let (input, out) = (corpus(&story), story.at("out.parquet"));
    let undisturbed =
        story.select(&input, &story.at("calm.parquet"), &["--budget", "1%", "--cache", &story.at("calm")]);
    for millis in [20, 80, 200, 500, 1200] {
        let mut child = start(&story, &input, &out);
        sleep(Duration::from_millis(millis));
        if child.try_wait().expect("a child").is_some_and(|status| status.success()) {
            fs::remove_file(&out).expect("a finished run has an output");
            break;
        }
        child.kill().expect("the child can be killed");
        child.wait().expect("the child ends");
        // The kill may come after the output was placed; an output that is there must then be whole.
        if fs::metadata(&out).is_ok() {
            assert_eq!(tables::read(&out).num_rows(), ROWS / 100, "half an output under its final name");
            fs::remove_file(&out).expect("the output can be removed");
        }
    }
    let again = story.select(&input, &out, &["--budget", "1%", "--overwrite"]);
    assert_eq!(digest(&again), digest(&undisturbed));
    assert!(fs::read(&out).expect("output") == fs::read(story.at("calm.parquet")).expect("output"));
}

#[cfg(unix)]
#[test]
fn cancelled_with_an_interrupt() {
    let story = Story::new();
    let (input, out) = (corpus(&story), story.at("out.parquet"));
    let mut child = start(&story, &input, &out);
    sleep(Duration::from_millis(300));
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there").success();
    let code = child.wait().expect("the child ends").code();
    if sent && code != Some(0) {
        assert_eq!(code, Some(130));
        assert!(fs::metadata(&out).is_err(), "a cancelled run left an output");
    }
}
