//! The loop on small transformers.

use super::learning::{bits, config, log, trainer};
use crate::model::{batch, distance, folder, load};
use curate_core::Ctx;
use curate_trainer::checkpoint::TensorFile;
use curate_trainer::data::Packing;
use curate_trainer::lora::{self, LoraConfig};
use curate_trainer::mask::lift::LiftConfig;
use curate_trainer::model::{Config, Model, StepOptions};
use curate_trainer::sft::{SftConfig, Trainer, Tuning, ids};
use curate_trainer::{Batch, Grads, IGNORE, Sequence};

const VOCAB: u64 = 40;

pub(super) fn small(layers: usize) -> Model {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 24,
        "intermediate_size": 40, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "initializer_range": 0.08, "hidden_act": "silu",
    });
    Model::init(Config::from_json(config).unwrap(), &Ctx::new(11)).unwrap()
}

/// Random rows: nothing to understand, only to learn by heart. The first two tokens are the question.
pub(super) fn rows(n: u64) -> Vec<Sequence> {
    let ctx = Ctx::new(4);
    (0..n)
        .map(|row| {
            let mut rng = ctx.rng("tokens", row);
            let tokens: Vec<u32> = (0..8 + row % 5).map(|_| rng.below(VOCAB) as u32).collect();
            let labels = tokens.iter().enumerate().map(|(i, t)| if i < 3 { IGNORE } else { *t }).collect();
            Sequence { row, tokens, labels, weight: 1.0 }
        })
        .collect()
}

fn lora_all(r: usize) -> Tuning {
    Tuning::Lora(LoraConfig { r, ..LoraConfig::default() })
}

fn all_bits(model: &Model) -> Vec<(String, Vec<u32>)> {
    bits(&model.params)
}

#[test]
fn eight_rows_are_learned_by_heart() {
    let rows = rows(8);
    for (tuning, lr) in [(Tuning::Full, 5e-3), (lora_all(8), 3e-2)] {
        let config = SftConfig { learning_rate: Some(lr), batch_size: 8, tuning: tuning.clone(), ..config(200) };
        let report = trainer(config, &rows, None).run(&mut small(2), &Ctx::new(1)).unwrap();
        let (first, last) = (report.losses[0], report.losses[199]);
        // adapters on a random base whose embeddings and head rest cannot hold everything
        let limit = if tuning == Tuning::Full { 0.05 } else { 0.6 * first };
        assert!(last < limit, "{tuning:?}: {first} to {last}");
    }
}

#[test]
fn accumulated_and_packed_gradients_are_the_same() {
    let (model, rows, ctx) = (small(2), rows(8), Ctx::new(0));
    let labels: usize = rows.iter().map(Sequence::labelled).sum();
    let gradient = |size: usize| {
        let mut grads = Grads::zeros(&model.params);
        for group in rows.chunks(size) {
            model.gradients(&Batch::of(group), 1.0 / labels as f32, StepOptions::default(), &mut grads, &ctx).unwrap();
        }
        ids(&model.params).into_iter().flat_map(|id| grads.get(id).unwrap().to_vec()).collect::<Vec<f32>>()
    };
    let (whole, two, one) = (gradient(8), gradient(4), gradient(1));
    let (gap, top) = distance(&two, &whole);
    assert!(gap <= 1e-6 * top.max(1.0), "{gap} of {top}");
    let (gap, top) = distance(&one, &whole);
    assert!(gap <= 1e-6 * top.max(1.0), "{gap} of {top}");
    let first = |packing| {
        let config = SftConfig { packing, batch_size: 8, ..config(1) };
        trainer(config, &rows, None).run(&mut small(2), &ctx).unwrap().losses[0]
    };
    assert!((first(Packing::None) - first(Packing::Bfd)).abs() < 1e-5);
}

#[test]
fn resuming_is_exact_for_every_method() {
    let rows = rows(10);
    let lift = LiftConfig { lora_rank: 2, filter_rank: 4, update_interval: 4, ..LiftConfig::default() };
    for tuning in [Tuning::Full, lora_all(4), Tuning::Lift(lift)] {
        let out = tempfile::tempdir().unwrap();
        let config = SftConfig { tuning, save_steps: Some(5), save_total_limit: None, ..config(10) };
        let run = |resume: bool| {
            let mut model = small(2);
            Trainer { resume, ..trainer(config.clone(), &rows, Some(out.path())) }
                .run(&mut model, &Ctx::new(1))
                .unwrap();
            model
        };
        let (whole, lines) = (run(false), log(out.path()));
        std::fs::remove_dir_all(out.path().join("checkpoint-10")).unwrap();
        let parts = run(true);
        assert_eq!(all_bits(&whole), all_bits(&parts));
        assert_eq!(lines, log(out.path()));
    }
}

