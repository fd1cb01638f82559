//! The model inside the binary: small enough, whole, and less surprised by English than by its words in disorder.

use curate_core::Ctx;
use curate_trainer::Sequence;
use curate_trainer::builtin::files;
use curate_trainer::model::Model;
use curate_trainer::sft::eval_loss;
use curate_trainer::tokenizer::TextTokenizer;

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files().unwrap() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

#[test]
fn it_is_small_and_whole() {
    let folder = folder();
    for (name, bytes) in files().unwrap() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../datasets/models/small-lm/");
        assert!(std::fs::read(format!("{path}{name}")).unwrap() == *bytes, "{name} is not the file it was made from");
    }
    let (model, tokenizer) = (Model::load(folder.path()).unwrap(), TextTokenizer::load(folder.path()).unwrap());
    tokenizer.fits(model.config.vocab_size).unwrap();
    let numbers: usize = model.params.iter().map(|(_, tensor)| tensor.shape.iter().product::<usize>()).sum();
    assert_eq!(numbers, 4_327_680);
    let ends: Vec<Option<u32>> = ["<|endoftext|>", "<|im_end|>"].iter().map(|name| tokenizer.id(name)).collect();
    assert_eq!(tokenizer.stops().iter().copied().map(Some).collect::<Vec<_>>(), ends);
}

#[test]
fn order_surprises_it_less_than_disorder() {
    let folder = folder();
    let (model, tokenizer) = (Model::load(folder.path()).unwrap(), TextTokenizer::load(folder.path()).unwrap());
    let loss = |text: &str| {
        let tokens = tokenizer.ids(text).unwrap();
        let sequence = Sequence { labels: tokens.clone(), tokens, ..Sequence::default() };
        eval_loss(&model, &[sequence], 1, &Ctx::new(0)).unwrap().nll
    };
    for text in [
        "The teacher asked the students to read the first chapter of the book before the next lesson.",
        "If a train travels 60 miles in one hour, how far does it travel in three hours?",
        "Write a short story about a dog who lived on a farm with his friends.",
    ] {
        let mut words: Vec<&str> = text.split(' ').collect();
        words.reverse();
        let (sense, nonsense) = (loss(text), loss(&words.join(" ")));
        assert!(sense + 20.0 < nonsense, "{sense} and {nonsense} nats: {text}");
    }
}
