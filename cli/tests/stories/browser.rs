//! A real browser for stories: headless Chromium driven by chromedriver over plain HTTP (W3C `WebDriver`).

use crate::live::call;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a page may take to show what is waited for: machines that run tests are busy.
const PATIENCE: Duration = Duration::from_mins(2);

/// Flags that keep Chromium quiet, small and without a network of its own.
const FLAGS: [&str; 9] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// Chromium with one page.
pub(crate) struct Browser {
    driver: Child,
    address: String,
    session: String,
    _profile: TempDir,
}

fn found(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

impl Browser {
    /// Start one, or say loudly that there is none. In CI that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let programs = found(&["chromedriver"]).zip(found(&["chromium", "google-chrome", "chrome"]));
        let Some((driver, chromium)) = programs else {
            let must = ["CI", "CURATE_CI"].iter().any(|name| std::env::var_os(name).is_some());
            assert!(!must, "Chromium is not installed, and CI must not skip its tests");
            eprintln!("SKIPPED: Chromium is not installed (Debian: apt-get install chromium chromium-driver)");
            return None;
        };
        let mut driver = Command::new(driver)
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let mut said = BufReader::new(driver.stdout.take().expect("a pipe"));
        let port = loop {
            let mut line = String::new();
            assert!(said.read_line(&mut line).expect("chromedriver speaks") > 0, "chromedriver did not say its port");
            if let Some(port) = line.trim().trim_end_matches('.').split("successfully on port ").nth(1) {
                break port.to_owned();
            }
        };
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        let profile = tempfile::tempdir().expect("a folder");
        let mut args: Vec<String> = FLAGS.iter().map(|&flag| flag.to_owned()).collect();
        args.push(format!("--user-data-dir={}", profile.path().display()));
        let options = json!({"binary": chromium, "args": args});
        let wish =
            json!({"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}});
        let mut browser =
            Self { driver, address: format!("127.0.0.1:{port}"), session: String::new(), _profile: profile };
        let made = browser.call("POST", "", &json!({"capabilities": {"alwaysMatch": wish}}));
        made["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let own = if self.session.is_empty() { String::new() } else { format!("/{}", self.session) };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = call(&self.address, &format!("{method} /session{own}{path}"), "", &body);
        let (status, answer) = answer.expect("chromedriver answers");
        assert_eq!(status, 200, "{method} {path} {body}: {answer}");
        answer["value"].clone()
    }

    /// Open an address.
    pub(crate) fn open(&self, url: &str) {
        self.call("POST", "/url", &json!({"url": url}));
    }

    /// What a script gives.
    pub(crate) fn js(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What an expression gives, once it gives something.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, expression: &str) -> Value {
        let start = Instant::now();
        loop {
            let value = self.js(&format!("return {expression}"));
            if !matches!(value, Value::Null | Value::Bool(false)) && value != json!("") && value != json!(0) {
                return value;
            }
            let page = || self.js("return document.body.innerText.slice(0, 2000)");
            assert!(start.elapsed() < PATIENCE, "{what} did not come; the page says: {}", page());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Click on the first element of a selector, once it is there.
    #[track_caller]
    pub(crate) fn click(&self, selector: &str) {
        let script =
            format!("document.querySelector({0}) && (document.querySelector({0}).click(), true)", json!(selector));
        self.wait(selector, &script);
    }

    /// A window of this many CSS pixels.
    pub(crate) fn size(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        let call = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": screen});
        self.call("POST", "/goog/cdp/execute", &call);
    }

    /// Light or dark, as the system would have it.
    pub(crate) fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("POST", "/goog/cdp/execute", &json!({"cmd": "Emulation.setEmulatedMedia", "params": features}));
    }

    /// Errors and warnings on the console since the last call. An answer that tells to wait is none.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let all = self.call("POST", "/se/log", &json!({"type": "browser"}));
        let bad = |line: &&Value| ["SEVERE", "WARNING"].iter().any(|level| line["level"] == json!(level));
        let said = all.as_array().into_iter().flatten().filter(bad).filter_map(|line| line["message"].as_str());
        said.filter(|text| !text.contains("status of 425")).map(str::to_owned).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", "", &Value::Null);
        }
        // chromedriver takes its browser along when told to end.
        let _ = Command::new("kill").arg(self.driver.id().to_string()).status();
        let _ = self.driver.wait();
    }
}
