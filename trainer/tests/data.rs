//! From rows to batches: labels at the boundary, ends, cuts, packing, order, masked thought.
#![expect(clippy::single_range_in_vec_init, reason = "a row may have one range or several")]

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use curate_core::{Ctx, Pool};
use curate_trainer::data::{
    Cursor, LossOn, MaskedThought, Packing, Plan, Replace, SequenceOptions, pack, preview, sequences, trained_column,
};
use curate_trainer::tokenizer::{BpeRecipe, TextTokenizer, train_bpe};
use curate_trainer::{Batch, IGNORE, Sequence};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

const TEXTS: [&str; 6] = [
    "the cat sat on the mat and the dog sat on the log",
    "where is the cat? the cat is on the mat. \u{00fc}ber allen gipfeln ist ruh",
    "add 12 34=46\nadd 99 1=100\n",
    "answering the answer: the other answers are there",
    "<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\nhello you<|im_end|>\n",
    "question: what is it? answer: nothing at all",
];

fn bytes() -> &'static [u8] {
    static FILE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let recipe = BpeRecipe { vocab_size: 285, ..BpeRecipe::default() };
        train_bpe(&TEXTS, &recipe, &Ctx::new(0)).unwrap()
    });
    &FILE
}

fn tokenizer() -> TextTokenizer {
    TextTokenizer::from_json(bytes(), Some("<|endoftext|>")).unwrap()
}

fn pool(rows: &[(&str, Vec<Range<usize>>)]) -> Pool {
    let texts = Arc::new(StringArray::from_iter_values(rows.iter().map(|(text, _)| text))) as ArrayRef;
    let marks = trained_column(&rows.iter().map(|(_, marks)| marks.clone()).collect::<Vec<_>>()).unwrap();
    Pool::from_batch(RecordBatch::try_from_iter([("text", texts), ("text.trained", marks)]).unwrap())
}

fn one(text: &str, marks: Vec<Range<usize>>, options: &SequenceOptions) -> Sequence {
    sequences(&pool(&[(text, marks)]), &tokenizer(), options, &Ctx::new(0)).unwrap().sequences.remove(0)
}

fn labelled(sequence: &Sequence) -> Vec<usize> {
    (0..sequence.labels.len()).filter(|&at| sequence.labels[at] != IGNORE).collect()
}

#[test]
fn the_learned_vocabulary_round_trips_and_repeats() {
    let tokenizer = tokenizer();
    for text in TEXTS.iter().chain(&["\u{1F600} unseen \u{4e2d}\u{6587}\t\0", "  spaces   "]) {
        let tokens = tokenizer.encode(text).unwrap();
        let joined: Vec<&[u8]> = tokens.bytes.iter().map(|range| &text.as_bytes()[range.clone()]).collect();
        assert!(text.is_char_boundary(tokens.bytes[0].start));
        assert!(joined.concat().len() >= text.len(), "every byte belongs to a token");
        let plain = text.replace("<|im_start|>", "").replace("<|im_end|>", "");
        assert_eq!(tokenizer.decode(&tokens.ids).unwrap(), plain);
        assert_eq!(tokenizer.ids(text).unwrap(), tokens.ids);
    }
    assert_eq!((tokenizer.eos(), tokenizer.id("<|im_end|>"), tokenizer.size()), (Some(0), Some(2), 285));
    let digits = tokenizer.encode("12345").unwrap();
    assert_eq!(digits.ids.len(), 5, "every digit is a token");
    let alone = rayon_pool(1).install(bytes_again);
    assert_eq!(alone, rayon_pool(3).install(bytes_again));
    assert_eq!(alone, bytes());
}

fn bytes_again() -> Vec<u8> {
    let recipe = BpeRecipe { vocab_size: 285, ..BpeRecipe::default() };
    train_bpe(&TEXTS, &recipe, &Ctx::new(5)).unwrap()
}

