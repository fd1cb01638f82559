//! Bad input: every case is a typed error with a place and a hint, and can be skipped where it is a row's fault.

use crate::{Desk, utf8};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use curate_core::Error;
use curate_ingest::{InputSpec, OnBadRow, OutputSpec, create};
use std::sync::Arc;

fn text_error(name: &str, text: impl AsRef<[u8]>) -> Error {
    let desk = Desk::new();
    let path = desk.put(name, text);
    desk.read(&InputSpec::of(path)).map(|rows| panic!("{name} was read: {rows:?}")).unwrap_err()
}

fn place(error: &Error) -> (&'static str, Option<u64>, Option<String>) {
    let at = error.location().expect("a place").clone();
    assert!(at.file.is_some(), "{error}");
    assert!(error.hint_text().is_some(), "{error}");
    (error.code(), at.line, at.column)
}

#[test]
fn missing_and_empty_inputs() {
    let desk = Desk::new();
    let code = |path: String| desk.open(&InputSpec::of(path)).err().unwrap().code();
    assert_eq!(code(desk.name("none.jsonl")), "input/not-found");
    assert_eq!(code(desk.put("a.jsonl", "")), "input/empty");
    assert_eq!(code(desk.put("b.jsonl", "\n\n  \n")), "input/empty");
    assert_eq!(code(desk.put("c.parquet", "")), "input/empty");
    assert_eq!(code(desk.put("d.csv", "")), "input/empty");
    assert_eq!(code(desk.put("e.csv", "text\n")), "input/empty");
    assert_eq!(code(desk.put("f.json", "[]")), "input/empty");
    assert_eq!(code(desk.put("g.arrow", "")), "input/empty");
    assert_eq!(code(desk.put_batch("h.parquet", &[utf8(&[("text", &["x"])]).slice(0, 0)])), "input/empty");
    std::fs::create_dir(desk.path("folder")).unwrap();
    assert_eq!(code(desk.name("folder")), "input/no-data");
    assert_eq!(code(desk.put("i.bin", [0, 1, 2, 3])), "input/kind");
    assert_eq!(desk.open(&InputSpec::default()).err().unwrap().code(), "input/none");
}

#[test]
fn damaged_columnar_files() {
    let desk = Desk::new();
    let batch = utf8(&[("text", &["a", "b", "c"])]);
    for name in ["x.parquet", "x.arrow"] {
        let good = std::fs::read(desk.put_batch(name, std::slice::from_ref(&batch))).unwrap();
        for cut in [1, 5, good.len() / 2, good.len() - 1] {
            assert_eq!(text_error(&format!("cut-{name}"), &good[..cut]).code(), "input/corrupt", "{name} {cut}");
        }
        for at in (0..good.len()).step_by(3) {
            let mut flipped = good.clone();
            flipped[at] ^= 0x5a;
            let path = desk.put(&format!("flip-{name}"), flipped);
            if let Err(error) = desk.read(&InputSpec::of(path)) {
                assert!(error.code().contains('/') || error.code() == "arrow", "{name} {at}: {error}");
            }
        }
    }
    assert_eq!(text_error("text.parquet", "hello, I am text and no parquet file").code(), "input/corrupt");
}

#[test]
fn bad_lines_are_placed() {
    let good = "{\"text\":\"a\"}\n";
    assert_eq!(place(&text_error("x.jsonl", format!("{good}{{\"text\":\n"))), ("json/broken", Some(2), None));
    assert_eq!(place(&text_error("x.jsonl", format!("{good}{good}[1]\n"))), ("json/broken", Some(3), None));
    assert_eq!(
        place(&text_error("x.jsonl", format!("{good}\n{{\"text\":\"a\",\"text\":\"b\"}}"))),
        ("json/broken", Some(3), None)
    );
    assert_eq!(
        place(&text_error("x.jsonl", [good.as_bytes(), b"{\"text\":\"\xff\"}\n"].concat())),
        ("text/utf8", Some(2), None)
    );
    assert_eq!(place(&text_error("x.jsonl", b"\xff\xfe{\x00")), ("text/utf8", Some(1), None));
    assert_eq!(place(&text_error("x.csv", "text,n\na,1\nb\n")), ("csv/fields", Some(3), None));
    assert_eq!(place(&text_error("x.csv", b"text\na\n\xff\n")), ("text/utf8", Some(3), None));
    assert_eq!(text_error("x.json", "[{\"text\":\"a\"},{\"text\":tru}]").location().unwrap().row, Some(1));
}

#[test]
fn texts_of_the_wrong_kind_are_placed() {
    let error = text_error("x.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"a\",\"completion\":7}\n");
    assert_eq!(place(&error), ("column/mixed", Some(2), Some("completion".into())));
    assert_eq!(place(&text_error("x.jsonl", "{\"text\":1}\n")), ("column/type", None, Some("text".into())));
    assert_eq!(text_error("x.jsonl", "{\"prompt\":{\"a\":1},\"completion\":\"b\"}\n").code(), "column/type");
    assert_eq!(
        text_error("x.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}\n{\"messages\":null}\n").code(),
        "row/no-text"
    );
    let error = text_error("x.jsonl", "{\"instruction\":\"a\",\"output\":\"b\"}\n{\"instruction\":\"a\"}\n");
    assert_eq!(place(&error), ("row/no-text", Some(2), Some("output".into())));
    assert_eq!(error.location().unwrap().row, Some(1));
}

