//! Language models of a hub: whole and in shards, interrupted, refused. The hub is a small server on the loopback interface.

use crate::story::Said;
use crate::train::{Desk, FRESH, loss};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Default)]
struct Site {
    /// `org/name/file` and its bytes.
    files: BTreeMap<String, Vec<u8>>,
    /// Answer whole repositories with this status.
    refused: BTreeMap<String, u16>,
    /// Break off after so many bytes, once.
    breaks: BTreeMap<String, usize>,
    /// Etags that do not fit.
    lies: BTreeMap<String, String>,
    /// Paths and ranges asked for.
    seen: Vec<String>,
}

struct World {
    desk: Desk,
    site: Arc<Mutex<Site>>,
    endpoint: String,
}

fn answer(site: &Mutex<Site>, mut stream: TcpStream) {
    let lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
    let request: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let Some(path) = request.first().and_then(|line| line.split(' ').nth(1)) else { return };
    let parts: Vec<&str> = path.splitn(6, '/').collect();
    let (repo, file) = (format!("{}/{}", parts[1], parts[2]), format!("{}/{}/{}", parts[1], parts[2], parts[5]));
    let range = request.iter().find_map(|line| {
        line.to_ascii_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok()
    });
    let mut site = site.lock().expect("a site");
    site.seen.push(format!("{file} {}", range.unwrap_or(0)));
    let status = site.refused.get(&repo).copied();
    let Some(bytes) = site.files.get(&file).filter(|_| status.is_none()).cloned() else {
        let known = site.files.keys().any(|name| name.starts_with(&format!("{repo}/")));
        let commit = if known && status.is_none() { format!("x-repo-commit: {COMMIT}\r\n") } else { String::new() };
        let status = status.unwrap_or(404);
        let head = format!("HTTP/1.1 {status} No\r\n{commit}content-length: 0\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        return;
    };
    let etag = site.lies.get(&file).cloned().unwrap_or_else(|| format!("{}-{}", bytes.len(), file.replace('/', "-")));
    let from = range.unwrap_or(0);
    let status = if from > 0 {
        format!("206 Part\r\ncontent-range: bytes {from}-{}/{}", bytes.len() - 1, bytes.len())
    } else {
        "200 OK".to_owned()
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nx-repo-commit: {COMMIT}\r\netag: \"{etag}\"\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bytes.len() - from
    );
    let end = if from == 0 { site.breaks.remove(&file).unwrap_or(bytes.len()) } else { bytes.len() };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes[from..end]));
}

/// The tensors of a file in two files, and their index.
fn shards(whole: &[u8]) -> (Vec<u8>, [Vec<u8>; 2]) {
    let length = usize::try_from(u64::from_le_bytes(whole[..8].try_into().expect("8 bytes"))).expect("small");
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&whole[8..8 + length]).expect("a header");
    let (mut files, mut index) = ([(); 2].map(|()| (serde_json::Map::new(), Vec::new())), serde_json::Map::new());
    for (at, (name, info)) in header.iter().filter(|(name, _)| *name != "__metadata__").enumerate() {
        let offset = |i: usize| usize::try_from(info["data_offsets"][i].as_u64().expect("an offset")).expect("small");
        let (map, data) = &mut files[at % 2];
        let start = data.len();
        data.extend(&whole[8 + length + offset(0)..8 + length + offset(1)]);
        let mut info = info.clone();
        info["data_offsets"] = serde_json::json!([start, data.len()]);
        map.insert(name.clone(), info);
        index.insert(name.clone(), format!("model-{}-of-2.safetensors", at % 2 + 1).into());
    }
    let file = |(map, data): (serde_json::Map<String, serde_json::Value>, Vec<u8>)| {
        let header = serde_json::to_vec(&map).expect("JSON");
        [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
    };
    (serde_json::to_vec(&serde_json::json!({"weight_map": index})).expect("JSON"), files.map(file))
}

