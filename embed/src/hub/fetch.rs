//! One file after the other: from the snapshot if it is there, else over the network into a blob, resumed, checked, renamed.

use super::cache::{Repo, is_commit};
use super::http::{Answer, Http};
use curate_core::{Ctx, Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

const ATTEMPTS: u32 = 5;
const CHUNK_BYTES: usize = 1 << 16;
/// First pause between attempts; doubled each time.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_millis(500) };

/// Fetches files of one repository; after the first answer all come from the same commit.
pub(super) struct Fetcher<'a> {
    http: &'a Http,
    repo: Repo,
    offline: bool,
    /// The commit all files are taken from, once it is certain.
    commit: Option<String>,
}

/// Why an attempt failed, and whether another may help.
enum Failure {
    Final(Error),
    Passing(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Final(error.into())
    }
}

type Attempt<T> = std::result::Result<T, Failure>;

impl<'a> Fetcher<'a> {
    pub(super) fn new(http: &'a Http, repo: Repo, offline: bool) -> Self {
        let fixed = offline || is_commit(&repo.revision);
        let commit = if fixed { repo.known_commit() } else { None };
        Self { http, repo, offline, commit }
    }

    pub(super) fn repo_id(&self) -> &str {
        &self.repo.id
    }

    /// A file that must exist.
    pub(super) fn required(&mut self, file: &str, limit_bytes: u64, ctx: &Ctx) -> Result<PathBuf> {
        self.optional(file, limit_bytes, ctx)?.ok_or_else(|| self.not_found(file))
    }

    /// A file that may be missing.
    pub(super) fn optional(&mut self, file: &str, limit_bytes: u64, ctx: &Ctx) -> Result<Option<PathBuf>> {
        if !super::cache::is_safe_file(file) {
            return Err(Error::data("hub/file-name", format!("{} names the file '{file}'", self.repo.id)));
        }
        if let Some(commit) = &self.commit {
            let path = self.repo.snapshot(commit, file);
            if path.exists() {
                return Ok(Some(path));
            }
            if self.repo.is_known_missing(commit, file) {
                return Ok(None);
            }
        }
        if self.offline {
            return if self.commit.is_some() && file != "config.json" { Ok(None) } else { Err(self.offline_error()) };
        }
        self.download_patiently(file, limit_bytes, ctx)
    }

    /// Try, wait, try again; fall back to an older snapshot when the hub cannot be reached at all.
    fn download_patiently(&mut self, file: &str, limit_bytes: u64, ctx: &Ctx) -> Result<Option<PathBuf>> {
        let mut last = String::new();
        for attempt in 0..ATTEMPTS {
            ctx.tick(0)?;
            match self.download(file, limit_bytes, ctx) {
                Ok(path) => return Ok(path),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why)) => last = why,
            }
            std::thread::sleep(PAUSE * 2u32.pow(attempt));
        }
        if self.commit.is_none()
            && let Some(commit) = self.repo.known_commit()
            && self.repo.snapshot(&commit, file).exists()
        {
            ctx.progress().note("hub unreachable, using the cached snapshot");
            let path = self.repo.snapshot(&commit, file);
            (self.commit, self.offline) = (Some(commit), true);
            return Ok(Some(path));
        }
        Err(Error::io("hub/unreachable", format!("{} of {}: {last}", file, self.repo.id))
            .hint("check the network and HF_ENDPOINT, or give the folder of a downloaded model; what was fetched is kept and resumed"))
    }

    fn download(&mut self, file: &str, limit_bytes: u64, ctx: &Ctx) -> Attempt<Option<PathBuf>> {
        let revision = self.commit.as_deref().unwrap_or(&self.repo.revision);
        let path = format!("{}/resolve/{}/{file}", self.repo.id, revision.replace('/', "%2F"));
        let answer = self.get(&path, 0)?;
        let commit = answer.header("x-repo-commit").filter(|commit| is_commit(commit)).map(ToOwned::to_owned);
        match answer.status {
            200 => {}
            404 if commit.is_some() || self.commit.is_some() => return self.missing(file, commit),
            404 => return Ok(None),
            status => return Err(self.refused(status, file)),
        }
        let commit = self.settle(commit)?;
        let Some(etag) = answer.etag().map(ToOwned::to_owned) else {
            return Err(Error::io("hub/protocol", format!("{file}: the hub gave no etag")).into());
        };
        let blob = self.repo.blob(&etag);
        if !blob.exists() {
            let _lock = self.repo.lock(&etag)?;
            if !blob.exists() {
                let ctx = ctx.child(file);
                Blob { path: &blob, etag: &etag, limit_bytes, file, ctx: &ctx }
                    .fill(answer, |from| self.get(&path, from))?;
                ctx.progress().finish();
            }
        }
        Ok(Some(self.repo.link(&commit, file, &etag)?))
    }

    fn get(&self, path: &str, from: u64) -> Attempt<Answer> {
        self.http.get(path, from).map_err(|error| match error {
            ureq::Error::RedirectFailed | ureq::Error::TooManyRedirects | ureq::Error::BadUri(_) => {
                Failure::Final(Error::io("hub/protocol", error.to_string()).because(error))
            }
            other => Failure::Passing(other.to_string()),
        })
    }

    /// The commit of the first answer holds for all later ones.
    fn settle(&mut self, commit: Option<String>) -> Attempt<String> {
        if self.commit.is_none() {
            let missing = || Error::io("hub/protocol", format!("{}: the hub named no commit", self.repo.id));
            let commit = commit.ok_or_else(missing)?;
            self.repo.remember_commit(&commit)?;
            self.commit = Some(commit);
        }
        Ok(self.commit.clone().unwrap_or_default())
    }

    fn missing(&mut self, file: &str, commit: Option<String>) -> Attempt<Option<PathBuf>> {
        let commit = self.settle(commit)?;
        self.repo.remember_missing(&commit, file)?;
        Ok(None)
    }

    fn refused(&self, status: u16, file: &str) -> Failure {
        let what = format!("{file} of {}@{}: the hub answered {status}", self.repo.id, self.repo.revision);
        match status {
            401 | 403 => {
                Failure::Final(Error::io("hub/forbidden", what).hint(
                    "the model does not exist, is private or gated: accept its licence on the hub and set HF_TOKEN",
                ))
            }
            408 | 429 | 500.. => Failure::Passing(what),
            _ => Failure::Final(Error::io("hub/refused", what)),
        }
    }

    fn not_found(&self, file: &str) -> Error {
        let Repo { id, revision, .. } = &self.repo;
        if self.offline {
            return self.offline_error();
        }
        Error::io("hub/not-found", format!("{id}@{revision} has no file {file}"))
            .hint("check the model id and revision; config.json, tokenizer.json and safetensors weights are needed")
    }

    fn offline_error(&self) -> Error {
        let Repo { id, revision, .. } = &self.repo;
        Error::io(
            "hub/offline",
            format!("{id}@{revision} is not complete in the cache and the network is switched off"),
        )
        .hint("unset HF_HUB_OFFLINE once to fetch it, or point HF_HUB_CACHE to where it is")
    }
}

