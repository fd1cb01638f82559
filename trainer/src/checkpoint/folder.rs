//! Folders of checkpoints: filled under another name, flushed, renamed; found again and checked; old ones removed.

use super::tensors::usual_permissions;
use super::{FileDigest, State};
use curate_core::{Error, Location, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const STATE: &str = "trainer_state.json";

/// How the names of files and folders begin that are not whole yet.
pub(super) const PARTIAL: &str = ".partial-";

/// What belongs to a model beside its configuration and weights.
pub const COMPANIONS: [&str; 8] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
];

/// Writes a file at the path given.
type Write<'a> = Box<dyn Fn(&Path) -> Result<()> + 'a>;

/// One file of a checkpoint, and how it is written.
pub struct Part<'a> {
    /// Name in the folder.
    pub name: &'a str,
    /// Writes the file at the path given.
    write: Write<'a>,
}

impl<'a> Part<'a> {
    /// A file that `write` makes.
    pub fn new(name: &'a str, write: impl Fn(&Path) -> Result<()> + 'a) -> Self {
        Self { name, write: Box::new(write) }
    }

    /// A file of known content.
    #[must_use]
    pub fn bytes(name: &'a str, bytes: Vec<u8>) -> Self {
        Self::new(name, move |path| Ok(fs::write(path, &bytes)?))
    }
}

fn name(step: u64) -> String {
    format!("checkpoint-{step}")
}

