//! Packs the weights of the built-in model for the binary: low bytes of all numbers, then high bytes (which repeat much), deflated.

#![allow(clippy::disallowed_methods)] // reason: a build script speaks with cargo through its environment

use flate2::Compression;
use flate2::write::DeflateEncoder;
use std::io::{self, Write};
use std::path::Path;
use std::{env, fs};

const WEIGHTS: &str = "../datasets/models/small-lm/model.safetensors";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={WEIGHTS}");
    let weights = fs::read(WEIGHTS)?;
    let planes: Vec<u8> = [0, 1].iter().flat_map(|&half| weights.iter().skip(half).step_by(2).copied()).collect();
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&planes)?;
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo gives OUT_DIR"))?;
    fs::write(Path::new(&out).join("weights.packed"), packed.finish()?)
}