fn rayon_pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Count all pairs anew for every join: the algorithm without its book-keeping.
fn joins_by_the_book(words: &[&str], joins: usize) -> Vec<(String, String)> {
    let mut words: Vec<Vec<String>> = words.iter().map(|w| w.chars().map(String::from).collect()).collect();
    let mut order: Vec<String> = (33u8..=126).map(|b| char::from(b).to_string()).collect();
    let mut out = Vec::new();
    for _ in 0..joins {
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let id = |token: &String| order.iter().position(|other| other == token).unwrap();
        for word in &words {
            for pair in word.windows(2) {
                *counts.entry((id(&pair[0]), id(&pair[1]))).or_default() += 1;
            }
        }
        let most = counts.values().copied().max().unwrap_or(0);
        if most < 2 {
            break;
        }
        let (a, b) = *counts.iter().find(|(_, count)| **count == most).unwrap().0;
        let (a, b) = (order[a].clone(), order[b].clone());
        for word in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if word[at] == a && word[at + 1] == b {
                    word[at] = format!("{a}{b}");
                    word.remove(at + 1);
                }
                at += 1;
            }
        }
        if !order.contains(&format!("{a}{b}")) {
            order.push(format!("{a}{b}"));
        }
        out.push((a, b));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn joins_are_those_of_the_plain_algorithm(words in prop::collection::vec("[abc]{1,9}", 1..40)) {
        let recipe = BpeRecipe { vocab_size: 256 + 12, specials: Vec::new(), ..BpeRecipe::default() };
        let file: serde_json::Value = serde_json::from_slice(&train_bpe(&words, &recipe, &Ctx::new(0)).unwrap()).unwrap();
        let merges: Vec<(String, String)> = serde_json::from_value(file["model"]["merges"].clone()).unwrap();
        let refs: Vec<&str> = words.iter().map(String::as_str).collect();
        let book = joins_by_the_book(&refs, merges.len());
        prop_assert_eq!(&merges, &book);
    }

    /// Against tokenising the prompt alone: what we label, the prefix rule labels; and where the prefix rule labels more, the
    /// token in question has no byte of the answer.
    #[test]
    fn labels_are_those_of_the_longest_common_prefix(prompt in "[a-e ?:=\n\u{00fc}0-3]{1,24}", answer in "[a-e \u{00fc}.0-3]{1,24}") {
        let tokenizer = tokenizer();
        let text = format!("{prompt}{answer}");
        prop_assume!(!text.trim().is_empty());
        let options = SequenceOptions { append_eos: false, ..SequenceOptions::new(512) };
        let ours = sequences(&pool(&[(&text, vec![prompt.len()..text.len()])]), &tokenizer, &options, &Ctx::new(0));
        let whole = tokenizer.encode(&text).unwrap();
        let alone = tokenizer.ids(&prompt).unwrap();
        let shared = whole.ids.iter().zip(&alone).take_while(|(a, b)| a == b).count();
        let Ok(ours) = ours else { return Ok(()) }; // a text of one token has nothing to predict
        let first = *labelled(&ours.sequences[0]).first().unwrap();
        prop_assert!(shared.max(1) <= first);
        prop_assert!(whole.bytes[shared.max(1)..first].iter().all(|bytes| bytes.end <= prompt.len()));
        prop_assert_eq!(labelled(&ours.sequences[0]), (first..whole.ids.len()).collect::<Vec<_>>());
    }

    #[test]
    fn bins_hold_everything_once(lengths in prop::collection::vec(1usize..=64, 0..200)) {
        let bins = pack(&lengths, 64).unwrap();
        let mut all: Vec<usize> = bins.iter().flatten().copied().collect();
        all.sort_unstable();
        prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        let filled: Vec<usize> = bins.iter().map(|bin| bin.iter().map(|&at| lengths[at]).sum()).collect();
        prop_assert!(filled.iter().all(|sum| *sum <= 64));
        prop_assert!(filled.iter().filter(|sum| **sum <= 32).count() <= 1, "two half-empty bins would have been one");
    }
}

#[test]
fn the_boundary_by_hand() {
    let tokenizer = tokenizer();
    let (text, options) = ("add 12 34=46", SequenceOptions::new(64));
    let sequence = one(text, vec![10..12], &options);
    let eos = tokenizer.eos().unwrap();
    let four = tokenizer.id("4").unwrap();
    let six = tokenizer.id("6").unwrap();
    let n = sequence.tokens.len();
    assert_eq!(sequence.tokens[n - 3..], [four, six, eos]);
    assert_eq!(sequence.labels[n - 3..], [four, six, eos]);
    assert!(sequence.labels[..n - 3].iter().all(|label| *label == IGNORE));
}

