//! Alpaca rows whose topics are known, as JSON lines on stdout; the corpus of the million-row figure in the README.
//!
//! ```text
//! cargo run --release -p curate-datasets --example planted -- 1000000 8 1 > planted.jsonl     (rows, topics, seed)
//! ```

use arrow::json::LineDelimitedWriter;
use std::error::Error;
use std::io::{BufWriter, Write};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut next = |name: &str| args.next().ok_or_else(|| format!("say rows, topics and seed: {name} is missing"));
    let (rows, topics, seed) = (next("rows")?.parse()?, next("topics")?.parse()?, next("seed")?.parse()?);
    let corpus = curate_datasets::planted(rows, topics, seed)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut writer = LineDelimitedWriter::new(&mut out);
    writer.write(&corpus.batch)?;
    writer.finish()?;
    drop(writer);
    Ok(out.flush()?)
}