#[test]
fn threads_do_not_show_in_weights_and_log() {
    let rows = rows(10);
    let run = |threads: usize| {
        let out = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let mut model = small(2);
        pool.install(|| trainer(config(6), &rows, Some(out.path())).run(&mut model, &Ctx::new(1))).unwrap();
        (all_bits(&model), log(out.path()))
    };
    let alone = run(1);
    assert_eq!(alone, run(1));
    assert_eq!(alone, run(4));
}

#[test]
fn a_deep_model_trains_on_a_small_stack() {
    let work = || {
        let config = SftConfig { gradient_checkpointing: true, ..config(2) };
        trainer(config, &rows(4), None).run(&mut small(32), &Ctx::new(1)).unwrap().steps
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
    assert_eq!(thread.join().unwrap(), 2);
}

#[test]
fn checkpointing_gives_the_same_model() {
    let rows = rows(6);
    let run = |gradient_checkpointing: bool| {
        let mut model = small(3);
        trainer(SftConfig { gradient_checkpointing, ..config(4) }, &rows, None).run(&mut model, &Ctx::new(1)).unwrap();
        all_bits(&model)
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn adapters_of_peft_are_read_saved_and_merged() {
    for name in ["llama", "qwen2"] {
        let out = tempfile::tempdir().unwrap();
        let mut model = load(name);
        let config = lora::load_adapter(&mut model, &folder(name).join("adapter"), false).unwrap();
        let (batch, ctx) = (batch(name), Ctx::new(0));
        let logits = model.logits(&batch, &ctx).unwrap();
        let mut golden = TensorFile::open(&folder(name).join("adapter/golden.safetensors")).unwrap();
        let width = model.config.vocab_size;
        for (i, segment) in batch.segments.iter().enumerate() {
            let expected = golden.floats(&format!("logits.{i}")).unwrap();
            let (gap, top) = distance(&logits[segment.start * width..segment.end * width], &expected);
            assert!(gap <= 1e-5 * top.max(1.0), "{name}: {gap} of {top}");
        }
        lora::save_adapter(&model, &config, "base", out.path()).unwrap();
        let mut again = load(name);
        assert_eq!(lora::load_adapter(&mut again, out.path(), true).unwrap(), config);
        assert_eq!(all_bits(&again), all_bits(&model));
        // merged, saved as a plain model, and read again
        lora::merge(&mut model);
        model.save(&out.path().join("merged")).unwrap();
        let merged = Model::load(&out.path().join("merged")).unwrap().logits(&batch, &ctx).unwrap();
        let (gap, _) = distance(&merged, &logits);
        assert!(gap <= 1e-4, "{name}: {gap}");
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let error = lora::load_adapter(&mut small(2), &folder("llama").join("adapter"), false).unwrap_err();
    assert!(error.code() == "lora/file" && error.to_string().contains("self_attn.q_proj.lora_A"), "{error}");
    let tied = LoraConfig { target_modules: vec!["lm_head".into()], ..LoraConfig::default() };
    let error = lora::attach(&mut load("llama-tied"), &tied, &Ctx::new(0)).unwrap_err();
    assert_eq!(error.code(), "lora/target");
    assert!(error.hint_text().unwrap().contains("q_proj"));
}

#[test]
fn a_checkpoint_is_a_model_folder() {
    let (rows, out) = (rows(6), tempfile::tempdir().unwrap());
    let base = out.path().join("base");
    small(2).save(&base).unwrap();
    let mut model = Model::load(&base).unwrap();
    let run = Trainer { base: Some(base), ..trainer(config(3), &rows, Some(out.path())) };
    run.run(&mut model, &Ctx::new(1)).unwrap();
    let read = Model::load(&out.path().join("checkpoint-3")).unwrap();
    assert_eq!(all_bits(&read), all_bits(&model));
}

#[test]
fn adapters_need_less_memory_than_all_weights() {
    let (model, rows) = (small(2), rows(8));
    let at = |tuning| trainer(SftConfig { tuning, ..config(1) }, &rows, None).forecast(&model);
    let (full, lora) = (at(Tuning::Full), at(lora_all(2)));
    assert!(lora.gradients_bytes + lora.optimizer_bytes < (full.gradients_bytes + full.optimizer_bytes) / 4);
    assert!(lora.total_bytes() < full.total_bytes() && lora.activations_bytes > 0);
    let mut adapted = small(2);
    lora::attach(&mut adapted, &LoraConfig { r: 2, ..LoraConfig::default() }, &Ctx::new(0)).unwrap();
    let trained: usize = adapted.params.iter().filter(|(_, t)| t.trained).map(|(_, t)| t.data.len()).sum();
    assert_eq!(lora.trained, trained as u64);
    assert_eq!(lora.weights_bytes, 4 * adapted.params.iter().map(|(_, t)| t.data.len() as u64).sum::<u64>());
}