#[test]
fn ends_are_learned_and_not_doubled() {
    let tokenizer = tokenizer();
    let end = tokenizer.id("<|im_end|>").unwrap();
    let text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello you<|im_end|>\n";
    let start = text.find("hello").unwrap();
    let marked = one(text, vec![start..text.len() - 1], &SequenceOptions::new(64));
    assert_eq!(marked.tokens.last(), Some(&end), "the newline behind the answer is cut, and no second end follows");
    assert_eq!(marked.labels.last(), Some(&end));
    // marks that leave the end out: it is labelled all the same, since the tokenizer names it as its end
    let file = bytes();
    let ends_there = TextTokenizer::from_json(file, Some("<|im_end|>")).unwrap();
    let pool = pool(&[(text, vec![start..text.len() - 11])]);
    let data = sequences(&pool, &ends_there, &SequenceOptions::new(64), &Ctx::new(0)).unwrap();
    assert_eq!(data.sequences[0], marked);
    assert_eq!(data.report.eos_rows, 0);
    let without = TextTokenizer::from_json(file, None).unwrap();
    let error = sequences(&pool, &without, &SequenceOptions::new(64), &Ctx::new(0)).unwrap_err();
    assert_eq!((error.code(), error.location().unwrap().row), ("tokenizer/no-eos", Some(0)));
}

#[test]
fn two_answers_two_spans() {
    let text = "q: a? ans: cat. q: b? ans: dog.";
    let marks = vec![11..15, 27..31];
    let sequence = one(text, marks.clone(), &SequenceOptions::new(64));
    let tokens = tokenizer().encode(text).unwrap();
    for (at, bytes) in tokens.bytes.iter().enumerate() {
        let inside = marks.iter().any(|mark| bytes.start < mark.end && mark.start < bytes.end);
        assert_eq!(sequence.labels[at] != IGNORE, inside, "{:?}", &text[bytes.clone()]);
    }
    let all = one(text, marks, &SequenceOptions { loss_on: LossOn::All, ..SequenceOptions::new(64) });
    assert_eq!(labelled(&all), (1..all.tokens.len()).collect::<Vec<_>>());
}

#[test]
fn cut_rows_are_counted_and_unlabelled_ones_dropped_with_their_ids() {
    let long = "the cat sat on the mat and the dog sat on the log ".repeat(4);
    let rows = [
        ("", vec![]),
        ("  \n", vec![0..3]),
        ("where is the cat? on the mat", vec![18..28]),
        ("no answer here", vec![]),
        (long.as_str(), vec![190..long.len()]),
        (long.as_str(), vec![4..long.len()]),
    ];
    let pool =
        pool(&rows).with(&curate_core::Column::ROW, Arc::new(UInt64Array::from(vec![7, 8, 9, 10, 11, 12]))).unwrap();
    let data = sequences(&pool, &tokenizer(), &SequenceOptions::new(20), &Ctx::new(0)).unwrap();
    let report = &data.report;
    assert_eq!((report.rows, report.kept_rows, report.truncated_rows), (6, 2, 1));
    assert_eq!((report.empty.as_slice(), report.unlabelled.as_slice()), (&[7, 8][..], &[10, 11][..]));
    assert_eq!(data.sequences.iter().map(|s| s.row).collect::<Vec<_>>(), [9, 12]);
    assert_eq!(data.sequences[1].tokens.len(), 20);
    assert_ne!(data.sequences[1].tokens[19], 0, "a cut answer gets no end");
    assert_eq!(report.eos_rows, 1);
    assert_eq!(report.tokens, data.lengths().iter().sum::<usize>() as u64);
    let error = sequences(&pool.filter(&[0, 3, 4]).unwrap(), &tokenizer(), &SequenceOptions::new(20), &Ctx::new(0))
        .unwrap_err();
    assert_eq!(error.code(), "data/nothing-to-learn");
    assert!(error.to_string().contains("none of 3 rows"), "{error}");
}