impl World {
    /// A hub with a model of one file and the same in two.
    fn new() -> Self {
        let desk = Desk::new();
        desk.train("fresh", &FRESH).ok();
        let read = |name: &str| fs::read(desk.story.at(&format!("fresh/model/{name}"))).expect("a file");
        let mut files = BTreeMap::new();
        for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            for repo in ["org/whole", "org/split"] {
                files.insert(format!("{repo}/{name}"), read(name));
            }
        }
        let whole = read("model.safetensors");
        let (index, [one, two]) = shards(&whole);
        files.insert("org/whole/model.safetensors".to_owned(), whole);
        files.insert("org/split/model.safetensors.index.json".to_owned(), index);
        files.insert("org/split/model-1-of-2.safetensors".to_owned(), one);
        files.insert("org/split/model-2-of-2.safetensors".to_owned(), two);
        let site = Arc::new(Mutex::new(Site { files, ..Site::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let served = site.clone();
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(&served, stream)));
        Self { desk, site, endpoint }
    }

    fn run(&self, args: &[&str]) -> Said {
        let mut command = self.desk.story.command(args);
        command.args(["--cache", &self.desk.cache, "--json"]).env("HF_ENDPOINT", &self.endpoint);
        command.env("HF_HUB_CACHE", self.desk.story.at("hub")).env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        command.env_remove("HF_HOME");
        Said::of(command.output().expect("the binary starts"))
    }

    fn eval(&self, model: &str) -> Said {
        self.run(&["eval", &self.desk.rows, "--model", model])
    }

    fn change(&self, change: impl FnOnce(&mut Site)) {
        change(&mut self.site.lock().expect("a site"));
    }

    fn seen(&self, part: &str) -> usize {
        self.site.lock().expect("a site").seen.iter().filter(|path| path.contains(part)).count()
    }
}

#[test]
fn whole_and_sharded_models_are_fetched_judged_and_trained() {
    let world = World::new();
    let expected = loss(&world.desk.eval("fresh/model", &[])).to_bits();
    world.change(|site| {
        site.breaks.insert("org/split/model-1-of-2.safetensors".to_owned(), 1000);
    });
    for model in ["org/whole", "org/split", "org/split@main"] {
        assert_eq!(loss(&world.eval(model).json()).to_bits(), expected, "{model}");
    }
    assert_eq!(world.seen("model-1-of-2.safetensors 1000"), 1, "the download did not go on where it broke off");
    assert_eq!(world.seen("org/whole/model.safetensors"), 1, "fetched twice");
    let train = |model: &str, out: &str| {
        let out = world.desk.story.at(out);
        let args = ["train", &world.desk.rows, "--model", model, "-o", &out, "--lr", "1e-2", "--max-steps", "2"];
        world.run(&[&args[..], &["--lora", "2"]].concat()).json()["report"]["losses"].clone()
    };
    assert_eq!(train("org/split", "a"), train(&world.desk.story.at("fresh/model"), "b"));
}

#[test]
fn what_the_hub_or_the_model_refuses_is_said_clearly() {
    let world = World::new();
    world.change(|site| {
        site.refused.insert("org/gated".to_owned(), 403);
        site.refused.insert("org/private".to_owned(), 401);
        let gpt = br#"{"architectures": ["GPT2LMHeadModel"], "vocab_size": 300}"#.to_vec();
        site.files.insert("org/other/config.json".to_owned(), gpt);
        site.files.insert("org/other/model.safetensors".to_owned(), vec![0; 64]);
        for name in ["config.json", "tokenizer.json"] {
            let bytes = site.files[&format!("org/whole/{name}")].clone();
            site.files.insert(format!("org/pickled/{name}"), bytes);
        }
        site.lies.insert("org/whole/model.safetensors".to_owned(), "ab".repeat(32));
        site.files.remove("org/split/model-2-of-2.safetensors");
    });
    for (model, code, word) in [
        ("org/gated", 5, "HF_TOKEN"),
        ("org/private", 5, "HF_TOKEN"),
        ("org/nothing", 5, "org/nothing"),
        ("org/other", 4, "GPT2LMHeadModel"),
        ("org/pickled", 4, "safetensors"),
        ("org/whole", 5, "as the hub describes it"),
        ("org/split", 5, "model-2-of-2.safetensors"),
        ("../../etc", 2, "model folder"),
    ] {
        let said = world.eval(model);
        said.refused(model, &[code]);
        assert!(said.stderr.contains(word), "{model}: {}", said.stderr);
    }
    assert_eq!(world.seen("org/other/model.safetensors"), 0, "weights were fetched that cannot be used");
}
