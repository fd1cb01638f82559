//! Signals that need a transformer: against its logits, against gradients of single rows, and against steps without shared activations.

use super::learner::{column, pool, tokenizer};
use super::learning::bits;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Float32Type;
use curate_core::kernels::MatRef;
use curate_core::kernels::cuda::net::Precision;
use curate_core::kernels::nuclear::{Side, Sketch, nuclear_norm};
use curate_core::{Column, Ctx, Embedder, Learner, Pool};
use curate_trainer::data::{LossOn, SequenceOptions, sequences, trained_column};
use curate_trainer::lora::{LoraConfig, is_adapter};
use curate_trainer::model::{Config, LINEAR_NAMES, Model, StepOptions};
use curate_trainer::sft::{SftConfig, SftLearner, Tuning};
use curate_trainer::signals::{HiddenEmbedder, HiddenPooling, SignalOptions, SketchOptions, TokenScope};
use curate_trainer::{Batch, Grads, Sequence};
use std::sync::Arc;

const VOCAB: usize = 40;

fn model() -> Model {
    let config = serde_json::json!({"model_type": "llama", "vocab_size": VOCAB, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "initializer_range": 0.3});
    Model::init(Config::from_json(config).unwrap(), &Ctx::new(5)).unwrap()
}

fn config(tuning: Tuning) -> SftConfig {
    SftConfig {
        learning_rate: Some(0.01),
        loss_on: LossOn::All,
        warmup_ratio: 0.0,
        batch_size: 4,
        max_length: 64,
        tuning,
        ..SftConfig::default()
    }
}

fn lora() -> Tuning {
    Tuning::Lora(LoraConfig::default())
}

fn learner(tuning: Tuning) -> SftLearner<Model> {
    SftLearner::new(model(), tokenizer(), config(tuning), 50, &Ctx::new(0)).unwrap()
}

/// Letters that look random.
fn text(row: usize, length: usize) -> String {
    (0..length).map(|i| char::from(b"abcdefghij"[(i * i * (row + 3) + 7 * row + i) % 10])).collect()
}