#[test]
fn bad_rows_can_be_skipped_and_are_counted() {
    let desk = Desk::new();
    let long = "y".repeat(3000);
    let text = format!(
        "{{\"text\":\"a\"}}\n{{\"text\":\n\n{{\"text\":null}}\n{{\"text\":\"{long}\"}}\n{{\"text\":\"b\"}}\n{{\"text\":\"c\",\"text\":\"d\"}}\n{{\"text\":\"drop\"}}\n"
    );
    let spec = InputSpec {
        on_bad_row: OnBadRow::Skip,
        max_row_bytes: 2000,
        where_: Some("text <> 'drop' OR text IS NULL".into()),
        ..InputSpec::of(desk.put("x.jsonl", text.as_bytes()))
    };
    let source = desk.open(&spec).unwrap();
    let data = source.read(&source.units()[0], Some(&[])).unwrap();
    assert_eq!((data.rows.as_slice(), data.filtered), (&[0, 4][..], 1));
    let skipped: Vec<(u64, Option<u64>)> = data.skipped.iter().map(|s| (s.row, s.location.line)).collect();
    assert_eq!(skipped, [(1, Some(2)), (2, Some(4)), (3, Some(5)), (5, Some(7))]);
    assert_eq!(source.texts(&source.read(&source.units()[0], None).unwrap()).unwrap()[1].embed, "b");
    let csv =
        InputSpec { on_bad_row: OnBadRow::Skip, ..InputSpec::of(desk.put("x.csv", b"text,n\na,1\nb\n\xff,2\nc,3\n")) };
    let source = desk.open(&csv).unwrap();
    let data = source.read(&source.units()[0], None).unwrap();
    assert_eq!(data.rows, [0, 3]);
    assert_eq!(data.skipped.iter().map(|s| s.row).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn enormous_rows_are_refused_or_skipped() {
    let desk = Desk::new();
    let huge = "z".repeat(100 << 20);
    let path = desk.put("x.jsonl", format!("{{\"text\":\"a\"}}\n{{\"text\":\"{huge}\"}}\n{{\"text\":\"b\"}}\n"));
    let error = desk.read(&InputSpec::of(path.clone())).unwrap_err();
    assert_eq!(place(&error), ("row/too-large", Some(2), None));
    let skip = InputSpec { on_bad_row: OnBadRow::Skip, ..InputSpec::of(path) };
    assert_eq!(desk.read(&skip).unwrap().len(), 2);
    let path = desk.put("x.csv", format!("text\na\n\"{}\n", &huge[..70 << 20]));
    assert_eq!(desk.read(&InputSpec::of(path)).unwrap_err().code(), "row/too-large");
    let path = desk.put_batch("x.parquet", &[utf8(&[("text", &["a", &huge, "b"])])]);
    assert_eq!(desk.read(&InputSpec::of(path.clone())).unwrap_err().code(), "row/too-large");
    assert_eq!(desk.read(&InputSpec { on_bad_row: OnBadRow::Skip, ..InputSpec::of(path) }).unwrap().len(), 2);
}

#[test]
fn columns_that_cannot_meet() {
    let desk = Desk::new();
    let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    desk.put_batch("f/a.parquet", &[utf8(&[("text", &["a"]), ("n", &["x"])])]);
    let text: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
    desk.put_batch("f/b.parquet", &[RecordBatch::try_from_iter([("text", text), ("n", number)]).unwrap()]);
    let error = desk.open(&InputSpec::of(desk.name("f"))).err().unwrap();
    assert_eq!(place(&error), ("schema/incompatible", None, Some("n".into())));
    assert!(error.to_string().contains("b.parquet"), "{error}");
    assert_eq!(text_error("x.csv", "text,text\na,b\n").code(), "schema/duplicate-column");
}

#[test]
fn lines_may_end_like_windows_lines_and_begin_with_a_mark() {
    let desk = Desk::new();
    let path = desk.put("x.jsonl", "\u{feff}{\"text\":\"a\"}\r\n\r\n{\"text\":\"b\"}\r\n");
    let texts: Vec<String> = desk.read(&InputSpec::of(path)).unwrap().into_iter().map(|r| r.embed).collect();
    assert_eq!(texts, ["a", "b"]);
}

#[test]
fn a_file_that_changes_is_noticed() {
    let desk = Desk::new();
    let path = desk.put("x.jsonl", "{\"text\":\"a\"}\n");
    let source = desk.open(&InputSpec::of(path)).unwrap();
    desk.put("x.jsonl", "{\"text\":\"another\"}\n");
    assert_eq!(source.read(&source.units()[0], None).unwrap_err().code(), "input/changed");
}

#[test]
fn specs_refuse_unknown_keys() {
    let spec: InputSpec = serde_json::from_str(r#"{"paths":["x"],"where":"n > 1","format":"question-answer","embed_text":"prompt+response","on_bad_row":"skip"}"#).unwrap();
    assert_eq!(spec.where_.as_deref(), Some("n > 1"));
    assert_eq!(serde_json::from_str::<InputSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    assert!(serde_json::from_str::<InputSpec>(r#"{"path":"x"}"#).is_err());
}

#[test]
fn a_full_disk_is_named() {
    if !std::path::Path::new("/dev/full").exists() {
        eprintln!("SKIPPED: no /dev/full here");
        return;
    }
    let batch = utf8(&[("text", &["a"])]);
    let mut sink = create(&OutputSpec::of("/dev/full"), batch.schema()).unwrap();
    let error = sink.write(&batch).and_then(|()| sink.finish().map(|_| ())).unwrap_err();
    assert_eq!(error.code(), "io/disk-full", "{error}");
    assert!(std::fs::metadata("/dev/full").is_ok_and(|meta| !meta.is_file()));
}
