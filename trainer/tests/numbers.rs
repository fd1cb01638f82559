//! The whole way on tasks with known answers: rows, tokenizer, training, generation, judgement.
#![expect(clippy::single_range_in_vec_init, reason = "a row has one answer")]

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use curate_core::{Ctx, Pool};
use curate_datasets::tasks::{Noise, NumberTasks, Side, Style, Task, TaskRow, numbers, spoil};
use curate_trainer::data::{SequenceOptions, sequences, trained_column};
use curate_trainer::eval::{EvalItem, EvalOptions, EvalReport, Judge, evaluate};
use curate_trainer::model::{Config, Generator, Model};
use curate_trainer::sft::{SftConfig, Trainer};
use curate_trainer::tokenizer::{BpeRecipe, TextTokenizer, train_bpe};
use std::sync::Arc;

/// Questions of one side; operands of at most `digits` digits.
fn rows(count: usize, side: Side, digits: usize, seed: u64) -> Vec<TaskRow> {
    let tasks = ["add-integer", "digit_max-integer", "max-integer"].map(|name| Task::find(name).unwrap()).to_vec();
    let options = NumberTasks { tasks, side, digits: 1..=digits, ..NumberTasks::default() };
    numbers(count, &options, seed).unwrap().iter().map(|item| item.row(Style::Compact)).collect()
}

/// Prompt and completion as one text, the completion marked.
fn pool(rows: &[TaskRow]) -> Pool {
    let texts: Vec<String> = rows.iter().map(|row| [row.prompt.as_str(), &row.completion].concat()).collect();
    let marks: Vec<_> = rows.iter().zip(&texts).map(|(row, text)| vec![row.prompt.len()..text.len()]).collect();
    let texts = Arc::new(StringArray::from(texts)) as ArrayRef;
    Pool::from_batch(
        RecordBatch::try_from_iter([("text", texts), ("text.trained", trained_column(&marks).unwrap())]).unwrap(),
    )
}

fn items(rows: &[TaskRow]) -> Vec<EvalItem> {
    let item = |(at, row): (usize, &TaskRow)| EvalItem {
        row: at as u64,
        prompt: row.prompt.clone(),
        label: row.right.clone(),
        task: row.task.clone(),
        group: row.band.clone(),
    };
    rows.iter().enumerate().map(item).collect()
}

fn tokenizer() -> TextTokenizer {
    let texts: Vec<String> = rows(500, Side::Train, 3, 1).into_iter().map(|row| row.prompt).collect();
    let recipe = BpeRecipe { vocab_size: 280, ..BpeRecipe::default() };
    TextTokenizer::from_json(&train_bpe(&texts, &recipe, &Ctx::new(0)).unwrap(), Some("<|endoftext|>")).unwrap()
}

fn model(hidden: usize, layers: usize, tokenizer: &TextTokenizer, ctx: &Ctx) -> Model {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": tokenizer.size(),
        "hidden_size": hidden, "intermediate_size": hidden * 43 / 16, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "initializer_range": 0.02, "hidden_act": "silu",
    });
    Model::init(Config::from_json(config).unwrap(), ctx).unwrap()
}

/// Train on `train`, answer `test`.
fn learn(
    train: &[TaskRow],
    test: &[TaskRow],
    (hidden, layers): (usize, usize),
    (steps, rate): (u64, f64),
) -> EvalReport {
    let (ctx, tokenizer) = (Ctx::new(3), tokenizer());
    let data = sequences(&pool(train), &tokenizer, &SequenceOptions::new(48), &ctx).unwrap();
    assert_eq!(data.report.eos_rows, train.len() as u64);
    let mut model = model(hidden, layers, &tokenizer, &ctx);
    let config = SftConfig {
        learning_rate: Some(rate),
        batch_size: 64,
        max_length: 48,
        max_steps: Some(steps),
        warmup_steps: Some(100.min(steps / 4)),
        min_lr_ratio: 0.1,
        adam_beta2: 0.98,
        ..SftConfig::default()
    };
    let trained = Trainer::new(config, &data.sequences).run(&mut model, &ctx).unwrap();
    println!("{} tokens, loss {:.3}", trained.tokens, trained.judged_loss());
    let options = EvalOptions { max_new_tokens: 8, batch_size: 256, judge: Judge::Number };
    let judged = evaluate(&Generator::new(&model), &tokenizer, &items(test), &options, &ctx).unwrap();
    EvalReport::of(&judged, "exact")
}

#[test]
fn one_digit_is_learned_from_rows_to_report() {
    let (train, test) = (rows(2000, Side::Train, 1, 5), rows(60, Side::Test, 1, 6));
    let report = learn(&train, &test, (32, 2), (400, 5e-3));
    let (task, all) = (report.value("max-integer", "", "digit-match").unwrap(), report.value("", "", "exact").unwrap());
    assert!(task > 0.3 && all > 0.05, "{:#?}", report.rows());
    assert_eq!(report, learn(&train, &test, (32, 2), (400, 5e-3)), "the same run gives the same report");
}

/// `just acceptance`.
#[test]
#[ignore = "trains two models of 0.8M parameters, two minutes in release: run by just acceptance"]
fn three_digits_are_learned_and_noise_hurts() {
    let (train, test) = (rows(96_000, Side::Train, 3, 5), rows(1500, Side::Test, 3, 6));
    let clean = learn(&train, &test, (128, 4), (1500, 1e-3));
    let noise = Noise { wrong: 0.5, ..Noise::default() };
    let spoiled = learn(&spoil(&train, &noise, &[], 7).unwrap(), &test, (128, 4), (1500, 1e-3));
    for (name, report) in [("clean", &clean), ("half wrong", &spoiled)] {
        for row in report.rows() {
            println!("{name}: {}", row.join(" | "));
        }
    }
    let of = |report: &EvalReport, task: &str| report.value(task, "", "exact").unwrap();
    assert!(of(&clean, "digit_max-integer") > 0.95 && of(&clean, "max-integer") > 0.9);
    assert!(of(&spoiled, "max-integer") < of(&clean, "max-integer"));
}
