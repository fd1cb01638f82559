//! Outputs: complete under their final name or not there at all.

use crate::{Desk, all, utf8};
use curate_ingest::{InputSpec, OutputSpec, create, write_atomic};

fn files(desk: &Desk) -> Vec<String> {
    let mut names: Vec<String> = walk(desk.path("").as_path());
    names.sort();
    names
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    entries
        .flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p.file_name().unwrap().to_string_lossy().into_owned()] })
        .collect()
}

#[test]
fn nothing_stands_there_before_the_end() {
    let desk = Desk::new();
    let batch = utf8(&[("text", &["a", "b"])]);
    for name in ["x.parquet", "x.jsonl", "x.csv", "x.arrow", "x.json", "x.jsonl.gz"] {
        let mut sink = create(&OutputSpec::of(desk.name(name)), batch.schema()).unwrap();
        sink.write(&batch).unwrap();
        assert!(!desk.path(name).exists(), "{name}");
        drop(sink);
        assert_eq!(files(&desk), Vec::<String>::new(), "{name}");
    }
    let mut sink =
        create(&OutputSpec { shard_rows: Some(1), ..OutputSpec::of(desk.name("shards/")) }, batch.schema()).unwrap();
    sink.write(&batch).unwrap();
    drop(sink);
    assert_eq!(files(&desk), Vec::<String>::new());
}

#[test]
fn what_is_there_stays_unless_it_may_go() {
    let desk = Desk::new();
    let batch = utf8(&[("text", &["a"])]);
    let path = desk.put("x.jsonl", "old");
    let error = create(&OutputSpec::of(path.clone()), batch.schema()).err().unwrap();
    assert_eq!(error.code(), "output/exists");
    assert!(error.hint_text().unwrap().contains("--overwrite"));
    let mut sink = create(&OutputSpec { overwrite: true, ..OutputSpec::of(path.clone()) }, batch.schema()).unwrap();
    sink.write(&batch).unwrap();
    let written = sink.finish().unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"text\":\"a\"}\n");
    assert_eq!((written.rows, written.bytes, written.files[0].path.as_str()), (1, 13, path.as_str()));
    assert_eq!(written.digest, blake3::hash(b"{\"text\":\"a\"}\n").to_hex().to_string());
    let late = desk.name("late.jsonl");
    let sink = create(&OutputSpec::of(late.clone()), batch.schema()).unwrap();
    desk.put("late.jsonl", "theirs");
    assert_eq!(sink.finish().unwrap_err().code(), "output/exists");
    assert_eq!(std::fs::read_to_string(late).unwrap(), "theirs");
}

#[test]
fn bad_outputs_are_refused_at_once() {
    let desk = Desk::new();
    let schema = utf8(&[("text", &["a"])]).schema();
    let code = |path: String| create(&OutputSpec::of(path), schema.clone()).err().unwrap().code();
    assert_eq!(code(desk.name("x.docx")), "output/format");
    assert_eq!(code(desk.name("x.parquet.gz")), "output/format");
    desk.put("file", "");
    assert_eq!(code(desk.name("file/x.jsonl")), "output/unwritable");
    std::fs::create_dir(desk.path("folder.jsonl")).unwrap();
    assert_eq!(code(desk.name("folder.jsonl")), "output/folder");
    assert_eq!(code("nowhere://x/y.jsonl".into()), "store/url");
}

