//! Checking a selection bit for bit: the files are those the manifest names, the input is the same, and running the plan
//! again gives the same choice and the same bytes.

use crate::choose::{choose, prepare};
use crate::gather::{output_schema, write_picks};
use crate::host::Host;
use crate::manifest::{Manifest, manifest_path, read_manifest, selection_digest};
use crate::select::input_digest;
use curate_core::{Error, Result};
use curate_ingest::OutputSpec;
use serde::Serialize;
use std::fs::File;
use std::path::{Path, PathBuf};

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What was compared.
    pub what: String,
    /// Whether it agreed.
    pub ok: bool,
    /// What differed, in words; empty when it agreed.
    pub detail: String,
}

impl Check {
    fn new(what: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { what: what.into(), ok, detail: if ok { String::new() } else { detail.into() } }
    }
}

/// Check the output against its manifest and replay the plan.
///
/// # Errors
/// What reading the manifest or replaying gives. A difference is not an error here: it is a failed [`Check`].
pub fn verify(output: &str, host: &Host) -> Result<Vec<Check>> {
    let manifest = read_manifest(output)?;
    let mut checks = check_files(output, &manifest)?;
    checks.extend(host.install(|| replay(&manifest, host))?);
    Ok(checks)
}

fn folder_of(output: &str) -> PathBuf {
    manifest_path(output).parent().map_or_else(PathBuf::new, Path::to_owned)
}

fn check_files(output: &str, manifest: &Manifest) -> Result<Vec<Check>> {
    let folder = folder_of(output);
    manifest
        .outputs
        .iter()
        .filter(|file| !file.path.is_empty())
        .map(|file| {
            let path = folder.join(&file.path);
            let found = digest_file(&path)?;
            Ok(Check::new(
                format!("file {}", file.path),
                found == file.blake3,
                "its bytes are not those that were written",
            ))
        })
        .collect()
}

fn digest_file(path: &Path) -> Result<String> {
    let file = File::open(path)
        .map_err(|e| Error::io("output/missing", format!("cannot read {}: {e}", path.display())).because(e))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn replay(manifest: &Manifest, host: &Host) -> Result<Vec<Check>> {
    let plan = &manifest.plan;
    let ctx = host.ctx(plan.seed)?;
    let prepared = prepare(plan, host, &ctx)?;
    let same_input = input_digest(&prepared.source) == manifest.input_digest;
    let mut checks = vec![Check::new("input", same_input, "the input files changed since the selection was made")];
    let chosen = choose(prepared, host, &ctx)?;
    let same_choice = selection_digest(&chosen.selection) == manifest.selection_digest;
    checks.push(Check::new("choice", same_choice, "running the plan again chooses other rows, or for other reasons"));
    checks.push(Check::new("model", chosen.model == manifest.model, "the embedding model is another one"));
    if !plan.output.path.ends_with('/') {
        std::fs::create_dir_all(&host.scratch)?;
        let folder = tempfile::tempdir_in(&host.scratch)?;
        let name =
            Path::new(&plan.output.path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let path = folder.path().join(name).to_string_lossy().into_owned();
        let schema = output_schema(chosen.source.schema(), plan.output.plain)?;
        let mut sink = curate_ingest::create(&OutputSpec { path, overwrite: false, shard_rows: None }, schema)?;
        write_picks(&chosen.source, &chosen.selection, plan.output.plain, sink.as_mut(), &host.scratch, &ctx)?;
        let written = sink.finish()?;
        let same = manifest.outputs.first().is_some_and(|o| o.blake3 == written.digest);
        checks.push(Check::new("bytes", same, "the replayed output differs in its bytes"));
    }
    Ok(checks)
}
