//! Rows with computed answers as JSON lines on stdout, with a share of wrong answers that only hidden columns name.
//!
//! ```text
//! cargo run --release -p curate-datasets --example tasks -- numbers --rows 20000 --digits 3 --wrong 0.5 --seed 1 > noisy.jsonl
//! cargo run --release -p curate-datasets --example tasks -- numbers --rows 600 --digits 3 --side test --seed 2 > held-out.jsonl
//! cargo run --release -p curate-datasets --example tasks -- countdown --rows 1000 --seed 1 > countdown.jsonl
//! ```
//! `--tasks add-integer,max-integer` names number tasks; `truth.kind` and `truth.completion` are the hidden columns.

use arrow::json::LineDelimitedWriter;
use curate_datasets::tasks::{
    Noise, NumberTasks, Puzzles, Side, Style, Task, TaskRow, numbers, puzzles, spoil, task_rows,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let kind = args.next().ok_or("say numbers or countdown")?;
    let mut flags = BTreeMap::new();
    while let Some(flag) = args.next() {
        let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
        flags.insert(flag.trim_start_matches('-').to_owned(), value);
    }
    let clean = rows(&kind, &flags)?;
    let wrong = number(&flags, "wrong", 0.0)?;
    let rows = spoil(&clean, &Noise { wrong, ..Noise::default() }, &[], number(&flags, "seed", 0)?)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut writer = LineDelimitedWriter::new(&mut out);
    writer.write(&task_rows(&rows)?)?;
    writer.finish()?;
    drop(writer);
    Ok(out.flush()?)
}

fn number<T: std::str::FromStr>(flags: &BTreeMap<String, String>, name: &str, otherwise: T) -> Result<T, String> {
    flags.get(name).map_or(Ok(otherwise), |text| text.parse().map_err(|_| format!("--{name} {text} is not a number")))
}

fn rows(kind: &str, flags: &BTreeMap<String, String>) -> Result<Vec<TaskRow>, Box<dyn Error>> {
    let (count, seed) = (number(flags, "rows", 1000)?, number(flags, "seed", 0)?);
    let side = if flags.get("side").is_some_and(|side| side == "test") { Side::Test } else { Side::Train };
    match kind {
        "numbers" => {
            let find = |name: &str| Task::find(name).ok_or_else(|| format!("there is no task {name}"));
            let tasks = flags.get("tasks").map(|names| names.split(',').map(find).collect::<Result<Vec<_>, _>>());
            let tasks = tasks.transpose()?.unwrap_or_else(Task::first_set);
            let options =
                NumberTasks { tasks, side, digits: 1..=number(flags, "digits", 3)?, ..NumberTasks::default() };
            Ok(numbers(count, &options, seed)?.iter().map(|item| item.row(Style::Compact)).collect())
        }
        "countdown" => {
            let options = Puzzles { side, ..Puzzles::default() };
            Ok(puzzles(count, &options, seed)?.iter().map(curate_datasets::tasks::Puzzle::row).collect())
        }
        other => Err(format!("there is no kind '{other}': say numbers or countdown").into()),
    }
}