/// Write `out/checkpoint-<step>`. Until it is whole it has another name; when writing fails, what was there before stays.
///
/// # Errors
/// `checkpoint/write` with the cause when the disk refuses, for one when it is full.
pub fn write_folder(out: &Path, parts: &[Part<'_>], state: &State) -> Result<PathBuf> {
    let target = out.join(name(state.global_step));
    fill(&target, parts, state).map_err(|e| {
        let what = format!("{} could not be written: {e}", target.display());
        Error::io("checkpoint/write", what)
            .hint("the checkpoints before it are whole; free some space and resume")
            .because(e)
    })?;
    Ok(target)
}

fn fill(target: &Path, parts: &[Part<'_>], state: &State) -> Result<()> {
    let mut state = State { version: 1, ..state.clone() };
    place_folder(target, |folder| {
        for part in parts {
            let path = folder.join(part.name);
            (part.write)(&path)?;
            File::open(&path)?.sync_all()?;
            state.files.insert(part.name.to_owned(), digest(&path)?);
        }
        let path = folder.join(STATE);
        fs::write(&path, serde_json::to_vec_pretty(&state).map_err(|e| Error::io("io", e.to_string()))?)?;
        Ok(File::open(&path)?.sync_all()?)
    })
}

/// Have `fill` fill a folder beside `target`, then give it its name. A folder that was there before is put aside for that and
/// removed last: whenever the process ends, one of the two is whole.
///
/// # Errors
/// What `fill` gives; `io`. The old folder then stays.
pub fn place_folder(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let parent = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let temp = || tempfile::Builder::new().prefix(PARTIAL).tempdir_in(parent);
    let new = temp()?;
    fill(new.path())?;
    File::open(new.path())?.sync_all()?;
    usual_permissions(new.path(), 0o755)?;
    let old = if target.exists() { Some(temp()?) } else { None };
    if let Some(old) = &old {
        fs::rename(target, old.path().join("old"))?;
    }
    fs::rename(new.path(), target).inspect_err(|_| {
        old.as_ref().map(|old| fs::rename(old.path().join("old"), target));
    })?;
    drop(new.keep());
    Ok(File::open(parent)?.sync_all()?)
}

/// Remove what runs that were killed while they saved into `out` have left there.
///
/// # Errors
/// `io`.
pub fn sweep(out: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            let (path, folder) = (entry.path(), entry.file_type()?.is_dir());
            if folder { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
    }
    Ok(())
}

/// Copy the files that belong to a model beside its weights, where they are there.
///
/// # Errors
/// `io`.
pub fn copy_companions(from: &Path, to: &Path) -> Result<()> {
    for name in COMPANIONS.into_iter().filter(|name| from.join(name).is_file()) {
        let path = to.join(name);
        fs::copy(from.join(name), &path)?;
        File::open(&path)?.sync_all()?;
    }
    Ok(())
}

fn digest(path: &Path) -> Result<FileDigest> {
    let mut hasher = blake3::Hasher::new();
    let bytes = std::io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(FileDigest { bytes, blake3: hasher.finalize().to_hex().to_string() })
}

/// Steps of the checkpoints in `out`, whole or not, ascending.
///
/// # Errors
/// `io`.
pub fn steps(out: &Path) -> Result<Vec<u64>> {
    if !out.exists() {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for entry in fs::read_dir(out)? {
        let name = entry?.file_name();
        steps.extend(name.to_str().and_then(|n| n.strip_prefix("checkpoint-")).and_then(|n| n.parse::<u64>().ok()));
    }
    steps.sort_unstable();
    Ok(steps)
}

/// The state of a checkpoint folder, after checking every file against it.
///
/// # Errors
/// `checkpoint/broken` naming the file.
pub fn read(folder: &Path) -> Result<State> {
    let broken = |file: &str, what: String| {
        Error::data("checkpoint/broken", what)
            .hint("resume from another checkpoint; this one was damaged after it was written")
            .at(Location::file(folder.join(file).display().to_string()))
    };
    let text = fs::read(folder.join(STATE)).map_err(|e| broken(STATE, e.to_string()))?;
    let state: State = serde_json::from_slice(&text).map_err(|e| broken(STATE, e.to_string()))?;
    for (file, expected) in &state.files {
        let found = digest(&folder.join(file)).map_err(|e| broken(file, e.to_string()))?;
        if found != *expected {
            return Err(broken(file, format!("{} bytes, {} were written", found.bytes, expected.bytes)));
        }
    }
    Ok(state)
}

/// The newest whole checkpoint in `out`.
///
/// # Errors
/// `io`; `checkpoint/broken` when there are checkpoints but none is whole.
pub fn newest(out: &Path) -> Result<Option<(PathBuf, State)>> {
    let mut failure = None;
    for step in steps(out)?.into_iter().rev() {
        let folder = out.join(name(step));
        match read(&folder) {
            Ok(state) => return Ok(Some((folder, state))),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Remove the oldest checkpoints until `keep` are left, never that of step `spare`, nor the newest.
///
/// # Errors
/// `io`.
pub fn rotate(out: &Path, keep: usize, spare: Option<u64>) -> Result<()> {
    let steps = steps(out)?;
    let mut surplus = steps.len().saturating_sub(keep.max(1));
    let newest = steps.last().copied();
    for step in steps {
        if surplus == 0 {
            break;
        }
        if Some(step) != spare && Some(step) != newest {
            fs::remove_dir_all(out.join(name(step)))?;
            surplus -= 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(step: u64) -> State {
        State { global_step: step, best_eval_loss: Some(0.1 + 0.2), ..State::default() }
    }

    fn save(out: &Path, step: u64) {
        write_folder(out, &[Part::bytes("model", vec![7; 100])], &at(step)).unwrap();
    }

    #[test]
    fn the_newest_whole_one_is_found() {
        let out = tempfile::tempdir().unwrap();
        assert!(newest(out.path()).unwrap().is_none());
        save(out.path(), 5);
        save(out.path(), 10);
        let (folder, state) = newest(out.path()).unwrap().unwrap();
        assert_eq!((state.global_step, state.best_eval_loss.map(f64::to_bits)), (10, Some((0.1f64 + 0.2).to_bits())));
        fs::write(folder.join("model"), vec![7; 99]).unwrap();
        assert_eq!(newest(out.path()).unwrap().unwrap().1.global_step, 5);
        assert_eq!(read(&folder).unwrap_err().code(), "checkpoint/broken");
        fs::remove_dir_all(out.path().join("checkpoint-5")).unwrap();
        assert_eq!(newest(out.path()).unwrap_err().code(), "checkpoint/broken");
    }

    #[test]
    fn a_full_disk_keeps_what_was_there() {
        let out = tempfile::tempdir().unwrap();
        save(out.path(), 5);
        let full = |_: &Path| Err(Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull)));
        let parts = [Part::bytes("model", vec![1; 10]), Part::new("optimizer", full)];
        let error = write_folder(out.path(), &parts, &at(10)).unwrap_err();
        assert_eq!((error.code(), error.exit_code()), ("checkpoint/write", 5));
        assert_eq!(newest(out.path()).unwrap().unwrap().1.global_step, 5);
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_replaced_whole_and_what_was_left_is_swept() {
        let out = tempfile::tempdir().unwrap();
        let target = out.path().join("model");
        let put = |text: &str| place_folder(&target, |folder| Ok(fs::write(folder.join("a"), text)?));
        put("one").unwrap();
        put("two").unwrap();
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "two");
        assert!(place_folder(&target, |_| Err(Error::io("io", "no"))).is_err());
        assert_eq!(
            (fs::read_to_string(target.join("a")).unwrap().as_str(), fs::read_dir(out.path()).unwrap().count()),
            ("two", 1)
        );
        fs::create_dir(out.path().join(".partial-x")).unwrap();
        fs::write(out.path().join(".partial-y"), "").unwrap();
        sweep(out.path()).unwrap();
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
    }

    #[test]
    fn old_ones_go_but_not_the_best() {
        let out = tempfile::tempdir().unwrap();
        (1..=5).for_each(|step| save(out.path(), step));
        rotate(out.path(), 2, Some(1)).unwrap();
        assert_eq!(steps(out.path()).unwrap(), [1, 5]);
        rotate(out.path(), 0, None).unwrap();
        assert_eq!(steps(out.path()).unwrap(), [5]);
    }
}
