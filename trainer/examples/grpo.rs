//! Teaches a small model from nothing, by examples until it is sometimes right, then from its own answers:
//! `grpo [TASK [SEED [SFT_STEPS [STEPS [RATE]]]]]` with TASK `sum` (two numbers of up to two digits) or `countdown` (three numbers up to 9).
//! Prompts of a step are drawn evenly. Prints the reward as it goes, and exact match on held-out questions before and after.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use curate_core::{Ctx, Learner, Pool, Result};
use curate_datasets::tasks::{NumberTasks, Puzzles, Side, Style, Task, numbers, puzzles};
use curate_trainer::data::{SequenceOptions, sequences, trained_column};
use curate_trainer::eval::{EvalItem, EvalOptions, EvalReport, Judge, evaluate};
use curate_trainer::grpo::{GrpoConfig, GrpoLearner};
use curate_trainer::model::{Config, Generator, Model};
use curate_trainer::sft::{SftConfig, Trainer};
use curate_trainer::tokenizer::{BpeRecipe, TextTokenizer, train_bpe};
use std::sync::Arc;
use std::time::Instant;

/// Prompts a step, and answers to each.
const PROMPTS: usize = 32;
const ANSWERS: usize = 8;

/// Question and answer.
type Row = (String, String);

fn rows(task: &str, count: usize, side: Side, seed: u64) -> Result<Vec<Row>> {
    if task == "countdown" {
        let options =
            Puzzles { count: 3..=3, largest: 9, largest_target: 40, operations: "+-*", side, test_share: 0.2 };
        let row = |puzzle: &curate_datasets::tasks::Puzzle| {
            let list: Vec<String> = puzzle.numbers.iter().map(u32::to_string).collect();
            (format!("{} > {} :", list.join(" "), puzzle.target), puzzle.solution.replace(' ', ""))
        };
        return Ok(puzzles(count, &options, seed)?.iter().map(row).collect());
    }
    let tasks = Task::find("add-integer").into_iter().collect();
    let options = NumberTasks { tasks, digits: 1..=2, side, ..NumberTasks::default() };
    let row = |item: &curate_datasets::tasks::Item| {
        let row = item.row(Style::Compact);
        (row.prompt, row.right)
    };
    Ok(numbers(count, &options, seed)?.iter().map(row).collect())
}

fn texts(rows: &[Row], pick: fn(&Row) -> &String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(pick)))
}

/// Questions for the learner.
fn prompts(rows: &[Row]) -> Result<Pool> {
    let columns = [("prompt", texts(rows, |row| &row.0)), ("completion", texts(rows, |row| &row.1))];
    Ok(Pool::from_batch(RecordBatch::try_from_iter(columns)?))
}

fn tokenizer(rows: &[Row]) -> Result<TextTokenizer> {
    let texts: Vec<&str> = rows.iter().take(500).map(|row| row.0.as_str()).collect();
    let recipe = BpeRecipe { vocab_size: 262, ..BpeRecipe::default() };
    TextTokenizer::from_json(&train_bpe(&texts, &recipe, &Ctx::new(0))?, Some("<|endoftext|>"))
}

/// A model of about 200,000 parameters, taught by examples.
fn taught(rows: &[Row], tokenizer: &TextTokenizer, steps: u64, ctx: &Ctx) -> Result<Model> {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": tokenizer.size(), "hidden_size": 64,
        "intermediate_size": 172, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "initializer_range": 0.05, "hidden_act": "silu",
    });
    let mut model = Model::init(Config::from_json(config)?, ctx)?;
    let whole: Vec<String> = rows.iter().map(|row| [row.0.as_str(), &row.1].concat()).collect();
    let marks: Vec<Vec<_>> =
        rows.iter().zip(&whole).map(|(row, whole)| std::iter::once(row.0.len()..whole.len()).collect()).collect();
    let text = Arc::new(StringArray::from(whole)) as ArrayRef;
    let pool =
        Pool::from_batch(RecordBatch::try_from_iter([("text", text), ("text.trained", trained_column(&marks)?)])?);
    let train = sequences(&pool, tokenizer, &SequenceOptions::new(48), ctx)?.sequences;
    let config = SftConfig {
        learning_rate: Some(3e-3),
        batch_size: 64,
        max_steps: Some(steps),
        warmup_steps: Some(50),
        min_lr_ratio: 0.1,
        adam_beta2: 0.98,
        ..SftConfig::default()
    };
    let report = Trainer::new(config, &train).run(&mut model, ctx)?;
    println!("examples: {steps} steps, loss {:.3}", report.judged_loss());
    Ok(model)
}

