//! The real files of the project's shared data, where they are there.

use crate::{Desk, all, shared};
use curate_ingest::{InputSpec, OutputSpec, create};

/// File, rows, layout.
const FILES: [(&str, u64, &str); 36] = [
    ("samples/mixed_5k.parquet", 5000, "alpaca: prompt=instruction+input, response=output"),
    ("samples/alpaca_1k.jsonl", 1000, "alpaca: prompt=instruction+input, response=output"),
    ("samples/alpaca_1k.json", 1000, "alpaca: prompt=instruction+input, response=output"),
    ("samples/messages_500.jsonl", 500, "messages: messages=messages"),
    ("corpus/mixed.parquet", 125_513, "alpaca: prompt=instruction+input, response=output"),
    ("corpus/p3_prompt_completion.parquet", 55_185, "prompt-completion: prompt=prompt, response=completion"),
    ("corpus/flan_cot.parquet", 25_970, "question-answer: prompt=question, response=rationale+answer"),
    ("corpus/gpteacher_response.parquet", 14_131, "instruction-response: prompt=instruction+input, response=response"),
    ("math/gsm8k_train.parquet", 7473, "question-answer: prompt=question, response=answer"),
    ("math/gsm8k_test.parquet", 1319, "question-answer: prompt=question, response=answer"),
    ("math/gsm8k_test.jsonl", 1319, "question-answer: prompt=question, response=answer"),
    ("math/deepscaler_math_train.parquet", 7474, "question-answer: prompt=problem, response=answer"),
    ("math/deepscaler_aime_train.parquet", 975, "question-answer: prompt=problem, response=solution+answer"),
    ("math/countdown_synthetic.parquet", 4000, "prompt-completion: prompt=prompt, response=solution"),
    ("chat/taskmaster4_messages.parquet", 1855, "messages: messages=messages"),
    ("chat/taskmaster4_sharegpt.parquet", 1855, "sharegpt: messages=conversations"),
    ("chat/fastchat_dummy_sharegpt.json", 500, "sharegpt: messages=conversations"),
    ("chat/glaive_toolcall_sharegpt.json", 300, "sharegpt: messages=conversations, tools=tools"),
    ("chat/messages_parts.jsonl", 500, "messages: messages=messages"),
    ("rec/tallrec_movie_valid.parquet", 1000, "alpaca: prompt=instruction+input, response=output"),
    ("rec/tallrec_movie_test.parquet", 1000, "alpaca: prompt=instruction+input, response=output"),
    ("rec/tallrec_book_valid.parquet", 2427, "alpaca: prompt=instruction+input, response=output"),
    ("rec/tallrec_book_test.parquet", 2427, "alpaca: prompt=instruction+input, response=output"),
    ("rec/games_seqrec_train.parquet", 60_000, "alpaca: prompt=instruction+input, response=output"),
    ("rec/games_seqrec_valid.parquet", 5000, "alpaca: prompt=instruction+input, response=output"),
    ("rec/games_seqrec_test.parquet", 5000, "alpaca: prompt=instruction+input, response=output"),
    ("rec/games_items.parquet", 17_332, ""),
    ("rec/games_interactions_train.parquet", 49_156, ""),
    ("rec/games_interactions_valid.parquet", 9609, ""),
    ("rec/games_interactions_test.parquet", 8696, ""),
    ("eval/seed_tasks.jsonl", 175, "alpaca: prompt=instruction+instances[0].input, response=instances[0].output"),
    (
        "eval/user_oriented_252.jsonl",
        252,
        "alpaca: prompt=instruction+instances[0].input, response=instances[0].output",
    ),
    ("eval/mt_bench_questions.jsonl", 80, "prompt-completion: prompt=turns"),
    ("eval/vicuna_questions.jsonl", 80, "prompt-completion: prompt=turns"),
    ("eval/humaneval.jsonl", 164, "prompt-completion: prompt=prompt, response=canonical_solution"),
    ("eval/bbh.parquet", 6511, "prompt-completion: prompt=input, response=target"),
];

#[test]
fn every_shared_file_is_read_and_understood() {
    let Some(folder) = shared() else { return };
    let desk = Desk::new();
    for (name, rows, layout) in FILES {
        let spec = InputSpec::of(folder.join(name).to_string_lossy());
        if layout.is_empty() {
            assert_eq!(desk.open(&spec).err().unwrap().code(), "format/unknown", "{name}");
            continue;
        }
        let source = desk.open(&spec).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(source.rows(), rows, "{name}");
        assert_eq!(source.layout().to_string(), format!("{layout} (detected)"), "{name}");
        let texts = desk.read(&spec).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(texts.len() as u64, rows, "{name}");
        let empty = texts.iter().filter(|t| t.embed.trim().is_empty()).count();
        assert!(empty * 100 <= texts.len(), "{name}: {empty} empty texts");
    }
}

#[test]
fn real_rows_survive_every_output() {
    let Some(folder) = shared() else { return };
    let desk = Desk::new();
    for input in [
        "chat/glaive_toolcall_sharegpt.json",
        "chat/messages_parts.jsonl",
        "samples/messages_500.jsonl",
        "math/countdown_synthetic.parquet",
        "eval/seed_tasks.jsonl",
    ] {
        let source = desk.open(&InputSpec::of(folder.join(input).to_string_lossy())).unwrap();
        for extension in ["parquet", "jsonl", "json", "arrow"] {
            let path = desk.name(&format!("{}.{extension}", input.replace('/', "-")));
            let mut sink = create(&OutputSpec::of(path.clone()), source.schema().clone()).unwrap();
            let old = all(&source);
            for batch in &old {
                sink.write(batch).unwrap();
            }
            sink.finish().unwrap();
            let back = desk.open(&InputSpec::of(path)).unwrap();
            let old = arrow::compute::concat_batches(source.schema(), &old).unwrap();
            let new = arrow::compute::concat_batches(back.schema(), &all(&back)).unwrap();
            for (new, old) in new.columns().iter().zip(old.columns()) {
                let new = arrow::compute::cast(new, old.data_type()).unwrap();
                assert_eq!(&new, old, "{input} {extension}");
            }
        }
    }
}

#[test]
fn published_lines_survive_a_round_trip_as_json() {
    let Some(folder) = shared() else { return };
    let desk = Desk::new();
    for input in ["math/gsm8k_test.jsonl", "samples/alpaca_1k.jsonl", "chat/messages_parts.jsonl"] {
        let path = folder.join(input);
        let source = desk.open(&InputSpec::of(path.to_string_lossy())).unwrap();
        let out = desk.name("out.jsonl");
        let mut sink =
            create(&OutputSpec { overwrite: true, ..OutputSpec::of(out.clone()) }, source.schema().clone()).unwrap();
        for batch in &all(&source) {
            sink.write(batch).unwrap();
        }
        sink.finish().unwrap();
        let (old, new) = (std::fs::read_to_string(path).unwrap(), std::fs::read_to_string(out).unwrap());
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert!(old.lines().zip(new.lines()).all(|(a, b)| value(a) == value(b)), "{input}");
        assert_eq!(old.lines().count(), new.lines().count());
    }
}