#[test]
fn labelled_bytes_are_those_of_the_text() {
    let count = |text: &str, marks: Vec<Range<usize>>, options: &SequenceOptions| {
        sequences(&pool(&[(text, marks)]), &tokenizer(), options, &Ctx::new(0)).unwrap().report.labelled_bytes
    };
    let all = SequenceOptions { loss_on: LossOn::All, ..SequenceOptions::new(64) };
    let first = |text: &str| tokenizer().encode(text).unwrap().bytes[0].end as u64;
    for text in ["x the cat", "x \u{4e2d}\u{6587} \u{1F600}!"] {
        assert_eq!(count(text, vec![0..text.len()], &all), text.len() as u64 - first(text), "all but the first token");
    }
    let chat = "<|im_start|>user\nhi<|im_end|>";
    assert_eq!(count(chat, vec![0..chat.len()], &all), "user\nhi".len() as u64, "marks are no text");
    assert_eq!(count("add 1=46", vec![6..8], &SequenceOptions::new(64)), 2);
}

#[test]
fn bad_columns_are_named() {
    let code = |pool: &Pool| sequences(pool, &tokenizer(), &SequenceOptions::new(20), &Ctx::new(0)).unwrap_err();
    let error = code(&pool(&[("caf\u{e9}", vec![0..4])]));
    assert_eq!((error.code(), error.location().unwrap().row), ("data/range", Some(0)), "inside a character");
    assert_eq!(code(&pool(&[("abc", vec![2..9])])).code(), "data/range");
    let texts = Arc::new(StringArray::from(vec!["a b c"])) as ArrayRef;
    let no_marks = Pool::from_batch(RecordBatch::try_from_iter([("text", texts)]).unwrap());
    assert_eq!(code(&no_marks).code(), "column/missing");
    let all = SequenceOptions { loss_on: LossOn::All, ..SequenceOptions::new(20) };
    assert_eq!(sequences(&no_marks, &tokenizer(), &all, &Ctx::new(0)).unwrap().sequences.len(), 1);
    let numbers = Arc::new(UInt64Array::from(vec![1])) as ArrayRef;
    let wrong =
        Pool::from_batch(RecordBatch::try_from_iter([("text", numbers.clone()), ("text.trained", numbers)]).unwrap());
    assert_eq!(code(&wrong).code(), "column/type");
    assert_eq!(SequenceOptions::new(1).check(None).unwrap_err().code(), "data/max-length");
    assert_eq!(SequenceOptions::new(512).check(Some(256)).unwrap_err().code(), "data/max-length");
    assert_eq!(tokenizer().fits(284).unwrap_err().code(), "tokenizer/vocabulary");
    assert!(tokenizer().fits(285).is_ok());
    assert_eq!(TextTokenizer::from_json(b"{}", None).unwrap_err().code(), "tokenizer/invalid");
    assert_eq!(TextTokenizer::from_json(bytes(), Some("</s>")).unwrap_err().code(), "tokenizer/special");
    let few = BpeRecipe { vocab_size: 200, ..BpeRecipe::default() };
    assert_eq!(train_bpe(&TEXTS, &few, &Ctx::new(0)).unwrap_err().code(), "tokenizer/vocab-size");
}

#[test]
fn pairs_and_large_lists_are_read_too() {
    use arrow::array::{FixedSizeListBuilder, Int32Builder, LargeListBuilder};
    let mut builder = LargeListBuilder::new(FixedSizeListBuilder::new(Int32Builder::new(), 2));
    for marks in [vec![(0, 3), (4, 7)], vec![], vec![(8, 11)]] {
        for (start, end) in marks {
            builder.values().values().append_slice(&[start, end]);
            builder.values().append(true);
        }
        builder.append(true);
    }
    let texts = Arc::new(StringArray::from(vec!["one two three"; 3])) as ArrayRef;
    let marks = Arc::new(builder.finish()) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("text", texts), ("text.trained", marks)]).unwrap();
    let want = pool(&[("one two three", vec![0..3, 4..7]), ("one two three", vec![]), ("one two three", vec![8..11])]);
    let read = |pool: &Pool| sequences(pool, &tokenizer(), &SequenceOptions::new(32), &Ctx::new(0)).unwrap().sequences;
    assert_eq!(read(&Pool::from_batch(batch.clone())), read(&want));
    let mut last = read(&want.filter(&[2]).unwrap());
    last[0].row = 0;
    assert_eq!(read(&Pool::from_batch(batch.slice(2, 1))), last);
}