/// Exact match on held-out questions, greedy.
fn score(model: &Model, tokenizer: &TextTokenizer, rows: &[Row], judge: Judge) -> Result<f64> {
    let item = |(row, (prompt, label)): (u64, &Row)| {
        let (prompt, label) = (prompt.clone(), label.clone());
        EvalItem { row, prompt, label, ..EvalItem::default() }
    };
    let items: Vec<EvalItem> = (0..).zip(rows).map(item).collect();
    let options = EvalOptions { max_new_tokens: 12, batch_size: 256, judge };
    let judged = evaluate(&Generator::new(model), tokenizer, &items, &options, &Ctx::new(0))?;
    Ok(EvalReport::of(&judged, "right").value("", "", "right").unwrap_or(0.0))
}

fn config(judge: Judge, rate: f64) -> GrpoConfig {
    let train = SftConfig {
        learning_rate: Some(rate),
        batch_size: 64,
        max_length: 48,
        warmup_steps: Some(10),
        min_lr_ratio: 0.1,
        ..SftConfig::default()
    };
    let base = GrpoConfig { train, num_generations: ANSWERS, max_completion_length: 12, ..GrpoConfig::default() };
    GrpoConfig { epsilon_high: Some(0.28), num_iterations: 2, judge, ..base }
}

/// Learn from answers to prompts drawn evenly.
fn practise(learner: &mut GrpoLearner, rows: &[Row], steps: u64, ctx: &Ctx) -> Result<()> {
    let (pool, mut sums) = (prompts(rows)?, [0.0; 4]);
    for step in 0..steps {
        let mut rng = ctx.rng("prompts", step);
        let drawn = |_| usize::try_from(rng.below(rows.len() as u64)).unwrap_or(0);
        let mut drawn: Vec<usize> = (0..PROMPTS).map(drawn).collect();
        drawn.sort_unstable();
        drawn.dedup();
        learner.step(&pool.filter(&drawn)?, &[], ctx)?;
        let now = learner.report();
        let figures = [now.reward, now.informative, now.entropy, now.clip_share];
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure / 20.0);
        if (step + 1) % 20 == 0 {
            let [reward, informative, entropy, clipped] = sums;
            println!(
                "step {}: reward {reward:.3}, informative {informative:.2}, entropy {entropy:.2}, clipped {clipped:.3}",
                now.step
            );
            sums = [0.0; 4];
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let task = arguments.first().map_or("sum", String::as_str);
    let number = |at: usize, usual: u64| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (seed, sft_steps, steps) = (number(1, 1), number(2, 400), number(3, 200));
    let rate = arguments.get(4).and_then(|text| text.parse().ok()).unwrap_or(3e-4);
    let judge = if task == "countdown" { Judge::Countdown } else { Judge::Exact };
    let ctx = Ctx::new(seed);
    let (many, few) = if task == "countdown" { (1200, 200) } else { (2500, 400) };
    let (train, test) = (rows(task, many, Side::Train, seed)?, rows(task, few, Side::Test, seed)?);
    let tokenizer = tokenizer(&train)?;
    let (start, model) = (Instant::now(), taught(&train, &tokenizer, sft_steps, &ctx)?);
    let before = score(&model, &tokenizer, &test, judge)?;
    println!("held out, before: {before:.3} ({:.0} s)", start.elapsed().as_secs_f64());
    let start = Instant::now();
    let mut learner = GrpoLearner::new(model, tokenizer.clone(), config(judge, rate), steps, &ctx)?;
    practise(&mut learner, &train, steps, &ctx)?;
    let after = score(learner.model(), &tokenizer, &test, judge)?;
    println!("held out, after {steps} steps: {after:.3} ({:.0} s)", start.elapsed().as_secs_f64());
    Ok(())
}
