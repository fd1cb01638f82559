//! Checking a selection bit for bit: the files are those the manifest names, the input is the same, and running the plan
//! again gives the same choice and the same bytes.

use crate::choose::{Chosen, choose, prepare};
use crate::gather::{output_schema, write_picks};
use crate::host::Host;
use crate::manifest::{Manifest, OutputRecord, manifest_path, read_manifest, selection_digest};
use crate::select::input_digest;
use curate_core::{Ctx, Error, Result};
use curate_ingest::{OutputSpec, digest_whole};
use serde::Serialize;

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
    pub(crate) fn new(what: impl Into<String>, ok: bool, detail: impl Into<String>) -> Self {
        Self { what: what.into(), ok, detail: if ok { String::new() } else { detail.into() } }
    }
}

/// Check the output against its manifest and replay the plan.
///
/// # Errors
/// What reading the manifest or replaying gives. A difference is not an error here: it is a failed [`Check`].
pub fn verify(output: &str, host: &Host) -> Result<Vec<Check>> {
    if crate::online::is_run(output) {
        return crate::online::verify(output, host);
    }
    if crate::train::is_run(output) {
        return crate::train::verify(output, host);
    }
    let manifest = read_manifest(output)?;
    let mut checks = check_files(output, &manifest)?;
    checks.extend(host.install(|| replay(&manifest, host))?);
    Ok(checks)
}

fn check_files(output: &str, manifest: &Manifest) -> Result<Vec<Check>> {
    let path = manifest_path(output).unwrap_or_default();
    let folder = path.rfind('/').map_or("", |at| &path[..=at]);
    let check = |file: &OutputRecord| {
        let name = format!("{folder}{}", file.path);
        let found = digest_whole(&name)
            .map_err(|e| Error::io("output/missing", format!("cannot read {name}: {e}")).because(e))?;
        let ok = found == file.blake3;
        Ok(Check::new(format!("file {}", file.path), ok, "its bytes are not those that were written"))
    };
    manifest.outputs.iter().map(check).collect()
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
    if manifest.target_digest.is_some() {
        let same = chosen.target_digest == manifest.target_digest;
        checks.push(Check::new("target", same, "the target files changed since the selection was made"));
    }
    checks.push(Check::new("model", chosen.model == manifest.model, "the embedding model is another one"));
    checks.push(replay_bytes(manifest, &chosen, host, &ctx)?);
    Ok(checks)
}

/// Write the choice once more, into a folder of our own, and compare digests file by file.
fn replay_bytes(manifest: &Manifest, chosen: &Chosen, host: &Host, ctx: &Ctx) -> Result<Check> {
    let output = &manifest.plan.output;
    std::fs::create_dir_all(&host.scratch)?;
    let folder = tempfile::tempdir_in(&host.scratch)?;
    let name = output.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let slash = if output.path.ends_with('/') { "/" } else { "" };
    let path = format!("{}{slash}", folder.path().join(name).to_string_lossy());
    let spec = OutputSpec { path, overwrite: false, shard_rows: output.shard_rows };
    let mut sink = curate_ingest::create(&spec, output_schema(chosen.source.schema(), output.plain)?)?;
    write_picks(&chosen.source, &chosen.selection, output.plain, sink.as_mut(), &host.scratch, ctx)?;
    let written = sink.finish()?;
    let same = written.files.iter().map(|f| &f.digest).eq(manifest.outputs.iter().map(|o| &o.blake3));
    Ok(Check::new("bytes", same, "the replayed output differs in its bytes"))
}
