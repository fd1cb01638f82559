//! The client against a small server of our own on the loopback interface.

use super::{Hub, HubOptions};
use curate_core::{Ctx, Error};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Default)]
struct Site {
    files: HashMap<String, Vec<u8>>,
    /// Bytes after which a whole answer breaks off, per file, once.
    breaks: HashMap<String, usize>,
    /// Etags that do not fit the content.
    lies: HashMap<String, String>,
    /// Where to send weights instead, `http://host`.
    redirect: Option<String>,
    /// Request lines and headers seen.
    seen: Vec<String>,
}

/// Serve `site` for ever; one request a connection.
fn serve(site: Arc<Mutex<Site>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(|stream| answer(&site, stream.unwrap())));
    format!("http://{address}")
}

fn answer(site: &Mutex<Site>, mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let Some(path) = request.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let mut site = site.lock().unwrap();
    site.seen.push(request.join("\n"));
    let file = path.splitn(6, '/').last().unwrap().to_owned();
    let range = request
        .iter()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse().ok());
    let Some(bytes) = site.files.get(&file).cloned() else {
        let head = format!(
            "HTTP/1.1 404 Not Found\r\nx-repo-commit: {COMMIT}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let _ = stream.write_all(head.as_bytes());
        return;
    };
    let sha = crate::digest::hex(&Sha256::digest(&bytes));
    let etag = site.lies.get(&file).cloned().unwrap_or(sha);
    let facts = format!(
        "x-repo-commit: {COMMIT}\r\nx-linked-etag: \"{etag}\"\r\nx-linked-size: {}\r\nconnection: close\r\n",
        bytes.len()
    );
    if let (Some(host), true) = (&site.redirect, file.ends_with(".safetensors")) {
        let head = format!("HTTP/1.1 302 Found\r\n{facts}location: {host}{path}\r\ncontent-length: 0\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        return;
    }
    let from: usize = range.unwrap_or(0);
    let status = if from > 0 {
        format!("206 Partial Content\r\ncontent-range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len())
    } else {
        "200 OK".to_owned()
    };
    let head = format!("HTTP/1.1 {status}\r\n{facts}content-length: {}\r\n\r\n", bytes.len() - from);
    let _ = stream.write_all(head.as_bytes());
    let end = if from == 0 { site.breaks.remove(&file).unwrap_or(bytes.len()) } else { bytes.len() };
    let _ = stream.write_all(&bytes[from..end]);
}

struct World {
    site: Arc<Mutex<Site>>,
    options: HubOptions,
    cache: tempfile::TempDir,
}

fn world() -> World {
    let weights: Vec<u8> = (0..300_000u32).map(|i| u8::try_from(u64::from(i).pow(2) % 251).unwrap()).collect();
    let files = [
        ("config.json", b"{}".to_vec()),
        ("modules.json", br#"[{"path": ""}, {"path": "1_Pooling"}]"#.to_vec()),
        ("1_Pooling/config.json", b"{}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("model.safetensors", weights),
    ];
    let files = files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    let site = Arc::new(Mutex::new(Site { files, ..Site::default() }));
    let cache = tempfile::tempdir().unwrap();
    let endpoint = serve(site.clone());
    let token = Some("hf_secret".to_owned());
    let options = HubOptions { endpoint, token, cache_dir: cache.path().to_owned(), offline: false };
    World { site, options, cache }
}

impl World {
    fn fetch(&self) -> Result<PathBuf, Error> {
        Hub::new(&self.options).unwrap().fetch("org/name", "main", &Ctx::new(0))
    }

    fn requests(&self) -> usize {
        self.site.lock().unwrap().seen.len()
    }

    fn weights(&self) -> Vec<u8> {
        self.site.lock().unwrap().files["model.safetensors"].clone()
    }

    fn repo(&self) -> PathBuf {
        self.cache.path().join("models--org--name")
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn fetches_into_the_layout_of_python() {
    let world = world();
    let folder = world.fetch().unwrap();
    assert_eq!(folder, world.repo().join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), world.weights());
    assert_eq!(std::fs::read(folder.join("1_Pooling/config.json")).unwrap(), b"{}");
    assert_eq!(std::fs::read_to_string(world.repo().join("refs/main")).unwrap(), COMMIT);
    assert!(world.site.lock().unwrap().seen.iter().all(|request| request.contains("Bearer hf_secret")));
    // The second time one request is enough to see that the branch has not moved.
    let before = world.requests();
    world.fetch().unwrap();
    assert_eq!(world.requests(), before + 1);
}

#[test]
fn goes_on_where_it_was_interrupted() {
    let world = world();
    world.site.lock().unwrap().breaks.insert("model.safetensors".to_owned(), 100_000);
    let folder = world.fetch().unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), world.weights());
    let seen = &world.site.lock().unwrap().seen;
    let ranges: Vec<&String> =
        seen.iter().filter(|request| request.to_ascii_lowercase().contains("range: bytes=")).collect();
    assert_eq!(ranges.len(), 1, "{seen:?}");
    assert!(!ranges[0].contains("bytes=0-"));
}

#[test]
fn a_wrong_checksum_leaves_nothing() {
    let world = world();
    world.site.lock().unwrap().lies.insert("model.safetensors".to_owned(), "ab".repeat(32));
    let error = world.fetch().unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("hub/checksum", 5));
    assert!(!names(&world.repo().join("blobs")).iter().any(|name| name.starts_with("abab")));
    assert!(!world.repo().join("snapshots").join(COMMIT).join("model.safetensors").exists());
}

#[test]
fn missing_files_are_typed_errors() {
    let world = world();
    world.site.lock().unwrap().files.remove("model.safetensors");
    assert_eq!(world.fetch().unwrap_err().code(), "model/no-safetensors");
    world.site.lock().unwrap().files.clear();
    let other = Hub::new(&world.options).unwrap().fetch("org/other", "main", &Ctx::new(0)).unwrap_err();
    assert_eq!(other.code(), "hub/not-found");
}

#[test]
fn the_token_stays_at_home() {
    let (world, other) = (world(), world());
    world.site.lock().unwrap().redirect = Some(other.options.endpoint.clone());
    world.fetch().unwrap();
    let seen = &other.site.lock().unwrap().seen;
    assert!(!seen.is_empty() && seen.iter().all(|request| !request.contains("hf_secret")), "{seen:?}");
}

#[test]
fn offline_uses_the_cache_or_says_so() {
    let mut world = world();
    world.options.offline = true;
    let error = world.fetch().unwrap_err();
    assert_eq!((error.code(), error.hint_text().is_some(), world.requests()), ("hub/offline", true, 0));
    world.options.offline = false;
    let folder = world.fetch().unwrap();
    let before = world.requests();
    world.options.offline = true;
    assert_eq!((world.fetch().unwrap(), world.requests()), (folder.clone(), before));
    // A dead hub is like being offline once there is a snapshot.
    (world.options.offline, world.options.endpoint) = (false, "http://127.0.0.1:9".to_owned());
    assert_eq!(world.fetch().unwrap(), folder);
    std::fs::remove_dir_all(world.repo()).unwrap();
    assert_eq!(world.fetch().unwrap_err().code(), "hub/unreachable");
}

#[test]
fn cancel_stops_a_download() {
    let world = world();
    let ctx = Ctx::new(0);
    ctx.cancel().cancel();
    let error = Hub::new(&world.options).unwrap().fetch("org/name", "main", &ctx).unwrap_err();
    assert_eq!(error.exit_code(), 130);
}
