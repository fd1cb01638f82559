//! Carries PTX made ahead into the binary where `CURATE_PTX_DIR` names a folder of `<program>.compute_<capability>.ptx.gz`
//! (see `examples/ptx.rs`); otherwise an empty list, and kernels are compiled at run time.

#![allow(clippy::disallowed_methods)] // reason: a build script speaks with cargo through its environment

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=CURATE_PTX_DIR");
    println!("cargo::rerun-if-changed=build.rs");
    let mut list = String::new();
    if let Some(folder) = env::var_os("CURATE_PTX_DIR").filter(|folder| !folder.is_empty()) {
        println!("cargo::rerun-if-changed={}", Path::new(&folder).display());
        let mut files: Vec<_> = fs::read_dir(&folder)?.collect::<io::Result<_>>()?;
        files.sort_by_key(fs::DirEntry::file_name);
        for file in files {
            let name = file.file_name().to_string_lossy().into_owned();
            let parts = name.strip_suffix(".ptx.gz").and_then(|stem| stem.split_once(".compute_"));
            if let Some((program, capability)) = parts.and_then(|(p, c)| c.parse::<u32>().ok().map(|c| (p, c))) {
                let path = fs::canonicalize(file.path())?;
                let _ =
                    writeln!(list, "    ({program:?}, {capability}, include_bytes!({:?})),", path.to_string_lossy());
            }
        }
    }
    let text = format!(
        "/// Programs compiled ahead: name, capability, packed PTX.\nconst EMBEDDED: &[(&str, u32, &[u8])] = &[\n{list}];\n"
    );
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo gives OUT_DIR"))?;
    fs::write(Path::new(&out).join("embedded.rs"), text)
}
