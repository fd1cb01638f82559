//! Folders of checkpoints: filled under another name, flushed, renamed; found again and checked; old ones removed.

use super::tensors::usual_permissions;
use super::{FileDigest, State};
use curate_core::{Error, Location, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const STATE: &str = "trainer_state.json";

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
    fill(out, &target, parts, state).map_err(|e| {
        let what = format!("{} could not be written: {e}", target.display());
        Error::io("checkpoint/write", what)
            .hint("the checkpoints before it are whole; free some space and resume")
            .because(e)
    })?;
    Ok(target)
}

fn fill(out: &Path, target: &Path, parts: &[Part<'_>], state: &State) -> Result<()> {
    fs::create_dir_all(out)?;
    let temp = tempfile::Builder::new().prefix(".partial-").tempdir_in(out)?;
    let mut state = State { version: 1, ..state.clone() };
    for part in parts {
        let path = temp.path().join(part.name);
        (part.write)(&path)?;
        File::open(&path)?.sync_all()?;
        state.files.insert(part.name.to_owned(), digest(&path)?);
    }
    let path = temp.path().join(STATE);
    fs::write(&path, serde_json::to_vec_pretty(&state).map_err(|e| Error::io("io", e.to_string()))?)?;
    File::open(&path)?.sync_all()?;
    File::open(temp.path())?.sync_all()?;
    if target.exists() {
        // a checkpoint of this step that was not whole, or the same one again
        fs::remove_dir_all(target)?;
    }
    usual_permissions(temp.path(), 0o755)?;
    fs::rename(temp.path(), target)?;
    drop(temp.keep());
    File::open(out)?.sync_all()?;
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
    fn old_ones_go_but_not_the_best() {
        let out = tempfile::tempdir().unwrap();
        (1..=5).for_each(|step| save(out.path(), step));
        rotate(out.path(), 2, Some(1)).unwrap();
        assert_eq!(steps(out.path()).unwrap(), [1, 5]);
        rotate(out.path(), 0, None).unwrap();
        assert_eq!(steps(out.path()).unwrap(), [5]);
    }
}