#[test]
fn bos_stands_in_front_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content).unwrap();
    assert_eq!(TextTokenizer::load(folder.path()).unwrap_err().code(), "tokenizer/missing");
    write("tokenizer.json", bytes());
    write(
        "tokenizer_config.json",
        br#"{"add_bos_token": true, "bos_token": "<|endoftext|>", "eos_token": {"content": "<|im_end|>"}}"#,
    );
    write("generation_config.json", br#"{"eos_token_id": [2, 0], "pad_token_id": 1}"#);
    let tokenizer = TextTokenizer::load(folder.path()).unwrap();
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.pad()), (Some(0), Some(2), Some(1)));
    assert_eq!(tokenizer.stops(), [2, 0]);
    let plain = tokenizer.encode("the cat").unwrap();
    assert_eq!((plain.ids[0], plain.bytes[0].clone()), (0, 0..0));
    assert_eq!(tokenizer.ids("<|endoftext|>the cat").unwrap(), plain.ids);
    let all = SequenceOptions { loss_on: LossOn::All, ..SequenceOptions::new(32) };
    let data = sequences(&pool(&[("the cat", vec![])]), &tokenizer, &all, &Ctx::new(0)).unwrap();
    assert_eq!(data.sequences[0].labels[0], IGNORE);
    assert_eq!(data.sequences[0].tokens.last(), Some(&2));
    write("tokenizer_config.json", br#"{"eos_token": "</s>"}"#);
    assert_eq!(TextTokenizer::load(folder.path()).unwrap_err().code(), "tokenizer/special");
    write("tokenizer_config.json", b"{");
    assert_eq!(TextTokenizer::load(folder.path()).unwrap_err().code(), "tokenizer/config");
}

#[test]
fn threads_and_chunks_change_nothing() {
    let texts: Vec<String> = (0..5000).map(|i| format!("q {i}: where is the cat? answer: {}", i * 7919)).collect();
    let rows: Vec<(&str, Vec<Range<usize>>)> =
        texts.iter().map(|t| (t.as_str(), vec![t.find("answer").unwrap() + 8..t.len()])).collect();
    let whole = pool(&rows);
    let batch =
        whole.chunk(0, &[&curate_core::Column::named("text"), &curate_core::Column::named("text.trained")]).unwrap();
    let parts =
        Pool::new(batch.schema(), vec![batch.slice(0, 17), batch.slice(17, 3000), batch.slice(3017, 1983)]).unwrap();
    let read = |pool: &Pool| sequences(pool, &tokenizer(), &SequenceOptions::new(32), &Ctx::new(0)).unwrap();
    let one = rayon_pool(1).install(|| read(&whole));
    assert_eq!(one, rayon_pool(4).install(|| read(&parts)));
    assert_eq!(one.sequences.len(), 5000);
}

#[test]
fn the_preview_shows_what_is_trained() {
    let text = "where is the cat? on the mat";
    let rows = [("", vec![]), (text, vec![18..28]), ("the dog", vec![0..7]), (text, vec![18..28])];
    let samples = preview(&pool(&rows), &tokenizer(), &SequenceOptions::new(64), 2).unwrap();
    assert_eq!(samples.iter().map(|s| s.row).collect::<Vec<_>>(), [1, 2]);
    // the space belongs to the first token of the answer
    assert_eq!(samples[0].trained.len(), 1);
    assert!(text[samples[0].trained[0].clone()].ends_with("on the mat"));
    assert!(samples[0].trained[0].start >= 17 && samples[0].eos_added && samples[0].seen_bytes == text.len());
    let cut = preview(&pool(&rows[1..2]), &tokenizer(), &SequenceOptions::new(8), 1).unwrap();
    assert!(cut.is_empty() || cut[0].cut_tokens > 0);
}

#[test]
fn packing_by_hand() {
    assert_eq!(pack(&[3, 7, 5, 2, 8], 10).unwrap(), [vec![4, 3], vec![1, 0], vec![2]]);
    assert_eq!(pack(&[11], 10).unwrap_err().code(), "data/too-long");
    assert!(pack(&[], 10).unwrap().is_empty());
}

