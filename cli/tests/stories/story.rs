//! What every story needs: a folder of its own, and the binary run in it.

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// What a run answered.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// The run went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The run went well and stdout is one JSON document.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let said = self.ok();
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|e| panic!("stdout is not one JSON document: {e}\n{}", said.stdout))
    }

    /// The run was refused with one of `codes`, in words and with a hint.
    #[track_caller]
    pub(crate) fn refused(&self, story: &str, codes: &[i32]) {
        assert_eq!(self.complaint(codes), None, "{story}");
    }

    /// What is wrong with the refusal, if anything is.
    pub(crate) fn complaint(&self, codes: &[i32]) -> Option<String> {
        let words = self.stderr.to_lowercase();
        let complaint = match () {
            () if words.contains("panicked") => "it panicked".to_owned(),
            () if !codes.contains(&self.code) => format!("exit code {}, expected {codes:?}", self.code),
            () if !(words.contains("help") || words.contains("hint")) => "there is no hint".to_owned(),
            () => return None,
        };
        Some(format!("{complaint}: {}", self.stderr.trim()))
    }
}

/// A folder of its own.
pub(crate) struct Story(TempDir);

impl Story {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// A path in the folder, as text.
    pub(crate) fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path in UTF-8").to_owned()
    }

    /// A file in the folder with this content.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.at(name);
        fs::create_dir_all(Path::new(&path).parent().expect("a file has a folder")).expect("the folder can be made");
        fs::write(&path, content).expect("the file can be written");
        path
    }

    /// The binary, blind to the tester's own settings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_curate"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CURATE_")) {
            command.env_remove(name);
        }
        command.env("HOME", self.0.path()).env("XDG_CACHE_HOME", self.0.path().join("xdg")).env("NO_COLOR", "1");
        command
    }

    /// Run the binary to its end.
    pub(crate) fn curate(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().expect("the binary starts"))
    }

    /// Run the binary with `input` on its standard input.
    pub(crate) fn curate_reading(&self, args: &[&str], input: &[u8]) -> Said {
        let mut command = self.command(args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        child.stdin.take().expect("a pipe").write_all(input).expect("the binary reads its input");
        Said::of(child.wait_with_output().expect("the binary ends"))
    }

    /// The arguments of `curate select INPUT -o OUT --json`, with the story's cache unless another is named.
    pub(crate) fn select_args(&self, input: &str, out: &str, more: &[&str]) -> Vec<String> {
        let mut args: Vec<String> = ["select", input, "-o", out, "--json"].map(str::to_owned).to_vec();
        if !more.contains(&"--cache") {
            args.extend(["--cache".to_owned(), self.at("cache")]);
        }
        args.extend(more.iter().map(|&arg| arg.to_owned()));
        args
    }

    /// Select, and read the summary.
    #[track_caller]
    pub(crate) fn select(&self, input: &str, out: &str, more: &[&str]) -> Value {
        self.try_select(input, out, more).json()
    }

    /// Select, whatever comes of it.
    pub(crate) fn try_select(&self, input: &str, out: &str, more: &[&str]) -> Said {
        let args = self.select_args(input, out, more);
        self.curate(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Names in a subfolder; none if it is not there.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(folder)).into_iter().flatten();
        entries.map(|entry| entry.expect("a readable folder").file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Said {
    /// What a finished binary said.
    pub(crate) fn of(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// The sample corpus of the README.
pub(crate) fn sample() -> String {
    let path: PathBuf = curate_datasets::sample();
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The digest of the choice in a summary.
#[track_caller]
pub(crate) fn digest(summary: &Value) -> String {
    summary["selection_digest"].as_str().expect("the summary has a selection_digest").to_owned()
}

/// The rows chosen in a summary.
#[track_caller]
pub(crate) fn selected(summary: &Value) -> u64 {
    summary["counts"]["selected_rows"].as_u64().expect("the summary has counts.selected_rows")
}