fn texts(rows: &[usize]) -> Pool {
    let texts: Vec<String> = rows.iter().map(|&row| text(row, 20 + 7 * (row % 5))).collect();
    pool(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

fn rows_of(pool: &Pool) -> Vec<Sequence> {
    let options = SequenceOptions { loss_on: LossOn::All, ..SequenceOptions::new(64) };
    sequences(pool, &tokenizer(), &options, &Ctx::new(0)).unwrap().sequences
}

fn signals(names: &[&str]) -> Vec<Column> {
    names.iter().map(|name| Column::signal(name)).collect()
}

fn list(batch: &RecordBatch, at: usize) -> Vec<Vec<f32>> {
    let lists = batch.column(at).as_fixed_size_list();
    (0..lists.len()).map(|i| lists.value(i).as_primitive::<Float32Type>().values().to_vec()).collect()
}

fn near(found: f64, expected: f64, bound: f64, what: &str) {
    assert!((found - expected).abs() <= bound * expected.abs().max(1e-6), "{what}: {found} is not {expected}");
}

/// Logits of one row by the model's plain way.
fn logits(model: &Model, row: &Sequence) -> Vec<f32> {
    model.logits(&Batch::of([row]), &Ctx::new(0)).unwrap()
}

fn sketch() -> Sketch {
    let side = |places: usize, kept: u32| {
        let negative = (0..places).map(|i| i * i % 7 < 3).collect();
        Side::new(negative, (0..kept).map(|i| (5 * i + 1) % 40).collect()).unwrap()
    };
    Sketch::new(side(64, 3), side(VOCAB, 5))
}

fn sketch_of(logits: &[f32]) -> Vec<f32> {
    let unit: Vec<f32> = (0..VOCAB * VOCAB).map(|at| f32::from(u8::from(at % (VOCAB + 1) == 0))).collect();
    let head = sketch().of_head(MatRef::new(&unit, VOCAB).unwrap(), &|_| true).unwrap();
    head.of(MatRef::new(logits, VOCAB).unwrap()).unwrap()
}

fn check_logits(learner: &mut SftLearner<Model>, scope: TokenScope) {
    let pool = texts(&[0, 1, 2, 3, 4, 5]);
    let found =
        learner.probe(&pool, &signals(&["nuclear_norm", "sketch", "loss", "logprob_min"]), &Ctx::new(0)).unwrap();
    for (at, row) in rows_of(&pool).iter().enumerate() {
        let mut logits = logits(learner.model(), row);
        if scope == TokenScope::Response {
            logits.truncate(logits.len() - VOCAB);
        }
        let norm = nuclear_norm(MatRef::new(&logits, VOCAB).unwrap()).unwrap();
        near(f64::from(column(&found, 0)[at].unwrap()), norm, 2e-6, "nuclear norm");
        let (sketched, expected) = (&list(&found, 1)[at], sketch_of(&logits));
        let top = expected.iter().fold(0.0f32, |top, v| top.max(v.abs()));
        assert!(sketched.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= 1e-5 * top), "{sketched:?} {expected:?}");
        let losses = learner.model().losses(&Batch::of([row]), &Ctx::new(0)).unwrap();
        near(f64::from(column(&found, 2)[at].unwrap()), losses.mean(), 1e-5, "loss");
        let worst = losses.token_nll.iter().fold(0.0f32, |top, nll| top.max(*nll));
        near(f64::from(column(&found, 3)[at].unwrap()), -f64::from(worst), 1e-5, "least likely label");
    }
}

#[test]
fn norms_and_sketches_are_those_of_the_logits_also_when_the_head_moves() {
    for scope in [TokenScope::Unmasked, TokenScope::Response] {
        for tuning in [Tuning::Full, lora()] {
            let options = SignalOptions { token_scope: scope, ..SignalOptions::default() };
            let mut learner = learner(tuning).with_signals(options).with_sketch(sketch());
            check_logits(&mut learner, scope);
            learner.step(&texts(&[1, 2]), &[], &Ctx::new(0)).unwrap();
            check_logits(&mut learner, scope);
        }
    }
}

/// The same signals and steps where passes run on a device, whatever of them falls back to the CPU.
#[test]
fn a_device_says_and_learns_the_same() {
    let Some(device) = crate::model::device::device() else { return };
    let names = ["loss", "accuracy", "logprob_p05", "nuclear_norm", "grad_norm", "grad_norm_last", "ghost"];
    for wanted in [&names[..1], &names[..4], &names[..], &["sketch"]] {
        let run = |on_device: bool| {
            let mut model = model();
            if on_device {
                model.set_accelerators(vec![device.clone()], Precision::F32);
            }
            let learner = SftLearner::new(model, tokenizer(), config(lora()), 50, &Ctx::new(0)).unwrap();
            let (mut learner, ctx) = (learner.with_sketch(sketch()), Ctx::new(0));
            let step = learner.step(&texts(&[1, 2, 3]), &[], &ctx).unwrap();
            let probe = learner.probe(&texts(&[0, 1, 2, 3]), &signals(wanted), &ctx).unwrap();
            let last = learner.step(&texts(&[1, 2]), &signals(&["loss"]), &ctx).unwrap();
            assert_eq!((step.step, last.step), (1, 2));
            let mut all: Vec<Vec<f32>> = vec![column(&last.signals, 0).into_iter().map(Option::unwrap).collect()];
            for (at, name) in wanted.iter().enumerate() {
                all.push(match *name {
                    "sketch" | "ghost" => list(&probe, at).concat(),
                    _ => column(&probe, at).into_iter().map(Option::unwrap).collect(),
                });
            }
            all
        };
        for (found, expected) in run(true).iter().zip(&run(false)) {
            let top = expected.iter().fold(1e-6f32, |top, v| top.max(v.abs()));
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 2e-4 * top), "{found:?} {expected:?}");
        }
    }
}

/// Gradients of the mean loss of each row, one by one.
fn gradients(model: &Model, rows: &[Sequence]) -> Vec<Grads> {
    let one = |row: &Sequence| {
        let mut grads = Grads::zeros(&model.params);
        let scale = 1.0 / f32::from(u16::try_from(row.labelled()).unwrap());
        model.gradients(&Batch::of([row]), scale, StepOptions::default(), &mut grads, &Ctx::new(0)).unwrap();
        grads
    };
    rows.iter().map(one).collect()
}