#[test]
fn shards_are_complete_when_the_marker_is_there() {
    let desk = Desk::new();
    let texts: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let batch = utf8(&[("text", &texts)]);
    let out = OutputSpec { shard_rows: Some(4), ..OutputSpec::of(desk.name("out/")) };
    let mut sink = create(&out, batch.schema()).unwrap();
    sink.write(&batch.slice(0, 3)).unwrap();
    sink.write(&batch.slice(3, 7)).unwrap();
    let written = sink.finish().unwrap();
    assert_eq!(files(&desk), ["_SUCCESS", "part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]);
    assert_eq!((written.rows, written.files.len()), (10, 3));
    let source = desk.open(&InputSpec::of(desk.name("out"))).unwrap();
    assert_eq!(arrow::compute::concat_batches(&batch.schema(), &all(&source)).unwrap(), batch);
    assert_eq!(create(&out, batch.schema()).err().unwrap().code(), "output/exists");
    let mut sink = create(&OutputSpec { overwrite: true, shard_rows: None, ..out }, batch.schema()).unwrap();
    sink.write(&batch).unwrap();
    sink.finish().unwrap();
    assert_eq!(files(&desk), ["_SUCCESS", "part-00000.parquet"]);
    let mut sink =
        create(&OutputSpec { shard_rows: Some(6), ..OutputSpec::of(desk.name("set.jsonl.gz/")) }, batch.schema())
            .unwrap();
    sink.write(&batch).unwrap();
    assert!(sink.finish().unwrap().files[1].path.ends_with("part-00001.jsonl.gz"));
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let desk = Desk::new();
    let batch = utf8(&[("text", &["a", "b", "c"])]);
    for extension in ["parquet", "jsonl", "csv", "arrow", "json", "jsonl.zst"] {
        let digest = |name: String| {
            let mut sink = create(&OutputSpec::of(desk.name(&name)), batch.schema()).unwrap();
            sink.write(&batch).unwrap();
            sink.finish().unwrap().digest
        };
        assert_eq!(digest(format!("1.{extension}")), digest(format!("2.{extension}")), "{extension}");
    }
}

#[test]
fn json_lines_come_back_as_they_were() {
    let desk = Desk::new();
    let text = "{\"text\":\"a\\n\\\"\",\"id\":1.50,\"m\":[{\"k\":1},{\"v\":[true]}],\"f\":0.1}\n{\"text\":\"ü\",\"id\":\"x\",\"e\":{},\"f\":1e22}\n";
    let source = desk.open_text("x.jsonl", text).unwrap();
    let mut sink = create(&OutputSpec::of(desk.name("y.jsonl")), source.schema().clone()).unwrap();
    for batch in &all(&source) {
        sink.write(batch).unwrap();
    }
    sink.finish().unwrap();
    let (old, new) = (text, std::fs::read_to_string(desk.path("y.jsonl")).unwrap());
    assert!(new.contains("\"id\":1.50"), "{new}");
    for (a, b) in old.lines().zip(new.lines()) {
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(a).unwrap(),
            serde_json::from_str::<serde_json::Value>(b).unwrap()
        );
    }
    let mut sink = create(&OutputSpec::of(desk.name("y.csv")), source.schema().clone()).unwrap();
    for batch in &all(&source) {
        sink.write(batch).unwrap();
    }
    sink.finish().unwrap();
    assert!(std::fs::read_to_string(desk.path("y.csv")).unwrap().contains(r#""[{""k"":1},{""v"":[true]}]""#));
}

#[test]
fn an_output_without_rows_is_still_an_output() {
    let desk = Desk::new();
    let schema = utf8(&[("text", &["a"])]).schema();
    for name in ["x.parquet", "x.csv", "x.json", "x.jsonl", "x.arrow", "folder/"] {
        create(&OutputSpec::of(desk.name(name)), schema.clone()).unwrap().finish().unwrap();
        assert!(desk.path(name).exists(), "{name}");
    }
    assert_eq!(std::fs::read_to_string(desk.path("x.csv")).unwrap(), "text\n");
    assert_eq!(std::fs::read_to_string(desk.path("x.json")).unwrap(), "[]\n");
}

#[test]
fn small_files_are_written_whole() {
    let desk = Desk::new();
    write_atomic(&desk.path("a/b.json"), b"1").unwrap();
    write_atomic(&desk.path("a/b.json"), b"2").unwrap();
    assert_eq!(std::fs::read(desk.path("a/b.json")).unwrap(), b"2");
    assert_eq!(files(&desk), ["b.json"]);
    assert_eq!(write_atomic(&desk.path("a/b.json/c"), b"1").unwrap_err().code(), "output/unwritable");
}