/// A blob on its way.
struct Blob<'a> {
    path: &'a Path,
    etag: &'a str,
    limit_bytes: u64,
    file: &'a str,
    ctx: &'a Ctx,
}

impl Blob<'_> {
    /// Fill `<etag>.incomplete` from where it ends, check it, give it its name. `answer` begins at byte 0; `again` asks from elsewhere.
    fn fill(&self, answer: Answer, again: impl FnOnce(u64) -> Attempt<Answer>) -> Attempt<()> {
        let part = self.path.with_file_name(format!("{}.incomplete", self.etag));
        std::fs::create_dir_all(self.path.parent().unwrap_or(Path::new(".")))?;
        let total =
            answer.header("x-linked-size").and_then(|size| size.parse().ok()).or_else(|| answer.remaining_bytes());
        self.check_size(total.unwrap_or(0))?;
        self.ctx.progress().set_total(total.unwrap_or(0));
        let mut out = File::options().create(true).truncate(false).read(true).write(true).open(&part)?;
        let mut have = out.metadata()?.len();
        let mut body = answer.body;
        if have > 0 && total.is_some_and(|total| have < total) {
            let rest = again(have)?;
            match rest.status {
                206 if continues(&rest, have) => {}
                200 => have = 0,
                status => {
                    out.set_len(0)?;
                    return Err(Failure::Passing(format!("{}: the hub answered {status} to a range", self.file)));
                }
            }
            body = rest.body;
        } else if total != Some(have) {
            have = 0;
        }
        out.set_len(have)?;
        let mut hash = Sha256::new();
        self.hash_start(&mut out, &mut hash)?;
        if total != Some(have) {
            self.copy(body, &mut out, &mut hash, have)?;
        }
        self.settle(&out, total, &hash.finalize(), &part)
    }

    /// Read what is there already; leaves the file at its end.
    fn hash_start(&self, out: &mut File, hash: &mut Sha256) -> Attempt<()> {
        out.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let n = out.read(&mut buffer)?;
            if n == 0 {
                return Ok(());
            }
            hash.update(&buffer[..n]);
            self.ctx.tick(n as u64)?;
        }
    }

    fn copy(&self, mut body: ureq::Body, out: &mut File, hash: &mut Sha256, have: u64) -> Attempt<()> {
        let (mut reader, mut have) = (body.as_reader(), have);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let n = match reader.read(&mut buffer) {
                Ok(n) => n,
                Err(error) => return Err(Failure::Passing(format!("{}: {error}", self.file))),
            };
            if n == 0 {
                return Ok(());
            }
            have += n as u64;
            self.check_size(have)?;
            out.write_all(&buffer[..n])?;
            hash.update(&buffer[..n]);
            self.ctx.tick(n as u64)?;
        }
    }

    fn check_size(&self, bytes: u64) -> Attempt<()> {
        if bytes <= self.limit_bytes {
            return Ok(());
        }
        Err(Error::io("hub/too-large", format!("{} has more than {} bytes", self.file, self.limit_bytes)).into())
    }

    /// Length and checksum must fit before the file gets its final name.
    fn settle(&self, out: &File, total: Option<u64>, sha256: &[u8], part: &Path) -> Attempt<()> {
        let have = out.metadata()?.len();
        if total.is_some_and(|total| have < total) {
            return Err(Failure::Passing(format!("{}: the connection ended after {have} bytes", self.file)));
        }
        let is_sha256 = self.etag.len() == 64 && self.etag.bytes().all(|b| b.is_ascii_hexdigit());
        let digest = crate::digest::hex(sha256);
        if total.is_some_and(|total| have != total) || (is_sha256 && !digest.eq_ignore_ascii_case(self.etag)) {
            std::fs::remove_file(part)?;
            return Err(Error::io("hub/checksum", format!("{} did not arrive as the hub describes it", self.file))
                .hint("run the command again; if it fails again, the mirror or proxy in between changes files")
                .into());
        }
        out.sync_all()?;
        Ok(std::fs::rename(part, self.path)?)
    }
}

/// Whether a partial answer starts where our part ends.
fn continues(answer: &Answer, have: u64) -> bool {
    let range = answer.last.get("content-range").and_then(|value| value.to_str().ok()).unwrap_or_default();
    range.starts_with(&format!("bytes {have}-"))
}