fn product(model: &Model, (a, b): (&Grads, &Grads), counted: impl Fn(&str) -> bool) -> f64 {
    let tensors = model.params.iter().filter(|(_, tensor)| counted(&tensor.name));
    let pairs = tensors.filter_map(|(id, _)| Some((a.get(id)?, b.get(id)?)));
    pairs.flat_map(|(a, b)| a.iter().zip(b)).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// Weights of linear maps and adapters: what ghost products look at.
fn linear(name: &str) -> bool {
    is_adapter(name)
        || name == "lm_head.weight"
        || LINEAR_NAMES.iter().any(|map| name.ends_with(&format!("{map}.weight")))
}

#[test]
fn ghosts_and_norms_are_those_of_single_gradients() {
    for tuning in [Tuning::Full, lora()] {
        let mut learner = learner(tuning);
        // Adapters begin with B = 0; a step makes both sides matter.
        learner.step(&texts(&[7, 8]), &[], &Ctx::new(0)).unwrap();
        let (pool, validation) = (texts(&[0, 1, 2, 3, 4]), texts(&[5, 6]));
        learner.validate_with(rows_of(&validation));
        let names = ["ghost", "ghost_validation", "grad_norm", "grad_norm_last"];
        let found = learner.probe(&pool, &signals(&names), &Ctx::new(0)).unwrap();
        let only = learner.probe(&pool, &signals(&["grad_norm"]), &Ctx::new(0)).unwrap();
        let model = learner.model();
        let (own, other) = (gradients(model, &rows_of(&pool)), gradients(model, &rows_of(&validation)));
        let mut whole = model.clone();
        let head = whole.head.weight;
        whole.params.get_mut(head).trained = true;
        let last = gradients(&whole, &rows_of(&pool));
        for i in 0..5 {
            let norms: Vec<f64> = own.iter().map(|g| product(model, (g, g), linear).sqrt()).collect();
            for (j, expected) in own.iter().map(|g| product(model, (&own[i], g), linear)).enumerate() {
                let gap = (f64::from(list(&found, 0)[i][j]) - expected).abs();
                assert!(gap <= 1e-5 * norms[i] * norms[j], "{i} {j}: off by {gap} of {expected}");
            }
            let mean = other.iter().map(|g| product(model, (&own[i], g), linear)).sum::<f64>() / 2.0;
            let gap = (f64::from(column(&found, 1)[i].unwrap()) - mean).abs();
            assert!(gap <= 1e-5 * norms[i].powi(2), "validation {i}: off by {gap} of {mean}");
            let all = product(model, (&own[i], &own[i]), |_| true).sqrt();
            near(f64::from(column(&found, 2)[i].unwrap()), all, 1e-5, "norm beside ghosts");
            near(f64::from(column(&only, 0)[i].unwrap()), all, 1e-5, "norm");
            let last = last[i].get(head).unwrap().iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            near(f64::from(column(&found, 3)[i].unwrap()), last, 1e-5, "norm of the last layer");
        }
    }
}

/// Steps on rows chosen from probed batches; the weights after them.
fn chosen_steps(tuning: Tuning, checkpointing: bool, share_bytes: u64) -> Vec<(String, Vec<u32>)> {
    let config = SftConfig { gradient_checkpointing: checkpointing, ..config(tuning) };
    let learner = SftLearner::new(model(), tokenizer(), config, 50, &Ctx::new(0)).unwrap();
    let mut learner = learner.with_signals(SignalOptions { share_bytes, ..SignalOptions::default() });
    for step in 0..3 {
        let candidates: Vec<usize> = (8 * step..8 * step + 8).collect();
        let pool = texts(&candidates);
        learner.probe(&pool, &signals(&["nuclear_norm", "loss"]), &Ctx::new(0)).unwrap();
        let chosen = pool.filter(&[1, 3, 4, 6, 7][..3 + step % 3]).unwrap();
        learner.step(&chosen, &[], &Ctx::new(0)).unwrap();
    }
    bits(&learner.model().params)
}

#[test]
fn a_step_from_shared_activations_has_the_bits_of_one_without() {
    for tuning in [Tuning::Full, lora()] {
        for checkpointing in [false, true] {
            let plain = chosen_steps(tuning.clone(), checkpointing, 0);
            assert_eq!(chosen_steps(tuning.clone(), checkpointing, 1 << 30), plain);
            assert_eq!(chosen_steps(tuning.clone(), checkpointing, 200_000), plain, "some of them shared");
        }
    }
}

#[test]
fn parts_of_a_trace_are_traces_of_their_own() {
    let (model, ctx) = (model(), Ctx::new(0));
    let rows = rows_of(&texts(&[0, 1, 2, 3, 4, 5, 6, 7]));
    let batch = Batch::of(&rows);
    let whole = model.trace(&batch, StepOptions::default(), &ctx).unwrap();
    let chosen = [rows[6].clone(), rows[1].clone(), rows[3].clone()];
    let own = Batch::of(&chosen);
    assert!(model.stands_apart(own.tokens.len()) && !model.stands_apart(3));
    let part = model.gather(&[6, 1, 3].map(|i: usize| (&whole, batch.segments[i].clone())));
    let alone = model.trace(&own, StepOptions::default(), &ctx).unwrap();
    assert_eq!((part.tokens(), part.bytes()), (alone.tokens(), alone.bytes()));
    let mut sums = [Grads::zeros(&model.params), Grads::zeros(&model.params), Grads::zeros(&model.params)];
    let losses = [
        model.trace_gradients(&own, part, 0.5, &mut sums[0], &ctx).unwrap(),
        model.trace_gradients(&own, alone, 0.5, &mut sums[1], &ctx).unwrap(),
        model.gradients(&own, 0.5, StepOptions::default(), &mut sums[2], &ctx).unwrap(),
    ];
    assert!(losses[0] == losses[1] && losses[1] == losses[2] && sums[0] == sums[1] && sums[1] == sums[2]);
}

#[test]
fn signals_have_the_same_bits_on_any_number_of_threads() {
    let names = ["loss", "logprob_p05", "nuclear_norm", "grad_norm", "grad_norm_last", "sketch", "ghost"];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| learner(lora()).probe(&texts(&[0, 1, 2, 3, 4, 5, 6]), &signals(&names), &Ctx::new(0)).unwrap())
    };
    let one = run(1);
    assert!([2, 4].into_iter().all(|threads| run(threads) == one));
    assert!(one.columns().iter().all(|column| column.null_count() == 0));
}