#[test]
fn an_epoch_gives_everything_once_and_goes_on_where_it_stopped() {
    let lengths = [4usize; 23];
    let ctx = Ctx::new(3);
    let plan = Plan::new(&lengths, (Packing::Bfd, 8), 5, &ctx).unwrap();
    assert_eq!((plan.groups(), plan.batches_per_epoch()), (12, 3));
    let mut feed = plan.feed(Cursor::default()).unwrap();
    let batches: Vec<(Cursor, Vec<usize>)> = (0..7).map(|_| (feed.cursor(), feed.next_indices())).collect();
    let mut epoch: Vec<usize> = batches[..3].iter().flat_map(|(_, indices)| indices.clone()).collect();
    epoch.sort_unstable();
    assert_eq!(epoch, (0..23).collect::<Vec<_>>());
    assert_eq!((batches[3].0, batches[2].1.len() <= 4), (Cursor { epoch: 1, offset: 0 }, true));
    assert_ne!(plan.order(0), plan.order(1));
    for (cursor, indices) in &batches {
        assert_eq!(&plan.feed(*cursor).unwrap().next_indices(), indices, "resume at {cursor:?}");
    }
    assert_ne!(Plan::new(&lengths, (Packing::None, 8), 5, &Ctx::new(4)).unwrap().order(0), (0..23).collect::<Vec<_>>());
    assert!(plan.feed(Cursor { epoch: 0, offset: 12 }).is_err());
    assert_eq!(Plan::new(&lengths, (Packing::None, 8), 0, &ctx).err().unwrap().code(), "data/batch-size");
}

fn long_batch() -> Batch {
    let sequence = |row: u64| Sequence {
        row,
        tokens: vec![9; 1000],
        labels: (0..1000).map(|i| if i < 200 { IGNORE } else { 9 }).collect(),
        weight: 1.0,
    };
    Batch::of(&(0..125).map(sequence).collect::<Vec<_>>())
}

#[test]
fn masked_thought_hides_the_right_share_of_answers_only() {
    let (clean, ctx) = (long_batch(), Ctx::new(1));
    let off = MaskedThought::new(0.0, Replace::Mask(1), 90).unwrap();
    let mut batch = clean.clone();
    off.apply(&mut batch, 80, &ctx);
    assert_eq!(batch, clean);
    let thought = MaskedThought::new(0.4, Replace::Mask(1), 90).unwrap();
    for (step, share) in [(0, 0.0), (30, 0.2), (60, 0.4), (89, 0.4)] {
        assert!((thought.share(step) - share).abs() < 1e-12);
    }
    thought.apply(&mut batch, 70, &ctx);
    assert_eq!((&batch.labels, &batch.segments), (&clean.labels, &clean.segments));
    let hidden = (0..batch.tokens.len()).filter(|&at| batch.tokens[at] == 1).collect::<Vec<_>>();
    assert!(hidden.iter().all(|&at| clean.labels[at] != IGNORE));
    let (n, p) = (100_000.0f64, 0.4);
    let count = f64::from(u32::try_from(hidden.len()).unwrap());
    let sigma = (n * p * (1.0 - p)).sqrt();
    assert!((count - n * p).abs() < 3.0 * sigma, "{count}");
    // keyed by step and row: another batch of the same rows hides the same, another step does not
    let mut part = Batch::of(&[Sequence {
        row: 7,
        tokens: vec![9; 1000],
        labels: clean.labels[7000..8000].to_vec(),
        weight: 1.0,
    }]);
    thought.apply(&mut part, 70, &ctx);
    assert_eq!(part.tokens, batch.tokens[7000..8000]);
    let mut later = clean.clone();
    thought.apply(&mut later, 71, &ctx);
    assert_ne!(later.tokens, batch.tokens);
    let mut random = clean.clone();
    MaskedThought::new(1.0, Replace::Random(50), 0).unwrap().apply(&mut random, 0, &ctx);
    let mut seen: Vec<u32> = random.tokens.clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert_eq!(MaskedThought::new(1.5, Replace::Mask(0), 1).unwrap_err().code(), "data/mft");
    assert_eq!(MaskedThought::new(0.5, Replace::Random(0), 1).unwrap_err().code(), "data/mft");
}
