//! The small language model inside the binary: four blocks of the Llama kind, 4.3 million numbers, its own byte-level BPE. It is
//! a surrogate: good enough to tell usual rows from odd ones, and no more. How it was made and how good it is:
//! `datasets/models/README.md`.

/// What `--model` calls it.
pub const NAME: &str = "builtin";

/// The files of its folder, by name.
pub const FILES: [(&str, &[u8]); 5] = [
    ("config.json", include_bytes!("../../datasets/models/small-lm/config.json")),
    ("tokenizer.json", include_bytes!("../../datasets/models/small-lm/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../datasets/models/small-lm/tokenizer_config.json")),
    ("generation_config.json", include_bytes!("../../datasets/models/small-lm/generation_config.json")),
    ("model.safetensors", include_bytes!("../../datasets/models/small-lm/model.safetensors")),
];