#[test]
fn asking_for_less_changes_nothing_of_the_rest() {
    let pool = texts(&[0, 1, 2, 3, 4, 5]);
    let all = learner(lora()).probe(&pool, &signals(&["loss", "labels", "nuclear_norm"]), &Ctx::new(0)).unwrap();
    let few = learner(lora()).probe(&pool, &signals(&["labels", "nuclear_norm"]), &Ctx::new(0)).unwrap();
    assert_eq!([few.column(0), few.column(1)], [all.column(1), all.column(2)]);
}

#[test]
fn rows_without_a_label_have_null_lists_and_stand_as_zeros() {
    let pool = pool(&["abcdefgh", " ", "hgfedcba"]);
    let found = learner(lora()).probe(&pool, &signals(&["ghost", "sketch"]), &Ctx::new(0)).unwrap();
    assert!(found.columns().iter().all(|c| c.is_null(1) && c.is_valid(0) && c.is_valid(2)));
    assert!(list(&found, 0)[0].len() == 3 && list(&found, 0)[0][1] == 0.0 && list(&found, 0)[0][0] > 0.0);
    assert_eq!(list(&found, 1)[2].len(), 1024);
}

#[test]
fn what_makes_no_sense_is_refused_with_a_hint() {
    let probe = |learner: &mut SftLearner<Model>, signal: &str| {
        learner
            .probe(&texts(&[0]), &signals(&[signal]), &Ctx::new(0))
            .err()
            .map(|e| (e.code(), e.hint_text().is_some()))
    };
    assert_eq!(probe(&mut learner(lora()), "ghost_validation"), Some(("signal/validation-missing", true)));
    assert_eq!(probe(&mut learner(lora()), "mood"), Some(("column/unknown-signal", true)));
    let short = SketchOptions { places: Some(32), ..SketchOptions::default() };
    let mut short = learner(lora()).with_signals(SignalOptions { sketch: short, ..SignalOptions::default() });
    assert_eq!(probe(&mut short, "sketch"), Some(("signal/sketch", true)));
    let mut broken = model();
    broken.params.get_mut(broken.head.weight).data[77] = f32::NAN;
    let mut broken = SftLearner::new(broken, tokenizer(), config(lora()), 5, &Ctx::new(0)).unwrap();
    assert_eq!(probe(&mut broken, "nuclear_norm"), Some(("model/not-finite", true)));
}

#[test]
fn hidden_states_are_vectors_that_know_no_neighbours() {
    let embedder = |pooling| HiddenEmbedder::new(model(), tokenizer(), pooling, Some(50), "d").unwrap();
    let (mean, last, ctx) = (embedder(HiddenPooling::Mean), embedder(HiddenPooling::Last), Ctx::new(0));
    let texts: Vec<String> = (0..9).map(|row| text(row, 3 + 9 * row)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).chain([""]).collect();
    let embed = |embedder: &HiddenEmbedder, texts: &[&str]| {
        let mut out = vec![f32::NAN; 32 * texts.len()];
        embedder.embed(texts, &mut out, &ctx).unwrap();
        out
    };
    let (means, lasts) = (embed(&mean, &texts), embed(&last, &texts));
    for (at, text) in texts.iter().enumerate() {
        assert_eq!(embed(&mean, &[text]), means[at * 32..(at + 1) * 32], "text {at}");
        assert_eq!(embed(&last, &[text]), lasts[at * 32..(at + 1) * 32], "text {at}");
    }
    let mut tokens = tokenizer().ids(texts[4]).unwrap();
    tokens.truncate(50);
    let row = Sequence { row: 0, labels: vec![curate_trainer::IGNORE; tokens.len()], tokens, weight: 1.0 };
    let hidden = model().hidden(&Batch::of([&row]), &ctx).unwrap();
    let state = &hidden[hidden.len() - 32..];
    let length = state.iter().map(|v| v * v).sum::<f32>().sqrt();
    assert!(state.iter().zip(&lasts[4 * 32..]).all(|(h, v)| (h / length - v).abs() < 1e-5));
    assert!(means[9 * 32..].iter().all(|v| *v == 0.0), "the empty text");
    assert_ne!(mean.digest(), last.digest());
    assert_eq!(mean.count_tokens(&texts[..2], &ctx).unwrap(), [3, 12]);
    assert_eq!(
        HiddenEmbedder::new(model(), tokenizer(), HiddenPooling::Mean, Some(0), "d").err().unwrap().code(),
        "embedder/max-tokens"
    );
    assert_eq!("median".parse::<HiddenPooling>().unwrap_err().code(), "embedder/unknown");
}

/// The answer that the plain way gives, token by token, and what it thinks of it.
fn own_answer(model: &Model, question: &[u32], longest: usize) -> f64 {
    let (mut tokens, mut nll) = (question.to_vec(), Vec::new());
    while nll.len() < longest && (nll.is_empty() || !tokenizer().stops().contains(&tokens[tokens.len() - 1])) {
        let row = Sequence { labels: tokens.clone(), tokens: tokens.clone(), ..Sequence::default() };
        let all = logits(model, &row);
        let last = &all[all.len() - VOCAB..];
        let top = last.iter().fold(f32::MIN, |top, x| top.max(*x));
        nll.push(last.iter().map(|x| f64::from(x - top).exp()).sum::<f64>().ln());
        tokens.push(u32::try_from(last.iter().position(|x| *x >= top).unwrap()).unwrap());
    }
    nll.iter().sum::<f64>() / nll.len() as f64
}

#[test]
fn the_loss_of_an_own_answer_is_that_of_the_likeliest_way_on() {
    let texts = ["abcdef", "hgab", "cadbeiigf"];
    let mark = |ranges: &[(usize, usize)]| ranges.iter().map(|(from, to)| *from..*to).collect::<Vec<_>>();
    let marks = [mark(&[(3, 6)]), mark(&[(1, 2), (3, 4)]), mark(&[(2, 9)])];
    let columns: [(&str, ArrayRef); 2] = [
        ("text", Arc::new(StringArray::from(texts.to_vec()))),
        ("text.trained", Arc::new(trained_column(&marks).unwrap())),
    ];
    let pool = Pool::from_batch(RecordBatch::try_from_iter(columns).unwrap());
    let config = SftConfig { loss_on: LossOn::Completion, ..config(Tuning::Full) };
    let learner = SftLearner::new(model(), tokenizer(), config, 50, &Ctx::new(0)).unwrap();
    let options = SignalOptions { generated_tokens: 6, ..SignalOptions::default() };
    let mut learner = learner.with_signals(options);
    let found = learner.probe(&pool, &signals(&["loss_generated", "loss"]), &Ctx::new(0)).unwrap();
    let said = column(&found, 0);
    for (at, question) in ["abc", "hga", "ca"].iter().enumerate() {
        let question = tokenizer().encode(question).unwrap().ids;
        near(f64::from(said[at].unwrap()), own_answer(learner.model(), &question, 6), 1e-4, "own answer");
    }
}
